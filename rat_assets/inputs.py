"""Inputs: the very snapshots that a run reads, all resolved at one commit of main.

A view owns no files: it is its query, over its own inputs, wherever it is read.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from rat_resources import graph, releases
from rat_resources.errors import NotFoundError
from rat_resources.lake import register
from rat_resources.lake.committing import original_snapshot
from rat_resources.lake.sql import quote
from rat_resources.names import TableName, nearest
from rat_resources.platform import Platform
from rat_resources.releases import PublishedPipeline
from rat_resources.runs import Pin
from rat_resources.specs import PipelineSource
from rat_resources.templates import RenderContext, render

ALIKE = 0.9  # two names of which one is a slip of the pen: layers alone differ by more


@dataclass
class Inputs:
    """The tables and views that can be read at one place of the catalog."""

    platform: Platform
    release: int
    at: str  # `@<commit>`, or a branch
    run_started_at: datetime
    tables: dict[TableName, Table] = field(default_factory=dict)
    views: dict[TableName, PublishedPipeline] = field(default_factory=dict)
    # What is not to be looked up in the store: a draft is not in it.
    sources: dict[TableName, PipelineSource] = field(default_factory=dict)

    def resolve(self, names: Iterable[TableName]) -> bool:
        """Find *names*, and what the views among them read; NotFoundError names what is not there.

        Whether anything was found that had not been found before.
        """
        wanted = {
            name for name in names if name not in self.tables and name not in self.views
        }
        is_news = bool(wanted)
        while wanted:
            views = find_views(self.platform, release=self.release, names=wanted)
            tables = self.platform.lake.tables(
                sorted(wanted - views.keys()), at=self.at
            )
            self.refuse_missing(wanted - views.keys() - tables.keys())
            self.views |= views
            self.tables |= tables
            read = {ref for view in views.values() for ref in view.spec.refs}
            wanted = read - self.tables.keys() - self.views.keys()
        return is_news

    def refuse_missing(self, missing: Collection[TableName]) -> None:
        """NotFoundError when there is anything missing, with the name that was probably meant."""
        if not missing:
            return
        names = ", ".join(str(name) for name in sorted(missing))
        fix = self.guess(missing) or f"run it first: rat run {names.replace(',', '')}"
        raise NotFoundError(f"{names}: no such table on main yet", fix=fix)

    def guess(self, missing: Collection[TableName]) -> str:
        """The question whether another table was meant, where nobody publishes one of *missing*."""
        with self.platform.metadata.transaction() as tx:
            outlines = graph.outlines(tx, release=self.release)
        known = [str(each.table) for each in outlines]
        unknown = [str(name) for name in sorted(missing) if str(name) not in known]
        guesses = (nearest(name, known, cutoff=ALIKE) for name in unknown)
        found = next((each for each in guesses if each), None)
        return f"did you mean {found}?" if found else ""

    def register(self, connection: DuckDBPyConnection) -> None:
        """Let SQL read everything that was resolved, each under its full name."""
        register(connection, self.tables)
        defined: set[TableName] = set()
        for name in self.views:
            self.define(connection, name, defined=defined)

    def define(
        self,
        connection: DuckDBPyConnection,
        name: TableName,
        *,
        defined: set[TableName],
    ) -> None:
        """Define a view, after the views that it reads."""
        if name in defined:
            return
        defined.add(name)
        view = self.views[name]
        for ref in view.spec.refs:
            if ref in self.views:
                self.define(connection, ref, defined=defined)
        query = self.query(view)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(str(name))} AS {query}")

    def query(self, view: PublishedPipeline) -> str:
        """What a view selects."""
        source = self.sources.get(view.spec.table) or releases.read_source(
            self.platform.store, view
        )
        return render(
            source.code,
            path=source.path(source.code_file),
            context=RenderContext(view.spec.table, run_started_at=self.run_started_at),
        )

    @property
    def pins(self) -> list[Pin]:
        """The snapshots, as a run's row keeps them."""
        return [pin(name, table) for name, table in sorted(self.tables.items())]

    @property
    def snapshots(self) -> dict[TableName, int | None]:
        """What tells the rows of each table from any others, whatever maintenance did to its files."""
        return {
            name: original_snapshot(table.metadata)
            for name, table in sorted(self.tables.items())
        }


def pin(name: TableName, table: Table) -> Pin:
    """The snapshot that *table* shows now."""
    snapshot = table.current_snapshot()
    return Pin(
        name, table.metadata_location, snapshot.snapshot_id if snapshot else None
    )


def find_views(
    platform: Platform, *, release: int, names: Collection[TableName]
) -> dict[TableName, PublishedPipeline]:
    """The pipelines among *names* that are views in a release."""
    with platform.metadata.transaction() as tx:
        found = releases.load(tx, release=release, only=names)
    return {each.spec.table: each for each in found if each.spec.is_view}
