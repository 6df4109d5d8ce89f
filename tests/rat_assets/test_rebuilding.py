"""What a run makes anew for invalidations: the part that may be others, and that one exactly."""

from typing import Any

from sqlalchemy import select, text

from rat_resources import invalidations, propagation, row_filters, wishes
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.names import TableName
from rat_resources.row_filters import WHOLE
from rat_sensors import wishes as sensors
from tests.factories import Shop

BRONZE = "shop.bronze.orders"
SILVER = "shop.silver.orders"
REVENUE = "shop.gold.revenue"


def invalidate(shop: Shop, table: str, document: dict[str, Any]) -> None:
    """Say that rows are not what they were, and run until nobody is left who reads them."""
    types = {"id": "bigint", "customer": "varchar", "amount": "bigint"}
    rows = row_filters.parse(document, columns=types) if document else WHOLE
    with shop.whole.metadata.transaction() as tx:
        invalidations.invalidate(
            tx, TableName.parse(table), reason="correction", rows=rows
        )
        propagation.route(tx)
    run_planned(shop)


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


def full(shop: Shop, *tables: str) -> list[list[tuple[Any, ...]]]:
    """The rows of tables after they have been made anew altogether."""
    shop.run(*tables, full_refresh=True)
    return [shop.rows(each) for each in tables]


def replaced(query: str, *, where: str) -> str:
    """The rows of bronze, some of them others."""
    return (
        f'SELECT {query} FROM "{BRONZE}" WHERE {where} '
        f'UNION ALL FROM "{BRONZE}" WHERE ({where}) IS NOT TRUE'
    )


def test_a_corrected_row_is_corrected_in_all_that_is_made_of_it(
    open_shop: Shop,
) -> None:
    open_shop.correct(
        BRONZE, replaced("* REPLACE (amount + 7 AS amount)", where="id = 1")
    )

    invalidate(open_shop, BRONZE, {"id": 1})

    rows = [open_shop.rows(each) for each in (SILVER, REVENUE)]
    assert scopes(open_shop) == {
        "orders": ("rows", ["id"]),
        "revenue": ("groups", ["customer"]),
    }
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


def test_what_its_readers_have_to_know_is_what_changed(open_shop: Shop) -> None:
    open_shop.correct(
        BRONZE, replaced("* REPLACE (amount + 7 AS amount)", where="id = 1")
    )

    invalidate(open_shop, BRONZE, {"id": {"gte": 0}})

    with open_shop.whole.metadata.transaction() as tx:
        rows = tx.scalars(
            text("SELECT row_filter FROM trace.data_invalidations ORDER BY created_at")
        ).all()
    assert rows == [{"id": {"gte": 0}}, {"id": [1]}, {"customer": ["ann"]}]
