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
    CatalogError,
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
        head = self.lake.refs.head(MAIN)
        with self.branch(head) as branch:
            try:
                self.write(branch, files, like=like)
                return self.merge(branch, onto=head)
            except LostAnswerError as error:
                return self.find_out(branch, since=head, error=error)

    def write(self, branch: str, files: Sequence[DataFile], *, like: Table) -> None:
        """Append the files on the branch; SchemaChangeError where they fit no more."""
        catalog = self.lake.catalog(branch, message=self.message)
        table = catalog.load_table(self.name.key)
        if shape(table) != shape(like):
            message = f"{self.name} got other columns or partitions meanwhile"
            raise SchemaChangeError(message, fix="append the rows again")
        open_target(table).commit(added=files, removed=())

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
            # What is on main is there, whatever becomes of the branch; the janitor knows it.
            with suppress(CatalogError, LostAnswerError, NotFoundError):
                refs.delete(name, expected_hash=refs.head(name))

    def find_out(
        self, branch: str, *, since: str, error: LostAnswerError
    ) -> str | None:
        """The commit of main of a lost answer, None if it was not made; LostAnswerError if none can tell."""
        refs = self.lake.refs
        try:
            # Nothing can merge it any more; what was under way is over by then, and the log tells of it.
            with suppress(NotFoundError):
                refs.delete(branch, expected_hash=refs.head(branch))
            time.sleep(refs.latest_merge.total_seconds())
            for commit in refs.history(MAIN, until=since):
                if commit.properties.get(APPEND) == str(self.id):
                    return commit.hash
        except (CatalogError, LostAnswerError) as gone:
            message = (
                f"nobody knows whether the rows came to {self.name}: {gone.message}"
            )
            fix = f"look for {APPEND} {self.id} in the log of {MAIN} before you append them again"
            raise LostAnswerError(message, fix=fix) from error
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
