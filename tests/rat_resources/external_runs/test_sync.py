import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from rat_resources.errors import NotFoundError
from rat_resources.external_runs.recording import Outcome, Policy
from rat_resources.external_runs.sync import SyncReport, shown, sync
from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import Pipeline, Run
from rat_resources.metadata.external_runs import RejectedEvent
from tests.rat_resources.external_runs.partner_server import (
    PartnerServer,
    Reply,
    page,
    serve,
)
from tests.rat_resources.external_runs.rows import make_client, make_external, runs

TOKEN = "t0p-s3cr3t-t0k3n"  # noqa: S105 - nobody's


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", TOKEN)


@pytest.fixture
def acme() -> Iterator[PartnerServer]:
    """A partner's API."""
    with serve() as acme:
        yield acme


def partner(acme: PartnerServer, **settings: object) -> dict[str, object]:
    return {"base_url": acme.url, "token": "env:ACME_TOKEN", "timeout": 2, **settings}


def run_sync(metadata: Metadata, **asked: object) -> tuple[SyncReport, list[str]]:
    """A sync in which nobody waits, and what it said."""
    said: list[str] = []
    report = sync(metadata, wait=lambda _: None, say=said.append, **asked)  # type: ignore[arg-type]
    return report, said


def run(name: str, **more: object) -> dict[str, object]:
    return {"id": name, "status": "success", **more}


def path(pipeline: str) -> str:
    return f"/v1/pipelines/{pipeline}-id/runs"


