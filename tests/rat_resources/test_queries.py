"""What may be asked, and what tables are called in it."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from rat_resources.errors import NotFoundError, QueryError
from rat_resources.lake.complaints import first_line
from rat_resources.lake.sql import literal, quote
from rat_resources.names import TableName
from rat_resources.queries import answering

KNOWN = [
    TableName.parse(name)
    for name in (
        "nyc.silver.flights",
        "nyc.bronze.flights",
        "nyc.gold.routes",
        "lon.gold.routes",
        "default.bronze.orders",
        "my-shop.gold.daily-sales",
        "my-shop.gold.daily",
        "silver.bronze.temp",
        "temp.gold.select",
    )
]


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A folder with one Parquet file a table, which says its name and a number."""
    folder = tmp_path / "warehouse"
    folder.mkdir()
    for number, table in enumerate(KNOWN):
        path = literal(f"{folder}/{table}.parquet")
        duckdb.sql(
            f"COPY (SELECT '{table}' AS name, {number} AS n) TO {path} (FORMAT parquet)"
        )
    return folder


@pytest.fixture
def connection() -> Iterator[DuckDBPyConnection]:
    """A DuckDB of one's own."""
    with duckdb.connect() as opened:
        yield opened


class Asking:
    """A way to ask, which remembers what was registered."""

    def __init__(self, connection: DuckDBPyConnection, warehouse: Path) -> None:
        self.connection = connection
        self.warehouse = warehouse
        self.registered: set[TableName] = set()

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of the answer."""
        with answering(
            self.connection,
            sql,
            known=KNOWN,
            register=self.register,
            readable=self.warehouse,
        ) as answer:
            return list(answer.rows())

    def register(
        self, connection: DuckDBPyConnection, tables: Collection[TableName]
    ) -> None:
        """Make views over the files."""
        self.registered |= set(tables)
        for table in tables:
            path = literal(f"{self.warehouse}/{table}.parquet")
            connection.execute(
                f"CREATE TEMP VIEW {quote(str(table))} AS FROM read_parquet({path})"
            )


@pytest.fixture
def ask(connection: DuckDBPyConnection, warehouse: Path) -> Asking:
    """Ask the tables of the warehouse."""
    return Asking(connection, warehouse)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("nyc.silver.flights", "nyc.silver.flights"),
        ("silver.flights", "nyc.silver.flights"),
        ("NYC.Silver.FLIGHTS", "nyc.silver.flights"),
        ('"nyc.silver.flights"', "nyc.silver.flights"),
        ('"nyc"."silver"."flights"', "nyc.silver.flights"),
        ("nyc . silver . flights", "nyc.silver.flights"),
        ("default.bronze.orders", "default.bronze.orders"),
        ('"default".bronze.orders', "default.bronze.orders"),
        ("bronze.orders", "default.bronze.orders"),
        ("my-shop.gold.daily-sales", "my-shop.gold.daily-sales"),
        ('"my-shop".gold."daily-sales"', "my-shop.gold.daily-sales"),
        ("gold.daily-sales", "my-shop.gold.daily-sales"),
        ("my-shop.gold.daily", "my-shop.gold.daily"),
        ("silver.bronze.temp", "silver.bronze.temp"),
        ("temp.gold.select", "temp.gold.select"),
        ("gold.select", "temp.gold.select"),
    ],
)
def test_a_table_is_found_however_its_name_is_written(
    ask: Asking, written: str, name: str
) -> None:
    rows = ask(f"SELECT name FROM {written}")

    assert rows == [(name,)]


def test_only_the_tables_that_are_named_are_registered(ask: Asking) -> None:
    ask("SELECT 'nyc.bronze.flights' FROM silver.flights -- nyc.gold.routes")

    assert ask.registered == {TableName("nyc", "silver", "flights")}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT flights.name FROM silver.flights",
        "SELECT silver.flights.name FROM silver.flights",
        "SELECT nyc.silver.flights.name FROM nyc.silver.flights",
        "SELECT f.name FROM silver.flights AS f",
        "WITH flights AS (FROM silver.flights) SELECT name FROM flights",
        "SELECT name FROM (SELECT * FROM silver.flights) AS silver",
        "SELECT a.name FROM silver.flights a, bronze.flights b",
        "SELECT name FROM bronze.orders WHERE false UNION FROM silver.flights SELECT name",
        "FROM silver.flights SELECT name;",
    ],
)
def test_columns_aliases_and_subqueries_mean_what_they_mean(
    ask: Asking, sql: str
) -> None:
    rows = ask(sql)

    assert rows == [("nyc.silver.flights",)]


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE silver.flights",
        "SUMMARIZE nyc.silver.flights",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM silver.flights",
        "EXPLAIN ANALYZE FROM default.bronze.orders",
        "PIVOT silver.flights ON name USING sum(n)",
        "VALUES (1)",
    ],
)
def test_every_way_to_look_is_allowed(ask: Asking, sql: str) -> None:
    ask(sql)


@pytest.mark.parametrize("sql", ["SHOW TABLES", "show all tables;"])
def test_the_tables_that_are_shown_are_those_that_can_be_asked(
    ask: Asking, sql: str
) -> None:
    rows = ask(sql)

    assert rows == [(str(table),) for table in sorted(KNOWN)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM silver.flights",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO silver.flights VALUES ('a', 1)",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "SET threads = 1",
        "INSTALL httpfs",
        "DROP VIEW silver.flights",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE x",
        "",
        " ; ",
        "-- nothing",
    ],
)
def test_what_does_not_only_read_is_refused(ask: Asking, sql: str) -> None:
    with pytest.raises(QueryError, match="write one SELECT"):
        ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    ],
)
def test_no_file_can_be_read(ask: Asking, sql: str) -> None:
    with pytest.raises(QueryError, match="no files"):
        ask(sql)


def test_a_short_name_of_two_namespaces_lists_both(ask: Asking) -> None:
    with pytest.raises(NotFoundError, match=r"lon\.gold\.routes, nyc\.gold\.routes"):
        ask("SELECT * FROM gold.routes")


@pytest.mark.parametrize(
    ("written", "guess"),
    [
        ("nyc.silver.flight", "nyc.silver.flights"),
        ("silver.flight", "silver.flights"),
        ("nyc.sliver.flights", "nyc.silver.flights"),
        ("nyx.silver.flights", "nyc.silver.flights"),
        ("gold.orders", "bronze.orders"),
    ],
)
def test_an_unknown_table_is_met_with_the_nearest(
    ask: Asking, written: str, guess: str
) -> None:
    with pytest.raises(NotFoundError, match=f"called {written}; did you mean {guess}"):
        ask(f"SELECT * FROM {written}")


def test_an_unknown_column_is_a_mistake_in_the_query(ask: Asking) -> None:
    with pytest.raises(QueryError, match="nam"):
        ask("SELECT nam FROM silver.flights")


def test_columns_of_one_name_are_told_apart(
    connection: DuckDBPyConnection, warehouse: Path
) -> None:
    with answering(
        connection,
        "SELECT 1 AS a, 2 AS a, 3 AS a_1",
        known=[],
        register=lambda _connection, _tables: None,
        readable=warehouse,
    ) as answer:
        columns = answer.columns

    assert columns == ["a", "a_1", "a_1_1"]


def test_an_error_that_comes_with_the_rows_is_a_mistake_in_the_query(
    ask: Asking,
) -> None:
    with pytest.raises(QueryError, match="integer"):
        ask("SELECT error('integer')")


def test_the_first_line_of_an_error_is_what_it_says_first() -> None:
    said = first_line(ValueError("one\ntwo"))

    assert said == "one"
