import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from rat_resources import archive
from rat_resources.external_runs import intake as intakes
from rat_resources.external_runs import rejects
from rat_resources.external_runs.intake import (
    Intake,
    IntakeReport,
    find_waiting,
    get_zone,
    given_up,
)
from rat_resources.external_runs.recording import Outcome
from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import Client, Pipeline, Run
from rat_resources.metadata.external_runs import ExternalFile, RejectedEvent
from rat_resources.metadata.landing import FileState, LandingFile
from rat_resources.settings import Settings
from tests.factories import folder_of
from tests.rat_resources.external_runs.rows import make_client, make_external, runs

ZONE = "chm/landing/external_runs"


class Death(BaseException):
    """The process is gone."""


@pytest.fixture
def intake(metadata: Metadata, settings: Settings) -> Intake:
    """What reads the zone, two lines at a time."""
    return Intake(
        metadata,
        settings.store,
        settings.home / "staging",
        dagster_run_id="d1",
        say=lambda _: None,
        wait=lambda _: None,
        batch=2,
    )


def event(name: object, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a source says
    return {
        "client": "acme",
        "pipeline": "orders",
        "id": name,
        "status": "success",
    } | more


def land(intake: Intake, events: Sequence[object], name: str = "a.jsonl") -> Path:
    """A file in the zone, of events or of lines as they are."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in events]
    path = folder_of(intake.root) / ZONE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path


def names(tx: Session) -> list[str]:
    return sorted(each.external_run_id for each in runs(tx))


def test_a_file_is_recorded_once_and_moved_aside(
    metadata: Metadata, intake: Intake
) -> None:
    with metadata.transaction() as tx:
        make_external(tx, make_client(tx))
    path = land(intake, [event(n) for n in range(5)])

    report = intake.run()
    again = intake.run()

    aside = folder_of(intake.root) / ZONE / "_processed" / "d1" / "a.jsonl"
    assert (report.files, report.good, report.bad, report.created) == (1, 5, 0, [])
    assert (again.files, again.good) == (0, 0)
    assert aside.is_file()
    assert not path.exists()
    with metadata.transaction() as tx:
        assert names(tx) == ["0", "1", "2", "3", "4"]
        file = tx.scalars(select(ExternalFile)).one()
        ledger = tx.scalars(select(LandingFile)).one()
    assert (file.lines, file.inserted, file.dagster_run_id) == (5, 5, "d1")
    assert file.finished_at is not None
    assert ledger.state == FileState.ARCHIVED


def test_the_same_events_three_times_are_each_run_once(
    metadata: Metadata, intake: Intake
) -> None:
    events: list[object] = [
        event("a"),
        event("b"),
        event("b", rows_processed=2),
    ]

    land(intake, events)
    counts = [intake.run().outcomes]
    for _ in range(2):
        # The very content that was read is no news; a file of another content is.
        land(intake, events)
        unread = intake.run()
        assert unread.files == 0
        assert not (folder_of(intake.root) / ZONE / "a.jsonl").exists()
        events = [*events, ""]
        land(intake, events)
        counts.append(intake.run().outcomes)

    assert counts[0] == {Outcome.INSERTED: 2, Outcome.UPDATED: 1}
    assert [each.total() for each in counts] == [3, 3, 3]
    with metadata.transaction() as tx:
        assert names(tx) == ["a", "b"]


def test_a_bad_line_is_told_with_its_file_and_number_and_the_rest_goes_on(
    metadata: Metadata, intake: Intake
) -> None:
    land(
        intake,
        [event("a"), "no json", "", event("b", rows_processed=-1), event("c")],
    )

    report = intake.run()

    assert (report.good, report.bad) == (2, 2)
    assert report.rejected == [
        "chm/external_runs/a.jsonl:2: the line is no JSON: Expecting value at its character 1",
        "chm/external_runs/a.jsonl:4: rows_processed is not between 0 and 9223372036854775807",
    ]
    assert report.useless == []
    with metadata.transaction() as tx:
        assert names(tx) == ["a", "c"]
        kept = tx.scalars(select(RejectedEvent).order_by(RejectedEvent.line)).all()
        file_id = tx.scalar(select(LandingFile.id))
    assert [(each.source, each.line, each.file_id) for each in kept] == [
        ("chm/external_runs/a.jsonl", 2, file_id),
        ("chm/external_runs/a.jsonl", 4, file_id),
    ]
    assert kept[0].raw == "no json"


def test_unknown_clients_and_pipelines_are_made_inactive_and_told(
    metadata: Metadata, intake: Intake
) -> None:
    with metadata.transaction() as tx:
        make_client(tx, "acme")
    land(
        intake,
        [
            event("a"),
            event("b", client="beta", platform="dbt", pipeline_type="transform"),
            event("c", client="beta", platform="cron"),
        ],
    )

    report = intake.run()

    assert report.created == [
        "client beta",
        "pipeline acme/orders",
        "pipeline beta/orders",
    ]
    with metadata.transaction() as tx:
        clients = {each.name: each.is_active for each in tx.scalars(select(Client))}
        pipelines = [
            (each.platform, each.pipeline_type, each.is_active, each.origin)
            for each in tx.scalars(select(Pipeline).order_by(Pipeline.platform))
        ]
        assert len(names(tx)) == 3
    assert clients == {"acme": True, "beta": False}
    assert pipelines == [
        ("dbt", "transform", False, "external"),
        ("custom", "ingestion", False, "external"),
    ]


def test_nobody_else_tells_the_runs_of_our_own_pipelines(
    metadata: Metadata, intake: Intake
) -> None:
    with metadata.transaction() as tx:
        ours = tx.get_one(Pipeline, make_external(tx, make_client(tx)))
        ours.origin, ours.table_name, ours.published = "rat", "acme.bronze.x", True
    land(intake, [event("a"), event("b", client="beta")])

    report = intake.run()

    assert (report.good, report.bad) == (1, 1)
    assert "acme/orders is a pipeline of this RAT" in report.rejected[0]


@pytest.mark.parametrize("step", ["record", "advance", "finish", "finish_moves"])
def test_a_process_that_dies_leaves_the_rest_to_the_next_one(
    metadata: Metadata, intake: Intake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    land(intake, [event("a"), "bad", event("b"), event("c"), event("d")])
    where = archive if step == "finish_moves" else intakes
    real = getattr(where, step)
    calls = []

    def die(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the real one
        calls.append(step)
        result = real(*args, **kwargs)
        if len(calls) == 2:
            raise Death
        return result

    with monkeypatch.context() as patch:
        patch.setattr(where, step, die)
        if step == "finish":
            calls.append("the first")
        with pytest.raises(Death):
            intake.run()
    intake.run()

    with metadata.transaction() as tx:
        assert names(tx) == ["a", "b", "c", "d"]
        file = tx.scalars(select(ExternalFile)).one()
        rejected = tx.scalars(select(RejectedEvent.times)).all()
        moved = tx.scalar(select(LandingFile.state))
    assert (file.inserted, file.updated, file.unchanged) == (4, 0, 0)
    assert (file.rejected, file.lines, list(rejected)) == (1, 5, [1])
    assert moved == FileState.ARCHIVED
    assert not list((intake.staging / "external_runs").iterdir())


def test_of_two_who_read_one_file_one_stops(
    metadata: Metadata, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(intake, [event(n) for n in range(6)])
    begin = intakes.is_at
    inner: list[IntakeReport] = []
    first: list[str] = []

    def overtake(tx: Session, *args: Any, **kwargs: Any) -> bool:  # noqa: ANN401
        if not first:
            first.append("outer")
            inner.append(intake.run())
        return begin(tx, *args, **kwargs)

    monkeypatch.setattr(intakes, "is_at", overtake)

    report = intake.run()

    (other,) = inner
    assert (other.files, other.good) == (1, 6)
    assert (report.files, report.good) == (0, 0)
    assert report.left == ["chm/external_runs/a.jsonl: another run goes on with it"]
    with metadata.transaction() as tx:
        assert tx.scalar(select(func.count()).select_from(Run)) == 6


def test_a_file_on_which_runs_die_waits_for_a_person(
    metadata: Metadata, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(intake, [event("a")])

    def die(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(intakes, "read_lines", die)
        for _ in range(intakes.MOST_ATTEMPTS):
            with pytest.raises(Death):
                intake.run(by_hand=False)
    alone = intake.run(by_hand=False)
    with metadata.transaction() as tx:
        zone = get_zone(tx, root=intake.root)
        waiting = find_waiting(tx, zone, by_hand=False)
        (told,) = given_up(tx)
    by_hand = intake.run()

    assert (alone.files, waiting) == (0, [])
    assert (told.zone, told.name) == ("chm/external_runs", "a.jsonl")
    assert told.reason.startswith("3 runs died of it after line 0; launch ingest")
    assert by_hand.good == 1
    with metadata.transaction() as tx:
        assert given_up(tx) == []


def test_a_compressed_file_is_taken_and_a_useless_one_is_told(
    metadata: Metadata, intake: Intake
) -> None:
    folder = folder_of(intake.root) / ZONE
    folder.mkdir(parents=True)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(event("z")).encode()))
    land(intake, ["id,status", "1,success"], name="c.csv")
    land(intake, [], name="empty.jsonl")

    report = intake.run()

    assert (report.files, report.good, report.bad) == (3, 1, 2)
    assert report.useless == ["chm/external_runs/c.csv"]


def test_a_file_that_is_replaced_while_it_waits_is_read_in_its_new_version(
    metadata: Metadata, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = land(intake, [event("old")])
    real = intakes.begin

    def replace(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401
        path.write_text(json.dumps(event("new")))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(intakes, "begin", replace)
        first = intake.run()
    second = intake.run()

    assert first.left == ["chm/external_runs/a.jsonl: its content changed"]
    assert second.good == 1
    with metadata.transaction() as tx:
        assert names(tx) == ["new"]


def test_of_a_file_of_garbage_the_beginning_is_kept_and_all_is_counted(
    metadata: Metadata, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects, "MOST_KEPT", 3)
    land(intake, [f"garbage {n}" for n in range(50)])

    report = intake.run()

    assert report.bad == 50
    assert len(report.rejected) == intakes.MOST_NAMED
    with metadata.transaction() as tx:
        assert tx.scalar(select(func.count()).select_from(RejectedEvent)) == 3
