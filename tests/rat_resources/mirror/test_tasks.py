"""Tasks told again: an emptied Trace is filled from what `rat` and Dagster still know."""

from typing import Any

from sqlalchemy import text

from rat_resources.mirror.rebuilding import rebuild
from tests.factories import Shop

# What only the lost rows knew.
UNKNOWN = {"last_heartbeat", "dedupe_key", "updated_at", "completed_at", "started_at"}
TABLES = (
    "tasks",
    "task_inputs",
    "partition_versions",
    "dataset_cursors",
    "column_lineage",
)


def rows(shop: Shop, table: str) -> list[dict[str, Any]]:
    """The rows of a table of Trace, without what cannot be told again."""
    with shop.whole.metadata.transaction() as tx:
        found = tx.execute(text(f"SELECT * FROM trace.{table}")).mappings()
        known = [{k: v for k, v in row.items() if k not in UNKNOWN} for row in found]
    return sorted(known, key=str)


def test_an_emptied_trace_is_filled_again(open_shop: Shop) -> None:
    open_shop.land("second.csv", "id,customer,amount\n2,bob,25\n3,cid,30\n")
    assert open_shop.run().succeeded
    open_shop.land("bad.csv", "id,customer,amount\n4,dan,-1\n")
    assert not open_shop.run().succeeded
    before = {table: rows(open_shop, table) for table in TABLES}
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(text("TRUNCATE trace.orgs CASCADE"))

    rebuild(open_shop.whole.metadata)
    after = {table: rows(open_shop, table) for table in TABLES}
    rebuild(open_shop.whole.metadata)

    assert all(before.values())
    assert after == before
    assert {table: rows(open_shop, table) for table in TABLES} == before


def test_what_stands_is_not_told_again(open_shop: Shop) -> None:
    before = {table: rows(open_shop, table) for table in TABLES}

    rebuild(open_shop.whole.metadata)

    assert {table: rows(open_shop, table) for table in TABLES} == before


def test_a_task_that_is_missing_is_written_with_its_inputs(open_shop: Shop) -> None:
    before = {table: rows(open_shop, table) for table in TABLES}
    with open_shop.whole.metadata.transaction() as tx:
        tx.execute(text("DELETE FROM trace.tasks WHERE attempts = 1"))

    rebuild(open_shop.whole.metadata)

    assert {table: rows(open_shop, table) for table in TABLES} == before
