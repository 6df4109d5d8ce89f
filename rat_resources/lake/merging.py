"""Merging: which rows of a table a batch touches, and what the files that hold them become.

Each function looks only into files whose key bounds meet the batch's, finds the touched rows by
file and position, and says what to write; nothing is written here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from duckdb import DuckDBPyConnection
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression
from pyiceberg.manifest import DataFile

from rat_resources.lake.batch import count_rows
from rat_resources.lake.partitioning import stored_value
from rat_resources.lake.pruning import between, is_ordered
from rat_resources.lake.reading import FILE, POSITION, Tasks, select_rows
from rat_resources.lake.sql import name_list, quote, same_keys
from rat_resources.lake.target import Target

ROW = "__rat_row"
SAME = "__rat_same"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Incoming:
    """The rows of a batch in a temp table: the table's columns, and ROW, their order."""

    table: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    rows: int

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are no keys."""
        return tuple(column for column in self.columns if column not in self.keys)

    def select(self, *, extra: str = "", where: str = "true") -> str:
        """A query for the rows, or those of them for which *where* holds."""
        columns = name_list(self.columns)
        return f"SELECT {columns}{extra} FROM {self.table} WHERE {where}"


@dataclass(frozen=True)
class Change:
    """What becomes of a table: the files that go, and the rows that are written instead."""

    query: str | None = None
    removed: tuple[DataFile, ...] = ()
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    replaced: int = (
        0  # of the deleted ones, those in whose place their key has a row again
    )
    kept: int = 0  # of these, those whose row is the same as before
    is_anew: bool = (
        False  # whether all rows went, so that nobody knows which of them changed
    )
    # The rows that come and go, as a query, where exactly they are known.
    changed: str | None = None
    scratch: tuple[str, ...] = ()  # the temp tables that the query reads

    def forget(self, connection: DuckDBPyConnection) -> None:
        """Drop what the query needed."""
        for table in self.scratch:
            connection.execute(f"DROP TABLE IF EXISTS {table}")


@dataclass(frozen=True)
class Touched:
    """Rows of the table in a temp table, each by FILE and POSITION, and the files they lie in."""

    target: Target
    connection: DuckDBPyConnection
    tasks: Tasks
    table: str
    rows: int

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The files that hold any of them."""
        return tuple(task.file for task in self.tasks.values())

    def others(self) -> str:
        """A query for all other rows of those files."""
        return (
            f"SELECT {self._columns()} FROM ({self._all_rows()}) AS old "
            f"ANTI JOIN {self.table} USING ({FILE}, {POSITION})"
        )

    def themselves(self) -> str:
        """A query for just these rows."""
        return (
            f"SELECT {self._columns()} FROM ({self._all_rows()}) AS old "
            f"SEMI JOIN {self.table} USING ({FILE}, {POSITION})"
        )

    def with_value(self, column: str, value: str) -> str:
        """A query for all rows of those files, where *column* of these rows is *value*."""
        touched = f"touched.{FILE} IS NOT NULL"
        new = f"CASE WHEN {touched} THEN {value} ELSE old.{quote(column)} END"
        return (
            f"SELECT {self._columns(replaced={column: new})} "
            f"FROM ({self._all_rows()}) AS old LEFT JOIN {self.table} AS touched "
            f"ON old.{FILE} = touched.{FILE} AND old.{POSITION} = touched.{POSITION}"
        )

    def _columns(self, *, replaced: Mapping[str, str] | None = None) -> str:
        return ", ".join(
            f"{(replaced or {}).get(f.name, 'old.' + quote(f.name))} AS {quote(f.name)}"
            for f in self.target.schema.fields
        )

    def _all_rows(self) -> str:
        return table_rows(self.connection, self.target, self.tasks)


def upsert(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming
) -> Change:
    """One row a key: a row that differs takes the place of the table's, a new one is added."""
    tasks = _files_with_keys(connection, target, incoming)
    matches = _match_keys(connection, target, incoming, tasks=tasks)
    known = _count_incoming(connection, matches)
    updated = _count_incoming(connection, matches, where=f"NOT {SAME}")
    if not updated and known == incoming.rows:
        return Change(scratch=(matches,))
    old = touch(
        connection, target, f"SELECT * FROM {matches} WHERE NOT {SAME}", tasks=tasks
    )
    new = incoming.select(where=_unless_same(matches))
    return Change(
        f"{old.others()} UNION ALL BY NAME {new}",
        removed=old.files,
        inserted=incoming.rows - known,
        updated=updated,
        deleted=old.rows - updated,
        scratch=(matches, old.table),
    )


