"""What of a query's result may be another one: never less than what is, and no more than need be."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from uuid import uuid4

import duckdb
import pytest
from duckdb import DuckDBPyConnection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rat_resources.lake.evaluating import FEW, MANY, Invalidated
from rat_resources.lake.narrowing import Plan, narrow
from rat_resources.lake.pruning import Box, Range
from tests.rat_resources.lake.scoped_queries import (
    SCOPES,
    change,
    make_pipeline,
    make_tables,
)

# `RAT_SCOPED_QUERIES=5000 pytest …` tries more than every run does.
QUERIES = int(os.environ.get("RAT_SCOPED_QUERIES", "30"))
SCOPE = "a = 1"
WITHIN = {
    "a = 1": (Range("a", "1", "1"),),
    "b >= 2 AND b < 4": (Range("b", "2"), Range("b", high="4")),
    "c > 6": (Range("c", "6"),),
    "d = 'y'": (Range("d", "'y'", "'y'"),),
}


@pytest.fixture(scope="module")
def connection() -> Iterator[DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def prune(connection: DuckDBPyConnection, name: str, boxes: Sequence[Box]) -> str:
    """A view with the rows in boxes alone."""
    view = f"pruned_{uuid4().hex}"
    inside = " OR ".join(
        " AND ".join(f"({asked(each)})" for each in box) for box in boxes
    )
    connection.execute(f"CREATE TEMP VIEW {view} AS FROM {name} WHERE {inside}")
    return view


def asked(within: Range) -> str:
    ends = {">=": within.low, "<=": within.high}
    tests = [f"{within.column} {sign} {end}" for sign, end in ends.items() if end]
    missing = [f"{within.column} IS NULL"] if within.nulls or not tests else []
    return " OR ".join([*missing, *([" AND ".join(tests)] if tests else [])])


def prove(
    connection: DuckDBPyConnection,
    query: str,
    random: Random,
    *,
    scope: str = SCOPE,
    keys: tuple[str, ...] = (),
    reads: int = MANY,
) -> Plan:
    """Change rows in scope; what the plan keeps and brings together must be the query's result."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE out AS {query}")
    change(connection, random, scope=scope)
    told = Invalidated(
        "t",
        scope,
        SCOPES[scope],
        ("t_old",),
        WITHIN.get(scope, ()),
        partial(prune, connection),
    )
    plan = narrow(connection, query, invalidated=[told], keys=keys, reads=reads)
    if plan.is_whole:
        return plan
    connection.execute(f"CREATE OR REPLACE TEMP TABLE want AS {query}")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE got AS "
        f"SELECT * FROM out WHERE NOT {plan.condition(of='out')} UNION ALL ({plan.query})"
    )
    wrong = connection.execute(
        "(FROM want EXCEPT ALL FROM got) UNION ALL (FROM got EXCEPT ALL FROM want)"
    ).fetchall()
    assert not wrong, f"{query}\n{plan.level}: {plan.why}"
    return plan


