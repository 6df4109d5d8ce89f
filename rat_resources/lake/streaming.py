"""Streaming: the rows of a query become files as they come, and are kept nowhere in between.

For writes that need not look at their rows before; which these are is for `strategies` to say.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

from rat_resources.lake.batch import Bound
from rat_resources.lake.complaints import complaint
from rat_resources.lake.incoming import ROW
from rat_resources.lake.locations import duckdb_path
from rat_resources.lake.sql import name_list, quote
from rat_resources.lake.target import Target
from rat_resources.lake.types import sql_type
from rat_resources.lake.writing import cast_rows, data_folder, write_files


class NeedsRowsError(Exception):
    """Somebody must look at the rows before any of them is written."""


# The casts to the table's types are on the first line.
_BELOW = re.compile(r"LINE (?!1:)\d+:")
# What DuckDB says when it cannot take a query as a part of another one.
_MISFIT = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)


def stream_rows(
    connection: DuckDBPyConnection, rows: str, *, bound: Bound, target: Target
) -> list[DataFile]:
    """Write *rows*, made of what *bound* returns, to new files of *target* as they come."""
    with _blamed_on_query(bound, target):
        return write_files(connection, rows, metadata=target.metadata, io=target.io)


@contextmanager
def _blamed_on_query(bound: Bound, target: Target) -> Iterator[None]:
    """Tell what the query did wrong from what went wrong when its rows were written."""
    folder = duckdb_path(data_folder(target.metadata))
    try:
        yield
    except duckdb.InterruptException:
        raise
    except _MISFIT as error:
        # Alone it is a query: an odd one, such as one with a comment after its semicolon.
        raise NeedsRowsError from error
    except duckdb.Error as error:
        in_cast = isinstance(error, duckdb.ConversionException) and (
            not _BELOW.search(str(error)) and not _keeps_types(bound, target.schema)
        )
        if in_cast or folder in str(error):
            raise
        raise complaint(error) from error


def _keeps_types(bound: Bound, schema: Schema) -> bool:
    """Whether every value goes into the table as the query returns it."""
    wanted = {f.name.casefold(): sql_type(f.field_type) for f in schema.fields}
    return all(
        wanted.get(column.name.casefold(), kind) == kind
        for column, kind in zip(bound.columns, bound.types, strict=True)
    )


def rows_of(bound: Bound, *, schema: Schema, extra: str = "") -> str:
    """A query for what *bound* returns in the columns of *schema*, those that it lacks as NULL.

    *extra*: the columns that it lacks and that are no NULL.
    """
    returned = {column.name.casefold() for column in bound.columns}
    missing = "".join(
        f", NULL AS {quote(field.name)}"
        for field in schema.fields
        if field.name.casefold() not in returned and quote(field.name) not in extra
    )
    # All before the query is on its first line, so that its lines keep their numbers.
    return f"SELECT *{missing}{extra} FROM ({bound.select}\n)"


def one_a_key(
    rows: str, *, schema: Schema, keys: Sequence[str], watermark: str | None
) -> str:
    """Of the rows of a query the last one of each key, or that with the greatest watermark."""
    newest = [f"{ROW} DESC"]
    if watermark:
        newest.insert(0, f"{quote(watermark)} DESC NULLS LAST")
    return (
        f"SELECT * EXCLUDE ({ROW}) FROM (SELECT *, row_number() OVER () AS {ROW} "
        f"FROM ({cast_rows(rows, schema=schema)})) "
        f"QUALIFY row_number() OVER (PARTITION BY {name_list(keys)} "
        f"ORDER BY {', '.join(newest)}) = 1"
    )
