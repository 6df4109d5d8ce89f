"""Appending: rows added to a table that stands on main, beside whoever else adds to it.

Without a pipeline, its lock or its tests: the rows are written once, and their files are appended on a
branch from main's head and merged, again and again until nobody was faster. Each append is on main
once or not at all, whatever becomes of the answers of a server.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import uniform

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from rat_resources.errors import (
    ConflictError,
    LostAnswerError,
    NotFoundError,
    SchemaChangeError,
)
from rat_resources.lake import Lake
from rat_resources.lake.asides import name_aside
from rat_resources.lake.rebasing import shape
from rat_resources.lake.refs import MAIN
from rat_resources.lake.target import open_target
from rat_resources.lake.writing import write_files
from rat_resources.names import TableName

APPEND = "rat.append"  # the property of a commit that says which append it is
LONGEST_PAUSE = 10.0  # seconds, after losing a race


@dataclass
class Append:
    """Rows on their way to a table."""

    lake: Lake
    name: TableName
    message: str = ""
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    attempts: int = 0

    def run(self, connection: DuckDBPyConnection, query: str) -> str:
        """Append the rows of *query* to the table; the commit of main that has them."""
        table = self.read(self.lake.refs.head(MAIN))
        files = write_files(connection, query, metadata=table.metadata, io=table.io)
        while True:
            began = time.monotonic()
            commit = self.attempt(files, like=table)
            if commit is not None:
                return commit
            # Whoever was faster has done something, so somebody always gets on. The longer an
            # attempt takes, and the more there are who try, the longer they make way for each other.
            busy = (time.monotonic() - began) * self.attempts
            time.sleep(uniform(0, min(2 * busy, LONGEST_PAUSE)))  # noqa: S311 - no secret

    def read(self, head: str) -> Table:
        """The table as it stands on main."""
        table = self.lake.tables([self.name], at=f"@{head}").get(self.name)
        if table is None:
            message = f"{self.name}: no such table on {MAIN}"
            raise NotFoundError(message, fix="run its pipeline first")
        return table

    def attempt(self, files: Sequence[DataFile], *, like: Table) -> str | None:
        """Append the files on top of main's head; None where somebody was faster."""
        refs = self.lake.refs
        head = refs.head(MAIN)
        with self.branch(head) as branch:
            table = self.lake.catalog(branch, message=self.message).load_table(
                self.name.key
            )
            if shape(table) != shape(like):
                message = f"{self.name} got other columns or partitions meanwhile"
                raise SchemaChangeError(message, fix="append the rows again")
            open_target(table).commit(added=files, removed=())
            with suppress(LostAnswerError):
                return self.merge(branch, onto=head)
        # The branch is gone: what was under way is over by then, and main's log tells of it.
        return self.find(since=head)

    def merge(self, branch: str, *, onto: str) -> str | None:
        """Bring a branch into main; None where somebody was faster."""
        refs = self.lake.refs
        try:
            return refs.merge(
                branch,
                from_hash=refs.head(branch),
                expected_hash=onto,
                message=self.message or f"append to {self.name}",
                properties={APPEND: str(self.id)},
            ).hash
        except ConflictError:
            return None

    @contextmanager
    def branch(self, head: str) -> Iterator[str]:
        """A branch for one attempt, never made anew."""
        refs = self.lake.refs
        self.attempts += 1
        name = f"{name_aside('append', id=self.id)}.{self.attempts}"
        refs.create(name, at=f"{MAIN}@{head}")
        try:
            yield name
        finally:
            refs.delete(name, expected_hash=refs.head(name))

    def find(self, *, since: str) -> str | None:
        """The commit of an attempt whose branch is gone, once it can no more come."""
        refs = self.lake.refs
        time.sleep(refs.latest_merge.total_seconds())
        for commit in refs.history(MAIN, until=since):
            if commit.properties.get(APPEND) == str(self.id):
                return commit.hash
        return None


def append(
    lake: Lake,
    name: TableName,
    *,
    connection: DuckDBPyConnection,
    query: str,
    message: str = "",
) -> str:
    """Append the rows of *query*, as *connection* sees them, to a table; main's commit with them."""
    return Append(lake, name, message).run(connection, query)