LEVELS = {
    "a column that says it is handed on": (
        "SELECT a, b AS x FROM t",
        "rows",
        ["a"],
    ),
    "a column that says it is gone": (
        "SELECT b, c + 1 AS x FROM t",
        "rows",
        ["b", "x"],
    ),
    "FROM first": ("FROM t", "rows", ["a"]),
    "a star without it": ("SELECT * EXCLUDE (a) FROM t", "rows", ["b", "c", "d"]),
    "a star that puts another in its place": (
        "SELECT * REPLACE (a + 1 AS a) FROM t",
        "rows",
        ["a", "b", "c", "d"],
    ),
    "a name in other letters": ("SELECT T.A AS x FROM t", "rows", ["x"]),
    "a condition": ("SELECT a FROM t WHERE c > 3 AND b IS NOT NULL", "rows", ["a"]),
    "groups by it": ("SELECT a, count(*) AS n FROM t GROUP BY 1", "rows", ["a"]),
    "groups by another": ("SELECT b, max(c) AS m FROM t GROUP BY b", "groups", ["b"]),
    "groups by all": (
        "SELECT b, d, sum(c) AS s FROM t GROUP BY ALL",
        "groups",
        ["b", "d"],
    ),
    "groups by an alias": (
        "SELECT c % 2 AS odd, count(*) AS n FROM t GROUP BY odd",
        "groups",
        ["odd"],
    ),
    "groups that are chosen": (
        "SELECT b, count(*) AS n FROM t GROUP BY b HAVING count(*) > 3",
        "groups",
        ["b"],
    ),
    "FILTER": (
        "SELECT b, count(*) FILTER (c > 3) AS n FROM t GROUP BY b",
        "groups",
        ["b"],
    ),
    "DISTINCT": ("SELECT DISTINCT b FROM t", "groups", ["b"]),
    "DISTINCT ON": (
        "SELECT DISTINCT ON (b) b, c, d, a FROM t ORDER BY c, d, a",
        "keys",
        ["b"],
    ),
    "a window within it": (
        "SELECT a, b, sum(c) OVER (PARTITION BY a) AS s FROM t",
        "rows",
        ["a"],
    ),
    "a window across it": (
        "SELECT b, c, sum(c) OVER (PARTITION BY b) AS s FROM t",
        "keys",
        ["b"],
    ),
    "a window by an alias": (
        "SELECT b AS k, c, a, d FROM t "
        "QUALIFY row_number() OVER (PARTITION BY k ORDER BY c, a, d) = 1",
        "keys",
        ["k"],
    ),
    "a window by name": (
        "SELECT b, sum(c) OVER w AS s FROM t WINDOW w AS (PARTITION BY b)",
        "keys",
        ["b"],
    ),
    "ranks that are chosen outside": (
        "SELECT b, c FROM (SELECT *, rank() OVER (PARTITION BY b ORDER BY c) AS r FROM t) "
        "WHERE r = 1",
        "keys",
        ["b"],
    ),
    "a join": ("SELECT t.a, u.c FROM t JOIN u USING (b)", "rows", ["a"]),
    "the left side of a left join": (
        "SELECT t.a, u.c FROM t LEFT JOIN u ON t.b = u.b",
        "rows",
        ["a"],
    ),
    "the right side of a left join": (
        "SELECT u.b, u.c, t.c AS other FROM u LEFT JOIN t ON t.b = u.b AND t.c > u.c",
        "keys",
        ["b"],
    ),
    "a full join": (
        "SELECT t.b, u.b AS other, u.c FROM t FULL JOIN u ON t.b = u.b",
        "keys",
        ["b", "other"],
    ),
    "an anti join": ("SELECT u.b, u.c FROM u ANTI JOIN t ON t.b = u.b", "keys", ["b"]),
    "members": (
        "SELECT u.b, u.c FROM u WHERE u.c IN (SELECT c FROM t WHERE a = 1)",
        "keys",
        ["c"],
    ),
    "both sides": (
        "SELECT x.a, y.a AS other FROM t AS x JOIN t AS y ON x.b = y.b",
        "rows",
        ["a", "other"],
    ),
    "UNION ALL": ("SELECT a, b FROM t UNION ALL SELECT b, a FROM u", "rows", ["a"]),
    "EXCEPT": ("SELECT a, b FROM u EXCEPT SELECT a, b FROM t", "rows", ["a"]),
    "steps with names": (
        "WITH x AS (SELECT *, b % 2 AS g FROM t), y AS (FROM x WHERE c > 1) "
        "SELECT g, count(*) AS n FROM y GROUP BY g",
        "groups",
        ["g"],
    ),
    "no column of it": ("SELECT count(*) AS n FROM t", "table", []),
    "a window over all": ("SELECT a, sum(c) OVER () AS s FROM t", "table", []),
    "LIMIT": ("SELECT a FROM t ORDER BY ALL LIMIT 5", "table", []),
    "totals": ("SELECT b, count(*) AS n FROM t GROUP BY ROLLUP (b)", "table", []),
    "a query for a value": (
        "SELECT a, (SELECT max(c) FROM t) AS m FROM u",
        "table",
        [],
    ),
    "NOT IN": ("SELECT a FROM u WHERE b NOT IN (SELECT b FROM t)", "table", []),
    "chance": ("SELECT a, random() AS r FROM t", "table", []),
    "the clock": ("SELECT a, current_date AS r FROM t", "table", []),
    "a query that reads itself": (
        "WITH RECURSIVE x AS (SELECT a FROM t UNION SELECT a + 1 FROM x WHERE a < 9) FROM x",
        "table",
        [],
    ),
    "a pivot": ("PIVOT t ON d USING sum(c) GROUP BY a", "table", []),
}


