"""Rehearsals: a pipeline goes through the phases of a run, and nothing is claimed, written or told.

It is an `Attempt` that reads main at one commit, reads landing files where they lie, writes into a
folder that is gone with it, is tested there, and ends before it would publish. It has limits, since
nobody waits for a preview as for a run.
"""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from rat_assets.drafts import Draft, check_fit, published_draft
from rat_assets.heartbeat import Deadline
from rat_assets.inputs import Inputs
from rat_assets.journal import Journal, Profile
from rat_assets.phases import Attempt, Step
from rat_assets.quality import Bench, TestResult
from rat_assets.samples import select_list
from rat_resources import landing, runs
from rat_resources.errors import CancelledError, LandingError, QueryError, RatError
from rat_resources.lake import register
from rat_resources.lake.batch import Batch, query_columns, run_query
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.drafting import DraftCatalog
from rat_resources.lake.evolution import SchemaChange
from rat_resources.lake.reading import row_count
from rat_resources.lake.refs import MAIN
from rat_resources.lake.rows import Sample, sample
from rat_resources.lake.spilling import spill_folder
from rat_resources.lake.sql import literal, quote
from rat_resources.lake.types import Column
from rat_resources.landing_peek import Peek, choose, peek
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.specs import PipelineSource

# Nobody else's: a preview tells no log.
NO_RUN = "preview"


@dataclass(frozen=True)
class Limits:
    """What a rehearsal may cost."""

    rows: int = 20
    seconds: float = 60.0
    memory: str = "2GB"


@dataclass(frozen=True)
class Preview:
    """What a draft would do, and what its tests say of it."""

    table: TableName
    place: str  # the draft's code
    commit: str  # of main, at which everything was read
    columns: tuple[Column, ...]
    sample: Sample
    is_view: bool
    rows_before: int | None  # in the table on main; None: there is none
    rows_after: int
    inserted: int
    updated: int
    deleted: int
    schema_changes: tuple[SchemaChange, ...]
    results: tuple[TestResult, ...]
    phases: Sequence[Mapping[str, Any]]
    files: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def would_publish(self) -> bool:
        """Whether no test stands against it."""
        return not any(result.blocks for result in self.results)


@dataclass(frozen=True)
class Compiled:
    """The SQL that would run."""

    sql: str
    notes: tuple[str, ...]


def preview(
    whole: Platform, draft: Draft, *, ask: "Ask", limits: Limits | None = None
) -> Preview:
    """Run a draft against main with its tests; whatever becomes of it, nothing stays."""
    refuse_hand_written(draft)
    check_fit(whole, draft)
    with rehearsing(whole, draft, ask=ask, limits=limits or Limits()) as rehearsal:
        return rehearsal.preview()


def refuse_hand_written(draft: Draft) -> None:
    """QueryError of a hand-written asset: only Dagster has its function."""
    if draft.spec.hand_written:
        message = f"{draft.spec.table} is an asset written by hand, and only a run has its function"
        raise QueryError(
            message,
            fix=f"run its function in a test of yours, or rat run {draft.spec.table}",
        )


def compile_draft(whole: Platform, draft: Draft, *, ask: "Ask") -> Compiled:
    """The SQL of a draft as it would run now; no input is read but its own table's watermark."""
    with rehearsing(whole, draft, ask=ask, limits=Limits()) as rehearsal:
        return rehearsal.compile_only()


def verdicts_on_main(
    whole: Platform, table: TableName, *, seconds: float
) -> tuple[TestResult, ...]:
    """What a pipeline's published tests say of its table on main."""
    limits = Limits(seconds=seconds)
    draft = published_draft(whole, table)
    with rehearsing(whole, draft, ask=Ask(), limits=limits) as rehearsal:
        return rehearsal.test_main()


@dataclass(frozen=True)
class Ask:
    """How a draft shall be tried."""

    full_refresh: bool = False
    samples: bool = False  # of landing zones, instead of their files
    say: Callable[[str], None] = lambda _line: None


@contextmanager
def rehearsing(
    whole: Platform, draft: Draft, *, ask: Ask, limits: Limits
) -> Iterator["Rehearsal"]:
    """A rehearsal in a folder of its own; what stops it says so in the words of its limits."""
    late = QueryError(
        f"{draft.spec.table}: this took more than {limits.seconds:g} s",
        fix="give it longer with --timeout, or read less, as with --samples",
    )
    with (
        spill_folder(whole.lake.spill) as folder,
        Deadline(limits.seconds, reason=late) as deadline,
        translated(draft, deadline, limits=limits),
    ):
        step = Step(
            whole,
            draft.pipeline,
            draft.release,
            NO_RUN,
            full_refresh=ask.full_refresh,
        )
        rehearsal = Rehearsal(
            step,
            1,
            Journal(draft.spec.table, silent()),
            draft=draft,
            ask_for=ask,
            limits=limits,
            folder=folder,
        )
        rehearsal.heart = deadline
        with rehearsal.stack:
            rehearsal.begin()
            yield rehearsal


