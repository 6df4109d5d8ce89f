"""Rebuilding: an emptied mirror is what it was, and what nobody knows any more is said."""

from sqlalchemy import text

from rat_resources.mirror import log
from rat_resources.mirror.rebuilding import Gaps, rebuild
from tests.factories import Shop
from tests.rat_resources.mirror.dagster_jobs import change, contents, execute, fails

EMPTY = """
    TRUNCATE lakeflow.dim_workspace, lakeflow.dim_job, lakeflow.dim_job_task,
        lakeflow.dim_pipeline, lakeflow.fact_job_run_timeline,
        lakeflow.fact_job_task_run_timeline, lakeflow.fact_pipeline_update_timeline
"""


def test_an_emptied_mirror_is_filled_with_the_same_rows(open_shop: Shop) -> None:
    metadata = open_shop.whole.metadata
    execute(open_shop.instance, fails)
    log.catch_up(metadata)
    before = contents(metadata)
    change(metadata, EMPTY)

    rebuilt = rebuild(metadata)

    assert contents(metadata) == before
    assert (rebuilt.runs, rebuilt.progress.runs) == (3, 2)
    assert [line.partition(" at ")[0] for line in rebuilt.gaps] == ["the log begins"]


def test_a_run_tells_its_steps_before_the_command_ends(open_shop: Shop) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        told = tx.execute(
            text(
                "SELECT task_key, notebook_path, depends_on_keys_json, result_state "
                "FROM lakeflow.fact_job_task_run_timeline "
                "JOIN lakeflow.dim_job_task USING (workspace_id, job_id, task_key) "
                "ORDER BY period_start_time"
            )
        ).all()

    assert [tuple(row) for row in told] == [
        (
            "shop__bronze__orders",
            "shop/pipelines/bronze/orders/pipeline.sql",
            [],
            "SUCCEEDED",
        ),
        (
            "shop__silver__orders",
            "shop/pipelines/silver/orders/pipeline.sql",
            ["shop__bronze__orders"],
            "SUCCEEDED",
        ),
        (
            "shop__gold__revenue",
            "shop/pipelines/gold/revenue/pipeline.sql",
            ["shop__silver__orders"],
            "SUCCEEDED",
        ),
    ]


def test_what_the_log_no_longer_holds_is_said_and_stays(open_shop: Shop) -> None:
    metadata = open_shop.whole.metadata
    before = contents(metadata)
    run_id = open_shop.runs()[0].dagster_run_id
    assert run_id is not None
    open_shop.instance.delete_run(run_id)

    rebuilt = rebuild(metadata)

    assert contents(metadata) == before
    assert rebuilt.gaps == Gaps(1, 1, 0, None)