def replace_keys(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming
) -> Change:
    """All rows of the batch's keys make way for the batch, unless they are the same rows."""
    tasks = _files_with_keys(connection, target, incoming)
    old = touch(
        connection,
        target,
        f"SELECT old.* FROM ({table_rows(connection, target, tasks)}) AS old "
        f"SEMI JOIN {incoming.table} AS new "
        f"ON {same_keys('old', 'new', names=incoming.keys)}",
        tasks=tasks,
    )
    kept = _count_kept(connection, old, incoming)
    if old.rows == incoming.rows == kept:
        return Change(scratch=(old.table,))
    return Change(
        f"{old.others()} UNION ALL BY NAME {incoming.select()}",
        removed=old.files,
        inserted=incoming.rows,
        deleted=old.rows,
        replaced=_count_replaced(connection, old, incoming),
        kept=kept,
        scratch=(old.table,),
    )


def close_and_open(
    connection: DuckDBPyConnection,
    target: Target,
    incoming: Incoming,
    *,
    valid_from: str,
    valid_to: str,
    attempt_time: datetime,
    close_missing: bool,
) -> Change:
    """A row that differs from its key's open version closes it and opens the next, at one time.

    That time is the attempt's, or just after the newest open version if that is later.
    """
    is_open = f"{quote(valid_to)} IS NULL"
    everything = target.plan()
    tasks = (
        everything if close_missing else _files_with_keys(connection, target, incoming)
    )
    matches = _match_keys(connection, target, incoming, tasks=tasks, where=is_open)
    known = _count_incoming(connection, matches)
    changed = _count_incoming(connection, matches, where=f"NOT {SAME}")
    closing = f"SELECT {FILE}, {POSITION} FROM {matches} WHERE NOT {SAME}"
    if close_missing:
        closing += (
            f" UNION ALL SELECT {FILE}, {POSITION} "
            f"FROM ({table_rows(connection, target, tasks)}) AS old "
            f"ANTI JOIN {incoming.table} AS new "
            f"ON {same_keys('old', 'new', names=incoming.keys)} WHERE old.{is_open}"
        )
    old = touch(connection, target, closing, tasks=tasks)
    scratch = (matches, old.table)
    if not old.rows and known == incoming.rows:
        return Change(scratch=scratch)
    now = _next_time(
        connection,
        f"SELECT {quote(valid_from)} FROM ({table_rows(connection, target, everything)}) "
        f"WHERE {is_open}",
        at=attempt_time,
    )
    opened = f", {now} AS {quote(valid_from)}, NULL::TIMESTAMPTZ AS {quote(valid_to)}"
    new = incoming.select(extra=opened, where=_unless_same(matches))
    missing = count_rows(
        connection,
        f"(SELECT 1 FROM {old.table} ANTI JOIN {matches} USING ({FILE}, {POSITION}))",
    )
    return Change(
        f"{old.with_value(valid_to, now)} UNION ALL BY NAME {new}",
        removed=old.files,
        inserted=incoming.rows - known,
        updated=changed + missing,
        scratch=scratch,
    )


def _match_keys(
    connection: DuckDBPyConnection,
    target: Target,
    incoming: Incoming,
    *,
    tasks: Tasks,
    where: str = "true",
) -> str:
    """A temp table of the table's rows that share a key with the batch.

    ROW is the batch's row, FILE and POSITION the table's, and SAME whether the batch's row is
    already there, once and unchanged.
    """
    old = f"SELECT * FROM ({table_rows(connection, target, tasks)}) WHERE {where}"
    same = same_keys("old", "new", names=incoming.values) or "true"
    return keep_rows(
        connection,
        f"SELECT new.{ROW}, old.{FILE}, old.{POSITION}, ({same}) "
        f"AND count(*) OVER (PARTITION BY new.{ROW}) = 1 AS {SAME} "
        f"FROM ({old}) AS old JOIN {incoming.table} AS new "
        f"ON {same_keys('old', 'new', names=incoming.keys)}",
    )


def _count_incoming(
    connection: DuckDBPyConnection, matches: str, *, where: str = "true"
) -> int:
    """How many rows of the batch are among *matches*."""
    return count_rows(
        connection, f"(SELECT DISTINCT {ROW} FROM {matches} WHERE {where})"
    )


