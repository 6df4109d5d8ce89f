"""What a run changed against main, by every strategy, as the write itself counts it."""

import json

import pytest

from rat_assets.changes import Changes
from rat_resources.lake.evolution import SchemaChange
from tests.factories import Shop

CODE = "shop/pipelines/bronze/orders/pipeline.sql"
BEFORE = "(1, 'a'), (2, 'b'), (3, 'c'), (3, 'd')"


def orders(rows: str, *, header: str = "", columns: str = "id, note") -> dict[str, str]:
    return {CODE: f"{header}SELECT * FROM (VALUES {rows}) AS t ({columns})"}


def run_twice(shop: Shop, first: dict[str, str], second: dict[str, str]) -> Changes:
    """What the second of two runs changed."""
    shop.publish(first)
    shop.run()
    shop.publish(second)
    shop.run()
    run = shop.runs()[-1]
    assert run.status == "success"
    return Changes.from_json(run.changes or {})


def counts(changes: Changes) -> tuple[int, int | None, int | None, int | None, int]:
    return (
        changes.rows_before,
        changes.added,
        changes.removed,
        changes.changed,
        changes.rows_after,
    )


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("", "(1, 'x'), (9, 'y')", (4, 0, 2, None, 2)),
        ("", f"{BEFORE}, (9, 'y')", (4, 1, 0, None, 5)),
        ("-- @merge_strategy: append_only\n", "(1, 'x')", (4, 1, 0, 0, 5)),
        (
            "-- @merge_strategy: incremental\n-- @unique_key: id\n",
            "(1, 'a'), (2, 'x'), (9, 'y')",
            (3, 1, 0, 1, 4),
        ),
        (
            "-- @merge_strategy: delete_insert\n-- @unique_key: id\n",
            "(1, 'a'), (2, 'x'), (2, 'y'), (3, 'd'), (9, 'z')",
            (4, 2, 1, 1, 5),
        ),
        (
            "-- @merge_strategy: snapshot\n-- @partition_column: id\n",
            "(3, 'c'), (3, 'x')",
            (4, 0, 0, 1, 4),
        ),
        (
            "-- @merge_strategy: scd2\n-- @unique_key: id\n",
            "(1, 'x'), (2, 'b'), (9, 'y')",
            (3, 2, 0, 1, 5),
        ),
    ],
)
def test_rows_are_counted_as_the_strategy_knows_them(
    shop: Shop,
    header: str,
    rows: str,
    expected: tuple[int, int | None, int | None, int | None, int],
) -> None:
    changes = run_twice(
        shop, orders(BEFORE, header=header), orders(rows, header=header)
    )

    assert counts(changes) == expected
    assert not changes.columns


def test_the_first_run_adds_everything(shop: Shop) -> None:
    shop.publish(orders(BEFORE))

    report = shop.run()

    changes = report.tables[0].changes
    assert changes
    assert changes.is_first
    assert counts(changes) == (0, 4, 0, 0, 4)
    assert [str(each) for each in changes.columns] == [
        "added id (integer)",
        "added note (varchar)",
    ]


def test_a_run_that_changes_nothing_has_no_changes(shop: Shop) -> None:
    header = "-- @merge_strategy: incremental\n-- @unique_key: id\n"
    shop.publish(orders("(1, 'a')", header=header))
    shop.run()

    report = shop.run()

    assert report.tables[0].status == "unchanged"
    assert report.tables[0].changes is None


def test_a_full_refresh_says_which_columns_it_drops_adds_and_retypes(
    shop: Shop,
) -> None:
    changes = run_twice(
        shop,
        orders("(1, 'a', 1)", columns="id, note, amount"),
        orders("(1, 2::BIGINT, 3)", columns="id, amount, total"),
    )

    assert changes.columns == (
        SchemaChange("dropped", "note", "varchar", None),
        SchemaChange("widened", "amount", "integer", "bigint"),
        SchemaChange("added", "total", None, "integer"),
    )


def test_a_materialization_shows_the_changes_as_a_table(shop: Shop) -> None:
    run_twice(shop, orders(BEFORE), orders("(1, 'x')"))

    event = shop.materializations("shop.bronze.orders")[0].asset_materialization
    assert event
    value = event.metadata["changes_against_main"]
    lines = [dict(record.data) for record in value.records]  # type: ignore[attr-defined]
    assert lines == [
        {"what": "rows before", "figure": "4", "share": ""},
        {"what": "rows after", "figure": "1", "share": ""},
        {"what": "rows added", "figure": "0", "share": "0.0 %"},
        {"what": "rows removed", "figure": "3", "share": "75.0 %"},
        {
            "what": "rows changed",
            "figure": "not known: all rows were written anew",
            "share": "",
        },
    ]


def test_changes_are_stored_and_read_back() -> None:
    dropped = SchemaChange("dropped", "note", "varchar", None)
    changes = Changes(
        is_first=False,
        rows_before=1000,
        rows_after=1003,
        added=5,
        removed=2,
        changed=1200,
        columns=(dropped,),
        accepted_by="ann",
    )

    stored = json.loads(json.dumps(changes.to_json()))

    assert Changes.from_json(stored) == changes
    assert changes.summary == "+5 -2 ~1,200"
    assert list(changes.lines)[-2:] == [
        {"what": "column dropped", "figure": "note (varchar)", "share": ""},
        {"what": "accepted by", "figure": "ann", "share": ""},
    ]
