"""Samples: the first rows of a table, few and narrow enough to be shown and kept with every run."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from rat_resources.lake.rows import sample
from rat_resources.lake.sql import quote
from rat_resources.names import TableName

ROWS = 6
COLUMNS = 13
MASK = "•••"
# Of a cell so much is kept: a run's results are stored twice, and stay.
CELL_LENGTH = 1_000


def sample_table(
    connection: DuckDBPyConnection,
    name: TableName,
    table: Table | None,
    *,
    masked: Collection[str] = (),
) -> Sequence[Mapping[str, Any]]:
    """The first rows of *table*, which *connection* reads by its name; none if that fails.

    What is *masked*, by its casefolded name, is not even read.
    """
    if table is None or table.current_snapshot() is None:
        return []
    names = table.schema().column_names
    columns, hidden = names[:COLUMNS], len(names) - COLUMNS
    selected = select_list(columns, masked=masked)
    query = f"SELECT {selected} FROM {quote(str(name))} LIMIT {ROWS}"
    try:
        rows = sample(connection, query, limit=ROWS).objects
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return []  # a run shall not fail for want of something to look at
    more = {"…": f"{hidden:,} more columns"} if hidden > 0 else {}
    return [row | more for row in rows]


def select_list(columns: Sequence[str], *, masked: Collection[str]) -> str:
    """What a SELECT lists to return *columns*, and a mask in place of what is *masked*."""
    return ", ".join(
        f"'{MASK}' AS {quote(column)}" if column.casefold() in masked else quote(column)
        for column in columns
    )


def mask(
    rows: Sequence[Mapping[str, Any]], *, masked: Collection[str]
) -> Sequence[Mapping[str, Any]]:
    """*rows* without the values of what is *masked*, by its casefolded name."""
    if not masked:
        return rows
    return [
        {
            name: MASK if name.casefold() in masked else value
            for name, value in row.items()
        }
        for row in rows
    ]


def narrow(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """*rows* without the ends of the cells that are too long to be kept."""
    return [{name: cut(value) for name, value in row.items()} for row in rows]


def cut(value: object) -> object:
    """A JSON value, or the beginning of its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= CELL_LENGTH else f"{text[: CELL_LENGTH - 1]}…"
