"""Deciding columns: what conditions, joins, groups and orders go by, and that nothing else does."""

from collections import Counter
from typing import Any

import duckdb
import pytest

from rat_resources.lake.lineage import Inputs, read
from rat_resources.names import ColumnName
from tests.rat_resources.lake.test_lineage import CASES as QUERIES
from tests.rat_resources.lake.test_lineage import TABLES, connect

UNKNOWN = "?"
# By each construct: the columns that decide.
CASES = {
    "SELECT a FROM t": "",
    "SELECT a FROM t WHERE b > 1": "t.b",
    "SELECT a AS x, count(*) AS n FROM t GROUP BY a": "t.a",
    "SELECT a AS x, count(*) AS n FROM t GROUP BY 1": "t.a",
    "SELECT a, count(*) AS n FROM t GROUP BY ALL": "t.a",
    "SELECT sum(a) AS s FROM t GROUP BY GROUPING SETS ((a), (b))": "t.a t.b",
    "SELECT id, sum(a) AS s FROM t GROUP BY id HAVING max(d) IS NULL": "t.d t.id",
    "SELECT a, b > 1 AS k FROM t WHERE k": "t.b",
    "SELECT a FROM t ORDER BY b": "",
    "SELECT a FROM t ORDER BY b LIMIT 1": "t.b",
    "SELECT x FROM (SELECT a AS x FROM t ORDER BY b) LIMIT 1": "t.b",
    "SELECT DISTINCT a, b FROM t": "t.a t.b",
    "SELECT DISTINCT ON (a) b FROM t": "t.a",
    "SELECT t.a FROM t JOIN u ON t.id = u.c": "t.id u.c",
    "SELECT c FROM t JOIN u USING (id)": "t.id u.id",
    "SELECT c FROM u NATURAL JOIN v": "u.id v.id",
    "SELECT a FROM t ANTI JOIN u ON t.b = u.c": "t.b u.c",
    "SELECT t.a FROM t ASOF JOIN u ON t.id = u.id AND t.d >= u.d": "t.d t.id u.d u.id",
    "SELECT a FROM t UNION ALL SELECT c FROM u": "",
    "SELECT a FROM t UNION SELECT c FROM u": "t.a u.c",
    "SELECT a FROM t EXCEPT SELECT c FROM u": "t.a u.c",
    "(SELECT a FROM t UNION ALL SELECT c FROM u) ORDER BY 1 LIMIT 1": UNKNOWN,
    "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.c = t.b)": "t.b u.c",
    "SELECT a FROM t WHERE id IN (SELECT c FROM u WHERE d IS NULL)": "t.id u.c u.d",
    "SELECT (SELECT max(c) FROM u WHERE u.id = t.id) AS m FROM t": "t.id u.id",
    "WITH k AS (SELECT b AS z, a FROM t) SELECT a FROM k WHERE z > 1": "t.b",
    "SELECT id FROM t, unnest(t.l) AS k(x)": "t.l",
    "SELECT id, unnest(l) AS x FROM t": "t.l",
    "SELECT t.id FROM t, range(t.a) AS r(n)": "t.a",
    "SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY b ORDER BY d) = 1": "t.b t.d",
    "PIVOT u ON c USING sum(id)": UNKNOWN,
    "SELECT * FROM u WHERE COLUMNS(n -> n LIKE 'c%') > 1": UNKNOWN,
}  # fmt: skip


@pytest.mark.parametrize("sql", CASES)
def test_what_a_query_chooses_and_groups_its_rows_by_decides(sql: str) -> None:
    connection = connect()

    found = read(sql, inputs=inputs_of(connection), output=connection.sql(sql).columns)

    shown = UNKNOWN if found.deciding is None else " ".join(map(str, found.deciding))
    assert shown == CASES[sql]


def test_other_values_elsewhere_change_no_more_than_the_columns_that_take_them() -> (
    None
):
    connection = connect()
    fill(connection)
    looked_at = 0

    for sql in [*QUERIES, *CASES]:
        found = read(
            sql, inputs=inputs_of(connection), output=connection.sql(sql).columns
        )
        if found.deciding is None or "RECURSIVE" in sql:
            continue  # not known; or of these values without an end
        elsewhere = every_column(connection) - set(found.deciding)
        untouched = [
            name
            for name in connection.sql(sql).columns
            if name in found.sources and not elsewhere & set(found.sources[name])
        ]
        connection.begin()  # so that it is one moment
        try:
            before = rows(connection, sql, untouched)
            for table, column in elsewhere:
                connection.execute(f'UPDATE "{table}" SET "{column}" = NULL')
            after = rows(connection, sql, untouched)
        except duckdb.Error:
            continue  # some functions take no such values
        finally:
            connection.rollback()
        looked_at += 1
        assert after == before, sql

    assert looked_at > len(CASES)


def every_column(connection: duckdb.DuckDBPyConnection) -> set[ColumnName]:
    """The columns of all tables."""
    return {
        ColumnName(table, column)
        for table in TABLES
        for column in connection.table(f'"{table}"').columns
    }


def inputs_of(connection: duckdb.DuckDBPyConnection) -> Inputs:
    """The tables, as a query may name them."""
    return Inputs({name: connection.table(f'"{name}"').columns for name in TABLES})


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    """A few rows, some of them equal."""
    for name in TABLES:
        values = ", ".join(
            VALUES[str(kind)] for kind in connection.table(f'"{name}"').types
        )
        connection.execute(
            f'INSERT INTO "{name}" SELECT {values} FROM range(9) AS r(i)'
        )


VALUES = {
    "INTEGER": "i % 4",
    "INTEGER[]": "[i, 2]",
    "VARCHAR": "'a' || i % 2",
    "JSON": "json_object('k', i)",
    "DATE": "DATE '2024-01-01' + (i % 3)::INTEGER",
    "STRUCT(x INTEGER, y STRUCT(z INTEGER))": "{'x': i, 'y': {'z': 1}}",
}


def rows(
    connection: duckdb.DuckDBPyConnection, sql: str, columns: list[str]
) -> Counter[tuple[Any, ...]]:
    """What a query returns in some of its columns; how often each row is there."""
    result = connection.sql(sql)
    kept = [n for n, name in enumerate(result.columns) if name in columns]
    return Counter(tuple(str(row[n]) for n in kept) for row in result.fetchall())
