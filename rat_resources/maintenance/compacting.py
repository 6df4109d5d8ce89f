"""Compacting: the rows of several files become those of one, without the dead, and nothing else changes.

Where rows are in no order of their own, they keep the one in which they were written: whoever reads
the table and lets the later of two rows win finds the same one later as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Operation

from rat_resources.errors import StoreError
from rat_resources.lake.reading import FILE, POSITION, Tasks, select_rows
from rat_resources.lake.sql import name_list
from rat_resources.lake.target import Target, open_target
from rat_resources.lake.writing import write_files
from rat_resources.maintenance.plans import Bin


@dataclass(frozen=True)
class Contents:
    """What tells the rows of some files from any others, in whatever order they are."""

    rows: int
    hash: int


@dataclass(frozen=True)
class Rewritten:
    """The files of a bin, and those that take their place."""

    bin: Bin
    files: tuple[DataFile, ...]
    rows: int

    @property
    def dead(self) -> int:
        """The rows that were left out."""
        return sum(each.data.record_count for each in self.bin.files) - self.rows

    @property
    def bytes(self) -> int:
        """What was written."""
        return sum(each.file_size_in_bytes for each in self.files)

    @property
    def removed(self) -> tuple[DataFile, ...]:
        """The data files that go; delete files that speak of them alone follow."""
        return tuple(each.data for each in self.bin.files)

    @property
    def place(self) -> str:
        """The file as old as which the new ones are."""
        return self.bin.files[-1].data.file_path


def rewrite(
    connection: DuckDBPyConnection,
    table: Table,
    packed: Bin,
    *,
    order: Sequence[str],
) -> Rewritten:
    """Write the rows of *packed* to new files of *table*, which nobody is told about.

    StoreError if they are not the same rows; that would be our mistake, and nothing came of it.
    """
    target = open_target(table)
    tasks = dict(enumerate(each.task for each in packed.files))
    rows = sorted_rows(connection, target, tasks, order=order)
    files = write_files(connection, rows, metadata=target.metadata, io=target.io)
    written = dict(enumerate(FileScanTask(each) for each in files))
    before = contents(connection, target, tasks)
    if before != contents(connection, target, written):
        message = f"{'.'.join(table.name())}: compacted files hold other rows"
        raise StoreError(message, fix="report it; the table is as it was")
    return Rewritten(packed, tuple(files), before.rows)


def sorted_rows(
    connection: DuckDBPyConnection,
    target: Target,
    tasks: Tasks,
    *,
    order: Sequence[str],
) -> str:
    """A query for the rows of *tasks*, those that are equal by *order* as they were written."""
    rows = select_rows(
        connection,
        tasks,
        schema=target.schema,
        metadata=target.metadata,
        io=target.io,
        positions=True,
    )
    names = {field.name.casefold(): field.name for field in target.schema.fields}
    known = [names[each.casefold()] for each in order if each.casefold() in names]
    by = ", ".join(filter(None, (name_list(known), FILE, POSITION)))
    return f"SELECT * EXCLUDE ({FILE}, {POSITION}) FROM ({rows}) ORDER BY {by}"


def contents(connection: DuckDBPyConnection, target: Target, tasks: Tasks) -> Contents:
    """What tells the rows of *tasks* from any others."""
    if not tasks:
        return Contents(0, 0)
    rows = select_rows(
        connection,
        tasks,
        schema=target.schema,
        metadata=target.metadata,
        io=target.io,
    )
    ((number, content),) = connection.execute(
        f"SELECT count(*), coalesce(sum(hash(part)), 0) FROM ({rows}) AS part"
    ).fetchall()
    return Contents(int(number), int(content))


def commit(table: Table, rewritten: Sequence[Rewritten]) -> Table:
    """Let the new files take the place of the old ones, in one snapshot of the same rows."""
    committed = open_target(table).commit(
        added=[file for each in rewritten for file in each.files],
        removed=[file for each in rewritten for file in each.removed],
        operation=Operation.REPLACE,
        # A manifest names what was written last first.
        places={each.place: each.files[::-1] for each in rewritten},
    )
    return committed if committed is not None else table
