"""The life of a run: branch, compile, write, test, publish.

An attempt works on a branch of its own, made from one commit of main at which all its inputs are
read. It is tested there, and merged only if the tests allow it. Whatever ends an attempt otherwise
drops the branch and gives back what it had claimed.

What Dagster is told is `rat_assets.steps`; publishing is `rat_resources.publications`.
"""

import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table
from sqlalchemy.orm import Session

from rat_assets import facts
from rat_assets.changes import Changes
from rat_assets.guards import advise, ask_guard, was_accepted
from rat_assets.hand_written import Body, PinnedLake, run_body
from rat_assets.heartbeat import Heartbeat, Watch, is_interrupt, uninterrupted
from rat_assets.inputs import Inputs
from rat_assets.journal import Journal, Profile
from rat_assets.quality import Bench, TestResult, describe_failure
from rat_assets.reports.points import (
    Points,
    column_types,
    find_misnamed,
    read_charts,
)
from rat_assets.samples import sample_table
from rat_assets.scripts import ScriptContext, result_line, run_script
from rat_assets.tracing import Traced, trace
from rat_resources import (
    archive,
    landing,
    leases,
    lineage,
    publications,
    releases,
    runs,
    wishes,
)
from rat_resources.columns import personal_names, refuse_unknown
from rat_resources.configuration import PipelineConfig
from rat_resources.errors import (
    CancelledError,
    ExhaustedError,
    LandingError,
    NotFoundError,
    QualityError,
    QueryError,
    RatError,
    RetryError,
    SchemaChangeError,
    StoreError,
    TemplateError,
)
from rat_resources.lake import register, strategies
from rat_resources.lake.batch import Batch
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.refs import MAIN
from rat_resources.lake.sql import quote
from rat_resources.lake.writing import Written
from rat_resources.landing_patterns import find_unread
from rat_resources.leases import Hold
from rat_resources.lineage import Lineage
from rat_resources.metadata.runs import Run, RunStatus
from rat_resources.metadata.zeros import as_text
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.publications import Intent
from rat_resources.reconciliation import settle_pipeline
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import CONFIG, PipelineSource, PipelineSpec, QualityTest
from rat_resources.templates import RenderContext, author_line, render

WAIT_FOR_LEASE = 0.1
DUCKDB_LINE = re.compile(r"LINE (\d+):")


@dataclass(frozen=True)
class Step:
    """What a step of a Dagster run is asked to do."""

    platform: Platform
    pipeline: PublishedPipeline
    release: int
    dagster_run_id: str
    trigger: str = "manual"
    body: Body | None = None  # the function of a hand-written asset
    full_refresh: bool = False
    accepted_by: str = ""  # who lets this run's changes pass the guard
    only_changed: bool = (
        False  # nothing to do where the inputs are those of the last time
    )

    @property
    def spec(self) -> PipelineSpec:
        """What the pipeline means."""
        return self.pipeline.spec

    @property
    def by_hand(self) -> bool:
        """Whether a person asked for it."""
        return self.trigger == "manual"


@dataclass(frozen=True)
class Outcome:
    """A publication: what stands on main now, and what it took."""

    run_id: uuid.UUID
    branch: str
    base_commit: str
    commit: str | None  # of main; None where there was nothing to merge
    data_version: str
    unchanged: bool
    rows_total: int
    written: Written | None
    table: Table | None
    sql: str
    results: Sequence[TestResult]
    journal: Journal
    files: tuple[str, ...]
    inputs: Inputs
    sample: Sequence[Mapping[str, Any]] = ()  # the table's first rows
    changes: Changes | None = None
    charts: tuple[Points, ...] = ()
    lineage: Lineage | None = None


