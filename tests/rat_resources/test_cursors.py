"""Cursors: how far a job has read, never backwards."""

import uuid

import pytest
from sqlalchemy import text

from rat_resources.cursors import state_cursors
from tests.factories import Shop
from tests.rat_resources.test_tasks import ask, task

NUMBERS = {
    "shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(3)",
}


def cursors(shop: Shop) -> list[tuple[str, str, str]]:
    """Every cursor: the dataset, the column, the value."""
    columns = "dataset, cursor_column, cursor_value"
    with shop.whole.metadata.transaction() as tx:
        found = tx.execute(text(f"SELECT {columns} FROM trace_by_name.dataset_cursors"))
        return [(dataset, column, value) for dataset, column, value in found]


def state(shop: Shop, task_id: uuid.UUID, *values: str, anew: bool = False) -> None:
    """State one value after the other."""
    for value in values:
        cursor = ["shop.bronze.numbers", "at", value]
        with shop.whole.metadata.transaction() as tx:
            state_cursors(tx, task_id, [cursor], begins_anew=anew)


@pytest.mark.parametrize(
    ("values", "last"),
    [
        (["999", "1000"], "1000"),
        (["1000", "999"], "1000"),
        (["9.5", "10.25", "-3"], "10.25"),
        (["2026-02-01", "2026-01-31"], "2026-02-01"),
        (
            ["2026-01-01 09:00:00+00", "2026-01-01 10:30:00+02"],
            "2026-01-01 09:00:00+00",
        ),
        (["b", "a", "c"], "c"),
        (["7", "7"], "7"),
    ],
)
def test_a_cursor_never_goes_back(shop: Shop, values: list[str], last: str) -> None:
    shop.publish(NUMBERS)
    ask(shop)

    state(shop, task(shop).id, *values)

    assert cursors(shop) == [("shop.bronze.numbers", "at", last)]


def test_a_full_refresh_begins_anew(shop: Shop) -> None:
    shop.publish(NUMBERS)
    ask(shop)
    state(shop, task(shop).id, "1000")

    state(shop, task(shop).id, "5", anew=True)

    assert cursors(shop) == [("shop.bronze.numbers", "at", "5")]


def test_a_task_about_an_invalidation_moves_no_cursor(shop: Shop) -> None:
    shop.publish(NUMBERS)
    ask(shop)
    state(shop, task(shop).id, "5")
    with shop.whole.metadata.transaction() as tx:
        wrong = tx.scalar(
            text(
                "INSERT INTO trace_by_name.data_invalidations"
                " (dataset, scope, partition_key, reason)"
                " VALUES ('shop.bronze.numbers', 'partition', 'all', 'manual') RETURNING id"
            )
        )
        tx.execute(text("UPDATE trace.tasks SET invalidation_id = :id"), {"id": wrong})

    state(shop, task(shop).id, "9")

    assert cursors(shop) == [("shop.bronze.numbers", "at", "5")]


def test_a_run_brings_the_cursor_of_what_it_reads_forward(open_shop: Shop) -> None:
    (before,) = cursors(open_shop)
    open_shop.land("second.csv", "id,customer,amount\n3,cid,30\n")

    open_shop.run()

    (after,) = cursors(open_shop)
    assert before[:2] == after[:2] == ("shop.bronze.orders", "loaded_at")
    assert after[2] > before[2]
