"""Dying: the rows of a table that go in one write, and what becomes of the files that hold them.

Which rows they are is `merging` and `replacing`; the choice for each file is `choosing`, and the
delete files are `positions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile

from rat_resources.lake.batch import keep_rows
from rat_resources.lake.choosing import Fate, Wounded, WriteMode, choose
from rat_resources.lake.dead_rows import dead_rows
from rat_resources.lake.positions import Marks, write_deletes
from rat_resources.lake.reading import FILE, POSITION, Tasks, placed
from rat_resources.lake.sql import quote
from rat_resources.lake.target import Target


@dataclass(frozen=True)
class Dying:
    """Rows of the table in a temp table, each by FILE and POSITION, and the files they lie in."""

    target: Target
    connection: DuckDBPyConnection
    tasks: Tasks  # that hold any of them
    table: str
    counts: Mapping[int, int]  # how many of each task

    @property
    def rows(self) -> int:
        """How many they are."""
        return sum(self.counts.values())

    def themselves(self, *, replaced: Mapping[str, str] | None = None) -> str:
        """A query for just these rows, some columns of which are others."""
        columns = ", ".join(
            f"{(replaced or {}).get(f.name, 'old.' + quote(f.name))} AS {quote(f.name)}"
            for f in self.target.schema.fields
        )
        return (
            f"SELECT {columns} FROM ({self.target.rows(self.connection, self.tasks)}) AS old "
            f"SEMI JOIN {self.table} USING ({FILE}, {POSITION})"
        )

    def others(self, tasks: Tasks) -> str:
        """A query for all other rows of some of the files."""
        columns = ", ".join(f"old.{quote(f.name)}" for f in self.target.schema.fields)
        return (
            f"SELECT {columns} FROM ({self.target.rows(self.connection, tasks)}) AS old "
            f"ANTI JOIN {self.table} USING ({FILE}, {POSITION})"
        )

    def settle(self, mode: WriteMode) -> "Settled":
        """What becomes of the files, as it is chosen."""
        fates = choose(self._wounded(), mode=mode)
        removed, rewritten, marked = (
            {n: task for n, task in self.tasks.items() if fates[n] is fate}
            for fate in (Fate.REMOVED, Fate.REWRITTEN, Fate.MARKED)
        )
        return Settled(self, removed, rewritten, marked)

    def _wounded(self) -> dict[int, Wounded]:
        target = self.target
        places = placed(
            self.connection, self.tasks, metadata=target.metadata, io=target.io
        )
        dead = dead_rows(self.connection, places)
        return {
            number: Wounded(
                task.file.record_count,
                task.file.file_size_in_bytes,
                dying=self.counts[number],
                dead=dead[number].rows if number in dead else 0,
                is_placed=number in places,
            )
            for number, task in self.tasks.items()
        }


@dataclass(frozen=True)
class Settled:
    """What becomes of the files that hold dying rows."""

    dying: Dying
    removed: Tasks
    rewritten: Tasks
    marked: Tasks

    @property
    def survivors(self) -> str | None:
        """A query for the rows that are written once more; None: there are none."""
        return self.dying.others(self.rewritten) if self.rewritten else None

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The data files that go."""
        return tuple(
            task.file for task in (*self.removed.values(), *self.rewritten.values())
        )

    def mark(self) -> Marks:
        """Write the delete files."""
        dying = self.dying
        return write_deletes(
            dying.connection,
            dying.table,
            tasks=self.marked,
            target=dying.target,
            leaving=self.files,
        )


def dying_rows(
    connection: DuckDBPyConnection, target: Target, query: str, *, tasks: Tasks
) -> Dying:
    """The rows of the table that *query* finds among *tasks*."""
    table = keep_rows(connection, f"SELECT DISTINCT {FILE}, {POSITION} FROM ({query})")
    counts = dict(
        connection.execute(
            f"SELECT {FILE}, count(*) FROM {table} GROUP BY 1"
        ).fetchall()
    )
    found = {number: task for number, task in tasks.items() if number in counts}
    return Dying(target, connection, found, table, counts)