def silent() -> logging.Logger:
    """A logger that nobody hears."""
    logger = logging.getLogger(f"{__name__}.{NO_RUN}")
    logger.disabled = True
    return logger


@contextmanager
def translated(draft: Draft, deadline: Deadline, *, limits: Limits) -> Iterator[None]:
    """Tell a limit that was hit from somebody's Ctrl-C, and both from mistakes."""
    try:
        yield
    except KeyboardInterrupt:
        deadline.refuse_stop()
        raise
    except CancelledError as error:
        raise KeyboardInterrupt from error
    except RatError as error:
        deadline.refuse_stop()
        if not is_out_of_memory(error):
            raise
        message = f"{draft.code_path}: this needs more than {limits.memory} of memory"
        raise QueryError(
            message, fix="give it more with --memory, or read less, as with --samples"
        ) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether *error* is, itself or by its cause, DuckDB's word for too little memory."""
    if error is None:
        return False
    return isinstance(error, duckdb.OutOfMemoryException) or is_out_of_memory(
        error.__cause__
    )


@dataclass
class Rehearsal(Attempt):
    """An attempt that ends before it would publish, and records nothing."""

    draft: Draft = field(kw_only=True)
    ask_for: Ask = field(kw_only=True)
    limits: Limits = field(kw_only=True)
    folder: Path = field(kw_only=True)
    columns: tuple[Column, ...] = ()
    returned: Sample = field(default_factory=lambda: Sample(0, (), ()))
    peeks: list[Peek] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Pin main; there is no branch, and nobody is told."""
        platform = self.platform
        self.base_commit = platform.lake.refs.head(MAIN)
        with platform.metadata.transaction() as tx:
            self.started_at = runs.database_time(tx)
        at = f"@{self.base_commit}"
        self.inputs = Inputs(platform, self.step.release, at, self.started_at)

    def preview(self) -> Preview:
        """Go through the phases that compute, and say what came of it."""
        with self.phase("compile") as profile:
            self.choose_files()
            self.compile(profile)
        before = None if self.table is None else row_count(self.table)
        with self.phase("write") as profile:
            self.write(profile)
        with self.phase("test") as profile:
            self.test(profile)
        if not self.returned.count and self.watermark is not None:
            self.note(
                f"nothing is newer than {self.config.watermark_column} {self.watermark}; "
                "--full-refresh reads it all"
            )
        return self.result(before)

    def result(self, before: int | None) -> Preview:
        """What came of it, for a table that had *before* rows."""
        written = self.written
        return Preview(
            table=self.name,
            place=self.draft.code_path,
            commit=self.base_commit,
            columns=self.columns,
            sample=self.returned,
            is_view=self.spec.is_view,
            rows_before=None if self.spec.is_view else before,
            rows_after=written.rows_total if written else self.returned.count,
            inserted=written.rows_inserted if written else 0,
            updated=written.rows_updated if written else 0,
            deleted=written.rows_deleted if written else 0,
            schema_changes=()
            if written is None or before is None
            else written.schema_changes,
            results=tuple(self.results),
            phases=self.journal.phase_profiles,
            files=tuple(f"{each.zone}/{each.name}" for each in self.files),
            notes=tuple(self.notes),
        )

    def compile_only(self) -> Compiled:
        """Render the template, over the zones' own folders."""
        self.connect()
        self.source = self.read_source()
        self.table = self.find_own()
        if self.table is not None:
            register(self.connection, {self.name: self.table})
        self.folders = {
            zone.name: self.platform.store.root / self.zone_of(zone.name).path
            for zone in self.spec.zones
        }
        if self.folders:
            self.note("a run reads copies of its landing files, in a folder of its own")
        if self.table is None and self.config.merge_strategy != "full_refresh":
            self.note(f"{self.name} is not on main yet: this is its first run")
        return Compiled(
            self.render(self.source.code, path=self.spec.code_file), tuple(self.notes)
        )

    def bind(self, instead: Mapping[TableName, str]) -> tuple[Column, ...]:
        """The columns that the query would return, where some inputs are other queries."""
        self.choose_files()
        self.connect()
        self.source = self.read_source()
        self.inputs.resolve(ref for ref in self.spec.refs if ref not in instead)
        self.table = self.find_own()
        self.inputs.register(self.connection)
        if self.table is not None:
            register(self.connection, {self.name: self.table})
        for name, query in instead.items():
            self.define(name, query)
        self.folders = self.link_files()
        self.sql = self.render(self.source.code, path=self.spec.code_file)
        with self.author_lines():
            return query_columns(self.connection, self.sql)

    def define(self, name: TableName, query: str) -> None:
        """Let SQL read a query under a table's name."""
        view = quote(str(name))
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query}")

    def test_main(self) -> tuple[TestResult, ...]:
        """Run the tests on what stands on main."""
        self.connect()
        self.source = self.read_source()
        self.table = self.find_own()
        if self.table is None and not self.spec.is_view:
            bench = Bench(self.connection, results=self.results)
            for test in self.spec.tests:
                message = f"{self.name} is not on main yet; rat run {self.name}"
                bench.refuse(test, message=message)
            return tuple(self.results)
        self.inputs.resolve(self.spec.refs if self.spec.is_view else ())
        self.inputs.register(self.connection)
        if self.spec.is_view:
            self.sql = self.render(self.source.code, path=self.spec.code_file)
        with self.phase("test") as profile:
            self.test(profile)
        return tuple(self.results)

    def note(self, line: str) -> None:
        """Keep something that a reader of the result should know."""
        self.notes.append(line)

    # What differs from a run.

    @property
    def staging(self) -> Path:
        """Where this rehearsal's links to landing files are."""
        return self.folder / "landing"

    def connect(self) -> None:
        """Open a DuckDB that may not take all of the machine's memory."""
        super().connect()
        try:
            self.connection.execute(f"SET memory_limit = {literal(self.limits.memory)}")
        except duckdb.Error as error:
            message = f"{self.limits.memory!r} is no amount of memory"
            raise QueryError(message, fix="write --memory 4GB") from error

    def read_source(self) -> PipelineSource:
        """The draft's own files."""
        return self.draft.source

    def record_pins(self) -> None:
        """Nothing: nobody asks later what a rehearsal has read."""

    def has_nothing_new(self) -> bool:
        """False: somebody wants to see something."""
        return False

    def zone_of(self, name: str) -> landing.Zone:
        """A zone of the pipeline, published or not."""
        with self.platform.metadata.transaction() as tx:
            zone = landing.get_zone(tx, self.name.namespace, name=name)
        return self.draft.described(
            zone or landing.Zone(uuid.uuid4(), self.name.namespace, name)
        )

    def choose_files(self) -> None:
        """Choose what is read of each landing zone."""
        if not self.spec.zones:
            return
        with self.platform.metadata.transaction() as tx:
            looked = [
                peek(
                    tx,
                    self.name.namespace,
                    mention,
                    root=self.platform.store.root,
                    pipeline_id=self.step.pipeline.pipeline_id,
                )
                for mention in {zone.name: zone for zone in self.spec.zones}.values()
            ]
        self.peeks, anew = choose(
            looked, full_refresh=self.step.full_refresh, samples=self.ask_for.samples
        )
        if not any(each.chosen for each in self.peeks):
            names = ", ".join(str(each.zone) for each in self.peeks)
            message = f"{self.draft.code_path}: there is no file in {names}"
            fix = "rat upload NS/ZONE FILE, or put samples into the zone's _samples/"
            raise LandingError(message, fix=fix)
        if anew and not self.step.full_refresh:
            self.step = replace(self.step, full_refresh=True)
            self.note(f"the table is made anew of {self.describe_files()}")

    def describe_files(self) -> str:
        """What a table made anew is made of, in words."""
        if any(each.is_sample for each in self.peeks):
            return "samples"
        return "all landing files, since none of them is new"

    def copy_files(self) -> dict[str, Path]:
        """Link the files to where the query expects its copies, checked like those of a run."""
        folders = self.link_files()
        landing.refuse_unexpected(self.connection, self.files, folders=folders)
        return folders

    def link_files(self) -> dict[str, Path]:
        """Link the files, whatever is in them."""
        folders = {
            each.mention.name: self.staging / each.mention.name for each in self.peeks
        }
        for each in self.peeks:
            linked = each.link(folders[each.mention.name])
            zone = self.draft.described(each.zone)
            self.files += [replace(file, zone=zone) for file in linked]
        return folders

    def open_catalog(self) -> RefCatalog:
        """A catalog whose writes are gone with this rehearsal."""
        at = f"@{self.base_commit}"
        folder = self.folder / "tables"
        return DraftCatalog(self.platform.lake.refs, at=at, folder=folder)

    def inspect(self, batch: Batch) -> None:
        """Keep the columns and the first rows of what the query returned."""
        self.columns = batch.columns
        names = [column.name for column in batch.columns]
        listed = select_list(names, masked=self.masked)
        rows = self.limits.rows
        query = f"SELECT {listed} FROM {batch.table} ORDER BY rowid LIMIT {rows}"
        first = sample(self.connection, query, limit=rows)
        self.returned = replace(first, count=batch.rows)

    def write(self, profile: Profile) -> None:
        """Write the table that would be; of a view, look at its rows."""
        super().write(profile)
        if self.spec.is_view:
            with self.author_lines(), run_query(self.connection, self.sql) as batch:
                self.inspect(batch)

    def register_own(self) -> None:
        """Let tests read the table that would be."""
        if not self.spec.is_view:
            super().register_own()
            return
        self.define(self.name, self.sql)
