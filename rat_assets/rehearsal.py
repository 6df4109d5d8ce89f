"""Rehearsals: a pipeline goes through the phases of a run, and nothing is claimed, written or told.

It computes and tests as a run does (`rat_assets.computation`, `rat_assets.trial`), but it borrows its
landing files (`rat_assets.loan`), writes into a folder that is gone with it, and ends before it would
publish. It has limits, since nobody waits for a preview as for a run.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from rat_assets.computation import Computation
from rat_assets.drafts import Draft, check_fit, published_draft
from rat_assets.heartbeat import Deadline
from rat_assets.inputs import Inputs
from rat_assets.intake import Intake
from rat_assets.journal import Journal, Profile
from rat_assets.loan import Loan
from rat_assets.quality import Bench, TestResult
from rat_assets.samples import select_list
from rat_assets.trial import Trial
from rat_resources import landing, runs
from rat_resources.errors import CancelledError, QueryError, RatError
from rat_resources.lake.batch import Batch, query_columns, run_query
from rat_resources.lake.drafting import DraftCatalog
from rat_resources.lake.evolution import SchemaChange
from rat_resources.lake.reading import row_count
from rat_resources.lake.refs import MAIN
from rat_resources.lake.rows import Sample, sample
from rat_resources.lake.spilling import spill_folder
from rat_resources.lake.sql import literal, quote
from rat_resources.lake.types import Column
from rat_resources.names import TableName
from rat_resources.platform import Platform

# Nobody else's: a preview tells no log.
NO_RUN = "preview"
TWO_GIGABYTES = 2 * 10**9


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
        raise QueryError(message, fix=other_ways(draft))


def other_ways(draft: Draft) -> str:
    """How a hand-written asset is tried."""
    return f"run its function in a test of yours, or rat run {draft.spec.table}"


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
        work = Computation(
            whole,
            draft.pipeline,
            runs.run_id_of(NO_RUN, draft.spec.table, attempt=1),
            Journal(draft.spec.table, silent()),
            staging=folder / "landing",
            full_refresh=ask.full_refresh,
        )
        work.heart = deadline
        rehearsal = Rehearsal(draft, work, ask, limits=limits, folder=folder)
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
class Rehearsal:
    """A draft that is computed and tested, and recorded nowhere."""

    draft: Draft
    work: Computation
    ask: Ask
    limits: Limits
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    columns: tuple[Column, ...] = ()
    returned: Sample = field(default_factory=lambda: Sample(0, (), ()))
    notes: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Pin main; there is no branch, and nobody is told."""
        platform = self.work.platform
        at = f"@{platform.lake.refs.head(MAIN)}"
        with platform.metadata.transaction() as tx:
            now = runs.database_time(tx)
        self.work.inputs = Inputs(platform, self.draft.release, at, now)

    # What may be asked of it.

    def preview(self) -> Preview:
        """Go through the phases that compute, and say what came of it."""
        work = self.work
        with work.phase("compile") as profile:
            self.compile(profile)
        with work.phase("write") as profile:
            self.write(profile)
        with work.phase("test") as profile:
            self.trial.run(profile)
            charts = () if self.trial.blocks else work.read_charts()
        self.notes += [each.problem for each in charts if each.problem]
        if not self.returned.count and work.watermark is not None:
            self.note(
                f"nothing is newer than {work.config.watermark_column} {work.watermark}; "
                "--full-refresh reads it all"
            )
        return self.result()

    def compile_only(self) -> Compiled:
        """Render the template, over the zones' own folders."""
        work = self.work
        self.open()
        work.find_own()
        work.register_own()
        root = work.platform.store.root
        # A query reads no zone in S3 where it lies, so it is shown over the run's own folder.
        work.folders = {
            zone.name: root / self.loan.zone_of(zone.name).path
            if isinstance(root, Path)
            else work.staging / zone.name
            for zone in work.spec.zones
        }
        if work.folders:
            self.note("a run reads copies of its landing files, in a folder of its own")
        if work.own is None and work.config.merge_strategy != "full_refresh":
            self.note(f"{work.name} is not on main yet: this is its first run")
        work.compile()
        return Compiled(work.sql, tuple(self.notes))

    def bind(self, instead: Mapping[TableName, str]) -> tuple[Column, ...]:
        """The columns that the query would return, where some inputs are other queries."""
        work = self.work
        self.choose_files()
        self.open()
        work.find_inputs(besides=instead)
        work.register_inputs()
        for name, query in instead.items():
            view = quote(str(name))
            work.connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query}")
        work.folders = self.loan.link()
        work.compile()
        with work.blame.author_lines():
            return query_columns(work.connection, work.sql)

    def test_main(self) -> tuple[TestResult, ...]:
        """Run the tests on what stands on main."""
        work = self.work
        self.open()
        work.find_own()
        if work.own is None and not work.spec.is_view:
            bench = Bench(work.connection)
            message = f"{work.name} is not on main yet; rat run {work.name}"
            return tuple(
                bench.refuse(each, message=message) for each in work.spec.tests
            )
        work.inputs.resolve(work.spec.refs if work.spec.is_view else ())
        work.inputs.register(work.connection)
        with work.phase("test") as profile:
            self.trial.run(profile)
        return tuple(self.trial.results)

    # How.

    @cached_property
    def trial(self) -> Trial:
        """The tests of the draft."""
        return Trial(self.work)

    @cached_property
    def loan(self) -> Loan:
        """Its landing files."""
        return Loan(self.draft, self.work)

    def choose_files(self) -> None:
        """Choose what is read of each landing zone."""
        note = self.loan.choose(samples=self.ask.samples)
        if note:
            self.note(note)

    def note(self, line: str) -> None:
        """Keep something that a reader of the result should know."""
        self.notes.append(line)

    def open(self) -> None:
        """Open the draft's files, and a DuckDB that may not take all of the machine's memory."""
        work = self.work
        work.source = self.draft.source
        work.connect(self.stack)
        limit = work.platform.lake.memory.duckdb
        if self.limits.memory == Limits.memory and limit < TWO_GIGABYTES:
            return
        try:
            work.connection.execute(f"SET memory_limit = {literal(self.limits.memory)}")
        except duckdb.Error as error:
            message = f"{self.limits.memory!r} is no amount of memory"
            raise QueryError(message, fix="write --memory 4GB") from error

    def compile(self, profile: Profile) -> None:
        """Turn the template into the query that would run, over all that it would read."""
        work = self.work
        self.choose_files()
        self.open()
        work.find_inputs()
        work.register_inputs()
        folders = self.loan.link()
        landing.refuse_unexpected(work.connection, work.files, folders=folders)
        intake = Intake(work)
        intake.admit(folders, profile=profile)
        work.compile()
        intake.set_aside(intake.find_unread())

    def write(self, profile: Profile) -> None:
        """Write the table that would be; of a view, look at its rows."""
        work = self.work
        catalog = DraftCatalog(
            work.platform.lake.refs,
            at=work.inputs.at,
            folder=self.folder / "tables",
            warehouse=work.platform.lake.warehouse,
        )
        work.write(profile, catalog=catalog, inspect=self.inspect)
        if work.spec.is_view:
            with (
                work.blame.author_lines(),
                run_query(work.connection, work.sql) as batch,
            ):
                self.inspect(batch)

    def inspect(self, batch: Batch) -> None:
        """Keep the columns and the first rows of what the query returned."""
        self.columns = batch.columns
        names = [column.name for column in batch.columns]
        listed = select_list(names, masked=self.work.masked)
        rows = self.limits.rows
        query = f"SELECT {listed} FROM {batch.table} ORDER BY rowid LIMIT {rows}"
        first = sample(self.work.connection, query, limit=rows)
        self.returned = replace(first, count=batch.rows)

    def result(self) -> Preview:
        """What came of it."""
        work, written = self.work, self.work.written
        before = None if work.own is None else row_count(work.own)
        return Preview(
            table=work.name,
            place=self.draft.code_path,
            commit=work.inputs.at.removeprefix("@"),
            columns=self.columns,
            sample=self.returned,
            is_view=work.spec.is_view,
            rows_before=None if work.spec.is_view else before,
            rows_after=written.rows_total if written else self.returned.count,
            inserted=written.rows_inserted if written else 0,
            updated=written.rows_updated if written else 0,
            deleted=written.rows_deleted if written else 0,
            schema_changes=()
            if written is None or before is None
            else written.schema_changes,
            results=tuple(self.trial.results),
            phases=work.journal.phase_profiles,
            files=tuple(f"{each.zone}/{each.name}" for each in work.files),
            notes=tuple(self.notes),
        )
