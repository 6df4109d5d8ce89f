"""Tracing: the column lineage of published tables, found once and kept."""

import sys

import dagster as dg
import pytest
from sqlalchemy import select

from rat_resources import lineage
from rat_resources.lineage import Lineage
from rat_resources.metadata.lineage import ColumnLineage
from tests.factories import ORDERS, Shop

REVENUE = "shop.gold.revenue"
NUMBERS = "shop/pipelines/bronze/numbers"


def known(shop: Shop, table: str) -> Lineage:
    """What Postgres knows of a table."""
    with shop.whole.metadata.transaction() as tx:
        found = lineage.load(tx, table)
    assert found is not None
    return found


def shown(found: Lineage) -> dict[str, list[str]]:
    """The sources of each column, by their whole names."""
    return {name: [str(each) for each in found.sources[name]] for name in found.sources}


def edges(shop: Shop) -> int:
    """How many arrows Postgres has."""
    with shop.whole.metadata.transaction() as tx:
        return len(tx.scalars(select(ColumnLineage)).all())


def test_every_published_table_is_traced_to_the_columns_that_it_reads(
    shop: Shop,
) -> None:
    shop.publish()
    shop.land("a.csv", "id,customer,amount\n1,ann,5\n")

    shop.run()

    assert shown(known(shop, "shop.bronze.orders")) == {
        "id": ["shop.landing.orders.id"],
        "customer": ["shop.landing.orders.customer"],
        "amount": ["shop.landing.orders.amount"],
        "loaded_at": [],
    }
    assert shown(known(shop, REVENUE)) == {
        "customer": ["shop.silver.orders.customer"],
        "revenue": ["shop.silver.orders.amount"],
        "orders": [],
    }


def test_what_was_found_once_is_found_no_more(
    open_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop.land("b.csv", "id,customer,amount\n2,bob,7\n")
    open_shop.run()  # silver has a watermark from now on, and reads another query
    before = known(open_shop, "shop.silver.orders")
    open_shop.land("c.csv", "id,customer,amount\n3,eve,1\n")
    # Whoever imported it now would fail, and find nothing.
    monkeypatch.setitem(sys.modules, "rat_resources.lake.lineage", None)

    report = open_shop.run()

    assert [each.status for each in report.tables] == ["published"] * 3
    assert known(open_shop, "shop.silver.orders") == before
    assert shown(before)["amount"] == ["shop.bronze.orders.amount"]


def test_a_new_column_in_the_files_is_traced(open_shop: Shop) -> None:
    open_shop.land("b.csv", "id,customer,amount,city\n2,bob,7,Ghent\n")

    open_shop.run("shop.bronze.orders")

    found = shown(known(open_shop, "shop.bronze.orders"))
    assert found["city"] == ["shop.landing.orders.city"]


def test_a_view_is_traced_and_is_what_its_readers_read(shop: Shop) -> None:
    shop.publish(
        {
            f"{NUMBERS}/pipeline.sql": "SELECT range AS n, 1 AS one FROM range(3)",
            "shop/pipelines/silver/twice/pipeline.sql": "-- @materialized: view\n"
            "SELECT n * 2 AS twice, * EXCLUDE (n) FROM {{ ref('bronze.numbers') }}",
            "shop/pipelines/gold/total/pipeline.sql": "SELECT sum(twice) AS total, "
            "max(one) AS one FROM {{ ref('silver.twice') }}",
        }
    )

    shop.run()

    assert shown(known(shop, "shop.silver.twice")) == {
        "twice": ["shop.bronze.numbers.n"],
        "one": ["shop.bronze.numbers.one"],
    }
    assert shown(known(shop, "shop.gold.total")) == {
        "total": ["shop.silver.twice.twice"],
        "one": ["shop.silver.twice.one"],
    }


def test_the_times_of_scd2_come_from_no_column(shop: Shop) -> None:
    shop.publish(
        {
            f"{NUMBERS}/pipeline.sql": "SELECT range AS n FROM range(3)",
            "shop/pipelines/silver/kept/pipeline.sql": "-- @merge_strategy: scd2\n"
            "-- @unique_key: n\nSELECT n FROM {{ ref('bronze.numbers') }}",
        }
    )

    shop.run()

    assert shown(known(shop, "shop.silver.kept")) == {
        "n": ["shop.bronze.numbers.n"],
        "valid_from": [],
        "valid_to": [],
    }


def test_the_columns_of_a_script_are_left_out(shop: Shop) -> None:
    shop.publish({f"{NUMBERS}/pipeline.py": "result = pa.table({'n': [1]})"})

    shop.run()

    found = known(shop, "shop.bronze.numbers")
    assert (found.columns, found.untold) == (("n",), ("n",))


def test_another_query_replaces_what_was_known_even_where_no_row_changes(
    shop: Shop,
) -> None:
    numbers = {f"{NUMBERS}/pipeline.sql": "SELECT 1 AS a, 1 AS b"}
    copy = "shop/pipelines/silver/copy/pipeline.sql"
    shop.publish(numbers | {copy: "SELECT a AS n FROM {{ ref('bronze.numbers') }}"})
    shop.run()
    shop.publish({copy: "SELECT b AS n FROM {{ ref('bronze.numbers') }}"})

    shop.run()

    found = shown(known(shop, "shop.silver.copy"))
    assert found == {"n": ["shop.bronze.numbers.b"]}


def test_a_run_with_nothing_new_keeps_and_shows_what_is_known(open_shop: Shop) -> None:
    before = edges(open_shop)

    open_shop.run("shop.bronze.orders")

    assert edges(open_shop) == before
    newest = open_shop.materializations("shop.bronze.orders")[0].asset_materialization
    assert newest is not None
    assert "dagster/column_lineage" in newest.metadata


def test_a_failed_run_changes_no_lineage(open_shop: Shop) -> None:
    before = known(open_shop, REVENUE)
    test = "shop/pipelines/gold/revenue/tests/quality/never.sql"
    path = "shop/pipelines/gold/revenue/pipeline.sql"
    open_shop.publish(
        ORDERS | {path: "SELECT 'x' AS customer, 1 AS revenue", test: "FROM {{ this }}"}
    )

    open_shop.run(REVENUE)

    assert known(open_shop, REVENUE) == before


def test_the_materialization_shows_the_lineage_as_dagster_has_it(
    open_shop: Shop,
) -> None:

    newest = open_shop.materializations(REVENUE)[0].asset_materialization

    assert newest is not None
    value = newest.metadata["dagster/column_lineage"].value
    assert isinstance(value, dg.TableColumnLineage)
    found = {
        name: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
        for name, deps in value.deps_by_column.items()
    }
    assert found == {
        "customer": [("shop/silver/orders", "customer")],
        "revenue": [("shop/silver/orders", "amount")],
        "orders": [],
    }
