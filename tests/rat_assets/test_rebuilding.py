"""What a run makes anew for invalidations: the part that may be others, and that one exactly."""

from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import select, text

from rat_resources import invalidations, propagation, row_filters, wishes
from rat_resources.lake.catalog import read_metadata
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.names import TableName
from rat_resources.row_filters import WHOLE
from rat_sensors import wishes as sensors
from tests.factories import Shop
from tests.hooks import when
from tests.rat_resources.lake.scoped_queries import make_pipeline

BRONZE = "shop.bronze.orders"
SILVER = "shop.silver.orders"
REVENUE = "shop.gold.revenue"


def invalidate(shop: Shop, table: str, document: dict[str, Any]) -> None:
    """Say that rows are not what they were, and run until nobody is left who reads them."""
    types = {"id": "bigint", "customer": "varchar", "amount": "bigint"}
    tell(shop, table, document, types=types)
    run_planned(shop)


def tell(
    shop: Shop, table: str, document: dict[str, Any], *, types: dict[str, str]
) -> None:
    """Say that rows are not what they were."""
    rows = row_filters.parse(document, columns=types) if document else WHOLE
    with shop.whole.metadata.transaction() as tx:
        invalidations.invalidate(
            tx, TableName.parse(table), reason="correction", rows=rows
        )
        propagation.route(tx)


def run_planned(shop: Shop) -> None:
    while True:
        with shop.whole.metadata.transaction() as tx:
            asks = wishes.plan(
                wishes.due(tx), graph=sensors.graph_of(tx), active=()
            ).asks
        if not asks:
            return
        for ask in asks:
            shop.run(*map(str, ask.selection), trigger=ask.label)


def scopes(shop: Shop) -> dict[str, tuple[str, list[str]]]:
    """What the runs made anew, by their table: the level, and by which columns."""
    with shop.whole.metadata.transaction() as tx:
        names = dict(tx.execute(select(Pipeline.id, Pipeline.name)).all())
    found = [
        (names[each.pipeline_id], each.settings.get("scope")) for each in shop.runs()
    ]
    return {name: (each["level"], each["columns"]) for name, each in found if each}


def told(shop: Shop) -> list[Any]:
    """The rows of all invalidations, the oldest first."""
    with shop.whole.metadata.transaction() as tx:
        rows = "SELECT row_filter FROM trace.data_invalidations ORDER BY created_at"
        return list(tx.scalars(text(rows)))


def full(shop: Shop, *tables: str) -> list[list[tuple[Any, ...]]]:
    """The rows of tables after they have been made anew altogether."""
    shop.run(*tables, full_refresh=True)
    return [shop.rows(each) for each in tables]


def replaced(query: str, *, where: str, of: str = BRONZE) -> str:
    """The rows of a table, some of them others."""
    return (
        f'SELECT {query} FROM "{of}" WHERE {where} '
        f'UNION ALL FROM "{of}" WHERE ({where}) IS NOT TRUE'
    )


def test_a_corrected_row_is_corrected_in_all_that_is_made_of_it(
    open_shop: Shop,
) -> None:
    open_shop.correct(
        BRONZE, replaced("* REPLACE (amount + 7 AS amount)", where="id = 1")
    )

    invalidate(open_shop, BRONZE, {"id": {"gte": 0}})

    rows = [open_shop.rows(each) for each in (SILVER, REVENUE)]
    assert scopes(open_shop) == {
        "orders": ("rows", ["id"]),
        "revenue": ("groups", ["customer"]),
    }
    # Its readers have to know of what changed, and of nothing else.
    assert told(open_shop) == [{"id": {"gte": 0}}, {"id": [1]}, {"customer": ["ann"]}]
    assert rows == full(open_shop, SILVER, REVENUE)


def test_a_row_that_is_gone_is_gone_from_all_that_was_made_of_it(
    open_shop: Shop,
) -> None:
    open_shop.correct(BRONZE, f'FROM "{BRONZE}" WHERE id <> 1')

    invalidate(open_shop, BRONZE, {"id": {"lte": 1}})

    rows = [open_shop.rows(each) for each in (SILVER, REVENUE)]
    assert [len(each) for each in rows] == [1, 1]
    assert rows == full(open_shop, SILVER, REVENUE)


