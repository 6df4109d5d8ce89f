"""Merging: which rows of a table a batch touches, and which rows come instead of them.

Each function looks only into files whose key bounds meet the batch's, reads the key columns alone,
and finds the touched rows by file and position; nothing is written here. Whether a row of the batch is
there already is `sameness`, what becomes of the touched rows is `dying`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from duckdb import DuckDBPyConnection
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask

from rat_resources.lake.batch import count_rows, keep_rows
from rat_resources.lake.bounds import bounds_of
from rat_resources.lake.dead_rows import alive, dead_rows
from rat_resources.lake.dying import Dying, dying_rows
from rat_resources.lake.incoming import ROW, Incoming
from rat_resources.lake.partitioning import stored_value
from rat_resources.lake.pruning import between, is_ordered
from rat_resources.lake.reading import FILE, POSITION, Tasks, placed
from rat_resources.lake.sameness import may_be_in, same_rows
from rat_resources.lake.sql import name_list, quote, same_keys
from rat_resources.lake.target import Target

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """What becomes of a table: the rows that go, and the rows that come."""

    query: str | None = None  # for the rows that come
    coming: int = 0
    dying: Dying | None = None
    removed: tuple[DataFile, ...] = ()  # files that go with all their rows
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

    def rows_after(self, before: int) -> int:
        """How many rows the table then has that has so many now."""
        going = self.dying.rows if self.dying else 0
        return self.coming + (0 if self.is_anew else before - going)

    def forget(self, connection: DuckDBPyConnection) -> None:
        """Drop what the query needed."""
        tables = (*self.scratch, *([self.dying.table] if self.dying else ()))
        for table in tables:
            connection.execute(f"DROP TABLE IF EXISTS {table}")


def upsert(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming
) -> Change:
    """One row a key: a row that differs takes the place of the table's, a new one is added."""
    keys = find_keys(connection, target, incoming)
    matches = keys.matches()
    same = same_rows(connection, target, incoming, matches=matches, tasks=keys.tasks)
    known, unchanged = (count_incoming(connection, each) for each in (matches, same))
    scratch = (matches, same)
    if unchanged == incoming.rows:
        return Change(scratch=scratch)
    old = dying_rows(
        connection,
        target,
        f"SELECT * FROM {matches} ANTI JOIN {same} USING ({ROW})",
        tasks=keys.tasks,
    )
    updated = known - unchanged
    return Change(
        incoming.select(where=unless_in(same)),
        coming=incoming.rows - unchanged,
        dying=old,
        inserted=incoming.rows - known,
        updated=updated,
        deleted=old.rows - updated,
        scratch=scratch,
    )


