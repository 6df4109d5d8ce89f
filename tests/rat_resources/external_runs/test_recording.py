import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from rat_resources.external_runs.recording import Outcome, Policy, record
from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import Run
from tests.rat_resources.external_runs.rows import (
    make_client,
    make_external,
    runs,
    told,
)

Raw = dict[str, Any]
FULL: Raw = {
    "status": "success",
    "started_at": "2026-03-01T10:00:00Z",
    "finished_at": "2026-03-01T10:02:00Z",
    "rows_processed": 7,
}


@pytest.fixture
def pipeline_id(metadata: Metadata) -> uuid.UUID:
    """An external pipeline."""
    with metadata.transaction() as tx:
        return make_external(tx, make_client(tx))


def tell(
    metadata: Metadata,
    pipeline_id: uuid.UUID,
    *raws: Raw,
    policy: Policy = Policy.IGNORE,
) -> Mapping[Outcome, int]:
    """Record events in one transaction; how it went with them."""
    with metadata.transaction() as tx:
        events = [told(pipeline_id, **raw) for raw in raws]
        return record(tx, events, policy=policy).outcomes


def only(metadata: Metadata) -> Run:
    """The one run there is."""
    with metadata.transaction() as tx:
        (run,) = runs(tx)
    return run


def test_three_times_the_same_is_once(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    page = [FULL | {"id": f"r{n}"} for n in range(5)]

    told_first = tell(metadata, pipeline_id, *page)
    with metadata.transaction() as tx:
        first = [(run.id, run.ingested_at, run.updated_at) for run in runs(tx)]
    again = [tell(metadata, pipeline_id, *page) for _ in range(2)]
    with metadata.transaction() as tx:
        last = [(run.id, run.ingested_at, run.updated_at) for run in runs(tx)]

    assert told_first == {Outcome.INSERTED: 5}
    assert again == [{Outcome.UNCHANGED: 5}] * 2
    assert last == first


def test_a_run_that_goes_on_keeps_what_the_later_event_leaves_out(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    tell(
        metadata,
        pipeline_id,
        {
            "status": "running",
            "started_at": "2026-03-01T10:00:00Z",
            "rows_processed": 3,
        },
    )
    before = only(metadata)

    outcomes = tell(metadata, pipeline_id, {"finished_at": "2026-03-01T10:02:00Z"})

    after = only(metadata)
    assert outcomes == {Outcome.UPDATED: 1}
    assert (after.id, after.created_at) == (before.id, before.created_at)
    assert after.ingested_at > before.ingested_at
    assert after.status == "success"
    assert after.started_at == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert after.rows_processed == 3
    assert after.duration_seconds == 120
    assert after.payload == {
        "id": "r1",
        "status": "success",
        "finished_at": "2026-03-01T10:02:00Z",
    }


def test_what_the_same_end_tells_anew_is_taken(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    tell(metadata, pipeline_id, {"status": "failed"})

    outcomes = tell(
        metadata, pipeline_id, {"status": "failed", "error_message": "disk full"}
    )

    assert outcomes == {Outcome.UPDATED: 1}
    assert only(metadata).error_message == "disk full"


@pytest.mark.parametrize("later", ["running", "failed", "canceled", "skipped"])
def test_a_run_that_is_over_stays_as_it_ended(
    metadata: Metadata, pipeline_id: uuid.UUID, later: str
) -> None:
    tell(metadata, pipeline_id, FULL)
    before = only(metadata)
    event = {"status": later, "started_at": "2030-01-01T00:00:00Z", "rows_processed": 0}

    ignored = tell(metadata, pipeline_id, event)
    seen = only(metadata)
    rejected = tell(metadata, pipeline_id, event, policy=Policy.REJECT)

    after = only(metadata)
    assert (ignored, rejected) == ({Outcome.IGNORED: 1}, {Outcome.REJECTED: 1})
    for run in (seen, after):
        assert run.status == "success"
        assert run.started_at == before.started_at
        assert run.finished_at == before.finished_at
        assert (run.duration_seconds, run.rows_processed) == (120, 7)
        assert run.payload == before.payload
    assert seen.ingested_at > before.ingested_at
    assert after.ingested_at == seen.ingested_at


def test_a_rejected_event_says_why(metadata: Metadata, pipeline_id: uuid.UUID) -> None:
    tell(metadata, pipeline_id, FULL)

    with metadata.transaction() as tx:
        events = [told(pipeline_id, id="new"), told(pipeline_id, status="running")]
        recorded = record(tx, events, policy=Policy.REJECT)

    assert [(one.place, one.reason) for one in recorded.rejected] == [
        (1, "the run is success, which is final: it cannot become running")
    ]
    assert recorded.outcomes == {Outcome.INSERTED: 1, Outcome.REJECTED: 1}


def test_events_about_one_run_count_in_their_order(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    outcomes = tell(
        metadata,
        pipeline_id,
        {"status": "queued"},
        {"status": "running", "started_at": "2026-03-01T10:00:00Z"},
        {"id": "other"},
        {"status": "failed"},
        {"status": "running"},
        {"status": "failed"},
    )

    assert outcomes == {
        Outcome.INSERTED: 2,
        Outcome.UPDATED: 2,
        Outcome.IGNORED: 1,
        Outcome.UNCHANGED: 1,
    }
    with metadata.transaction() as tx:
        assert [run.status for run in runs(tx) if run.external_run_id == "r1"] == [
            "failed"
        ]


def test_one_id_is_another_run_in_every_pipeline(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        first = make_external(tx, make_client(tx, "acme"))
        second = make_external(tx, make_client(tx, "beta"))
        recorded = record(tx, [told(first), told(second, status="failed")])
        kept = {run.pipeline_id: run.status for run in runs(tx)}

    assert recorded.outcomes == {Outcome.INSERTED: 2}
    assert kept == {first: "success", second: "failed"}


def test_overlapping_pages_at_once_neither_double_nor_block_each_other(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def sync(turn: int) -> None:
        try:
            start.wait()
            for page in range(10):
                ids = range(page * 20, page * 20 + 60)
                # Each in an order of its own.
                ordered = sorted(ids, key=lambda n: hash((n, turn)))
                tell(metadata, pipeline_id, *({"id": f"r{n}"} for n in ordered))
        except BaseException as error:  # noqa: BLE001 - a thread must not keep it
            failures.append(error)

    threads = [threading.Thread(target=sync, args=(turn,)) for turn in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    with metadata.transaction() as tx:
        names = [run.external_run_id for run in runs(tx)]
    assert not failures
    assert sorted(names) == sorted({f"r{n}" for n in range(240)})
