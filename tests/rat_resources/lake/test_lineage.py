"""Lineage: what each column of a query takes its values from, construct by construct.

DuckDB itself says which columns a query returns; the sources were written by hand. `?` is a column
that is left out.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from rat_resources.lake.lineage import Inputs, trace

TABLES = {
    "t": "id INT, a INT, b INT, s STRUCT(x INT, y STRUCT(z INT)), l INT[], j JSON, d DATE, w VARCHAR",
    "u": "id INT, c INT, d DATE",
    "v": "id INT, a INT, e INT",
    "ns.silver.Flights": "Carrier VARCHAR, delay INT",
}
UNKNOWN = "?"

CASES = {
    # Names.
    "SELECT a, b AS two FROM t": {"a": "t.a", "two": "t.b"},
    "SELECT A, t.B, T.id FROM T": {"a": "t.a", "b": "t.b", "id": "t.id"},
    'SELECT carrier FROM "ns.silver.flights"': {"Carrier": "ns.silver.Flights.Carrier"},
    'SELECT "NS.silver.flights".DELAY FROM "NS.silver.flights"': {
        "delay": "ns.silver.Flights.delay"
    },
    "SELECT x.a, y.a AS other FROM t AS x, v AS y": {"a": "t.a", "other": "v.a"},
    "SELECT k, i FROM u AS z(i, k)": {"k": "u.c", "i": "u.id"},
    "SELECT 1 AS one, 'a' AS text, now() AS at": {"one": "", "text": "", "at": ""},
    "SELECT x: a + 1, y: b FROM t": {"x": "t.a", "y": "t.b"},
    "SELECT a + b FROM t": {"(a + b)": "t.a t.b"},
    "SELECT rowid AS r, a FROM t": {"r": UNKNOWN, "a": "t.a"},
    # A column comes before an alias, an alias before nothing.
    "SELECT 7 AS b, b + 1 AS n FROM t": {"b": "", "n": "t.b"},
    "SELECT a AS n, n + b AS m, m AS k FROM t": {"n": "t.a", "m": "t.a t.b", "k": "t.a t.b"},
    # Stars.
    "FROM u": {"id": "u.id", "c": "u.c", "d": "u.d"},
    "FROM t SELECT a": {"a": "t.a"},
    "SELECT u.*, t.a FROM t, u": {"id": "u.id", "c": "u.c", "d": "u.d", "a": "t.a"},
    "SELECT * EXCLUDE (id, D) FROM u": {"c": "u.c"},
    "SELECT * REPLACE (c + id AS c) FROM u": {"id": "u.id", "c": "u.c u.id", "d": "u.d"},
    "SELECT * RENAME (c AS k) FROM u": {"id": "u.id", "k": "u.c", "d": "u.d"},
    "SELECT u.* EXCLUDE (id) REPLACE (1 AS c) FROM u": {"c": "", "d": "u.d"},
    "SELECT COLUMNS('^[ab]$') FROM t": {"a": "t.a", "b": "t.b"},
    "SELECT max(COLUMNS(*)), count(*) AS n FROM u": {
        "id": "u.id", "c": "u.c", "d": "u.d", "n": "",
    },
    "SELECT COLUMNS(* EXCLUDE (d)) + u.id FROM u": {"id": "u.id", "c": "u.c u.id"},
    "SELECT COLUMNS(['c', 'id']) FROM u": {"id": "u.id", "c": "u.c"},
    "SELECT COLUMNS('(c|id)') AS 'the_\\1' FROM u": {"the_id": "u.id", "the_c": "u.c"},
    "SELECT coalesce(*COLUMNS('^(id|c)$')) AS k FROM u": {"k": "u.c u.id"},
    "SELECT COLUMNS(n -> n LIKE 'c%') FROM u": {"c": UNKNOWN},
    "SELECT * LIKE 'c%' FROM u": {"c": UNKNOWN},
    # CTEs.
    "WITH k AS (SELECT a AS n, b FROM t) SELECT n + b AS m FROM k": {"m": "t.a t.b"},
    "WITH k(p, q) AS (SELECT a, b FROM t) FROM k": {"p": "t.a", "q": "t.b"},
    "WITH k AS (SELECT * FROM u), m AS (SELECT *, c AS e FROM k) FROM m": {
        "id": "u.id", "c": "u.c", "d": "u.d", "e": "u.c",
    },
    "WITH t AS (SELECT c AS a FROM u) SELECT a FROM t": {"a": "u.c"},
    "WITH k AS MATERIALIZED (SELECT a FROM t), n AS (WITH k AS (SELECT c FROM u) FROM k) "
    "SELECT * FROM n, k": {"c": "u.c", "a": "t.a"},
    "WITH RECURSIVE k(p, q) AS (SELECT a, 0 FROM t UNION ALL SELECT p + 1, b + q FROM k "
    "JOIN t ON id = p) FROM k": {"p": "t.a", "q": "t.b"},
    "WITH RECURSIVE k AS (SELECT a, b, id FROM t UNION ALL SELECT b, id, id FROM k) FROM k": {
        "a": "t.a t.b t.id", "b": "t.b t.id", "id": "t.id",
    },
    # Joins.
    "SELECT a, c, t.id FROM t JOIN u ON t.id = u.id": {"a": "t.a", "c": "u.c", "id": "t.id"},
    "SELECT id, c, e FROM u LEFT JOIN v USING (id)": {"id": "u.id v.id", "c": "u.c", "e": "v.e"},
    "FROM u FULL JOIN v USING (id)": {
        "id": "u.id v.id", "c": "u.c", "d": "u.d", "a": "v.a", "e": "v.e",
    },
    "SELECT u.id, v.id AS other FROM u JOIN v USING (id)": {"id": "u.id", "other": "v.id"},
    "SELECT id FROM t JOIN u USING (id) JOIN v USING (id)": {"id": "t.id u.id v.id"},
    "FROM (SELECT id, c FROM u) NATURAL JOIN v": {
        "id": "u.id v.id", "c": "u.c", "a": "v.a", "e": "v.e",
    },
    "FROM u SEMI JOIN v USING (id)": {"id": "u.id", "c": "u.c", "d": "u.d"},
    "SELECT c, e FROM u ASOF JOIN v USING (id)": {"c": "u.c", "e": "v.e"},
    "SELECT c, e FROM u POSITIONAL JOIN v": {"c": "u.c", "e": "v.e"},
    "SELECT p.c, e FROM (u AS p JOIN v USING (id))": {"c": "u.c", "e": "v.e"},
    "SELECT u.c, id, e FROM (u JOIN v USING (id)) AS j": {
        "c": "u.c", "id": "u.id v.id", "e": "v.e",
    },
    "SELECT v.* FROM t, u JOIN v ON u.id = v.id": {"id": "v.id", "a": "v.a", "e": "v.e"},
    # Two columns of one name: DuckDB calls the second id_1.
    "SELECT id, id_1 FROM (SELECT * FROM u JOIN v ON u.id = v.id)": {
        "id": "u.id", "id_1": UNKNOWN,
    },
    # Aggregates and windows: what is in the expression counts, what is not does not.
    "SELECT count(*) AS n, count(*) FILTER (b > 1) AS m, sum(a) AS k FROM t": {
        "n": "", "m": "t.b", "k": "t.a",
    },
    "SELECT a, max(b) AS m FROM t WHERE id > 1 GROUP BY ALL HAVING max(id) > 1 ORDER BY ALL": {
        "a": "t.a", "m": "t.b",
    },
    "SELECT list(a ORDER BY b) AS k, arg_max(a, id) AS m FROM t": {
        "k": "t.a t.b", "m": "t.a t.id",
    },
    "SELECT quantile_cont(a, 0.5) AS q, string_agg(w, ',') AS k FROM t": {"q": "t.a", "k": "t.w"},
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) AS n FROM t": {"n": "t.a t.b"},
    "SELECT sum(a) OVER k AS n FROM t WINDOW k AS (PARTITION BY b ORDER BY id)": {
        "n": "t.a t.b t.id",
    },
    "SELECT lag(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM t": {
        "n": "t.a t.b",
    },
    "SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY b) = 1": {"a": "t.a"},
    "SELECT DISTINCT ON (b) a FROM t ORDER BY id": {"a": "t.a"},
    "SELECT grouping(a) AS g, sum(b) AS n FROM t GROUP BY ROLLUP (a)": {"g": "t.a", "n": "t.b"},
    # Unions.
    "SELECT a AS n FROM t UNION ALL SELECT c FROM u": {"n": "t.a u.c"},
    "SELECT a, 1 AS k FROM t UNION ALL BY NAME SELECT c AS k, 2 AS z FROM u": {
        "a": "t.a", "k": "u.c", "z": "",
    },
    "(SELECT a FROM t ORDER BY b LIMIT 1) UNION (FROM (SELECT e FROM v))": {"a": "t.a v.e"},
    "SELECT a FROM t EXCEPT SELECT c FROM u": {"a": "t.a"},
    "SELECT a FROM t INTERSECT SELECT c FROM u": {"a": "t.a u.c"},
    # Subqueries.
    "SELECT (SELECT max(c) FROM u WHERE u.id = t.id) AS m FROM t": {"m": "u.c"},
    "SELECT (SELECT max(c + a) FROM u) AS m FROM t": {"m": "t.a u.c"},
    "SELECT a IN (SELECT c FROM u WHERE d > DATE '2020-01-01') AS m FROM t": {"m": "t.a u.c"},
    "SELECT EXISTS (FROM u WHERE u.id = t.id) AS m, a FROM t": {"m": "", "a": "t.a"},
    "SELECT n FROM (SELECT a AS n FROM (FROM t)) AS q": {"n": "t.a"},
    "SELECT ARRAY(SELECT c FROM u) AS k": {"k": "u.c"},
    "SELECT (WITH k AS (SELECT a + max(c) AS n FROM u) SELECT n FROM k) AS m FROM t": {
        "m": "t.a u.c",
    },
    "SELECT a, k FROM t, LATERAL (SELECT t.b + c AS k FROM u)": {"a": "t.a", "k": "t.b u.c"},
    "SELECT k FROM t, (SELECT b AS k)": {"k": "t.b"},
    "SELECT k FROM t LEFT JOIN LATERAL (SELECT a AS k) ON true": {"k": "t.a"},
    # Structs, lists, JSON, lambdas.
    "SELECT s.x, t.s.y.z, s['x'] AS k, (s).y AS m FROM t": {
        "x": "t.s", "z": "t.s", "k": "t.s", "m": "t.s",
    },
    "SELECT s.* FROM t": {"x": "t.s", "y": "t.s"},
    "SELECT a, s.*, b FROM t": {"a": "t.a", "x": "t.s", "y": "t.s", "b": "t.b"},
    "SELECT {'k': a, 'm': b} AS k, struct_pack(p := id) AS m, [a, b] AS n, MAP {w: a} AS o FROM t": {
        "k": "t.a t.b", "m": "t.id", "n": "t.a t.b", "o": "t.a t.w",
    },
    "SELECT u AS k FROM u": {"k": "u.c u.d u.id"},
    "SELECT l[1] AS k, l[a:b] AS m, len(l) AS n FROM t": {
        "k": "t.l", "m": "t.a t.b t.l", "n": "t.l",
    },
    "SELECT list_transform(l, x -> x + a) AS k, [y + b FOR y IN l IF y > id] AS m FROM t": {
        "k": "t.a t.l", "m": "t.b t.id t.l",
    },
    "SELECT list_filter(l, lambda a: a > 1) AS k, list_reduce(l, (p, q) -> p + q) AS m FROM t": {
        "k": "t.l", "m": "t.l",
    },
    "SELECT l.list_transform(x -> x + a) AS k FROM t": {"k": "t.a t.l"},
    "SELECT j->'$.a' AS k, coalesce(j->>'a', w) AS m, j.a AS n FROM t": {
        "k": "t.j", "m": "t.j t.w", "n": "t.j",
    },
    "SELECT w.upper() AS k, max(a).round() AS m FROM t GROUP BY w": {"k": "t.w", "m": "t.a"},
    # unnest() of a struct is as many columns as it has fields.
    "SELECT unnest(l) AS k, a FROM t": {"k": "t.l", "a": "t.a"},
    "SELECT id, unnest(s), a FROM t": {"id": "t.id", "x": "t.s", "y": "t.s", "a": "t.a"},
    "SELECT k FROM (SELECT id, unnest(l) AS k FROM t)": {"k": "t.l"},
    "SELECT id, k FROM t, unnest(t.l) AS m(k)": {"id": "t.id", "k": "t.l"},
    "SELECT id, unnest FROM t, unnest(l)": {"id": "t.id", "unnest": "t.l"},
    # Table functions and values.
    "FROM (VALUES (1, 2), (3, 4)) AS k(p, q)": {"p": "", "q": ""},
    "VALUES (1, 2)": {"col0": "", "col1": ""},
    "SELECT (SELECT p FROM (VALUES (a), (b)) AS k(p) LIMIT 1) AS m FROM t": {"m": "t.a t.b"},
    "SELECT range AS n, i FROM range(3), generate_series(1, 2) AS g(i)": {"n": "", "i": ""},
    "SELECT k FROM t, range(a) AS g(k)": {"k": "t.a"},
    # Dates.
    "SELECT date_trunc('month', d) AS k, extract(year FROM d) AS m, d + INTERVAL (a) DAYS AS n, "
    "date_diff('day', d, d) AS o FROM t": {"k": "t.d", "m": "t.d", "n": "t.a t.d", "o": "t.d"},
    "SELECT date_trunc(w, d) AS k FROM t": {"k": "t.d t.w"},
    "SELECT CASE WHEN a > 1 THEN id END AS k, a::VARCHAR AS m, CAST(b AS STRUCT(a INT)) AS n "
    "FROM (SELECT a, id, {'a': b} AS b FROM t)": {"k": "t.a t.id", "m": "t.a", "n": "t.b"},
    "SELECT TIMESTAMP '2020-01-01' AT TIME ZONE w AS k, a BETWEEN b AND id AS m FROM t": {
        "k": "t.w", "m": "t.a t.b t.id",
    },
    # PIVOT is left out, what stands beside it is not.
    "PIVOT u ON c IN (1, 2) USING count(*)": {"id": UNKNOWN, "d": UNKNOWN, "1": UNKNOWN, "2": UNKNOWN},
    'SELECT a, p."1" AS k FROM t JOIN (FROM u PIVOT (count(*) FOR c IN (1, 2))) AS p USING (id)': {
        "a": "t.a", "k": UNKNOWN,
    },
}  # fmt: skip


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB with the tables."""
    connection = duckdb.connect()
    for name, columns in TABLES.items():
        connection.execute(f'CREATE TABLE "{name}" ({columns})')
    return connection


