"""Computation: a pipeline's table as its code makes it, on a DuckDB of its own; nothing is recorded.

A run and a rehearsal compute alike, and tell it what differs: where landing files lie, and into
which catalog it writes. What tests say of the table is `rat_assets.trial`.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from rat_assets.blame import Blame
from rat_assets.hand_written import Body, PinnedLake, run_body, told_at
from rat_assets.heartbeat import Watch, is_interrupt
from rat_assets.inputs import Inputs
from rat_assets.journal import Journal, Profile
from rat_assets.reports.points import (
    Points,
    column_types,
    find_misnamed,
    read_charts,
)
from rat_assets.samples import sample_table
from rat_assets.scripts import ScriptContext, run_script
from rat_assets.tracing import Traced, trace
from rat_resources import landing, lineage
from rat_resources.alerts.definitions import Definition
from rat_resources.columns import personal_names, refuse_unknown
from rat_resources.configuration import PipelineConfig
from rat_resources.errors import CancelledError, NotFoundError, QueryError
from rat_resources.invalidations import Invalidation
from rat_resources.lake import register, strategies
from rat_resources.lake.batch import Batch
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.extremes import greatest
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.replacing import Rebuild
from rat_resources.lake.sql import quote
from rat_resources.lake.writing import Written
from rat_resources.lineage import Lineage
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import CONFIG, PipelineSource, PipelineSpec
from rat_resources.templates import RenderContext, render
from rat_resources.versions import PartitionVersions


@dataclass
class Computation:
    """What one run or rehearsal of a pipeline computes, step by step."""

    platform: Platform
    pipeline: PublishedPipeline
    run_id: uuid.UUID
    journal: Journal
    staging: Path  # where its copies of landing files are
    full_refresh: bool = False
    told: Sequence[Invalidation] = ()  # what it does something about
    rebuild: Rebuild | None = None  # what of the table it makes anew for these
    body: Body | None = None  # the function of a hand-written asset
    files: list[landing.ClaimedFile] = field(default_factory=list)
    folders: Mapping[str, Path] = field(default_factory=dict)  # theirs, by zone
    sql: str = ""
    unchanged: bool = False  # the table stays as it is
    own: Table | None = None  # as it is at the commit where everything is read
    table: Table | None = None  # as it is now
    written: Written | None = None
    # The versions of the partitions that it reads, of the tables that have any.
    read_versions: dict[TableName, PartitionVersions] = field(default_factory=dict)
    alerts: Sequence[Definition] = ()  # that are about its table, or about runs
    lineage: Lineage | None = None
    lineage_is_news: bool = False  # Postgres knows it otherwise, or not at all
    heart: Watch = field(init=False)
    inputs: Inputs = field(init=False)
    source: PipelineSource = field(init=False)
    connection: DuckDBPyConnection = field(init=False)

    @property
    def spec(self) -> PipelineSpec:
        """What the pipeline means."""
        return self.pipeline.spec

    @property
    def config(self) -> PipelineConfig:
        """How the pipeline is configured."""
        return self.spec.config

    @property
    def name(self) -> TableName:
        """The pipeline and its table."""
        return self.spec.table

    @property
    def started_at(self) -> datetime:
        """The run's time, as the database has it."""
        return self.inputs.run_started_at

    @contextmanager
    def phase(self, name: str) -> Iterator[Profile]:
        """One phase: timed, and left at once when the run is to stop."""
        self.heart.refuse_stop()
        with self.journal.phase(name) as profile:
            try:
                yield profile
            except Exception as error:
                # An interrupt may come out as any error, of a script above all.
                self.heart.refuse_stop()
                if is_interrupt(error):
                    raise CancelledError from error
                raise

    # Compile.

    def connect(self, stack: ExitStack) -> None:
        """Open a DuckDB, which ends with *stack*."""
        self.connection = stack.enter_context(self.platform.lake.connect())
        self.heart.watch(self.connection)

    def find_inputs(self, *, besides: Collection[TableName] = ()) -> None:
        """Find the snapshots of all that the code reads, its own table among them."""
        with told_at(self.body):
            self.inputs.resolve(ref for ref in self.spec.refs if ref not in besides)
        self.find_own()

    def find_own(self) -> None:
        """Find the table as it is where everything is read."""
        tables = self.platform.lake.tables([self.name], at=self.inputs.at)
        self.own = self.table = tables.get(self.name)

    def register_inputs(self) -> None:
        """Let SQL read what was found."""
        self.inputs.register(self.connection)
        self.register_own()

    def register_own(self) -> None:
        """Let SQL read the table as it is now, under its own name."""
        if self.table is not None:
            register(self.connection, {self.name: self.table})

    def compile(self) -> None:
        """Turn the template into the query that will run; a script is none."""
        if self.spec.type == "sql":
            self.sql = self.render(self.source.code, path=self.spec.code_file)
            self.journal.say(f"query:\n{self.sql}", level="debug")

    def render_in(self, context: RenderContext) -> str:
        """The pipeline's own template, for a run of which other things are true."""
        path = self.source.path(self.spec.code_file)
        return render(self.source.code, path=path, context=context)

    def render(self, template: str, *, path: str) -> str:
        """A template of this pipeline as SQL."""
        return render(
            template, path=self.source.path(path), context=self.render_context
        )

    @property
    def render_context(self) -> RenderContext:
        """What this pipeline's templates know about the run."""
        return RenderContext(
            table=self.name,
            merge_strategy=self.config.merge_strategy,
            table_exists=self.table is not None,
            full_refresh=self.full_refresh,
            watermark_value=self.watermark,
            run_started_at=self.started_at,
            landing_zones={
                zone: str(self.folders[zone.name]) for zone in self.spec.zones
            }
            if self.folders
            else {},
        )

    @cached_property
    def watermark(self) -> str | None:
        """The greatest value of the watermark column, as text; from the pinned table alone."""
        column = self.config.watermark_column
        if not column or self.table is None or self.full_refresh:
            return None
        if column not in self.table.schema().column_names:
            message = f"watermark_column {column!r} is no column of {self.name}"
            raise NotFoundError(message, fix="correct it, or run with --full-refresh")
        return self.greatest(column)

    def greatest(self, column: str) -> str | None:
        """The greatest value of a column of the table as it is now, as text."""
        assert self.table is not None  # noqa: S101 - who asks has seen it
        return greatest(self.connection, self.table, column=column)

    # Write.

    def write(
        self,
        profile: Profile,
        *,
        catalog: RefCatalog,
        inspect: Callable[[Batch], None] | None = None,
    ) -> None:
        """Write the query's rows, in one commit; *inspect* sees them before, and keeps them waiting."""
        if self.unchanged or self.spec.is_view:
            return
        with self.blame.file_names():
            query = self.sql if self.spec.type == "sql" else self.run_script()
        scope = self.rebuild.scope if self.rebuild else None
        if self.rebuild and scope:
            query = self.rebuild.query
        with self.blame.author_lines(), self.blame.file_names():
            self.written = strategies.apply(
                self.connection,
                query=query,
                catalog=catalog,
                table_name=self.name,
                config=write_config(self.spec),
                attempt_time=self.started_at,
                full_refresh=self.full_refresh and scope is None,
                scope=scope,
                inspect=inspect,
            )
        profile.rows, profile.bytes = (
            self.written.rows_written,
            self.written.bytes_written,
        )
        self.table = catalog.load_table(self.name.key)
        self.unchanged = not self.written.changed
        self.tell_written(self.written, table=self.table)

    def tell_written(self, written: Written, *, table: Table) -> None:
        """Say what was written."""
        self.note_unknown_columns(table)
        self.journal.say(
            f"{written.rows_written:,} rows written, {written.rows_total:,} in the table"
        )

    def note_unknown_columns(self, table: Table) -> None:
        """Say which columns config.yaml describes and the table lacks; tests say it of theirs."""
        names = [field.name for field in table.schema().fields]
        for column in self.config.columns:
            if not column.tests:
                try:
                    refuse_unknown(column.name, table=self.name, names=names)
                except NotFoundError as error:
                    self.journal.say(f"config.yaml: columns: {error}", level="warning")

    @property
    def blame(self) -> Blame:
        """What an error is about, as far as this has come."""
        return Blame(
            self.spec,
            self.source,
            sql=self.sql,
            context=self.render_context,
            connection=self.connection,
            phase=self.journal.current,
            files=self.files,
            folders=self.folders,
        )

    def run_script(self) -> str:
        """Run the Python pipeline, or the function in its place; the query selects its rows."""
        with self.heart.interrupting_python():
            if self.body is not None:
                return run_body(self.body, lake=self.pinned_lake)
            return run_script(
                self.source.code,
                path=self.source.path(self.spec.code_file),
                connection=self.connection,
                context=self.script_context,
            )

    @property
    def script_context(self) -> ScriptContext:
        """What Python may know about the run."""
        context = self.render_context
        return ScriptContext(
            table=self.name,
            config=self.config,
            run_id=self.run_id,
            run_started_at=self.started_at,
            is_incremental=context.is_strategy("incremental"),
            watermark_value=context.watermark_value,
            landing_zones={name: str(path) for name, path in self.folders.items()},
            log=self.journal.say,
        )

    @property
    def pinned_lake(self) -> PinnedLake:
        """The lake as a hand-written asset sees it."""
        return PinnedLake(
            **vars(self.script_context),
            connection=self.connection,
            reads=self.spec.refs,
            exists=self.table is not None,
        )

    # What else there is to know of what was written.

    def trace(self) -> None:
        """Tell where each column comes from."""
        with self.platform.metadata.transaction() as tx:
            known = lineage.load(tx, str(self.name))
        traced = Traced(
            self.spec,
            sql=self.sql,
            connection=self.connection,
            inputs=self.inputs,
            own=self.own,
            written=None if self.spec.is_view else self.table,
            staging=self.staging,
            folders=self.folders,
            passing=self.passing,
        )
        self.lineage = trace(traced, known=known)
        self.lineage_is_news = self.lineage is not known

    @property
    def passing(self) -> list[str]:
        """The texts in the query that are others in every run."""
        if not self.sql:
            return []
        return [self.started_at.isoformat(), *filter(None, [self.watermark])]

    def read_charts(self) -> tuple[Points, ...]:
        """What the charts show, while nobody else sees it; they are drawn after publishing.

        One that names what the table has not stops the run here, as a wrong query would.
        """
        if not self.config.charts or not (self.spec.is_view or self.table is not None):
            return ()
        rows = quote(str(self.name))
        types = column_types(self.connection, rows)
        for chart in self.config.charts:
            for misnamed in find_misnamed(chart, types):
                line = misnamed.line(self.source.files.get(CONFIG, ""))
                where = f"{self.source.path(CONFIG)}:{line}"
                raise QueryError(f"{where}: {misnamed.what}", fix=misnamed.fix)
        charts = read_charts(self.connection, self.config.charts, relation=rows)
        for points in charts:
            if points.problem:
                self.journal.say(points.problem, level="warning")
        return charts

    def sample(self) -> Sequence[Mapping[str, Any]]:
        """A few rows of the table, to show them."""
        if self.spec.is_view:
            return []  # it would be computed for this alone
        if not self.spec.tests:
            self.register_own()
        return sample_table(self.connection, self.name, self.table, masked=self.masked)

    @property
    def masked(self) -> frozenset[str]:
        """The columns whose values are nobody's business but the table's readers'."""
        return personal_names(self.config.columns)
