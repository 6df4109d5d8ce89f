"""Outside commits: whose rows they make wrong, once."""

from typing import Any

from sqlalchemy import text

from rat_resources import outside
from rat_resources.names import TableName
from tests.factories import Shop

SILVER = TableName("shop", "silver", "orders")
DAILY = {
    "shop/pipelines/silver/daily/pipeline.sql": """
SELECT id, customer, amount FROM {{ ref('silver.orders') }}
""",
    "shop/pipelines/silver/daily/config.yaml": "partition_by:\n  - column: customer\n",
    "shop/pipelines/gold/daily/pipeline.sql": """
SELECT customer, amount FROM {{ ref('silver.daily') }}
""",
}
DEARER = f'SELECT * REPLACE (amount + 1 AS amount) FROM "{SILVER}"'


def found(shop: Shop) -> list[Any]:
    with shop.whole.metadata.transaction() as tx:
        return list(
            tx.execute(
                text("""
                SELECT dataset.name, row_filter, reason, source_event
                FROM trace.data_invalidations AS told
                JOIN trace.datasets AS dataset ON dataset.id = told.dataset_uuid
                """)
            )
        )


def test_rows_that_somebody_else_rewrote_are_invalidated_once(open_shop: Shop) -> None:
    before = open_shop.main
    (old,) = open_shop.whole.lake.tables([SILVER]).values()
    open_shop.correct(str(SILVER), DEARER)

    head, rewritten = outside.look(open_shop.whole, since=before)
    _, again = outside.look(open_shop.whole, since=before)
    _, at_first = outside.look(open_shop.whole, since=None)

    assert (head, rewritten, again, at_first) == (open_shop.main, [SILVER], [], [])
    ((name, rows, reason, event),) = found(open_shop)
    assert (name, rows, reason) == (str(SILVER), {}, "correction")
    assert event["snapshot_before"]["metadata_location"] == old.metadata_location


def test_what_runs_commit_and_what_did_not_change_is_nobodys_trouble(
    open_shop: Shop,
) -> None:
    before = open_shop.main
    open_shop.land("second.csv", "id,customer,amount\n3,cid,30\n")
    open_shop.run()

    assert outside.look(open_shop.whole, since=before) == (open_shop.main, [])
    assert outside.look(open_shop.whole, since=None) == (open_shop.main, [])
    assert found(open_shop) == []


def test_rows_that_were_only_added_make_nothing_wrong(open_shop: Shop) -> None:
    before = open_shop.main
    (table,) = open_shop.whole.lake.tables([SILVER]).values()
    refs = open_shop.whole.lake.refs
    refs.create("elsewhere", at=f"main@{before}")
    catalog = open_shop.whole.lake.catalog("elsewhere")
    catalog.load_table(SILVER.key).append(table.scan().to_arrow())
    refs.merge("elsewhere", from_hash=refs.head("elsewhere"), expected_hash=before)

    assert outside.look(open_shop.whole, since=before) == (open_shop.main, [])


def test_the_partitions_of_the_files_say_which_rows(open_shop: Shop) -> None:
    open_shop.publish(DAILY)
    open_shop.run()
    before, daily = open_shop.main, TableName("shop", "silver", "daily")
    branch, refs = "elsewhere", open_shop.whole.lake.refs
    refs.create(branch, at=f"main@{before}")
    catalog = open_shop.whole.lake.catalog(branch)
    catalog.load_table(daily.key).delete("customer = 'ann'")
    refs.merge(branch, from_hash=refs.head(branch), expected_hash=before)

    _, rewritten = outside.look(open_shop.whole, since=before)

    assert rewritten == [daily]
    assert found(open_shop)[0].row_filter == {"customer": ["ann"]}