def test_readers_of_what_stayed_the_same_are_left_alone(open_shop: Shop) -> None:
    before = open_shop.main

    invalidate(open_shop, BRONZE, {"id": 1})

    assert open_shop.main == before
    assert set(scopes(open_shop)) == {"orders"}


def test_rows_that_changed_elsewhere_too_are_made_anew(open_shop: Shop) -> None:
    open_shop.correct(
        SILVER, f'SELECT * REPLACE (amount + 1 AS amount) FROM "{SILVER}"'
    )

    invalidate(open_shop, SILVER, {"id": 1})

    rows = open_shop.rows(REVENUE)
    assert scopes(open_shop)["revenue"][0] == "table"
    assert [rows] == full(open_shop, REVENUE)


def test_rows_beyond_the_watermark_take_the_whole_table(open_shop: Shop) -> None:
    later = "* REPLACE (loaded_at + INTERVAL 1 DAY AS loaded_at)"
    open_shop.correct(BRONZE, replaced(later, where="id = 1"))

    invalidate(open_shop, BRONZE, {"id": 1})

    assert scopes(open_shop)["orders"][0] == "table"
    assert [open_shop.rows(SILVER)] == full(open_shop, SILVER)


def test_the_rows_of_a_column_that_is_gone_are_all_rows(open_shop: Shop) -> None:
    open_shop.correct(
        BRONZE, replaced("* REPLACE (amount + 7 AS amount)", where="id = 1")
    )

    tell(open_shop, BRONZE, {"id": 1}, types={"id": "bigint"})
    with open_shop.whole.metadata.transaction() as tx:
        gone = """UPDATE trace.data_invalidations SET row_filter = '{"gone": 1}'"""
        tx.execute(text(gone))
    run_planned(open_shop)

    assert scopes(open_shop)["orders"][0] == "table"
    assert [open_shop.rows(SILVER)] == full(open_shop, SILVER)


def test_where_nobody_can_read_what_was_all_of_it_is_made_anew(open_shop: Shop) -> None:
    with open_shop.whole.metadata.transaction() as tx:
        places = tx.scalars(
            text(
                "SELECT DISTINCT metadata_location FROM rat.run_inputs WHERE layer = 'silver'"
            )
        ).all()
    open_shop.correct(
        SILVER, replaced("* REPLACE (amount + 7 AS amount)", where="id = 1", of=SILVER)
    )
    for place in places:
        Path(place.removeprefix("file://")).unlink()
    read_metadata.cache_clear()

    invalidate(open_shop, SILVER, {"id": 1})

    assert scopes(open_shop)["revenue"][0] == "table"
    assert [open_shop.rows(REVENUE)] == full(open_shop, REVENUE)


def test_what_others_publish_meanwhile_stays(open_shop: Shop) -> None:
    open_shop.correct(
        BRONZE, replaced("* REPLACE (amount + 7 AS amount)", where="id = 1")
    )
    theirs = replaced("* REPLACE (99 AS amount)", where="id = 2", of=SILVER)

    with when("test", lambda: open_shop.correct(SILVER, theirs)):
        invalidate(open_shop, BRONZE, {"id": 1})
        run_planned(open_shop)

    assert [float(row[2]) for row in open_shop.rows(SILVER)] == [17, 99]