@dataclass
class Attempt:
    """One attempt at one pipeline."""

    step: Step
    number: int
    journal: Journal
    is_last: bool = True  # whether nobody tries again when it fails
    was_published: bool = False  # though an error came after it
    branch: str = ""
    base_commit: str = ""
    started_at: datetime = field(
        default_factory=lambda: datetime.now(UTC)
    )  # then the database's
    sql: str = ""
    unchanged: bool = False
    written: Written | None = None
    table: Table | None = None
    files: list[landing.ClaimedFile] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # what lies in its zones unread
    folders: Mapping[str, Path] = field(default_factory=dict)
    lineage: Lineage | None = None
    lineage_is_news: bool = False  # Postgres knows it otherwise, or not at all
    results: list[TestResult] = field(default_factory=list)
    charts: tuple[Points, ...] = ()
    stack: ExitStack = field(default_factory=ExitStack)
    hold: Hold = field(init=False)
    heart: Watch = field(init=False)
    inputs: Inputs = field(init=False)
    test_inputs: Inputs = field(init=False)
    source: PipelineSource = field(init=False)
    connection: DuckDBPyConnection = field(init=False)

    def run(self) -> Outcome:
        """Go through the phases; whatever stops it leaves main as it was and nothing behind."""
        self.ask()
        try:
            with self.stack:
                self.take_lease()
                with self.phase("branch"):
                    self.open_branch()
                with self.phase("compile") as profile:
                    self.compile(profile)
                with self.phase("write") as profile:
                    own = self.table
                    self.write(profile)
                    self.trace(own)
                with self.phase("test") as profile:
                    self.test(profile)
                    self.read_charts()
                self.refuse_offenders()
                with self.phase("publish") as profile:
                    outcome = self.publish(profile)
        except BaseException as error:
            # A second Ctrl-C must not leave half of it.
            with uninterrupted():
                self.undo(error)
            raise
        with uninterrupted():
            self.tidy()
        return outcome

    @property
    def run_id(self) -> uuid.UUID:
        """The id of this attempt's run."""
        step = self.step
        return runs.run_id_of(step.dagster_run_id, self.name, attempt=self.number)

    @property
    def name(self) -> TableName:
        """The pipeline and its table."""
        return self.step.spec.table

    @property
    def spec(self) -> PipelineSpec:
        """What the pipeline means."""
        return self.step.spec

    @property
    def config(self) -> PipelineConfig:
        """How the pipeline is configured."""
        return self.step.spec.config

    @property
    def platform(self) -> Platform:
        """Where everything lives."""
        return self.step.platform

    @property
    def staging(self) -> Path:
        """Where this run's copies of landing files are."""
        return self.platform.staging / str(self.run_id)

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

    # Before the first phase.

    def ask(self) -> None:
        """Write that this run was asked for."""
        step = self.step
        with self.platform.metadata.transaction() as tx:
            runs.ask(
                tx,
                self.run_id,
                pipeline_id=step.pipeline.pipeline_id,
                version_id=step.pipeline.version_id,
                trigger=step.trigger,
                dagster_run_id=step.dagster_run_id,
                attempt=self.number,
                full_refresh=step.full_refresh,
                settings={"release": step.release}
                | ({"accepted_by": step.accepted_by} if step.accepted_by else {}),
            )

    def take_lease(self) -> None:
        """Wait until no other run of this pipeline is active, and be the one."""
        pipeline_id, waited = self.step.pipeline.pipeline_id, False
        while (hold := self.try_lease(pipeline_id)) is None:
            if not waited:
                self.journal.say("waiting: another run of this pipeline is active")
            waited = True
            time.sleep(
                WAIT_FOR_LEASE
            )  # short, so that Ctrl-C and Dagster's terminate get through
        self.hold = hold
        settle_pipeline(self.platform, pipeline_id)
        self.heart = Heartbeat(self.platform.metadata, hold, self.step.dagster_run_id)
        self.stack.enter_context(self.heart)

    def try_lease(self, pipeline_id: uuid.UUID) -> Hold | None:
        """The lease, or None while a living run has it; CancelledError when the wait is over."""
        with self.platform.metadata.transaction() as tx:
            status = runs.stopped_by(tx, self.step.dagster_run_id)
            if status is not None:
                message = f"Dagster's run is {status}"
                raise CancelledError(message)
            leases.free_dead(tx, pipeline_id)
            return leases.acquire(tx, pipeline_id, run_id=self.run_id)

    # The phases.

    def open_branch(self) -> None:
        """Make the branch, and pin everything that the run will read: tables, files, wishes."""
        platform, step = self.platform, self.step
        with platform.metadata.transaction() as tx:
            # Taken under the lease: what one run calls its time is later than the last run's.
            self.started_at = runs.database_time(tx)
            # Before anything is pinned, or it would take a wish for news that it misses.
            wishes.take(
                tx,
                step.pipeline.pipeline_id,
                run_id=self.run_id,
                dagster_run_id=step.dagster_run_id,
            )
        self.look_at_zones()
        self.base_commit = platform.lake.refs.head(MAIN)
        # Never used again: a late merge of a recreated branch would be applied.
        self.branch = f"run-{self.run_id}-{self.hold.fence}"
        platform.lake.refs.create(self.branch, at=f"{MAIN}@{self.base_commit}")
        self.inputs = Inputs(
            platform, step.release, f"@{self.base_commit}", self.started_at
        )
        with platform.metadata.transaction() as tx:
            runs.begin(
                tx,
                self.hold,
                branch=self.branch,
                base_commit=self.base_commit,
                started_at=self.started_at,
            )
            self.files = self.claim_files(tx)
        self.journal.say(
            f"branch {self.branch} at main {self.base_commit[:12]}, "
            f"{len(self.files)} landing files"
        )

    def look_at_zones(self) -> None:
        """Notice the files of the run's zones, which nobody else does for a run by hand."""
        platform = self.platform
        for mention in self.spec.zones if self.step.by_hand else ():
            with platform.metadata.transaction() as tx:
                zone = landing.get_zone(tx, self.name.namespace, name=mention.name)
                if zone is not None:
                    looked = landing.look(
                        tx, zone, root=platform.settings.store, now=self.started_at
                    )
                    self.say_refused(zone, looked)

    def say_refused(self, zone: landing.Zone, looked: landing.Looked) -> None:
        """Say which files this run does not read, though they lie in its zone."""
        for refused in looked.refused[: landing.MOST_NAMED]:
            what = f"{zone}/{refused.name} is not read: {refused.why}"
            self.journal.say(what, level="warning")
            self.refused.append(what)

    def claim_files(self, tx: Session) -> list[landing.ClaimedFile]:
        """Pin the landing files that this run reads."""
        if not self.spec.zones:
            return []
        step = self.step
        return landing.claim(
            tx,
            namespace=self.name.namespace,
            zones={
                zone.name: zone.new and not step.full_refresh
                for zone in self.spec.zones
            },
            pipeline_id=step.pipeline.pipeline_id,
            version_id=step.pipeline.version_id,
            run_id=self.run_id,
            by_hand=step.by_hand,
        )

    def compile(self, profile: Profile) -> None:
        """Turn the template into the query that will run, over inputs that can be read."""
        self.connect()
        self.source = self.read_source()
        self.inputs.resolve(self.spec.refs)
        self.table = self.find_own()
        self.record_pins()
        self.inputs.register(self.connection)
        if self.table is not None:
            register(self.connection, {self.name: self.table})
        if self.has_nothing_new():
            self.unchanged = True
            self.journal.say("nothing new: the table stays as it is")
            return
        self.stage_files(profile)
        if self.spec.type == "sql":
            self.sql = self.render(self.source.code, path=self.spec.code_file)
            self.journal.say(f"query:\n{self.sql}", level="debug")
            self.leave_unread()

    def connect(self) -> None:
        """Open the DuckDB of this run, which ends with it."""
        self.connection = self.stack.enter_context(self.platform.lake.connect())
        self.heart.watch(self.connection)

    def read_source(self) -> PipelineSource:
        """The files of the pipeline."""
        return releases.read_source(self.platform.store, self.step.pipeline)

    def record_pins(self) -> None:
        """Write down which snapshots the run reads."""
        with self.platform.metadata.transaction() as tx:
            runs.pin(tx, self.run_id, self.inputs.pins)

    def find_own(self) -> Table | None:
        """The table as it is at the run's commit of main."""
        tables = self.platform.lake.tables([self.name], at=f"@{self.base_commit}")
        return tables.get(self.name)

    def has_nothing_new(self) -> bool:
        """Whether this run has nothing to read that it has not read before."""
        if self.step.full_refresh or (self.table is None and not self.spec.is_view):
            return False
        news = [zone for zone in self.spec.zones if zone.new]
        if news and not self.files:
            return True
        reads_anything = bool(self.spec.refs or self.spec.zones)
        return self.step.only_changed and reads_anything and self.has_same_inputs()

    def has_same_inputs(self) -> bool:
        """Whether the last publication read the very same snapshots and files by the same code."""
        with self.platform.metadata.transaction() as tx:
            last = publications.last_inputs(tx, self.step.pipeline)
        tables = {each.table: each.snapshot_id for each in self.inputs.pins}
        files = {file.id for file in self.files}
        return last == publications.LastInputs(tables, frozenset(files))

    def stage_files(self, profile: Profile) -> None:
        """Copy the pinned files to where only this run reads them."""
        if not self.spec.zones:
            return
        staged = self.copy_files()
        profile.rows, profile.bytes = (
            len(self.files),
            sum(file.size for file in self.files),
        )
        self.folders = staged
        for zone in self.spec.zones:
            files = [file for file in self.files if file.zone.name == zone.name]
            if not files and not zone.new:
                name = f"{self.name.namespace}/{zone.name}"
                message = f"landing zone {name} has no files to read"
                message = "; ".join([message, *self.refused])
                raise LandingError(message, fix=f"rat upload {name} FILE")
        if not self.files:
            message = (
                f"{self.name} has nothing to read: its landing zones have no files"
            )
            names = ", ".join(zone.name for zone in self.spec.zones)
            message = "; ".join([message, *self.refused])
            raise LandingError(message, fix=f"put a file into {names}")

    def copy_files(self) -> dict[str, Path]:
        """Stage the files, checked against the columns that their zones expect."""
        with self.platform.metadata.transaction() as tx:
            staged = landing.stage(
                tx,
                root=self.platform.settings.store,
                files=self.files,
                zones=[zone.name for zone in self.spec.zones],
                run_id=self.run_id,
                folder=self.staging,
            )
        for dropped in staged.dropped:
            self.journal.say(f"{dropped.file.name}: {dropped.why}", level="warning")
        gone = {dropped.file.id for dropped in staged.dropped}
        self.files = [file for file in self.files if file.id not in gone]
        landing.refuse_unexpected(self.connection, self.files, folders=staged.folders)
        landing.refuse_empty(self.files)
        return staged.folders

    def leave_unread(self) -> None:
        """Let go of the files that no path in the query matches, or they would count as read."""
        unread = {
            (zone.name, name)
            for zone in self.spec.zones
            for name in self.find_unread(zone.name)
        }
        if not unread:
            return
        left = [file for file in self.files if (file.zone.name, file.name) in unread]
        for file in left[: landing.MOST_NAMED]:
            self.journal.say(
                f"{file.zone}/{file.name}: {landing.UNREAD}", level="warning"
            )
        with self.platform.metadata.transaction() as tx:
            landing.leave(tx, self.run_id, files=left)
        self.files = [file for file in self.files if file not in left]
        if self.files:
            return
        if self.table is None or not all(zone.new for zone in self.spec.zones):
            some = left[0]
            message = f"{some.zone}/{landing.shown(some.name)}: {landing.UNREAD}"
            where = self.source.path(self.spec.code_file)
            raise LandingError(message, fix=f"correct the path in {where}, or the name")
        self.unchanged = True
        self.journal.say("nothing new that the query reads: the table stays as it is")

    def find_unread(self, zone_name: str) -> list[str]:
        """The files of a zone that the query does not read, as far as its paths tell."""
        return find_unread(
            self.connection,
            self.sql,
            folder=self.folders[zone_name],
            names=[file.name for file in self.files if file.zone.name == zone_name],
        )

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
            full_refresh=self.step.full_refresh,
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
        if not column or self.table is None or self.step.full_refresh:
            return None
        if column not in self.table.schema().column_names:
            message = f"watermark_column {column!r} is no column of {self.name}"
            raise NotFoundError(message, fix="correct it, or run with --full-refresh")
        query = f"SELECT max({quote(column)})::VARCHAR FROM {quote(str(self.name))}"
        row = self.connection.execute(query).fetchall()
        value = row[0][0]
        return None if value is None else str(value)

    def write(self, profile: Profile) -> None:
        """Write the query's rows to the branch, in one commit."""
        if self.unchanged or self.spec.is_view:
            return
        with self.file_names():
            query = self.sql if self.spec.type == "sql" else self.run_script()
        catalog = self.open_catalog()
        existed = self.table is not None
        with self.author_lines(), self.file_names():
            self.written = strategies.apply(
                self.connection,
                query=query,
                catalog=catalog,
                table_name=self.name,
                config=write_config(self.spec),
                attempt_time=self.started_at,
                full_refresh=self.step.full_refresh,
                inspect=self.inspect,
            )
        profile.rows, profile.bytes = (
            self.written.rows_written,
            self.written.bytes_written,
        )
        self.table = catalog.load_table(self.name.key)
        self.unchanged = not self.written.changed
        for change in self.written.schema_changes if existed else ():
            self.journal.say(f"schema: {change}", level="warning")
        self.note_unknown_columns(self.table)
        self.journal.say(
            f"{self.written.rows_written:,} rows written, {self.written.rows_total:,} in the table"
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

    def open_catalog(self) -> RefCatalog:
        """Where the table is written: the run's branch."""
        return self.platform.lake.catalog(
            self.branch,
            message=f"{self.name}: {self.config.merge_strategy}",
            properties={"rat.run_id": str(self.run_id)},
        )

    def inspect(self, batch: Batch) -> None:
        """Look at what the query returned, before anything is written."""

    def run_script(self) -> str:
        """Run the Python pipeline, or the function in its place; the query selects its rows."""
        with self.heart.interrupting_python():
            if self.step.body is not None:
                return run_body(self.step.body, lake=self.pinned_lake)
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

    @contextmanager
    def file_names(self) -> Iterator[None]:
        """Let an error that is about a landing file name that, as its author knows it."""
        try:
            yield
        except (QueryError, StoreError) as error:
            said = str(error.__cause__ or error)
            landing.refuse_blamed(said, self.files, folders=self.folders)
            raise

    @contextmanager
    def author_lines(self) -> Iterator[None]:
        """Let an error of the query name the author's own file and line."""
        try:
            yield
        except (QueryError, SchemaChangeError, ExhaustedError) as error:
            file = self.spec.code_file
            if self.spec.type == "sql":
                # It ran without the blank lines before it.
                above = blank_lines(self.sql)
                where = self.place(file, self.sql, error.__cause__, above=above)
            else:
                where = f"{self.source.path(file)}:{result_line(self.source.code)}"
            fix = error.fix or landing.where_to_look(self.files)
            raise type(error)(f"{where}: {error.message}", fix=fix) from error

    def place(
        self, file: str, sql: str, error: BaseException | None, *, above: int = 0
    ) -> str:
        """The author's file and line that *error* is about; the phase where nobody knows the line."""
        line = self.find_line(file, sql, error, above=above)
        path = self.source.path(file)
        return f"{path}:{line}" if line else f"{path} ({self.journal.current})"

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
            context=self.render_context,
            line=int(found[1]) + above,
        )

    def trace(self, own: Table | None) -> None:
        """Tell where each column comes from, of a table that the query read as *own*."""
        with self.platform.metadata.transaction() as tx:
            known = lineage.load(tx, str(self.name))
        traced = Traced(
            self.spec,
            sql=self.sql,
            connection=self.connection,
            inputs=self.inputs,
            own=own,
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

    def test(self, profile: Profile) -> None:
        """Run every quality test on what the branch holds now."""
        if not self.spec.tests and not self.config.charts:
            return
        # What only tests read is no input of the run.
        self.test_inputs = replace(
            self.inputs,
            tables=dict(self.inputs.tables),
            views=dict(self.inputs.views),
        )
        self.register_own()
        bench = Bench(self.connection, results=self.results, masked=self.masked)
        for test in self.spec.tests:
            result = self.run_test(bench, test)
            self.journal.say(result.summary, level=result.level)
        profile.rows = sum(result.offenders or 0 for result in self.results)

    def register_own(self) -> None:
        """Let tests read what this run wrote, under the table's own name."""
        if self.spec.is_view:
            self.test_inputs.views[self.name] = self.step.pipeline
            self.test_inputs.define(self.connection, self.name, defined=set())
        elif self.table is not None:
            register(self.connection, {self.name: self.table})

    def refuse_unknown(self, table: TableName, column: str) -> None:
        """NotFoundError when a table that tests can read lacks a column."""
        names = self.connection.sql(f"FROM {quote(str(table))}").columns
        refuse_unknown(column, table=table, names=names)

    def run_test(self, bench: Bench, test: QualityTest) -> TestResult:
        """Run one test; one that does not compile, or reads what is not there, could not run."""
        self.heart.refuse_stop()
        if test.guard:
            return bench.keep(self.ask_guard(test))
        try:
            self.let_read(test)
            for table, column in test.columns:
                self.refuse_unknown(TableName.parse(table), column)
            sql = self.render(self.source.template(test), path=test.path)
        except (NotFoundError, TemplateError) as error:
            return bench.refuse(test, message=str(error))
        if test.template:  # no line of the author's file is a line of this query
            return bench.run(test, sql=sql)
        return bench.run(test, sql=sql, locate=partial(self.place, test.path, sql))

    def ask_guard(self, test: QualityTest) -> TestResult:
        """Compare what this run changed with what it may change."""
        return ask_guard(
            test,
            self.config.guard,
            self.changes,
            accepted_by=self.step.accepted_by,
        )

    @property
    def changes(self) -> Changes | None:
        """What this run changes on main; None: nothing."""
        changes = Changes.of(self.written) if self.written else None
        if changes and any(was_accepted(result) for result in self.results):
            return replace(changes, accepted_by=self.step.accepted_by)
        return changes

    def let_read(self, test: QualityTest) -> None:
        """Let a test read what it refers to."""
        others = [ref for ref in test.refs if ref != self.name]
        if self.test_inputs.resolve(others):
            self.test_inputs.register(self.connection)
            self.register_own()

    def read_charts(self) -> None:
        """Read what the charts show, while nobody else sees it; they are drawn after publishing.

        One that names what the table has not stops the run here, as a wrong query would.
        """
        has_rows = self.spec.is_view or self.table is not None
        if not has_rows or any(result.blocks for result in self.results):
            return
        rows = quote(str(self.name))
        types = column_types(self.connection, rows) if self.config.charts else {}
        for chart in self.config.charts:
            for misnamed in find_misnamed(chart, types):
                line = misnamed.line(self.source.files.get(CONFIG, ""))
                where = f"{self.source.path(CONFIG)}:{line}"
                raise QueryError(f"{where}: {misnamed.what}", fix=misnamed.fix)
        self.charts = read_charts(self.connection, self.config.charts, relation=rows)
        for points in self.charts:
            if points.problem:
                self.journal.say(points.problem, level="warning")

    def refuse_offenders(self) -> None:
        """QualityError when a test says that nothing may be published."""
        if any(result.blocks for result in self.results):
            raise QualityError(
                describe_failure(self.results, table=self.name),
                fix=advise(self.results, table=self.name),
            )

    def publish(self, profile: Profile) -> Outcome:
        """Merge the branch, and write down everything that is true from then on."""
        refs, metadata = self.platform.lake.refs, self.platform.metadata
        rows = self.look()
        head = refs.head(self.branch)
        stated = self.facts()
        intent = Intent(
            hold=self.hold,
            dagster_run_id=self.step.dagster_run_id,
            branch=self.branch,
            from_hash=head,
            expected_main=self.base_commit,
            facts=stated,
        )
        with self.heart.uninterrupted():
            self.heart.refuse_stop()
            with metadata.transaction() as tx:
                publications.intend(tx, intent)
            commit = publications.publish(metadata, refs, self.run_id, hold=self.hold)
        profile.rows = stated["rows_written"]
        where = f"main {commit[:12]}" if commit else "main as it was"
        self.journal.say(f"published: {where}")
        return Outcome(
            run_id=self.run_id,
            branch=self.branch,
            base_commit=self.base_commit,
            commit=commit,
            data_version=stated["data_version"],
            unchanged=self.unchanged,
            rows_total=stated["rows_total"],
            written=self.written,
            table=self.table,
            sql=self.sql,
            results=tuple(self.results),
            journal=self.journal,
            files=tuple(f"{file.zone.name}/{file.name}" for file in self.files),
            inputs=self.inputs,
            sample=rows,
            charts=self.charts,
            lineage=self.lineage,
            changes=self.changes,
        )

    def look(self) -> Sequence[Mapping[str, Any]]:
        """A few rows of what is about to be published, to show them."""
        if self.spec.is_view:
            return []  # it would be computed for this alone
        if not self.spec.tests:
            self.register_own()
        return sample_table(self.connection, self.name, self.table, masked=self.masked)

    @property
    def masked(self) -> frozenset[str]:
        """The columns whose values are nobody's business but the table's readers'."""
        return personal_names(self.config.columns)

    def facts(self) -> dict[str, Any]:
        """Everything that publishing this run will state, as JSON."""
        # What a view once was as a table is no concern of its readers.
        table = None if self.spec.is_view else self.table
        wishes_for = (
            []
            if self.unchanged
            else facts.next_wishes(self.platform, self.spec, run_id=self.run_id)
        )
        return {
            "rows_written": self.written.rows_written if self.written else 0,
            "unchanged": self.unchanged,
            "changes": self.changes and self.changes.to_json(),
            "results": [result.to_row() for result in self.results],
            "wishes": wishes_for,
            "archive": facts.archived_zones(self.platform, self.spec),
            **facts.describe_data(self.spec, table, inputs=self.inputs),
            "lineage": facts.describe_lineage(
                self.lineage, is_news=self.lineage_is_news
            ),
        }

    # The end.

    def undo(self, error: BaseException) -> None:
        """End the run without a publication: give everything back, drop the branch."""
        cancelled = not isinstance(error, Exception) or isinstance(
            error, CancelledError
        )
        status = RunStatus.CANCELLED if cancelled else RunStatus.FAILED
        reason = "cancelled" if cancelled else as_text(describe(error))
        self.journal.say(reason, level="error")
        with self.platform.metadata.transaction() as tx:
            if runs.end(tx, self.run_id, status, error=reason):
                self.give_back(tx, reason=reason if self.blames_files(error) else None)
            else:  # published before the error, or undone by somebody else
                run = tx.get_one(Run, self.run_id)
                self.was_published = run.status == RunStatus.SUCCESS
        self.clean_up()

    def give_back(self, tx: Session, *, reason: str | None) -> None:
        """Give back what the run claimed; with a *reason* its files wait for somebody."""
        publications.undo(tx, self.run_id)
        runs.record_results(
            tx,
            self.run_id,
            pipeline_id=self.step.pipeline.pipeline_id,
            results=[result.to_row() for result in self.results],
        )
        if self.changes:
            runs.note(tx, self.run_id, changes=self.changes.to_json())
        landing.release(tx, self.run_id, failed=reason)
        wishes.finish(tx, self.run_id)

    def blames_files(self, error: BaseException) -> bool:
        """Whether the files may be why it failed, and nobody tries them once more."""
        if isinstance(error, QualityError):
            return True
        return (
            self.is_last
            and isinstance(error, Exception)
            and not isinstance(error, RetryError)
        )

    def tidy(self) -> None:
        """Clean up after a publication, which stands whatever becomes of this."""
        try:
            self.clean_up()
            self.move_archived()
        except Exception as error:  # noqa: BLE001 - to repeat the run would publish twice
            what = f"published, but not all was tidied up: {describe(error)}"
            self.journal.say(what, level="warning")

    def clean_up(self) -> None:
        """Drop the branch and the staged files, keep the log, give back the lease."""
        self.drop_branch()
        shutil.rmtree(self.staging, ignore_errors=True)
        path = self.keep_log()
        with self.platform.metadata.transaction() as tx:
            runs.note(
                tx,
                self.run_id,
                logs_s3_path=path,
                logs=self.journal.newest,
                phase_profiles=self.journal.phase_profiles,
            )
            if hasattr(self, "hold"):
                leases.release(tx, self.hold)

    def keep_log(self) -> str | None:
        """Keep the whole log in the store; its key, or None where the store takes no more."""
        path = f"_logs/{self.name.namespace}/{self.run_id}.jsonl"
        try:
            self.platform.store.write(path, self.journal.as_text())
        except StoreError as error:
            # What the run has to give back matters more than its log.
            self.journal.say(
                f"only its newest lines are kept: {error}", level="warning"
            )
            return None
        return path

    def move_archived(self) -> None:
        """Move what this publication let go; what a crash leaves here, the landing sensor moves."""
        for zone in {file.zone.id: file.zone for file in self.files}.values():
            with self.platform.metadata.transaction() as tx:
                archive.finish_moves(tx, zone, root=self.platform.store.root)

    def drop_branch(self) -> None:
        """Delete the branch, if it came that far."""
        if self.branch:
            refs = self.platform.lake.refs
            # Whoever ended this run in its place has dropped the branch too.
            with suppress(NotFoundError):
                refs.delete(self.branch, expected_hash=refs.head(self.branch))


def blank_lines(query: str) -> int:
    """How many lines there are before a query begins."""
    return query[: len(query) - len(query.lstrip())].count("\n")


def describe(error: BaseException) -> str:
    """An error as a run's row keeps it."""
    if isinstance(error, RatError):
        return str(error)
    return f"{type(error).__name__}: {error}"
