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
from rat_resources.lake.target import Target, open_target
from rat_resources.lake.writing import write_files, write_partition
from rat_resources.maintenance.plans import Bin, Layout


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
    connection: DuckDBPyConnection, table: Table, packed: Bin, *, layout: Layout
) -> Rewritten:
    """Write the rows of *packed* to new files of *table*, which nobody is told about.

    StoreError if they are not the same rows; that would be our mistake, and nothing came of it.
    """
    target = open_target(table)
    tasks = dict(enumerate(each.task for each in packed.files))
    files = write(connection, target, tasks, layout=layout)
    written = dict(enumerate(FileScanTask(each) for each in files))
    before = contents(connection, target, tasks)
    if before != contents(connection, target, written):
        message = f"{'.'.join(table.name())}: compacted files hold other rows"
        raise StoreError(message, fix="report it; the table is as it was")
    return Rewritten(packed, tuple(files), before.rows)


def write(
    connection: DuckDBPyConnection, target: Target, tasks: Tasks, *, layout: Layout
) -> list[DataFile]:
    """Write the rows of *tasks*, all of one partition: to one file, unless it is divided otherwise now."""
    one, metadata = tasks[0].file, target.metadata
    if one.spec_id != metadata.default_spec_id:
        rows = table_rows(connection, target, tasks)
        return write_files(
            connection,
            rows,
            metadata=metadata,
            io=target.io,
            order_by=layout.order,
        )
    return write_partition(
        connection,
        sorted_rows(connection, target, tasks, layout=layout),
        partition=one.partition,
        metadata=metadata,
        io=target.io,
        order_by=layout.order,
    )


def sorted_rows(
    connection: DuckDBPyConnection, target: Target, tasks: Tasks, *, layout: Layout
) -> str:
    """A query for the rows of *tasks* in their order; what is equal by it stays as it was written."""
    if not layout.order:
        return table_rows(connection, target, tasks)
    rows = table_rows(connection, target, tasks, positions=True)
    terms = [each.sql for each in layout.order]
    return f"FROM ({rows}) ORDER BY {', '.join([*terms, FILE, POSITION])}"


def table_rows(
    connection: DuckDBPyConnection,
    target: Target,
    tasks: Tasks,
    *,
    positions: bool = False,
) -> str:
    """A query for the rows of *tasks*, in the order in which they were written."""
    return select_rows(
        connection,
        tasks,
        schema=target.schema,
        metadata=target.metadata,
        io=target.io,
        positions=positions,
    )


def contents(connection: DuckDBPyConnection, target: Target, tasks: Tasks) -> Contents:
    """What tells the rows of *tasks* from any others."""
    if not tasks:
        return Contents(0, 0)
    rows = table_rows(connection, target, tasks)
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
        places={each.place: each.files for each in rewritten},
    )
    return committed if committed is not None else table