def _unless_same(matches: str) -> str:
    return f"{ROW} NOT IN (SELECT {ROW} FROM {matches} WHERE {SAME})"


def touch(
    connection: DuckDBPyConnection, target: Target, query: str, *, tasks: Tasks
) -> Touched:
    """The rows of the table that *query* finds among *tasks*."""
    table = keep_rows(connection, f"SELECT {FILE}, {POSITION} FROM ({query})")
    numbers = connection.execute(f"SELECT DISTINCT {FILE} FROM {table}").fetchall()
    found = {number for (number,) in numbers}
    return Touched(
        target,
        connection,
        {number: task for number, task in tasks.items() if number in found},
        table,
        count_rows(connection, table),
    )


def keep_rows(connection: DuckDBPyConnection, query: str) -> str:
    """The temp table that the rows of *query* are kept in."""
    name = f"rat_rows_{uuid4().hex}"
    connection.execute(f"CREATE TEMP TABLE {name} AS {query}")
    return name


def _count_kept(
    connection: DuckDBPyConnection, old: Touched, incoming: Incoming
) -> int:
    """How many of the batch's rows are among the touched ones, counted with duplicates."""
    if not old.rows:
        return 0
    columns = name_list(incoming.columns)
    new = f"SELECT {columns} FROM {incoming.table}"
    rows = f"SELECT {columns} FROM ({old.themselves()})"
    return incoming.rows - count_rows(connection, f"({new} EXCEPT ALL {rows})")


def _count_replaced(
    connection: DuckDBPyConnection, old: Touched, incoming: Incoming
) -> int:
    """How many of the touched rows make way for a row of the same key, each for one."""
    if not old.rows:
        return 0
    keys = name_list(incoming.keys)
    counted = f"SELECT {keys}, count(*) AS {ROW} FROM"
    ((replaced,),) = connection.execute(
        f"SELECT coalesce(sum(least(old.{ROW}, new.{ROW})), 0) "
        f"FROM ({counted} ({old.themselves()}) GROUP BY {keys}) AS old "
        f"JOIN ({counted} {incoming.table} GROUP BY {keys}) AS new "
        f"ON {same_keys('old', 'new', names=incoming.keys)}"
    ).fetchall()
    return int(replaced)


def _next_time(connection: DuckDBPyConnection, open_times: str, *, at: datetime) -> str:
    """The attempt's time, or the first moment after all *open_times*, as SQL."""
    ((newest,),) = connection.execute(
        f"SELECT max(epoch_us(time)) FROM ({open_times}) AS versions(time)"
    ).fetchall()
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    later = micros if newest is None else max(micros, newest + 1)
    return f"make_timestamptz({later})"


def table_rows(connection: DuckDBPyConnection, target: Target, tasks: Tasks) -> str:
    """A query for the rows of *tasks*, each with its FILE and POSITION."""
    return select_rows(
        connection,
        tasks,
        schema=target.schema,
        metadata=target.metadata,
        io=target.io,
        positions=True,
    )


def _files_with_keys(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming
) -> Tasks:
    """The files of the table whose bounds meet the keys of the batch, and then their rows do."""
    if not incoming.rows:
        return {}
    condition: BooleanExpression = AlwaysTrue()
    for name in incoming.keys:
        condition = And(condition, key_range(connection, target, incoming, key=name))
    tasks = target.plan(condition)
    if not tasks:
        return {}
    found = connection.execute(
        f"SELECT DISTINCT {FILE} FROM ({table_rows(connection, target, tasks)}) AS old "
        f"SEMI JOIN {incoming.table} AS new "
        f"ON {same_keys('old', 'new', names=incoming.keys)}"
    ).fetchall()
    numbers = {number for (number,) in found}
    return {number: task for number, task in tasks.items() if number in numbers}


def key_range(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming, *, key: str
) -> BooleanExpression:
    """What must hold for a row to have a key of the batch, as far as a range can say it."""
    field = target.schema.find_field(key, case_sensitive=False)
    key = field.name
    if not is_ordered(field.field_type):
        return AlwaysTrue()
    value = stored_value(quote(key), column_type=field.field_type)
    ((low, high, nulls),) = connection.execute(
        f"SELECT min({value}), max({value}), count(*) - count({quote(key)}) "
        f"FROM {incoming.table}"
    ).fetchall()
    return between(key, low=low, high=high, nulls=bool(nulls))
