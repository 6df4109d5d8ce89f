"""Factories for the lake's tests: a catalog in a folder, a connection, a write in one line."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from rat_resources.lake.batch import keep_rows
from rat_resources.lake.catalog import file_properties
from rat_resources.lake.positions import write_deletes
from rat_resources.lake.reading import FILE, POSITION, register_table, row_count
from rat_resources.lake.strategies import MergeStrategy, WriteConfig, apply
from rat_resources.lake.target import open_target
from rat_resources.lake.writing import Written
from rat_resources.names import TableName
from rat_resources.places import Place

# For what is long, and the same wherever files are.
in_a_folder = pytest.mark.parametrize("place", ["a folder"], indirect=True)
NAME = TableName("shop", "silver", "orders")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FolderCatalog(SqlCatalog):
    """PyIceberg's SQL catalog, for names of three parts."""

    @staticmethod
    def identifier_to_database_and_table(
        identifier: str | Identifier, err: type[Exception] = NoSuchTableError
    ) -> tuple[str, str]:
        del err  # any name will do
        *namespace, name = Catalog.identifier_to_tuple(identifier)
        return ".".join(namespace), name


def make_catalog(place: Place) -> Catalog:
    warehouse = f"{place.as_uri()}/warehouse"
    return FolderCatalog(
        "test",
        uri="sqlite:///:memory:",
        warehouse=warehouse,
        **file_properties(warehouse),
    )


def make_connection() -> DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def make_config(strategy: str = "full_refresh", **settings: Any) -> WriteConfig:  # noqa: ANN401
    for key in ("unique_key", "partition_by"):
        settings[key] = tuple(settings.get(key, ()))
    return WriteConfig(merge_strategy=MergeStrategy(strategy), **settings)


def write(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    query: str,
    *,
    config: WriteConfig | None = None,
    at: datetime = NOON,
    full_refresh: bool = False,
) -> Written:
    return apply(
        connection,
        query=query,
        catalog=catalog,
        table_name=NAME,
        config=config or make_config(),
        attempt_time=at,
        full_refresh=full_refresh,
    )


def load(catalog: Catalog) -> Table:
    return catalog.load_table(NAME.key)


def read(
    connection: DuckDBPyConnection, catalog: Catalog, columns: str = "*"
) -> list[tuple[Any, ...]]:
    """The rows of the table in order, each as a tuple."""
    register_table(connection, load(catalog), view=str(NAME))
    return connection.execute(f'SELECT {columns} FROM "{NAME}" ORDER BY ALL').fetchall()


def values(rows: Mapping[str, Any] | list[tuple[Any, ...]], columns: str) -> str:
    """A query that returns *rows* under these names."""
    body = ", ".join(
        "(" + ", ".join("NULL" if v is None else repr(v) for v in row) + ")"
        for row in rows
    )
    return f"SELECT * FROM (VALUES {body}) AS t({columns})"


def mark(connection: DuckDBPyConnection, table: Table, *, where: str) -> None:
    """Delete rows of the table where they stand."""
    target = open_target(table)
    tasks = target.plan()
    dying = keep_rows(
        connection,
        f"SELECT {FILE}, {POSITION} FROM ({target.rows(connection, tasks)}) WHERE {where}",
    )
    found = connection.execute(f"SELECT {FILE} FROM {dying}").fetchall()
    touched = {n: tasks[n] for (n,) in found}
    marks = write_deletes(connection, dying, tasks=touched, target=target)
    target.commit(
        added=(),
        removed=marks.removed,
        deletes=marks.added,
        rows=row_count(table) - len(found),
    )