def replace_keys(
    connection: DuckDBPyConnection, target: Target, incoming: Incoming
) -> Change:
    """All rows of the batch's keys make way for the batch, unless they are the same rows."""
    keys = find_keys(connection, target, incoming)
    found = keys.found()
    old = dying_rows(connection, target, f"FROM {found}", tasks=keys.tasks)
    kept = _count_kept(connection, old, incoming, found=found)
    if old.rows == incoming.rows == kept:
        return Change(scratch=(found, old.table))
    return Change(
        incoming.select(),
        coming=incoming.rows,
        dying=old,
        inserted=incoming.rows,
        deleted=old.rows,
        replaced=count_replaced(connection, found, incoming.table, keys=incoming.keys),
        kept=kept,
        scratch=(found,),
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
    keys = find_keys(connection, target, incoming, everywhere=close_missing)
    matches = keys.matches(columns=(valid_to,), where=f"old.{is_open}")
    same = same_rows(connection, target, incoming, matches=matches, tasks=keys.tasks)
    known, unchanged = (count_incoming(connection, each) for each in (matches, same))
    closing = f"SELECT {FILE}, {POSITION} FROM {matches} ANTI JOIN {same} USING ({ROW})"
    missing = f"({keys.others(columns=(valid_to,), where=is_open)})"
    if close_missing:
        closing += f" UNION ALL {missing}"
    old = dying_rows(connection, target, closing, tasks=keys.tasks)
    scratch = (matches, same)
    if not old.rows and unchanged == incoming.rows:
        return Change(scratch=(*scratch, old.table))
    now = _next_time(connection, target, valid_from, valid_to=valid_to, at=attempt_time)
    opened = f", {now} AS {quote(valid_from)}, NULL::TIMESTAMPTZ AS {quote(valid_to)}"
    new = incoming.select(extra=opened, where=unless_in(same))
    updated = known - unchanged
    if close_missing:
        updated += old.rows - count_rows(
            connection,
            f"(FROM {old.table} SEMI JOIN {matches} USING ({FILE}, {POSITION}))",
        )
    return Change(
        f"{old.themselves(replaced={valid_to: now})} UNION ALL BY NAME {new}",
        coming=old.rows + incoming.rows - unchanged,
        dying=old,
        inserted=incoming.rows - known,
        updated=updated,
        scratch=scratch,
    )


# Where the rows of the batch's keys are.


@dataclass(frozen=True)
class Keys:
    """The keys of a batch, and the files of a table that may hold rows of them."""

    connection: DuckDBPyConnection
    target: Target
    incoming: Incoming
    tasks: Tasks
    missing: frozenset[str]  # keys that some row of the batch lacks

    @property
    def same(self) -> str:
        """The condition that a row of the table has the key of one of the batch."""
        # For = DuckDB leaves out row groups by their bounds.
        plain = [key for key in self.incoming.keys if key not in self.missing]
        conditions = [f"old.{quote(key)} = new.{quote(key)}" for key in plain]
        nullable = same_keys("old", "new", names=sorted(self.missing))
        return " AND ".join(filter(None, [*conditions, nullable]))

    def matches(self, *, columns: Sequence[str] = (), where: str = "true") -> str:
        """A temp table of the rows that share a key with one of the batch, which is their ROW.

        *where* may look at *columns*, too.
        """
        return self._alive(
            f"SELECT new.{ROW}, old.{FILE}, old.{POSITION} "
            f"FROM ({self._rows(self._whole(), columns)}) AS old "
            f"JOIN {self.incoming.table} AS new ON {self.same} WHERE {where}"
        )

    def found(self) -> str:
        """A temp table of the rows that share a key with any of the batch, and of their keys."""
        return self._alive(
            f"SELECT old.* FROM ({self._rows(self._whole())}) AS old "
            f"SEMI JOIN {self.incoming.table} AS new ON {self.same}"
        )

    def others(self, *, columns: Sequence[str], where: str) -> str:
        """A query for the places of the rows whose key the batch lacks."""
        return (
            f"SELECT {FILE}, {POSITION} FROM ({self._rows(self.tasks, columns)}) AS old "
            f"ANTI JOIN {self.incoming.table} AS new "
            f"ON {same_keys('old', 'new', names=self.incoming.keys)} WHERE old.{where}"
        )

    def _whole(self) -> Tasks:
        """The files, those whose dead rows are told by their places with these rows.

        It costs less to look at a row that was found than at all of a file.
        """
        return {
            number: FileScanTask(task.file) if number in self._placed else task
            for number, task in self.tasks.items()
        }

    def _alive(self, query: str) -> str:
        """A temp table of the rows of *query*, whose files may be whole, that are not dead."""
        found = keep_rows(self.connection, query)
        dead = dead_rows(self.connection, self._placed)
        if not dead:
            return found
        places = (
            f"SELECT {FILE} AS file_index, {POSITION} AS file_row_number FROM {found}"
        )
        living = keep_rows(
            self.connection,
            f"SELECT found.* FROM {found} AS found "
            f"SEMI JOIN (FROM ({places}) WHERE {alive(self.tasks, dead)}) AS place "
            f"ON found.{FILE} = place.file_index "
            f"AND found.{POSITION} = place.file_row_number",
        )
        self.connection.execute(f"DROP TABLE {found}")
        return living

    @cached_property
    def _placed(self) -> Tasks:
        target = self.target
        return placed(
            self.connection, self.tasks, metadata=target.metadata, io=target.io
        )

    def _rows(self, tasks: Tasks, columns: Sequence[str] = ()) -> str:
        names = dict.fromkeys((*self.incoming.keys, *columns))
        return self.target.rows(self.connection, tasks, columns=tuple(names))


def find_keys(
    connection: DuckDBPyConnection,
    target: Target,
    incoming: Incoming,
    *,
    everywhere: bool = False,
) -> Keys:
    """The keys of a batch, and the files whose bounds meet them; all files if *everywhere*."""
    if not incoming.rows and not everywhere:
        return Keys(connection, target, incoming, {}, frozenset())
    condition: BooleanExpression = AlwaysTrue()
    missing = []
    for key in incoming.keys:
        kind = target.schema.find_type(key)
        value = stored_value(quote(key), column_type=kind)
        ends = f"min({value}), max({value})" if is_ordered(kind) else "NULL, NULL"
        ((low, high, lacking, beyond),) = connection.execute(
            f"SELECT {ends}, count(*) - count({quote(key)}), "
            f"count({quote(key)}) - count({value}) FROM {incoming.table}"
        ).fetchall()
        if lacking:
            missing.append(key)
        # The infinite times have no number.
        if is_ordered(kind) and not beyond:
            within = between(key, low=low, high=high, nulls=bool(lacking))
            condition = And(condition, within)
    tasks = target.plan(None if everywhere else condition)
    return Keys(connection, target, incoming, tasks, frozenset(missing))


# What is counted.


def count_incoming(connection: DuckDBPyConnection, rows: str) -> int:
    """How many rows of the batch a table of them names."""
    return count_rows(connection, f"(SELECT DISTINCT {ROW} FROM {rows})")


def unless_in(rows: str) -> str:
    """The condition that a row of the batch is not among *rows*."""
    return f"{ROW} NOT IN (SELECT {ROW} FROM {rows})"


def _count_kept(
    connection: DuckDBPyConnection, old: Dying, incoming: Incoming, *, found: str
) -> int:
    """How many of the batch's rows are among the dying ones, counted with duplicates."""
    possible = may_be_in(connection, old.target, incoming, found=found, tasks=old.tasks)
    try:
        if not (most := count_rows(connection, possible)):
            return 0
        columns = name_list(incoming.columns)
        new = f"FROM {incoming.table} SEMI JOIN {possible} USING ({ROW})"
        places = (
            f"SELECT {FILE}, {POSITION} FROM {found} AS old SEMI JOIN ({new}) AS new "
            f"ON {same_keys('old', 'new', names=incoming.keys)}"
        )
        rows = (
            f"SELECT {columns} FROM ({old.target.rows(connection, old.tasks)}) AS old "
            f"SEMI JOIN ({places}) AS place USING ({FILE}, {POSITION})"
        )
        new = f"SELECT {columns} {new}"
        return most - count_rows(connection, f"({new} EXCEPT ALL {rows})")
    finally:
        connection.execute(f"DROP TABLE {possible}")


def count_replaced(
    connection: DuckDBPyConnection, going: str, coming: str, *, keys: Sequence[str]
) -> int:
    """How many of the rows that go have one of the same keys that comes, each one for one."""
    if not keys:
        return 0
    names = name_list(keys)
    counted = f"SELECT {names}, count(*) AS {ROW} FROM"
    ((replaced,),) = connection.execute(
        f"SELECT coalesce(sum(least(old.{ROW}, new.{ROW})), 0) "
        f"FROM ({counted} {going} GROUP BY {names}) AS old "
        f"JOIN ({counted} {coming} GROUP BY {names}) AS new "
        f"ON {same_keys('old', 'new', names=keys)}"
    ).fetchall()
    return int(replaced)


def _next_time(
    connection: DuckDBPyConnection,
    target: Target,
    valid_from: str,
    *,
    valid_to: str,
    at: datetime,
) -> str:
    """The attempt's time, or the first moment after all open versions, as SQL."""
    field = target.schema.find_field(valid_from)
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    later = {
        number: task
        for number, task in target.plan().items()
        if (ends := bounds_of(task.file, field)) is None or ends.high >= micros
    }
    if not later:
        return f"make_timestamptz({micros})"
    rows = target.rows(connection, later, columns=(valid_from, valid_to))
    ((newest,),) = connection.execute(
        f"SELECT max(epoch_us({quote(valid_from)})) FROM ({rows}) WHERE {quote(valid_to)} IS NULL"
    ).fetchall()
    if newest is not None:
        micros = max(micros, newest + 1)
    return f"make_timestamptz({micros})"
