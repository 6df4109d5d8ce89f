"""The past: an emptied Trace knows again what earlier releases served, with the same ids."""

from typing import Any

import pytest
from sqlalchemy import text

from rat_assets import actions
from rat_resources import audit
from rat_resources.mirror import rebuilding
from rat_resources.mirror.log import catch_up
from rat_resources.mirror.rebuilding import rebuild
from rat_resources.retirement import retire
from tests.factories import ORDERS, Shop
from tests.rat_resources.mirror.test_queue import BRONZE, TWO, Queued, lose
from tests.rat_resources.mirror.test_queue import SILVER as SECOND

SILVER = "shop/pipelines/silver/orders/pipeline.sql"
GOLD = "shop/pipelines/gold/revenue/pipeline.sql"
CHANGED = {SILVER: ORDERS[SILVER].replace("amount::DECIMAL(12, 2)", "amount")}
PUBLISHED = (
    "dag_versions",
    "dag_version_datasets",
    "dataset_versions",
    "datasets",
    "jobs",
)
HAPPENED = ("tasks", "task_inputs", "partition_versions", "column_lineage")
# What only the lost rows knew.
UNKNOWN = {"last_heartbeat", "dedupe_key", "updated_at", "completed_at", "started_at"}


def contents(shop: Shop) -> dict[str, list[dict[str, Any]]]:
    """The rows of Trace, without what cannot be told again."""
    with shop.whole.metadata.transaction() as tx:
        found = {
            table: tx.execute(text(f"SELECT * FROM trace.{table}")).mappings().all()
            for table in (*PUBLISHED, *HAPPENED, "dag_current_versions")
        }
    return {
        table: sorted(
            ({k: v for k, v in row.items() if k not in UNKNOWN} for row in rows),
            key=str,
        )
        for table, rows in found.items()
    }


def empty(shop: Shop) -> None:
    """Lose every row of Trace."""
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("TRUNCATE trace.orgs CASCADE"))


def test_what_earlier_releases_served_is_told_again(open_shop: Shop) -> None:
    open_shop.publish(CHANGED)
    open_shop.land("second.csv", "id,customer,amount\n2,bob,25\n3,cid,30\n")
    assert open_shop.run().succeeded
    actions.roll_back(open_shop.whole, 1)
    before = contents(open_shop)
    empty(open_shop)

    rebuilt = rebuild(open_shop.whole.metadata)
    after = contents(open_shop)
    rebuild(open_shop.whole.metadata)

    for table, rows in before.items():
        assert rows, table
        assert after[table] == rows, table
    assert contents(open_shop) == after
    assert rebuilt.gaps.pruned_versions == 0
    assert [*audit.audit(open_shop.whole).lines] == []


def test_a_task_of_a_retired_pipeline_is_told_again(open_shop: Shop) -> None:
    retire(open_shop.whole.metadata, open_shop.whole.store, ["shop.gold.revenue"])
    before = contents(open_shop)
    empty(open_shop)

    rebuild(open_shop.whole.metadata)

    assert contents(open_shop) == before


def test_a_namespace_that_is_empty_now_serves_nothing_again(shop: Shop) -> None:
    shop.publish(
        {"mart/pipelines/gold/one/pipeline.sql": "SELECT 1 AS id"} | dict(ORDERS)
    )
    retire(shop.whole.metadata, shop.whole.store, ["mart.gold.one"])
    before = contents(shop)
    empty(shop)

    rebuild(shop.whole.metadata)

    assert contents(shop) == before


def test_a_release_with_a_pruned_version_is_left_out_and_said(shop: Shop) -> None:
    shop.publish()
    for n in (2, 3):
        shop.publish({GOLD: f"SELECT {n} AS n FROM {{{{ ref('silver.orders') }}}}\n"})
    shop.publish(CHANGED)
    first, *_, last = contents(shop)["dag_versions"]
    assert first != last
    with shop.whole.metadata.transaction() as tx:
        tx.execute(
            text(
                "DELETE FROM rat.pipeline_versions AS version USING rat.pipelines AS pipeline"
                " WHERE pipeline.id = pipeline_id AND layer = 'gold' AND version_number = 2"
            )
        )
    before = contents(shop)
    empty(shop)

    rebuilt = rebuild(shop.whole.metadata)

    known = {row["id"] for row in contents(shop)["dag_versions"]}
    assert len(known) == len(before["dag_versions"]) - 1
    assert known < {row["id"] for row in before["dag_versions"]}
    assert [line for line in rebuilt.gaps if line.startswith("1 versions")]


@pytest.mark.parametrize("together", [1, 1_000])
def test_a_task_of_a_release_that_was_current_no_more_is_told_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(rebuilding, "TOGETHER", together)
    shop.publish(TWO)
    early, late = (Queued(shop, BRONZE, SECOND) for _ in range(2))
    shop.publish({"shop/pipelines/silver/two/pipeline.sql": "SELECT error('no')"})
    shop.publish({"shop/pipelines/bronze/one/pipeline.sql": "SELECT 3 AS id"})
    early.execute()
    Queued(shop, BRONZE, SECOND).execute()
    catch_up(shop.whole.metadata)
    shop.instance.report_run_canceled(late.run, message="not today")
    catch_up(shop.whole.metadata)
    before = contents(shop)
    empty(shop)

    rebuild(shop.whole.metadata)

    assert len({row["job_id"] for row in before["tasks"]}) > 2
    assert contents(shop) == before


def test_a_task_that_another_release_went_on_with_is_told_again(shop: Shop) -> None:
    shop.publish(TWO)
    lose(shop, Queued(shop, BRONZE))
    shop.publish({"shop/pipelines/silver/two/pipeline.sql": "SELECT 2 AS id"})
    Queued(shop, BRONZE).execute()
    shop.publish({"shop/pipelines/bronze/one/pipeline.sql": "SELECT 3 AS id"})
    catch_up(shop.whole.metadata)
    before = contents(shop)
    empty(shop)

    rebuild(shop.whole.metadata)

    assert len(shop.runs()) == 2
    assert contents(shop) == before
