"""Exporting: rows of our own Postgres as Arrow, in little memory.

Postgres copies them out as text that Arrow reads in blocks, so a table of millions passes through.
JSON and lists come as text.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv
from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    Engine,
    Float,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine

BLOCK_BYTES = 1 << 22
ARROW: tuple[tuple[type[TypeEngine[Any]], pa.DataType], ...] = (
    (Text, pa.string()),
    (TIMESTAMP, pa.timestamp("us", tz="UTC")),
    (BigInteger, pa.int64()),
    (Float, pa.float64()),
    (Boolean, pa.bool_()),
    (Date, pa.date32()),
)


@contextmanager
def snapshot(engine: Engine) -> Iterator[psycopg.Connection]:
    """A connection that sees one moment of the database, until the block ends."""
    connection = engine.connect().execution_options(isolation_level="REPEATABLE READ")
    with connection, connection.begin():
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        connection.exec_driver_sql("SET LOCAL TimeZone = 'UTC'")
        yield cast("psycopg.Connection", connection.connection.driver_connection)


def schema_of(table: Table) -> pa.Schema:
    """The columns of *table* in Arrow."""
    return pa.schema([(each.name, arrow_type(each.type)) for each in table.columns])


def read(
    connection: psycopg.Connection, table: Table, *, where: sql.Composable
) -> Iterator[pa.RecordBatch]:
    """The rows of *table* for which *where* holds, block by block."""
    query = sql.SQL(
        "COPY (SELECT {columns} FROM {table} WHERE {where}) TO STDOUT (FORMAT csv)"
    ).format(
        columns=sql.SQL(", ").join(map(as_text, table.columns)),
        table=sql.Identifier(table.schema or "public", table.name),
        where=where,
    )
    return batches(connection, query, schema=schema_of(table))


def as_text(column: Any) -> sql.Composable:  # noqa: ANN401 - SQLAlchemy's column
    """A column as Postgres selects it: what has no type in Arrow here is JSON."""
    name = sql.Identifier(column.name)
    if is_plain(column.type):
        return name
    return sql.SQL("to_jsonb({})::text").format(name)


def is_plain(kind: TypeEngine[Any]) -> bool:
    """Whether a type of SQLAlchemy's has one in Arrow."""
    return isinstance(kind, tuple(known for known, _ in ARROW))


def arrow_type(kind: TypeEngine[Any]) -> pa.DataType:
    """The type in Arrow of one of SQLAlchemy's."""
    return next(
        (arrow for known, arrow in ARROW if isinstance(kind, known)), pa.string()
    )


def batches(
    connection: psycopg.Connection,
    query: sql.Composed,
    *,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """What *query* copies out, a block at a time."""
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        source = io.BufferedReader(Copied(copy), BLOCK_BYTES)
        if not source.peek(1):
            return  # Arrow takes no rows for a mistake
        yield from csv.open_csv(
            source,
            read_options=csv.ReadOptions(
                column_names=schema.names, block_size=BLOCK_BYTES
            ),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=schema,
                null_values=[""],
                true_values=["t"],
                false_values=["f"],
                strings_can_be_null=True,
                # Postgres quotes a text without letters, and NULL is nothing at all.
                quoted_strings_can_be_null=False,
            ),
        )


class Copied(io.RawIOBase):
    """What a COPY gives, as a file."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self.copy = copy
        self.left = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever takes bytes
        """Fill *buffer* with what comes next; 0 at the end."""
        if not self.left:
            self.left = memoryview(self.copy.read())
        size = min(len(buffer), len(self.left))
        buffer[:size] = self.left[:size]
        self.left = self.left[size:]
        return size
