"""What rows say to the alerts that are about them."""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from rat_assets import findings
from rat_assets.findings import Scene
from rat_assets.samples import MASK
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.matches import Looked
from rat_resources.names import TableName

TABLE = TableName("shop", "gold", "sales")
ROWS = """
    CREATE TABLE "shop.gold.sales" AS FROM (VALUES
        (1, 'ann', 10.0, TIMESTAMP '2026-01-01 00:00', '0xa'),
        (2, 'bob', -2.5, TIMESTAMP '2026-01-01 00:30', '0xb'),
        (3, 'ann', NULL, TIMESTAMP '2026-01-01 01:00', '0xb'),
        (4, NULL, -7.5, TIMESTAMP '2026-01-01 01:30', '0xc')
    ) AS t(id, customer, amount, event_time, block_hash)
"""


@pytest.fixture
def connection() -> Iterator[DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(ROWS)
        yield connection


def define(kind: str, **condition: Any) -> Definition:  # noqa: ANN401 - the keys of a condition
    """An alert."""
    return Definition(
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {condition}"),
        name=kind,
        namespace="shop",
        kind=kind,
        condition=condition,
        table=TABLE,
    )


def look(
    connection: DuckDBPyConnection,
    kind: str,
    condition: Mapping[str, Any],
    **scene: Any,  # noqa: ANN401 - the fields of Scene
) -> Looked:
    """What one condition finds."""
    [looked] = findings.look(
        Scene(connection, TABLE, **scene), [define(kind, **condition)]
    )
    return looked


NEGATIVE = {"column": "amount", "op": "lt", "value": 0}


@pytest.mark.parametrize(
    ("kind", "condition", "count"),
    [
        ("threshold", NEGATIVE, 2),
        ("threshold", NEGATIVE | {"where": {"customer": "bob"}}, 1),
        ("threshold", NEGATIVE | {"op": "ne", "value": 10}, 2),
        ("threshold", NEGATIVE | {"op": "gt", "value": 100}, 0),
        ("in", {"column": "customer", "values": ["ann", "eve"]}, 2),
        ("in", {"column": "customer", "values": []}, 0),
        ("aggregate", {"fn": "count", "op": "gte", "value": 4}, 4),
        ("aggregate", {"fn": "sum", "column": "amount", "op": "lt", "value": 1}, 4),
        ("aggregate", {"fn": "count", "op": "gt", "value": 4}, 0),
        ("aggregate", {"fn": "max", "column": "id", "op": "eq", "value": 4}, 4),
        (
            "aggregate",
            {"fn": "count", "op": "eq", "value": 2, "window_minutes": 60},
            2,
        ),
        (
            "aggregate",
            {
                "fn": "avg",
                "column": "amount",
                "op": "lt",
                "value": 0,
                "where": {"id": 3},
            },
            0,
        ),
    ],
)
def test_a_condition_counts_the_rows_that_match(
    connection: DuckDBPyConnection,
    kind: str,
    condition: Mapping[str, Any],
    count: int,
) -> None:
    looked = look(connection, kind, condition)

    assert looked.trouble is None
    assert [each.rows_matching for each in looked.matches] == [count] * bool(count)


def test_a_match_says_what_is_wrong_and_shows_rows(
    connection: DuckDBPyConnection,
) -> None:
    [match] = look(connection, "threshold", NEGATIVE).matches

    assert match.sentence == "2 rows have amount < 0 in shop.gold.sales"
    assert [row["id"] for row in match.rows] == [2, 4]
    assert next(iter(match.rows[0])) == "amount"


def test_nothing_personal_is_shown(connection: DuckDBPyConnection) -> None:
    masked = frozenset({"customer", "amount"})

    [match] = look(connection, "threshold", NEGATIVE, masked=masked).matches
    grouped = look(
        connection,
        "aggregate",
        {
            "fn": "sum",
            "column": "amount",
            "op": "gt",
            "value": 9,
            "group_by": "customer",
        },
        masked=masked,
    )

    [group] = grouped.matches
    assert {row["customer"] for row in match.rows} == {MASK}
    assert group.subject == {"customer": MASK}
    assert "value" not in group.figures
    assert "ann" not in str(group)
    assert "10.0" not in str(group)


def test_each_group_is_a_match_of_its_own(connection: DuckDBPyConnection) -> None:
    condition = {"fn": "count", "op": "gte", "value": 1, "group_by": ["customer"]}

    matches = look(connection, "aggregate", condition).matches

    assert [each.subject["customer"] for each in matches] == ["ann", "bob", None]
    assert [each.figures["value"] for each in matches] == [2, 1, 1]
    assert len({each.key for each in matches}) == 3
    assert [row["id"] for row in matches[0].rows] == [1, 3]


def test_groups_that_are_asked_for_alike_are_asked_at_once(
    connection: DuckDBPyConnection,
) -> None:
    by_customer = {"op": "gt", "group_by": ["customer"]}
    definitions = [
        define("aggregate", fn="count", value=1, **by_customer),
        define("aggregate", fn="sum", column="amount", value=5, **by_customer),
        define("aggregate", fn="sum", column="customer", value=5, **by_customer),
        define("aggregate", fn="count", value=9, **by_customer),
    ]

    looked = findings.look(Scene(connection, TABLE), definitions)

    assert [[one.subject["customer"] for one in each.matches] for each in looked] == [
        ["ann"],
        ["ann"],
        [],
        [],
    ]
    assert [one.figures["value"] for one in looked[0].matches] == [2]
    assert [bool(each.trouble) for each in looked] == [False, False, True, False]


def test_of_what_is_raised_nobody_asks_for_rows(
    connection: DuckDBPyConnection,
) -> None:
    definition = define("threshold", **NEGATIVE)
    raised = {(definition.id, "all")}

    [looked] = findings.look(Scene(connection, TABLE, raised=raised), [definition])

    assert [each.rows for each in looked.matches] == [()]


def test_each_row_is_a_match_of_its_own_if_it_is_asked_for(
    connection: DuckDBPyConnection,
) -> None:
    matches = look(
        connection, "threshold", NEGATIVE | {"per": "row", "key": ["id"]}
    ).matches

    assert [each.subject for each in matches] == [{"id": 4}, {"id": 2}]
    assert [each.identity for each in matches] == ["0xc", "0xb"]
    assert not any(each.lasts for each in matches)


def test_what_all_rows_say_of_their_block_is_copied(
    connection: DuckDBPyConnection,
) -> None:
    alike = look(connection, "threshold", NEGATIVE | {"where": {"id": 2}})
    different = look(connection, "threshold", NEGATIVE)

    assert alike.matches[0].copied["block_hash"] == "0xb"
    assert "block_hash" not in different.matches[0].copied
    assert str(different.matches[0].copied["event_time"]) == "2026-01-01 01:30:00"


def test_news_that_deviate_from_what_came_before_are_found(
    connection: DuckDBPyConnection,
) -> None:
    connection.execute("""
        CREATE OR REPLACE TABLE "shop.gold.sales" AS
            SELECT i AS t, i % 2 AS x FROM range(100) AS r(i) UNION ALL SELECT 200, 50;
        CREATE TABLE before AS FROM "shop.gold.sales" WHERE t < 200
    """)
    condition = {"column": "x", "k": 3, "time_column": "t"}

    news = look(connection, "zscore", condition, before="before")
    old = look(connection, "zscore", condition, before='"shop.gold.sales"')
    whole = look(connection, "zscore", {"column": "x", "k": 3})
    each = look(
        connection, "zscore", condition | {"per": "row", "key": ["t"]}, before="before"
    )

    assert [row["x"] for row in news.matches[0].rows] == [50]
    assert news.matches[0].figures["mean"] == 0.5
    assert not old.matches
    assert whole.matches[0].rows_matching == 1
    assert [one.subject for one in each.matches] == [{"t": 200}]


@pytest.mark.parametrize(
    ("kind", "condition", "said"),
    [
        ("threshold", NEGATIVE | {"column": "amont"}, "did you mean 'amount'?"),
        ("threshold", NEGATIVE | {"value": "much"}, "does not compare with 'much'"),
        ("threshold", NEGATIVE | {"op": "like"}, "'like', which is no operator"),
        ("in", {"column": "customer", "values": [1]}, "does not compare with 1"),
        ("aggregate", {"fn": "mode", "op": "lt", "value": 1}, "is no function"),
        (
            "aggregate",
            {"fn": "sum", "column": "customer", "op": "lt", "value": 1},
            "'customer' is varchar, of which there is no sum",
        ),
        (
            "aggregate",
            {
                "fn": "count",
                "op": "lt",
                "value": 1,
                "window_minutes": 5,
                "time_column": "id",
            },
            "says no time",
        ),
        ("zscore", {"column": "customer", "k": 1}, "from whose mean nothing deviates"),
        ("threshold", NEGATIVE | {"where": {"x": 1}}, "'x', which is not there"),
        ("zscore", {"column": "amount", "k": "far"}, "makes no sense"),
    ],
)
def test_a_condition_that_does_not_fit_its_table_says_why(
    connection: DuckDBPyConnection,
    kind: str,
    condition: Mapping[str, Any],
    said: str,
) -> None:
    looked = look(connection, kind, condition)

    assert said in str(looked.trouble)


def test_one_condition_that_fails_keeps_no_other_from_being_evaluated(
    connection: DuckDBPyConnection,
) -> None:
    connection.execute('ALTER TABLE "shop.gold.sales" ADD COLUMN big BIGINT')
    connection.execute('UPDATE "shop.gold.sales" SET big = 9223372036854775807')
    definitions = [
        define("aggregate", fn="sum", column="big", op="gt", value=0),
        define("threshold", **NEGATIVE),
        define("threshold", **NEGATIVE | {"column": "gone"}),
    ]

    looked = findings.look(Scene(connection, TABLE), definitions)

    assert [bool(each.matches) for each in looked] == [True, True, False]
    assert [bool(each.trouble) for each in looked] == [False, False, True]


def test_what_takes_too_long_is_given_up(connection: DuckDBPyConnection) -> None:
    connection.execute(
        'DROP TABLE "shop.gold.sales"; CREATE VIEW "shop.gold.sales" AS'
        " SELECT a.i * b.i AS id FROM range(10_000_000) AS a(i), range(10_000_000) AS b(i)"
    )
    condition = {"column": "id", "op": "lt", "value": 0}

    looked = look(connection, "threshold", condition, time_limit=0.05)

    assert "took more than 0.05 s" in str(looked.trouble)
