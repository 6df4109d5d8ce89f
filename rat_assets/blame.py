"""Blame: what an error is about, as the author knows it: a line of their files, or a landing file.

DuckDB speaks of the query that it was given, and of the copies of landing files that it read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from rat_assets.scripts import result_line
from rat_resources import landing
from rat_resources.errors import (
    ExhaustedError,
    QueryError,
    SchemaChangeError,
    StoreError,
)
from rat_resources.specs import PipelineSource, PipelineSpec
from rat_resources.templates import RenderContext, author_line

DUCKDB_LINE = re.compile(r"LINE (\d+):")


@dataclass(frozen=True)
class Blame:
    """All that an error of one pipeline may be about."""

    spec: PipelineSpec
    source: PipelineSource
    sql: str  # the query, as it was rendered
    context: RenderContext  # by which it was
    connection: DuckDBPyConnection
    phase: str
    files: Sequence[landing.ClaimedFile]
    folders: Mapping[str, Path]  # where they were read, by their zones

    @contextmanager
    def author_lines(self) -> Iterator[None]:
        """Let an error of the query name the author's own file and line."""
        try:
            yield
        except (QueryError, SchemaChangeError, ExhaustedError) as error:
            fix = error.fix or landing.where_to_look(self.files)
            where = self.place_query(error)
            raise type(error)(f"{where}: {error.message}", fix=fix) from error

    @contextmanager
    def file_names(self) -> Iterator[None]:
        """Let an error that is about a landing file name that, as its author knows it."""
        try:
            yield
        except (QueryError, StoreError) as error:
            said = str(error.__cause__ or error)
            landing.refuse_blamed(said, self.files, folders=self.folders)
            raise

    def place_query(self, error: BaseException) -> str:
        """The author's file and line that an error of the pipeline's own query is about."""
        file = self.spec.code_file
        if self.spec.type != "sql":
            return f"{self.source.path(file)}:{result_line(self.source.code)}"
        # It ran without the blank lines before it.
        above = blank_lines(self.sql)
        return self.place(file, self.sql, error.__cause__, above=above)

    def place(
        self, file: str, sql: str, error: BaseException | None, *, above: int = 0
    ) -> str:
        """The author's file and line that *error* is about; the phase where nobody knows the line."""
        line = self.find_line(file, sql, error, above=above)
        path = self.source.path(file)
        return f"{path}:{line}" if line else f"{path} ({self.phase})"

    def find_line(
        self, file: str, sql: str, error: BaseException | None, *, above: int
    ) -> int | None:
        """The author's line that *error* is about, if DuckDB knows."""
        if not isinstance(error, duckdb.Error):
            return None
        said = str(error)
        try:
            # Of a relation DuckDB doesn't say the line; binding it once more does.
            self.connection.execute(f"EXPLAIN {sql}")
        except duckdb.InterruptException:
            raise
        except duckdb.Error as again:
            said, above = str(again), 0
        found = DUCKDB_LINE.search(said)
        return found and author_line(
            self.source.files[file],
            path=self.source.path(file),
            context=self.context,
            line=int(found[1]) + above,
        )


def blank_lines(query: str) -> int:
    """How many lines there are before a query begins."""
    return query[: len(query) - len(query.lstrip())].count("\n")
