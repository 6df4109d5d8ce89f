"""Pipeline updates: what the star says of pipelines and their runs is what `rat` says."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import RowMapping, insert, text
from sqlalchemy.orm import Session

from rat_resources import mirror
from rat_resources.metadata import Metadata
from rat_resources.metadata.pipelines import Namespace, Pipeline
from rat_resources.metadata.runs import Run
from rat_resources.retirement import retire
from tests.factories import Shop

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def make_run(tx: Session, **facts: Any) -> uuid.UUID:  # noqa: ANN401 - the columns of rat.runs
    """A run of one pipeline, told to the mirror."""
    tx.execute(insert(Namespace).values(name="shop"))
    pipeline_id, run_id = uuid.uuid4(), uuid.uuid4()
    tx.execute(
        insert(Pipeline).values(
            id=pipeline_id, namespace="shop", layer="gold", name="revenue"
        )
    )
    values = {"dagster_run_id": "d-1", "created_at": START, **facts}
    tx.execute(insert(Run).values(id=run_id, pipeline_id=pipeline_id, **values))
    mirror.reflect_runs(tx, [run_id])
    return run_id


def rows(tx: Session, table: str) -> list[RowMapping]:
    """The rows of a table of the star."""
    order = {"dim_pipeline": "create_time, pipeline_name"}.get(
        table, "period_start_time"
    )
    found = tx.execute(text(f"SELECT * FROM lakeflow.{table} ORDER BY {order}"))
    return list(found.mappings())


def test_a_published_pipeline_is_told_with_who_published_it(shop: Shop) -> None:
    shop.publish()

    with shop.whole.metadata.transaction() as tx:
        told = rows(tx, "dim_pipeline")
        workspace = tx.execute(text("SELECT * FROM lakeflow.dim_workspace")).mappings()

    names = [each["pipeline_name"] for each in told]
    assert sorted(names) == [
        "shop.bronze.orders",
        "shop.gold.revenue",
        "shop.silver.orders",
    ]
    assert {each["pipeline_type"] for each in told} == {"sql"}
    assert all(each["creator_user_name"] == each["run_as"] for each in told)
    assert all(each["creator_user_name"] for each in told)
    assert all(each["delete_time"] is None for each in told)
    assert [(each["workspace_id"], each["status"]) for each in workspace] == [
        ("default/prod", "RUNNING")
    ]


def test_a_changed_pipeline_keeps_its_creation_and_a_retired_one_its_row(
    shop: Shop,
) -> None:
    shop.publish()
    shop.publish({"shop/pipelines/gold/revenue/pipeline.sql": "SELECT 1 AS one"})

    retire(shop.whole.metadata, shop.whole.store, ["shop.gold.revenue"])

    with shop.whole.metadata.transaction() as tx:
        told = {each["pipeline_name"]: each for each in rows(tx, "dim_pipeline")}
    revenue, orders = told["shop.gold.revenue"], told["shop.silver.orders"]
    assert revenue["create_time"] == orders["create_time"]
    assert revenue["change_time"] > orders["change_time"]
    assert revenue["delete_time"] > revenue["change_time"]


def test_a_run_is_one_update_through_all_its_states(shop: Shop) -> None:
    shop.publish()
    shop.land("a.csv", "id,customer,amount\n1,ann,3\n")

    shop.run()

    with shop.whole.metadata.transaction() as tx:
        told = rows(tx, "fact_pipeline_update_timeline")
    assert [each["update_id"] for each in told] == [
        str(each.id) for each in shop.runs()
    ]
    assert {each["state"] for each in told} == {"COMPLETED"}
    assert {each["result_state"] for each in told} == {"COMPLETED"}
    assert {each["trigger_type"] for each in told} == {"ONETIME"}
    assert len({each["request_id"] for each in told}) == 1
    assert [each["period_end_time"] for each in told] == [
        each.finished_at for each in shop.runs()
    ]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, {"state": "QUEUED", "result_state": None, "period_end_time": None}),
        ({"status": "running"}, {"state": "RUNNING", "result_state": None}),
        (
            {"status": "cancelled", "finished_at": START},
            {"state": "CANCELED", "result_state": "CANCELED"},
        ),
        (
            {"status": "failed", "finished_at": START + timedelta(hours=1)},
            {"state": "FAILED", "period_end_time": START + timedelta(hours=1)},
        ),
        (
            {"started_at": START + timedelta(minutes=1)},
            {"period_start_time": START + timedelta(minutes=1)},
        ),
        ({"trigger": "schedule:0 * * * *"}, {"trigger_type": "CRON"}),
        (
            {"trigger": "trigger:lz_upload:shop/orders"},
            {"trigger_type": "FILE_ARRIVAL"},
        ),
        ({"trigger": "trigger:cron:@daily"}, {"trigger_type": "CRON"}),
        ({"trigger": "trigger:pipeline_success:x"}, {"trigger_type": "TABLE"}),
        ({"trigger": "auto"}, {"trigger_type": "CONTINUOUS"}),
        ({"trigger": "something else"}, {"trigger_type": "ONETIME"}),
        ({"trigger": "auto", "attempt": 2}, {"trigger_type": "ONETIME_RETRY"}),
        (
            {"full_refresh": True},
            {
                "update_type": "FULL_REFRESH",
                "full_refresh_selection_json": ["shop.gold.revenue"],
                "refresh_selection_json": None,
            },
        ),
        (
            {},
            {
                "update_type": "REFRESH",
                "full_refresh_selection_json": None,
                "refresh_selection_json": ["shop.gold.revenue"],
            },
        ),
    ],
)
def test_an_update_says_what_its_run_says(
    metadata: Metadata, facts: dict[str, object], told: dict[str, object]
) -> None:
    with metadata.transaction() as tx:
        make_run(tx, **facts)

        (row,) = rows(tx, "fact_pipeline_update_timeline")

    assert {key: row[key] for key in told} == told


def test_retries_of_dagsters_share_the_request(
    shop: Shop,
) -> None:
    with shop.whole.metadata.transaction() as tx:
        tag_root(tx, "d-2", root="d-1")
        make_run(tx, dagster_run_id="d-2")

        (row,) = rows(tx, "fact_pipeline_update_timeline")

    assert row["request_id"] == "d-1"
    assert row["trigger_type"] == "ONETIME_RETRY"


def tag_root(tx: Session, dagster_run_id: str, *, root: str) -> None:
    """Let a run of Dagster's do another one again."""
    tx.execute(
        text("""
            INSERT INTO dagster.runs (run_id, run_body, status) VALUES (:run, '', 'STARTED');
        """),
        {"run": dagster_run_id},
    )
    tx.execute(
        text(
            "INSERT INTO dagster.run_tags (run_id, key, value)"
            " VALUES (:run, 'dagster/root_run_id', :root)"
        ),
        {"run": dagster_run_id, "root": root},
    )


def test_telling_it_again_touches_no_row(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        run_id = make_run(tx)
    with metadata.transaction() as tx:
        before = versions_of_rows(tx)
        mirror.reflect_runs(tx, [run_id])
        mirror.reflect_pipelines(tx)

        after = versions_of_rows(tx)

    assert after == before


def versions_of_rows(tx: Session) -> list[object]:
    """The transactions that wrote the rows of the star."""
    tables = ("dim_workspace", "dim_pipeline", "fact_pipeline_update_timeline")
    return [
        tx.execute(text(f"SELECT xmin::text FROM lakeflow.{table}")).scalars().all()
        for table in tables
    ]


def test_an_emptied_star_is_refilled_from_rat(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        run_id = make_run(tx, status="success", finished_at=START)
        before = rows(tx, "fact_pipeline_update_timeline"), rows(tx, "dim_pipeline")
        tx.execute(text("TRUNCATE lakeflow.dim_workspace CASCADE"))

        mirror.reflect_runs(tx, [run_id])

        after = rows(tx, "fact_pipeline_update_timeline"), rows(tx, "dim_pipeline")

    assert after == before
