"""Inputs: which snapshots a run reads, and what a view stands for."""

from datetime import UTC, datetime

import pytest

from rat_assets.inputs import Inputs
from rat_resources import releases
from rat_resources.errors import NotFoundError
from rat_resources.lake.refs import MAIN
from rat_resources.names import TableName
from tests.factories import Shop

PIPELINES = {
    "shop/pipelines/bronze/numbers/pipeline.sql": "SELECT range AS n FROM range(4)",
    "shop/pipelines/silver/even/pipeline.sql": """
-- @materialized: view
SELECT n FROM {{ ref('bronze.numbers') }} WHERE n % 2 = 0
""",
    "shop/pipelines/silver/tens/pipeline.sql": """
-- @materialized: view
SELECT n * 10 AS ten FROM {{ ref('silver.even') }}
""",
}
NUMBERS = TableName("shop", "bronze", "numbers")
TENS = TableName("shop", "silver", "tens")


def inputs(shop: Shop, *, at: str = MAIN) -> Inputs:
    """Nothing yet, of the current release."""
    with shop.whole.metadata.transaction() as tx:
        release = releases.current(tx) or 0
    return Inputs(shop.whole, release, at, datetime(2026, 1, 2, tzinfo=UTC))


def read(shop: Shop, found: Inputs, name: TableName) -> list[tuple[int, ...]]:
    """The rows of an input."""
    with shop.whole.lake.connect() as connection:
        found.register(connection)
        return connection.sql(f'FROM "{name}" ORDER BY ALL').fetchall()


def test_a_view_pins_the_tables_below_it(shop: Shop) -> None:
    shop.publish(PIPELINES)
    report = shop.run("shop.bronze.*")
    found = inputs(shop)

    found.resolve([TENS])

    assert read(shop, found, TENS) == [(0,), (20,)]
    (pin,) = found.pins
    assert (pin.table, pin.snapshot_id) == (NUMBERS, report.tables[0].snapshot_id)


def test_a_commit_is_read_as_it_was(shop: Shop) -> None:
    shop.publish(PIPELINES)
    shop.run("shop.bronze.*")
    then = shop.main
    wider = {
        "shop/pipelines/bronze/numbers/pipeline.sql": "SELECT range AS n FROM range(9)"
    }
    shop.publish(wider)
    shop.run("shop.bronze.*")
    old, new = inputs(shop, at=f"@{then}"), inputs(shop)

    old.resolve([NUMBERS])
    new.resolve([NUMBERS])

    assert [len(read(shop, each, NUMBERS)) for each in (old, new)] == [4, 9]


def test_what_was_found_is_not_looked_for_again(shop: Shop) -> None:
    shop.publish(PIPELINES)
    shop.run("shop.bronze.*")
    found = inputs(shop)

    assert [found.resolve([TENS]), found.resolve([TENS, NUMBERS])] == [True, False]


def test_everything_that_is_missing_is_named(shop: Shop) -> None:
    shop.publish(PIPELINES)
    found = inputs(shop)
    gone = TableName("shop", "bronze", "gone")

    with pytest.raises(NotFoundError) as caught:
        found.resolve([gone, NUMBERS])

    assert str(caught.value) == (
        "shop.bronze.gone, shop.bronze.numbers: no such table on main yet; "
        "run it first: rat run shop.bronze.gone shop.bronze.numbers"
    )
