"""The star in the lake: the tables that RAT brings along, and how they keep out of the way."""

import pytest
from sqlalchemy import text

from rat_assets.definitions import build_definitions
from rat_assets.hand_written import PinnedLake, lake_asset
from rat_assets.reports.star import star_assets
from rat_resources import hand_written, releases
from rat_resources.errors import AssetError, PublishError
from rat_sensors.star import STAR
from tests.factories import Shop

STAR_TABLES = "platform.gold.*"


@pytest.fixture
def told(open_shop: Shop) -> Shop:
    """A shop that has run once, and its star in the lake."""
    return open_shop


def execute(shop: Shop, statement: str) -> None:
    """Change what Postgres holds."""
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text(statement))


def make_job_runs(shop: Shop, count: int) -> None:
    """Finished runs of a job, an hour apart."""
    execute(
        shop,
        f"""
        INSERT INTO lakeflow.dim_job (workspace_id, job_id, job_name, tags_json)
        VALUES ('default/prod', 'j', 'say "hi", \nthere', '{{"a": ["b", null]}}');
        INSERT INTO lakeflow.fact_job_run_timeline
            (workspace_id, run_id, job_id, period_start_time, period_end_time, result_state,
             compute_ids, run_name)
        SELECT 'default/prod', 'r' || n, 'j', '2026-01-01'::timestamptz + n * INTERVAL '1 hour',
            '2026-01-01'::timestamptz + n * INTERVAL '1 hour' + INTERVAL '90 seconds', 'SUCCEEDED',
            ARRAY['a', 'b'], ''
        FROM generate_series(1, {count}) AS n
        """,
    )


def job_runs(shop: Shop) -> list[tuple[object, ...]]:
    """The runs that the lake tells."""
    return shop.rows("platform.gold.fact_job_run_timeline")


def test_they_hold_what_postgres_holds(told: Shop) -> None:
    make_job_runs(told, 50)

    report = told.run(STAR_TABLES)

    assert {each.status for each in report.tables} == {"published"}
    assert {each.passed for each in report.tables} == {2}
    jobs = [row for row in told.rows("platform.gold.dim_job") if "j" in row]
    assert [row[1:3] for row in jobs] == [("j", 'say "hi", \nthere')]
    assert '{"a": ["b", null]}' in jobs[0]
    runs = [each for each in job_runs(told) if "j" in each]
    assert len(runs) == 50
    assert {90, 1.5, '["a", "b"]', "", True} <= set(runs[0])


def test_a_second_time_only_what_is_new_is_written(told: Shop) -> None:
    make_job_runs(told, 50)
    told.run(STAR_TABLES)
    execute(
        told,
        """
        INSERT INTO lakeflow.fact_job_run_timeline (workspace_id, run_id, period_start_time)
        VALUES ('default/prod', 'new', '2026-01-04')
        """,
    )

    report = told.run(STAR_TABLES)

    told_of = {each.table.name: each for each in report.tables}
    assert told_of["dim_workspace"].status == "unchanged"
    # The new one, and the runs that wrote these tables.
    assert (told_of["fact_job_run_timeline"].rows_written or 0) < 10
    assert [row for row in job_runs(told) if "new" in row]


def test_a_run_that_ended_since_and_one_told_late_arrive_too(told: Shop) -> None:
    make_job_runs(told, 50)
    execute(
        told,
        """
        INSERT INTO lakeflow.fact_job_run_timeline (workspace_id, run_id, period_start_time)
        VALUES ('default/prod', 'open', '2026-01-01')
        """,
    )
    told.run(STAR_TABLES)
    execute(
        told,
        """
        UPDATE lakeflow.fact_job_run_timeline
        SET period_end_time = '2026-01-05', result_state = 'FAILED' WHERE run_id = 'open'
        """,
    )
    told.run(STAR_TABLES)
    execute(
        told,
        """
        INSERT INTO lakeflow.fact_job_run_timeline (workspace_id, run_id, period_start_time)
        VALUES ('default/prod', 'late', '2025-06-01')
        """,
    )

    told.run(STAR_TABLES)

    rows = job_runs(told)
    assert len([row for row in rows if "j" in row]) == 50
    assert [row for row in rows if "open" in row and "FAILED" in row]
    assert [row for row in rows if "late" in row]


def test_they_run_when_asked_for_and_never_with_everything(told: Shop) -> None:
    told.run("platform")

    report = told.run()

    assert {each.table.namespace for each in report.tables} == {"shop"}


def test_dagster_has_a_job_and_a_clock_for_them(told: Shop) -> None:
    definitions = build_definitions(told.whole, release=1)

    keys = definitions.resolve_job_def(STAR).asset_layer.selected_asset_keys
    everything = definitions.resolve_job_def("pipelines").asset_layer
    assert len(keys) == 7
    assert not keys & everything.selected_asset_keys
    assert definitions.resolve_schedule_def(STAR).cron_schedule == "30 * * * *"


def test_what_ran_need_not_be_read_again_to_be_shown(told: Shop) -> None:
    told.run("platform.gold.dim_job")
    with told.whole.metadata.transaction() as tx:
        published = {each.spec.table: each for each in releases.load(tx)}

    known = {
        each.table.name: hand_written.spec_of(
            each.files, published=published.get(each.table)
        )
        for each in star_assets()
    }

    assert known["dim_job"] is not None
    assert known["dim_workspace"] is None


def test_a_table_of_the_lake_can_be_read_by_a_pipeline(told: Shop) -> None:
    told.run("platform")
    told.publish(
        {
            "shop/pipelines/gold/failures/pipeline.sql": """
SELECT count(DISTINCT pipeline_id) > 2 AS told
FROM {{ ref('platform.gold.fact_pipeline_update_timeline') }}
WHERE state = 'COMPLETED'
"""
        }
    )

    told.run("shop.gold.failures")

    assert told.rows("shop.gold.failures") == [(True,)]


def test_nobody_else_publishes_into_their_namespace(shop: Shop) -> None:
    with pytest.raises(PublishError, match="namespace platform holds the tables"):
        shop.publish({"platform/pipelines/gold/mine/pipeline.sql": "SELECT 1 AS one"})


def test_nobody_else_writes_by_hand_into_their_namespace() -> None:
    def body(lake: PinnedLake) -> object:
        return lake

    with pytest.raises(AssetError, match="namespace platform holds the tables"):
        lake_asset("platform.gold.mine")(body)
