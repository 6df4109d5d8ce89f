"""Witnesses: one snapshot's rows as our reader, PyIceberg and DuckDB's Iceberg extension see them."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.table import Table
from pyiceberg.types import DecimalType, UUIDType

from rat_resources.lake.reading import register_table
from rat_resources.lake.sql import literal, quote
from tests.rat_resources.lake.readers import extension

Row = Mapping[str, Any]
Reader = Callable[[DuckDBPyConnection, Table, str, BooleanExpression], str]
EVERYTHING = AlwaysTrue()


def connect() -> DuckDBPyConnection:
    """A DuckDB that knows Iceberg by itself."""
    connection = duckdb.connect(
        config={"threads": 1, "autoinstall_known_extensions": "false"}
    )
    for name in ("avro", "iceberg"):
        connection.load_extension(str(extension(name)))
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def read_ours(
    connection: DuckDBPyConnection, table: Table, name: str, within: BooleanExpression
) -> str:
    """Our own reader, which plans the files that may hold such rows."""
    register_table(connection, table, view=name, within=within)
    return quote(name)


def read_by_pyiceberg(
    connection: DuckDBPyConnection, table: Table, name: str, within: BooleanExpression
) -> str:
    """PyIceberg, which chooses the rows too."""
    connection.register(name, table.scan(row_filter=within).to_arrow())
    return quote(name)


def read_by_duckdb(
    connection: DuckDBPyConnection, table: Table, name: str, within: BooleanExpression
) -> str:
    """DuckDB's extension, which is asked in SQL alone."""
    del connection, name, within
    return f"iceberg_scan({literal(table.metadata_location)})"


READERS: dict[str, Reader] = {
    "ours": read_ours,
    "PyIceberg": read_by_pyiceberg,
    "DuckDB": read_by_duckdb,
}


def readers_of(table: Table) -> list[str]:
    """Who can read the table: DuckDB's extension ends the process where a manifest has Avro's fixed type."""
    return [name for name in READERS if name != "DuckDB" or not _has_fixed(table)]


def _has_fixed(table: Table) -> bool:
    """Whether a partition's value is a decimal or a UUID."""
    kinds = [
        field.transform.result_type(column.field_type)
        for schema in table.schemas().values()
        for spec in table.specs().values()
        for field in spec.fields
        for column in schema.fields
        if column.field_id == field.source_id
    ]
    return any(isinstance(kind, DecimalType | UUIDType) for kind in kinds)


def read_rows(
    connection: DuckDBPyConnection,
    table: Table,
    *,
    by: str,
    where: str = "true",
    within: BooleanExpression = EVERYTHING,
) -> list[Row]:
    """The rows for which *where* holds, which says the same as *within*."""
    relation = READERS[by](connection, table, f"read_{uuid4().hex}", within)
    return fetch(connection, f"SELECT * FROM {relation} WHERE {where}")


def fetch(connection: DuckDBPyConnection, query: str) -> list[Row]:
    """The rows of a query, each by the names of its columns."""
    found = connection.execute(query)
    names = [each[0] for each in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
