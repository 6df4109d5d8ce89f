"""Following a run: no run fails for what somebody did to a row of the mirror."""

import logging

import pytest
from sqlalchemy import text

from rat_resources.mirror import positions
from rat_resources.mirror.log import catch_up
from tests.factories import Shop

NUMBERS = {"shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(3)"}


def execute(shop: Shop, statement: str) -> None:
    """Change something by hand."""
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text(statement))


def statuses(shop: Shop) -> list[str]:
    """What CHM says of the runs."""
    with shop.whole.metadata.transaction() as tx:
        return list(tx.scalars(text("SELECT status FROM chm.runs")))


def states(shop: Shop) -> list[str]:
    """What the star says of the runs."""
    told = "SELECT state FROM lakeflow.fact_pipeline_update_timeline"
    with shop.whole.metadata.transaction() as tx:
        return list(tx.scalars(text(told)))


def test_a_run_is_published_though_the_mirror_refuses_it(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.publish(NUMBERS)
    execute(shop, "ALTER TABLE chm.runs ADD CONSTRAINT odd CHECK (status = 'failed')")

    with caplog.at_level(logging.WARNING, "rat_resources.mirror"):
        report = shop.run()

    assert report.succeeded, report.tables
    assert shop.rows("shop.bronze.numbers") == [(0,), (1,), (2,)]
    assert "not mirrored yet" in caplog.text
    assert statuses(shop) == []


@pytest.mark.parametrize(
    "table", ["chm.runs", "lakeflow.fact_pipeline_update_timeline"]
)
@pytest.mark.parametrize("allowed", ["id::text = ''", "{end} IS NULL"])
def test_what_was_refused_is_told_as_soon_as_it_can_be(
    shop: Shop, table: str, allowed: str
) -> None:
    shop.publish(NUMBERS)
    star = table.startswith("lakeflow")
    odd = allowed.replace("{end}", "period_end_time" if star else "finished_at")
    odd = odd.replace("id::text", "update_id") if star else odd
    execute(shop, f"ALTER TABLE {table} ADD CONSTRAINT odd CHECK ({odd})")
    shop.run()
    execute(shop, f"ALTER TABLE {table} DROP CONSTRAINT odd")
    with shop.whole.metadata.transaction() as tx:
        positions.restart(tx)

    catch_up(shop.whole.metadata)

    assert (statuses(shop), states(shop)) == (["success"], ["COMPLETED"])
