"""Our namespaces, pipelines and runs as CHM hears of them."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import Client, Pipeline, Run
from rat_resources.metadata.pipelines import (
    CurrentRelease,
    PipelineVersion,
    Release,
    RetiredPipeline,
)
from rat_resources.metadata.pipelines import Pipeline as RatPipeline
from rat_resources.metadata.runs import Run as RatRun
from rat_resources.metadata.runs import RunStatus
from rat_resources.mirror import clients
from tests.factories import Shop
from tests.rat_resources.rows import make_pipeline, make_run

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def release(tx: Session, number: int, *pipeline_ids: uuid.UUID) -> None:
    """Make release *number* current, with a version of each pipeline."""
    tx.add(Release(number=number))
    tx.flush()
    for pipeline_id in pipeline_ids:
        tx.add(
            PipelineVersion(
                pipeline_id=pipeline_id,
                version_number=number,
                release_number=number,
                spec={},
                code_version="1",
            )
        )
    tx.merge(CurrentRelease(id=1, release_number=number))
    tx.flush()


def retire(tx: Session, pipeline_id: uuid.UUID, *, number: int) -> None:
    """Take a pipeline out by release *number*."""
    release(tx, number)
    tx.add(RetiredPipeline(pipeline_id=pipeline_id, release_number=number))
    tx.get_one(RatPipeline, pipeline_id).deleted_at = NOON
    tx.flush()


def ours(tx: Session, table: str = "shop.bronze.orders") -> Pipeline:
    """What CHM says of a pipeline of ours."""
    clients.reflect_pipelines(tx)
    tx.expire_all()
    return tx.scalars(select(Pipeline).where(Pipeline.table_name == table)).one()


def told(tx: Session, run_id: uuid.UUID) -> Run:
    """What CHM says of a run of ours."""
    tx.flush()
    clients.reflect_runs(tx, [run_id])
    tx.expire_all()
    return tx.get_one(Run, run_id)


def test_a_namespace_is_a_client_and_its_pipelines_are_pipelines(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        tx.get_one(RatPipeline, pipeline_id).description = "What was ordered"
        release(tx, 1, pipeline_id)

        row = ours(tx)

        assert tx.get_one(Client, row.client_id).name == "shop"
        assert (row.name, row.external_id) == ("bronze.orders", "shop.bronze.orders")
        assert (row.platform, row.pipeline_type) == ("custom", "ingestion")
        assert (row.origin, row.environment) == ("rat", "prod")
        assert row.description == "What was ordered"
        assert row.is_active


def test_a_retired_pipeline_is_inactive_and_a_published_one_active_again(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        first = make_pipeline(tx)
        release(tx, 1, first)
        assert ours(tx).is_active

        retire(tx, first, number=2)
        retired = ours(tx).is_active
        second = make_pipeline(tx)
        release(tx, 3, second)

        assert not retired
        assert ours(tx).is_active
        assert ours(tx).id == first


@pytest.mark.parametrize("later", ["0" * 32, "f" * 32])
def test_a_pipeline_keeps_its_id_when_one_as_old_takes_its_name(
    metadata: Metadata, later: str
) -> None:
    with metadata.transaction() as tx:
        first = make_pipeline(tx)
        release(tx, 1, first)
        told_first = ours(tx).id
        retire(tx, first, number=2)
        second = make_pipeline(tx)
        renamed = update(RatPipeline).where(RatPipeline.id == second)
        tx.execute(renamed.values(id=uuid.UUID(later)))

        told_second = ours(tx).id

    assert told_first == told_second == first


def test_a_pipeline_that_a_person_disabled_stays_so(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        release(tx, 1, make_pipeline(tx))
        ours(tx).is_active = False
        tx.flush()

        assert not ours(tx).is_active


def test_an_external_pipeline_keeps_its_name_and_its_id(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        client = Client(name="shop")
        tx.add(client)
        tx.flush()
        theirs = Pipeline(
            client_id=client.id,
            name="bronze.orders",
            platform="custom",
            external_id="shop.bronze.orders",
            pipeline_type="export",
        )
        tx.add(theirs)
        release(tx, 1, make_pipeline(tx))

        row = ours(tx)

        assert (row.name, row.external_id) == (
            "bronze.orders (rat)",
            "shop.bronze.orders (rat)",
        )
        assert tx.get_one(Pipeline, theirs.id).name == "bronze.orders"
        assert row.client_id == client.id


def test_telling_it_again_changes_no_row(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        run_id = make_run(tx, make_pipeline(tx))
        clients.reflect_runs(tx, [run_id])
    before = stamps(metadata)

    with metadata.transaction() as tx:
        clients.reflect_pipelines(tx)
        clients.reflect_runs(tx, [run_id])

    assert stamps(metadata) == before


def stamps(metadata: Metadata) -> list[Any]:
    """Which transaction wrote each row."""
    found = text(
        "SELECT id, xmin::text FROM chm.clients UNION ALL SELECT id, xmin::text"
        " FROM chm.pipelines UNION ALL SELECT id, xmin::text FROM chm.runs ORDER BY 1"
    )
    with metadata.transaction() as tx:
        return [tuple(row) for row in tx.execute(found)]


@pytest.mark.parametrize(
    ("facts", "status", "error", "reason"),
    [
        ({"status": "pending"}, "running", None, "asked for: manual"),
        ({"status": "running"}, "running", None, "asked for: manual"),
        ({"status": "success"}, "success", None, "asked for: manual"),
        (
            {"status": "success", "unchanged": True},
            "skipped",
            None,
            "nothing new; asked for: manual",
        ),
        (
            {"status": "failed", "error": "\nno such column\nLINE 1"},
            "failed",
            "no such column",
            "asked for: manual",
        ),
        (
            {"status": "failed", "error": "x" * 900},
            "failed",
            "x" * 500,
            "asked for: manual",
        ),
        ({"status": "failed"}, "failed", None, "asked for: manual"),
        (
            {"status": "cancelled", "error": "somebody pressed Ctrl-C"},
            "canceled",
            None,
            "somebody pressed Ctrl-C; asked for: manual",
        ),
    ],
)
def test_a_run_is_told_in_the_words_of_chm(
    metadata: Metadata,
    facts: dict[str, Any],
    status: str,
    error: str | None,
    reason: str,
) -> None:
    with metadata.transaction() as tx:
        waits = facts["status"] == RunStatus.PENDING
        before = RunStatus.PENDING if waits else RunStatus.RUNNING
        run_id = make_run(tx, make_pipeline(tx), status=before)
        ended = facts["status"] not in ("pending", "running")
        values = facts | ({"finished_at": NOON} if ended else {})
        tx.execute(update(RatRun).where(RatRun.id == run_id).values(**values))

        row = told(tx, run_id)

        assert (row.status, row.error_message) == (status, error)
        assert row.status_reason == reason
        assert row.external_run_id == str(run_id)


def test_a_run_has_its_times_its_rows_and_what_is_known_of_it(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        run_id = make_run(tx, make_pipeline(tx))
        facts = {
            "status": "success",
            "started_at": NOON,
            "finished_at": NOON + timedelta(seconds=90.7),
            "duration_ms": 90_700,
            "rows_written": 12,
            "dagster_run_id": "d1",
            "attempt": 2,
            "branch": "run-1",
        }
        tx.execute(update(RatRun).where(RatRun.id == run_id).values(**facts))

        row = told(tx, run_id)

        assert (row.started_at, row.duration_seconds) == (NOON, 90)
        assert row.event_time == row.finished_at == NOON + timedelta(seconds=90.7)
        assert row.rows_processed == 12
        assert row.payload == {
            "dagster_run_id": "d1",
            "attempt": 2,
            "trigger": "manual",
            "branch": "run-1",
            "full_refresh": False,
        }


def test_runs_of_a_pipeline_that_was_retired_before_are_found(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        release(tx, 1, pipeline_id)
        retire(tx, pipeline_id, number=2)

        row = told(tx, make_run(tx, pipeline_id))

        assert not tx.get_one(Pipeline, row.pipeline_id).is_active


def test_what_somebody_made_final_is_left_to_the_audit(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        run_id = make_run(tx, make_pipeline(tx))
        told(tx, run_id).status = "canceled"
        values = {"status": "success", "finished_at": NOON}
        tx.execute(update(RatRun).where(RatRun.id == run_id).values(**values))

        row = told(tx, run_id)

        assert row.status == "canceled"


def test_every_run_of_a_shop_is_there_once_and_as_it_ended(open_shop: Shop) -> None:
    open_shop.run()

    with open_shop.whole.metadata.transaction() as tx:
        rows = tx.scalars(select(Run)).all()
        pipelines = tx.scalar(select(func.count()).select_from(Pipeline))

    assert {each.id for each in rows} == {each.id for each in open_shop.runs()}
    assert {each.status for each in rows} == {"success", "skipped"}
    assert pipelines == 3
