"""Replacing: exactly the rows of a scope make way for others, and only where they differ.

Rows that are the same before and after stay where they are, counted with duplicates; a file is
written anew when it holds a row that goes. Which rows are in scope is told by `narrowing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from rat_resources.lake.batch import count_rows, keep_rows
from rat_resources.lake.dying import dying_rows
from rat_resources.lake.incoming import ROW, Incoming
from rat_resources.lake.merging import Change, count_replaced
from rat_resources.lake.pruning import Range, any_box
from rat_resources.lake.reading import FILE, POSITION
from rat_resources.lake.sql import name_list, quote, same_keys
from rat_resources.lake.target import Target

MOST_VALUES = 1_000  # by which changed rows are told
NUMBER = "__rat_number"  # which of the rows that are all the same


@dataclass(frozen=True)
class Part:
    """Rows of a table that are in scope."""

    condition: str  # on the columns of the relation `old`
    columns: tuple[str, ...]  # that it looks at
    within: tuple[Range, ...] = ()  # where all of them lie


@dataclass(frozen=True)
class Scope:
    """Rows of a table: those of its parts."""

    parts: tuple[Part, ...]
    keys: tuple[
        str, ...
    ] = ()  # by which a row that goes and one that comes are one row

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns by which its rows are known."""
        names = (name for part in self.parts for name in part.columns)
        return tuple(dict.fromkeys((*names, *self.keys)))

    @property
    def condition(self) -> str:
        """Which rows of the relation `old` are in scope."""
        return " OR ".join(f"({part.condition})" for part in self.parts) or "false"


@dataclass(frozen=True)
class Rebuild:
    """What of a table is made anew: the rows of *query* take the place of those in *scope*."""

    level: str  # rows, keys, groups, partition, table; or kept: written as in every run
    why: str
    query: str = ""
    scope: Scope | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns by which the rows in scope are known."""
        parts = self.scope.parts if self.scope else ()
        return tuple(dict.fromkeys(name for part in parts for name in part.columns))

    def to_json(self) -> dict[str, Any]:
        """How it is kept with the run."""
        return {"level": self.level, "why": self.why, "columns": list(self.columns)}


EVERYTHING = Scope((Part("true", ()),))


def replace_scope(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming, *, scope: Scope
) -> Change:
    """The rows in scope make way for the batch, but for those that are in it already."""
    boxes = [part.within for part in scope.parts]
    tasks = target.plan(any_box(connection, boxes, schema=target.schema))
    columns = name_list(incoming.columns)
    numbered = f"row_number() OVER (PARTITION BY {columns}) AS {NUMBER}"
    old = keep_rows(
        connection,
        f"SELECT *, {numbered} FROM ({target.rows(connection, tasks)}) AS old "
        f"WHERE {scope.condition}",
    )
    new = keep_rows(connection, f"SELECT *, {numbered} FROM {incoming.table} AS new")
    same = same_keys("old", "new", names=(*incoming.columns, NUMBER))
    going = keep_rows(
        connection, f"SELECT * FROM {old} AS old ANTI JOIN {new} AS new ON {same}"
    )
    coming = keep_rows(
        connection, f"SELECT * FROM {new} AS new ANTI JOIN {old} AS old ON {same}"
    )
    dying = dying_rows(
        connection, target, f"SELECT {FILE}, {POSITION} FROM {going}", tasks=tasks
    )
    scratch = (old, new, going, coming)
    inserted = count_rows(connection, coming)
    if not dying.rows and not inserted:
        return Change(scratch=(*scratch, dying.table))
    return Change(
        f"SELECT {columns}, {ROW} FROM {coming}" if inserted else None,
        coming=inserted,
        dying=dying,
        inserted=inserted,
        deleted=dying.rows,
        replaced=count_replaced(connection, going, coming, keys=scope.keys),
        changed=f"SELECT {columns} FROM {going} UNION ALL SELECT {columns} FROM {coming}",
        scratch=scratch,
    )


def changed_values(
    connection: DuckDBPyConnection, rows: str, *, columns: Sequence[str]
) -> dict[str, list[str]]:
    """The values of columns among *rows*, as text; only of those with few, and none missing."""
    found = {}
    for name in dict.fromkeys(columns):
        values = connection.execute(
            f"SELECT DISTINCT {quote(name)}::VARCHAR FROM ({rows}) "
            f"ORDER BY ALL NULLS FIRST LIMIT {MOST_VALUES + 1}"
        ).fetchall()
        if values and len(values) <= MOST_VALUES and values[0][0] is not None:
            found[name] = [value for (value,) in values]
    return found
