"""Differing: what tells two states of one table apart, by their files and by the dead rows in these.

No row is compared here: rows that were copied from one file to another are in both. Who wants to know
which rows differ counts those that went against those that came.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table

from rat_resources.lake.planning import plan
from rat_resources.lake.reading import Tasks, placed, select_lost, select_rows

Files = Mapping[str, FileScanTask]


@dataclass(frozen=True)
class Difference:
    """The files that only one state of a table has, and those that have other delete files."""

    before: Table
    after: Table

    @cached_property
    def gone(self) -> Files:
        """The files that only the earlier state has."""
        return _without(self._old, self._new)

    @cached_property
    def come(self) -> Files:
        """The files that only the later state has."""
        return _without(self._new, self._old)

    @cached_property
    def marked(self) -> Mapping[str, tuple[FileScanTask, FileScanTask]]:
        """The files of both of which other delete files speak, as they were and as they are."""
        return {
            path: (old, self._new[path])
            for path, old in self._old.items()
            if path in self._new and _speaking(old) != _speaking(self._new[path])
        }

    @property
    def here(self) -> list[DataFile]:
        """The files of the later state that tell it from the earlier one."""
        marked = (task for _, task in self.marked.values())
        return [task.file for task in (*self.come.values(), *marked)]

    @cached_property
    def _old(self) -> Files:
        return _files(self.before, without=self._shared)

    @cached_property
    def _new(self) -> Files:
        return _files(self.after, without=self._shared)

    @cached_property
    def _shared(self) -> set[str]:
        """The manifests that both have, where the same delete files speak of what these name."""
        old, new = map(_manifests, (self.before, self.after))
        if old[ManifestContent.DELETES] != new[ManifestContent.DELETES]:
            return set()
        return old[ManifestContent.DATA] & new[ManifestContent.DATA]

    def rows(
        self, connection: DuckDBPyConnection, *, old: Schema, new: Schema
    ) -> tuple[str, str]:
        """Queries for the rows that went, in the columns of *old*, and for those that came, of *new*."""
        was = dict(enumerate(task for task, _ in self.marked.values()))
        now = dict(enumerate(task for _, task in self.marked.values()))
        both = self._placed(connection, was).keys() & self._placed(connection, now)
        return (
            self._moved(connection, old, self.gone, (was, now), both=both),
            self._moved(connection, new, self.come, (now, was), both=both),
        )

    def _placed(self, connection: DuckDBPyConnection, tasks: Tasks) -> Tasks:
        metadata, io = self.after.metadata, self.after.io
        return placed(connection, tasks, metadata=metadata, io=io)

    def _moved(
        self,
        connection: DuckDBPyConnection,
        schema: Schema,
        files: Files,
        sides: tuple[Tasks, Tasks],
        *,
        both: set[int],
    ) -> str:
        """The rows of *files*, and those that are dead on the other one of the two sides alone."""
        here, there = sides
        whole = [*files.values(), *(t for n, t in here.items() if n not in both)]
        rows = select_rows(
            connection,
            dict(enumerate(whole)),
            schema=schema,
            metadata=self.after.metadata,
            io=self.after.io,
        )
        if not both:
            return rows
        lost = select_lost(
            connection,
            {n: here[n] for n in both},
            {n: there[n] for n in both},
            schema=schema,
        )
        return f"{rows} UNION ALL {lost}"


def _files(table: Table, *, without: Collection[str]) -> Files:
    tasks = plan(table.metadata, io=table.io, without=without)
    return {task.file.file_path: task for task in tasks}


def _manifests(table: Table) -> Mapping[ManifestContent, set[str]]:
    """The manifests of each kind."""
    found: dict[ManifestContent, set[str]] = {kind: set() for kind in ManifestContent}
    snapshot = table.current_snapshot()
    for each in snapshot.manifests(table.io) if snapshot else ():
        found[each.content].add(each.manifest_path)
    return found


def _without(files: Files, others: Files) -> Files:
    return {path: task for path, task in files.items() if path not in others}


def _speaking(task: FileScanTask) -> set[str]:
    """The delete files that may speak of a file."""
    return {file.file_path for file in task.delete_files}