STRATEGIES = {
    "by_customer": """
-- @merge_strategy: delete_insert
-- @unique_key: customer
SELECT customer, id, amount FROM {{ ref('bronze.orders') }}
""",
    "days": """
-- @merge_strategy: snapshot
-- @partition_column: customer
SELECT customer, count(*) AS n, sum(amount)::BIGINT AS amount
FROM {{ ref('bronze.orders') }} GROUP BY customer
""",
    "totals": """
-- @merge_strategy: snapshot
-- @partition_column: part
SELECT max(id) AS part, count(*) AS n FROM {{ ref('bronze.orders') }}
""",
    "log": """
-- @merge_strategy: append_only
SELECT id, amount FROM {{ ref('bronze.orders') }}
""",
    "news": """
-- @merge_strategy: append_only
-- @watermark_column: loaded_at
SELECT id, amount, loaded_at FROM {{ ref('bronze.orders') }}
{% if watermark_value %}WHERE loaded_at > '{{ watermark_value }}'{% endif %}
""",
    "versions": """
-- @merge_strategy: scd2
-- @unique_key: id
SELECT id, customer, amount FROM {{ ref('bronze.orders') }}
""",
    "both": """
SELECT orders.id, orders.amount, known.customer
FROM {{ ref('bronze.orders') }} AS orders
LEFT JOIN {{ ref('silver.orders') }} AS known ON orders.id = known.id
""",
}


def test_each_strategy_makes_anew_what_it_may(open_shop: Shop) -> None:
    open_shop.land("second.csv", "id,customer,amount\n3,,30\n4,ann,40\n")
    open_shop.publish(
        {f"shop/pipelines/gold/{n}/pipeline.sql": q for n, q in STRATEGIES.items()}
    )
    open_shop.notice()
    assert open_shop.run().succeeded
    open_shop.correct(
        BRONZE,
        replaced(
            "* REPLACE (amount + 7 AS amount, nullif(customer, 'ann') AS customer)",
            where="id IN (1, 3)",
        ),
    )

    invalidate(open_shop, BRONZE, {"id": [1, 3]})

    levels = {name: level for name, (level, _) in scopes(open_shop).items()}
    assert levels == {
        "orders": "rows",
        "revenue": "groups",
        "by_customer": "rows",
        "days": "partition",
        "totals": "kept",
        "log": "kept",
        "news": "rows",
        "versions": "kept",
        "both": "keys",
    }
    # Who has been corrected is closed, and open again.
    versions = open_shop.rows("shop.gold.versions")
    assert [(row[0], row[-1] is None) for row in versions].count((1, False)) == 1
    made = [f"shop.gold.{each}" for each in ("by_customer", "days", "news", "both")]
    rows = [open_shop.rows(each) for each in made]
    assert rows == full(open_shop, *made)


def test_queries_made_at_random_are_made_anew_as_a_whole_would_be(shop: Shop) -> None:
    random = Random(7)  # noqa: S311
    pipelines = {"bronze/t": VALUES, "bronze/u": VALUES.replace("13", "11")}
    for number in range(3):
        made = make_pipeline(random, steps=3)
        columns = made.columns[f"s{len(made.steps)}"]
        listed = ", ".join(f"{each}::VARCHAR AS {each}" for each in columns)
        pipelines[f"gold/q{number}"] = (
            "WITH t AS (FROM {{ ref('bronze.t') }}), u AS (FROM {{ ref('bronze.u') }}), "
            f"{', '.join(made.steps)} SELECT {listed} FROM s{len(made.steps)}"
        )
    shop.publish({f"r/pipelines/{n}/pipeline.sql": q for n, q in pipelines.items()})
    assert shop.run().succeeded
    shop.correct(
        "r.bronze.t",
        replaced("* REPLACE (b + 1 AS b, 'x' AS d)", where="a = 1", of="r.bronze.t"),
    )

    tell(shop, "r.bronze.t", {"a": 1}, types={"a": "integer"})
    run_planned(shop)

    tables = [f"r.gold.q{number}" for number in range(3)]
    rows = [shop.rows(each) for each in tables]
    assert len(scopes(shop)) == len(tables)
    assert rows == full(shop, *tables)


VALUES = """
SELECT
    nullif(i % 4, 3)::INTEGER AS a,
    nullif(i * 7 % 5, 4)::INTEGER AS b,
    (i * 13 % 9)::INTEGER AS c,
    nullif(chr((120 + i % 4)::INTEGER), '{') AS d
FROM range(40) AS numbers(i)
"""