def shown(sources: Sequence[tuple[str, str]] | None) -> str:
    """Sources as the cases write them."""
    if sources is None:
        return UNKNOWN
    return " ".join(f"{dataset}.{column}" for dataset, column in sources)


@pytest.mark.parametrize("sql", CASES)
def test_each_column_is_traced_to_what_it_takes_its_values_from(sql: str) -> None:
    connection = connect()
    tables = {name: connection.table(f'"{name}"').columns for name in TABLES}
    output = connection.sql(sql).columns

    found = trace(sql, inputs=Inputs(tables), output=output)

    expected = {name.casefold(): sources for name, sources in CASES[sql].items()}
    assert {c.casefold(): shown(found.get(c)) for c in output} == expected


def test_files_of_a_landing_zone_are_traced_to_the_zone(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "a.csv").write_text("id,amount\n1,2\n")
    connection = connect()
    sql = f"""
        SELECT amount * 2 AS twice, parse_filename(filename) AS file, a
        FROM read_csv('{tmp_path}/orders/*.csv', header = true, filename = true,
            types = {{'id': 'INT'}}) AS r
        JOIN t USING (id)
    """
    inputs = Inputs(
        {name: connection.table(f'"{name}"').columns for name in TABLES},
        zones={str(tmp_path / "orders"): "ns.landing.orders"},
        describe=lambda call: connection.sql(f"FROM {call}").columns,
    )

    found = trace(sql, inputs=inputs, output=["twice", "file", "a"])

    assert {name: shown(sources) for name, sources in found.items()} == {
        "twice": "ns.landing.orders.amount",
        "file": "ns.landing.orders.filename",
        "a": "t.a",
    }


def test_files_of_nobody_have_no_source() -> None:
    inputs = Inputs({}, describe=lambda _: ["a"])

    assert trace("SELECT a FROM '/x.csv'", inputs=inputs, output=["a"]) == {"a": ()}


def test_a_table_function_that_cannot_be_described_is_left_out() -> None:
    sql = "SELECT a, 1 AS one FROM letters('x')"

    assert trace(sql, inputs=Inputs({}), output=["a", "one"]) == {"one": ()}


@pytest.mark.parametrize(
    "sql", ["SELECT", "SELECT a FROM t; SELECT b", "SELECT x'00' AS a", "DESCRIBE t"]
)
def test_what_sqlglot_does_not_read_is_left_out(sql: str) -> None:
    assert trace(sql, inputs=Inputs({"t": ["a"]}), output=["a"]) == {}


def test_a_query_that_is_read_otherwise_than_duckdb_reads_it_is_left_out() -> None:
    assert trace("SELECT a FROM t", inputs=Inputs({"t": ["a"]}), output=["b"]) == {}