def test_overlapping_pages_told_three_times_are_each_run_once(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        make_external(tx, make_client(tx, partner=partner(acme)))
    told = [page([run("a"), run("b")], "2"), page([run("b"), run("c")])]

    counts = []
    for _ in range(3):
        acme.replies = list(told)
        report, _said = run_sync(metadata)
        counts.append(shown(report))
    with metadata.transaction() as tx:
        names = [each.external_run_id for each in runs(tx)]

    assert names == ["a", "b", "c"]
    first = {
        "pipelines_processed": 1,
        "pages_processed": 2,
        "runs_processed": 4,
        "runs_inserted": 3,
        "runs_updated": 0,
        "runs_unchanged": 1,
        "runs_ignored": 0,
        "runs_rejected": 0,
        "failed": 0,
    }
    assert counts == [first, *[first | {"runs_inserted": 0, "runs_unchanged": 4}] * 2]


def test_only_active_external_pipelines_with_an_id_are_asked_for(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, partner=partner(acme))
        make_external(tx, client, name="on")
        make_external(tx, client, name="off", active=False)
        unnamed = tx.get_one(Pipeline, make_external(tx, client, name="unnamed"))
        unnamed.external_id = None
        make_external(tx, make_client(tx, "silent"))

    run_sync(metadata)

    assert acme.paths == [path("on")]


def test_one_id_of_two_clients_is_two_runs(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        for name in ("acme", "beta"):
            make_external(tx, make_client(tx, name, partner=partner(acme)))
    acme.replies = [page([run("1")]), page([run("1", status="failed")])]

    report, _ = run_sync(metadata)

    with metadata.transaction() as tx:
        statuses = sorted(each.status for each in runs(tx))
    assert statuses == ["failed", "success"]
    assert report.outcomes[Outcome.INSERTED] == 2


def test_what_fails_stops_no_other_and_loses_no_page(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, partner=partner(acme))
        for name in ("a_half", "b_gone", "c_garbage", "d_good"):
            make_external(tx, client, name=name)
        make_external(tx, make_client(tx, "bare", partner={"base_url": "http://x"}))
        lost = make_client(tx, "lost", partner=partner(acme, token="env:NOBODY"))  # noqa: S106
        make_external(tx, lost)
    acme.by_path = {
        path("a_half"): page([run("kept")], "2"),
        f"{path('a_half')}?cursor=2": Reply(b'{"runs": [', length=99),
        path("b_gone"): Reply(b"no such thing", status=404),
        path("c_garbage"): Reply(b"<html>"),
        path("d_good"): page([run("good")]),
    }

    report, said = run_sync(metadata, clients=["acme", "lost"])

    with metadata.transaction() as tx:
        names = sorted(each.external_run_id for each in runs(tx))
    assert names == ["good", "kept"]
    assert (report.pipelines, report.pages) == (1, 2)
    failed = [line.partition(": ")[0] for line in report.failures]
    assert failed == ["acme/a_half", "acme/b_gone", "acme/c_garbage", "lost"]
    assert "NOBODY, the token of client lost, is not set" in report.failures[-1]
    assert "acme/d_good: synced" in said


def test_a_bad_event_is_kept_with_its_reason_and_the_rest_of_its_page_recorded(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        make_external(tx, make_client(tx, partner=partner(acme, policy="reject")))
    bad = {"status": "success", "password": "hunter2", "echo": TOKEN}
    events = [
        run("a"),
        bad,
        7,
        run("b", started_at="noon"),
        run("c"),
        run("a", status="running"),
    ]

    for _ in range(2):
        acme.replies = [page(events)]
        report, _said = run_sync(metadata)

    with metadata.transaction() as tx:
        names = [each.external_run_id for each in runs(tx)]
        kept = list(tx.scalars(select(RejectedEvent).order_by(RejectedEvent.reason)))
    assert names == ["a", "c"]
    assert report.outcomes[Outcome.REJECTED] == 4
    assert [(each.source, each.times, each.reason) for each in kept] == [
        ("acme/orders", 2, "an event is a JSON object, and this is a number"),
        ("acme/orders", 2, "started_at is no time in ISO 8601: 'noon'"),
        (
            "acme/orders",
            2,
            "the run is success, which is final: it cannot become running",
        ),
        ("acme/orders", 2, "there is neither external_run_id nor id"),
    ]
    assert json.loads(kept[-1].raw) == {
        "status": "success",
        "password": "***",
        "echo": "***",
    }


def test_a_policy_that_is_asked_for_wins(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        make_external(tx, make_client(tx, partner=partner(acme)))
    events = [run("a"), run("a", status="running")]

    acme.replies = [page(events)]
    ignored, _ = run_sync(metadata)
    acme.replies = [page(events)]
    rejected, _ = run_sync(metadata, policy=Policy.REJECT)

    assert (ignored.outcomes[Outcome.IGNORED], ignored.outcomes[Outcome.REJECTED]) == (
        1,
        0,
    )
    assert (
        rejected.outcomes[Outcome.IGNORED],
        rejected.outcomes[Outcome.REJECTED],
    ) == (0, 1)


def test_a_client_that_is_down_is_not_waited_for_once_a_pipeline(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, partner=partner(acme, retries=0))
        for number in range(8):
            make_external(tx, client, name=f"p{number}")
        make_external(tx, make_client(tx, "beta", partner=partner(acme)), name="up")
    acme.by_path = {path(f"p{number}"): Reply(silent=True) for number in range(8)}

    report, _ = run_sync(metadata)

    assert acme.paths == [path("p0"), path("p1"), path("p2"), path("up")]
    assert report.failures[-1].startswith("acme: 5 more pipelines were not asked")
    assert report.pipelines == 1


def test_a_client_that_nobody_knows_is_told(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        make_client(tx, partner=partner(acme))

    with pytest.raises(NotFoundError, match="did you mean 'acme'"):
        run_sync(metadata, clients=["amce"])


def test_the_token_is_nowhere_in_postgres_nor_in_what_is_said(
    metadata: Metadata, acme: PartnerServer
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, partner=partner(acme, retries=0))
        for name in ("a", "b", "c"):
            make_external(tx, client, name=name)
    acme.by_path = {
        path("a"): page([run(TOKEN, error_message=f"used {TOKEN}"), {TOKEN: TOKEN}]),
        path("b"): Reply(f"bad token {TOKEN}".encode(), status=401),
        path("c"): page([run("x", status=TOKEN)], TOKEN),
        f"{path('c')}?cursor={TOKEN}": page([], TOKEN),
    }

    report, said = run_sync(metadata)

    assert report.failures
    assert TOKEN not in f"{report} {said}"
    with metadata.transaction() as tx:
        assert tx.scalar(select(Run).limit(1)) is not None
        tables = tx.execute(
            text(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_schema IN ('rat', 'chm', 'trace', 'lakeflow', 'dagster')"
            )
        ).all()
        for schema, table in tables:
            found = tx.scalar(
                text(
                    f"SELECT count(*) FROM {schema}.{table} AS t"
                    " WHERE strpos(t::text, :token) > 0"
                ),
                {"token": TOKEN},
            )
            assert not found, f"{schema}.{table}"