@pytest.mark.parametrize(
    ("query", "level", "columns"), LEVELS.values(), ids=list(LEVELS)
)
def test_what_is_made_anew_is_enough_and_no_more_than_need_be(
    connection: DuckDBPyConnection, query: str, level: str, columns: list[str]
) -> None:
    for seed in range(2):
        random = Random(seed)  # noqa: S311
        make_tables(connection, random, rows=30)

        plan = prove(connection, query, random)

        assert plan.level == level, plan.why
        assert set(plan.columns) <= set(columns)
        assert plan.why


@settings(
    max_examples=QUERIES,
    deadline=None,
    derandomize=QUERIES <= 30,
    suppress_health_check=list(HealthCheck),
)
@given(random=st.randoms(use_true_random=False))
def test_a_part_made_anew_is_what_all_of_it_would_be(
    connection: DuckDBPyConnection, random: Random
) -> None:
    make_tables(connection, random, rows=random.randint(4, 20))
    made = make_pipeline(random, steps=random.randint(1, 4))

    scope, reads = random.choice(list(SCOPES)), random.choice([FEW, MANY])
    prove(connection, made.sql, random, scope=scope, reads=reads)


def test_what_a_step_does_not_hand_on_is_asked_below_it(
    connection: DuckDBPyConnection,
) -> None:
    make_tables(connection, Random(1), rows=30)  # noqa: S311
    query = (
        "WITH x AS (SELECT b, c % 3 AS e FROM t), y AS (SELECT x.b, x.e FROM x JOIN u USING (b)) "
        "SELECT e, count(*) AS n FROM y GROUP BY e"
    )

    plan = prove(connection, query, Random(1))  # noqa: S311

    assert (plan.level, plan.columns) == ("groups", ("e",))
    assert plan.why == "rows are put together: the groups by e"


def test_groups_of_few_rows_are_all_put_together(
    connection: DuckDBPyConnection,
) -> None:
    make_tables(connection, Random(1), rows=30)  # noqa: S311

    plan = prove(
        connection,
        "SELECT b, count(*) AS n FROM t GROUP BY b",
        Random(1),  # noqa: S311
        reads=FEW,
    )

    assert plan.level == "groups"
    assert "all groups are put together" in plan.why


def test_most_queries_are_narrowed(connection: DuckDBPyConnection) -> None:
    levels: Counter[str] = Counter()
    for seed in range(12):
        random = Random(seed)  # noqa: S311
        make_tables(connection, random, rows=12)
        made = make_pipeline(random, steps=2)
        levels[prove(connection, made.sql, random).level] += 1

    assert levels["table"] < levels.total() / 4


def test_one_row_a_key_is_affected_by_all_rows_of_the_key(
    connection: DuckDBPyConnection,
) -> None:
    make_tables(connection, Random(1), rows=20)  # noqa: S311
    change(connection, Random(1), scope=SCOPE)  # noqa: S311

    told = Invalidated("t", SCOPE, ("a",), ("t_old",))
    plan = narrow(connection, "FROM t", invalidated=[told], keys=["b"])

    assert (plan.level, plan.columns) == ("keys", ("b",))


def test_a_text_that_is_another_in_each_run_tells_no_rows(
    connection: DuckDBPyConnection,
) -> None:
    make_tables(connection, Random(1), rows=20)  # noqa: S311
    change(connection, Random(1), scope=SCOPE)  # noqa: S311
    told = Invalidated("t", SCOPE, ("a",), ("t_old",))

    stamped = narrow(
        connection,
        "SELECT b, '12:00' AS at FROM t",
        invalidated=[told],
        passing=["12:00"],
    )
    asked = narrow(
        connection,
        "SELECT a FROM t WHERE d < '12:00'",
        invalidated=[told],
        passing=["12:00"],
    )

    assert stamped.columns == ("b",)
    assert asked.level == "table"


def test_values_are_those_of_the_columns_as_they_are_kept(
    connection: DuckDBPyConnection,
) -> None:
    make_tables(connection, Random(1), rows=20)  # noqa: S311
    change(connection, Random(1), scope=SCOPE)  # noqa: S311
    told = Invalidated("t", SCOPE, ("a",), ("t_old",))

    plan = narrow(
        connection,
        "SELECT b + 0.4 AS x FROM t",
        invalidated=[told],
        types={"x": "INTEGER"},
    )

    kinds = connection.sql(plan.query).types
    assert [str(kind) for kind in kinds] == ["INTEGER"]
