"""Batches: what a pipeline's query returns, and its rows, run once and kept in DuckDB with their order.

What becomes of the rows is `strategies`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import duckdb
from duckdb import DuckDBPyConnection, StatementType

from rat_resources.errors import QueryError, SchemaChangeError
from rat_resources.lake.complaints import complaint
from rat_resources.lake.sql import quote
from rat_resources.lake.types import Column, iceberg_type

RESERVED = "__rat_"


@dataclass(frozen=True)
class Batch:
    """The rows of one query in a temp table, where `rowid` is their order."""

    table: str
    columns: tuple[Column, ...]
    rows: int


@dataclass(frozen=True)
class Bound:
    """A query that is one SELECT, and the columns that it would return."""

    select: str
    columns: tuple[Column, ...]
    types: tuple[str, ...]  # theirs, as DuckDB says them


def bind_query(connection: DuckDBPyConnection, query: str) -> Bound:
    """Find out what *query* would return; it is not run."""
    select = _one_select(connection, query)
    try:
        relation = connection.sql(select)
    except duckdb.Error as error:
        raise complaint(error) from error
    _check_names(relation.columns)
    columns = tuple(
        Column(name, iceberg_type(kind, column=name))
        for name, kind in zip(relation.columns, relation.types, strict=True)
    )
    return Bound(select, columns, tuple(map(str, relation.types)))


@contextmanager
def run_query(connection: DuckDBPyConnection, query: str | Bound) -> Iterator[Batch]:
    """Run *query* once and keep its rows until the block ends; DuckDB spills them if need be."""
    bound = bind_query(connection, query) if isinstance(query, str) else query
    table = f"rat_batch_{uuid4().hex}"
    try:
        connection.execute(f"CREATE TEMP TABLE {table} AS {bound.select}")
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise complaint(error) from error
    try:
        yield Batch(table, bound.columns, count_rows(connection, table))
    finally:
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def query_columns(connection: DuckDBPyConnection, query: str) -> tuple[Column, ...]:
    """The columns that *query* would return; it is bound, and not run."""
    return bind_query(connection, query).columns


def count_rows(connection: DuckDBPyConnection, relation: str) -> int:
    """How many rows *relation*, a name or a query in brackets, has."""
    return int(connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])


def keep_rows(connection: DuckDBPyConnection, query: str) -> str:
    """The temp table that the rows of *query* are kept in."""
    name = f"rat_rows_{uuid4().hex}"
    connection.execute(f"CREATE TEMP TABLE {name} AS {query}")
    return name


def _one_select(connection: DuckDBPyConnection, query: str) -> str:
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise complaint(error) from error
    if len(statements) != 1 or statements[0].type != StatementType.SELECT:
        raise QueryError(
            "a pipeline is exactly one SELECT",
            fix="put everything into one query, with WITH if it needs steps",
        )
    return statements[0].query.strip().rstrip(";")


def _check_names(names: list[str]) -> None:
    # DuckDB tells no upper from lower case in names.
    counted = Counter(name.casefold() for name in names)
    twice = [name for name in names if counted[name.casefold()] > 1]
    if twice:
        raise SchemaChangeError(
            f"the query returns the column {twice[0]!r} {len(twice)} times",
            fix=f"name each one, as in {quote(twice[0])} AS {quote(twice[0] + '_2')}",
        )
    for name in names:
        if name.casefold().startswith(RESERVED):
            raise SchemaChangeError(
                f"the query returns the column {name!r}, a name that RAT keeps for itself",
                fix=f"choose a name that does not begin with {RESERVED}",
            )
