"""The life of a run: branch, compile, write, test, publish.

An attempt works on a branch of its own, made from one commit of main at which all its inputs are
read. It is tested there, and merged only if the tests allow it. Whatever ends an attempt otherwise
drops the branch and gives back what it had claimed.

What it reads and makes is `rat_assets.computation`, its landing files `rat_assets.intake`, its tests
`rat_assets.trial`, its end `rat_assets.ending`. What Dagster is told is `rat_assets.steps`;
publishing is `rat_resources.publishing`.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from pyiceberg.table import Table
from sqlalchemy.orm import Session

from rat_assets import facts, rebuilding
from rat_assets.alert_entries import stand_of
from rat_assets.alerting import evaluate
from rat_assets.changes import Changes
from rat_assets.collision import Collision
from rat_assets.computation import Computation
from rat_assets.ending import Ending
from rat_assets.hand_written import Body
from rat_assets.heartbeat import Heartbeat, uninterrupted
from rat_assets.inputs import Inputs
from rat_assets.intake import Intake
from rat_assets.journal import Journal, Profile
from rat_assets.quality import TestResult
from rat_assets.reports.points import Points
from rat_assets.trial import Trial
from rat_resources import (
    faults,
    invalidations,
    leases,
    publications,
    publishing,
    releases,
    runs,
    tasks,
    versions,
    wishes,
)
from rat_resources.alerts.definitions import load
from rat_resources.errors import CancelledError, MergeConflictError
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.refs import MAIN
from rat_resources.lake.replacing import Rebuild
from rat_resources.lake.writing import Written
from rat_resources.leases import Hold
from rat_resources.lineage import Lineage
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.publications import Intent
from rat_resources.reconciliation import settle_pipeline
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import PipelineSpec
from rat_resources.tasks import Wanted

WAIT_FOR_LEASE = 0.1
SAY_AGAIN = 50  # looks at the lease, of which each takes somewhat longer than the wait
MOST_COLLISIONS = 5  # that rows are put on top of others'
# Of the others' rows some may be nowhere else.
BEGIN_ANEW = ("full_refresh", "incremental", "delete_insert")


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
    def is_invalidation(self) -> bool:
        """Whether it is for invalidations, and for nothing else."""
        return self.trigger.startswith(wishes.INVALIDATION)

    @property
    def takes(self) -> wishes.Takes:
        """Which wishes of the pipeline it fulfils."""
        if self.is_invalidation:
            return "invalidations"
        if self.full_refresh or self.spec.config.merge_strategy == "full_refresh":
            return "all"
        # Of landing files only the new ones may be there.
        begins = self.may_begin_anew and not self.spec.zones
        return "all if it must" if begins else "news"

    @property
    def may_begin_anew(self) -> bool:
        """Whether the table may be made anew unasked: its inputs still have all that it holds."""
        return self.spec.config.merge_strategy in BEGIN_ANEW

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
    verdicts: Sequence[TestResult]
    journal: Journal
    files: tuple[str, ...]
    inputs: Inputs
    sample: Sequence[Mapping[str, Any]] = ()  # the table's first rows
    changes: Changes | None = None
    charts: tuple[Points, ...] = ()
    lineage: Lineage | None = None
    alerts: Sequence[Mapping[str, str]] = ()  # about the table, raised or not
    rebuild: Rebuild | None = None  # what it made anew for invalidations


@dataclass
class Attempt:
    """One attempt at one pipeline."""

    step: Step
    number: int
    journal: Journal
    retries: int = 0  # how often somebody tries again when it fails
    may_repeat: bool = False  # whether a conflict is met by the very same once more
    branch: str = ""
    base_commit: str = ""  # of main, where everything is read
    onto: str = ""  # of main, which the branch was made of
    collisions: int = 0
    charts: tuple[Points, ...] = ()
    stack: ExitStack = field(default_factory=ExitStack)
    hold: Hold = field(init=False)
    heart: Heartbeat = field(init=False)
    wanted: Wanted | None = None  # its task, where Trace knows the pipeline

    def run(self) -> Outcome:
        """Go through the phases; whatever stops it leaves main as it was and nothing behind."""
        self.ask()
        phase = self.work.phase
        try:
            with self.stack:
                self.take_lease()
                with phase("branch"):
                    self.open_branch()
                with phase("compile") as profile:
                    self.compile(profile)
                with phase("write") as profile:
                    self.write(profile)
                while (outcome := self.test_and_publish()) is None:
                    pass  # our rows are on top of what others have published meanwhile
        except BaseException as error:
            # A second Ctrl-C must not leave half of it.
            with uninterrupted():
                self.ending.undo(error)
            raise
        with uninterrupted():
            self.ending.tidy()
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
    def platform(self) -> Platform:
        """Where everything lives."""
        return self.step.platform

    @cached_property
    def again_in(self) -> timedelta | None:
        """How long after a failure it is tried again; None: nobody tries again."""
        config, retries = self.step.spec.config, self.retries
        if self.wanted is not None:
            # Attempts of a run that lost its worker count too.
            retries = min(retries, config.max_retries + 1 - self.wanted.attempt)
        if retries <= 0:
            return None
        failures = config.max_retries + 1 - retries
        return tasks.pause(failures, configured=config.retry_delay_seconds)

    # What it is made of.

    @cached_property
    def work(self) -> Computation:
        """What it computes."""
        step = self.step
        return Computation(
            self.platform,
            step.pipeline,
            self.run_id,
            self.journal,
            staging=self.platform.staging / str(self.run_id),
            full_refresh=step.full_refresh,
            body=step.body,
        )

    @cached_property
    def intake(self) -> Intake:
        """Its landing files."""
        return Intake(self.work, by_hand=self.step.by_hand)

    @cached_property
    def trial(self) -> Trial:
        """Its tests."""
        return Trial(self.work, accepted_by=self.step.accepted_by)

    @cached_property
    def ending(self) -> Ending:
        """Its end."""
        return Ending(
            self.work, self.trial, again_in=self.again_in, may_repeat=self.may_repeat
        )

    @property
    def verdicts(self) -> Sequence[TestResult]:
        """What its tests have said, and what it was watched for."""
        return self.trial.verdicts

    @property
    def was_settled(self) -> bool:
        """Whether it published before the error, or somebody ended it and sees to what comes next."""
        return self.ending.was_settled

    # Before the first phase.

    def ask(self) -> None:
        """Write that this run was asked for."""
        step = self.step
        with self.platform.metadata.transaction() as tx:
            self.wanted = runs.ask(
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
        if self.wanted is not None and self.wanted.full_refresh:
            # It goes on with what another run was asked for.
            self.step = replace(step, full_refresh=True)

    def take_lease(self) -> None:
        """Wait until no other run of this pipeline is active, and be the one."""
        pipeline_id, looked = self.step.pipeline.pipeline_id, 0
        while (hold := self.try_lease(pipeline_id)) is None:
            if looked == 0:
                self.journal.say("waiting: another run of this pipeline is active")
            if looked % SAY_AGAIN == 0:
                with self.platform.metadata.transaction() as tx:
                    runs.keep_waiting(tx, self.run_id)
            looked += 1
            time.sleep(
                WAIT_FOR_LEASE
            )  # short, so that Ctrl-C and Dagster's terminate get through
        self.ending.hold = self.hold = hold
        self.heart = Heartbeat(self.platform.metadata, hold, self.step.dagster_run_id)
        self.work.heart = self.stack.enter_context(self.heart)
        faults.point("lease")
        settle_pipeline(self.platform, pipeline_id, say=self.journal.say)

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
            started_at = runs.database_time(tx)
            # Before anything is pinned, or it would take a wish for news that it misses.
            taken = wishes.take(
                tx,
                step.pipeline.pipeline_id,
                run_id=self.run_id,
                dagster_run_id=step.dagster_run_id,
                takes=step.takes,
            )
            if any(wish.is_invalidation for wish in taken):
                self.take_invalidations(tx)
        self.intake.look(now=started_at)
        self.base_commit = self.onto = platform.lake.refs.head(MAIN)
        faults.point("branch")
        # Never used again: a late merge of a recreated branch would be applied.
        self.ending.branch = self.branch = f"run-{self.run_id}-{self.hold.fence}"
        platform.lake.refs.create(self.branch, at=f"{MAIN}@{self.base_commit}")
        self.work.inputs = Inputs(
            platform, step.release, f"@{self.base_commit}", started_at
        )
        faults.point("claim")
        with platform.metadata.transaction() as tx:
            runs.begin(
                tx,
                self.hold,
                branch=self.branch,
                base_commit=self.base_commit,
                started_at=started_at,
            )
            claimed = None
            if self.wanted is not None:
                claimed = tasks.claim(tx, self.wanted, run_id=self.run_id)
            self.intake.claim(tx)
        self.heart.task = claimed
        self.journal.say(
            f"branch {self.branch} at main {self.base_commit[:12]}, "
            f"{len(self.work.files)} landing files"
        )

    def take_invalidations(self, tx: Session) -> None:
        """Do something about the rows that were invalidated below."""
        self.work.told = invalidations.taken(tx, self.run_id)
        number = len(self.work.told)
        which = f"{number} invalidation{'' if number == 1 else 's'}"
        self.journal.say(f"{which} of {invalidations.names(self.work.told)}")
        if self.work.told and self.step.may_begin_anew:
            self.work.full_refresh = True

    def compile(self, profile: Profile) -> None:
        """Turn the template into the query that will run, over inputs that can be read."""
        work = self.work
        work.connect(self.stack)
        work.source = releases.read_source(self.platform.store, self.step.pipeline)
        work.find_inputs()
        self.record_pins()
        work.register_inputs()
        if self.has_nothing_new():
            work.unchanged = True
            self.journal.say("nothing new: the table stays as it is")
            return
        self.intake.stage(profile)
        work.compile()
        self.intake.leave_unread()

    def record_pins(self) -> None:
        """Write down which snapshots the run reads."""
        with self.platform.metadata.transaction() as tx:
            pins = self.work.inputs.pins
            runs.pin(tx, self.run_id, pins)
            self.work.read_versions = versions.find_versions(tx, pins) if pins else {}
            self.work.alerts = load(tx, table=self.name, also=("run_status",))

    def has_nothing_new(self) -> bool:
        """Whether this run has nothing to read that it has not read before."""
        step, spec = self.step, self.step.spec
        if step.full_refresh or (self.work.own is None and not spec.is_view):
            return False
        if self.work.told:
            return False
        if step.is_invalidation:
            return True  # another run has done it meanwhile
        if self.intake.lacks_news:
            return True
        reads_anything = bool(spec.refs or spec.zones)
        return step.only_changed and reads_anything and self.has_same_inputs()

    def has_same_inputs(self) -> bool:
        """Whether the last publication read the very same snapshots and files by the same code."""
        with self.platform.metadata.transaction() as tx:
            last = publications.last_inputs(tx, self.step.pipeline)
        files = frozenset(file.id for file in self.work.files)
        return last == publications.LastInputs(self.work.inputs.snapshots, files)

    def write(self, profile: Profile) -> None:
        """Write the query's rows to the branch, and tell where each column comes from."""
        if self.step.is_invalidation and self.step.body is None:
            self.plan_rebuild()
        self.work.write(profile, catalog=self.open_catalog())
        self.work.trace()

    def plan_rebuild(self) -> None:
        """Find what of the table is made anew for the invalidations that the run took."""
        work = self.work
        with work.blame.author_lines(), work.blame.file_names():
            work.rebuild = rebuilding.plan(work)
        if work.rebuild is not None:
            with self.platform.metadata.transaction() as tx:
                runs.set_out(tx, self.run_id, scope=work.rebuild.to_json())

    def open_catalog(self) -> RefCatalog:
        """Where the table is written: the run's branch."""
        return self.platform.lake.catalog(
            self.branch,
            message=f"{self.name}: {self.step.spec.config.merge_strategy}",
            properties={"rat.run_id": str(self.run_id)},
        )

    def test_and_publish(self) -> Outcome | None:
        """Publish what the tests let pass; None: it must be tested once more, on top of others' rows."""
        phase = self.work.phase
        with phase("test") as profile:
            self.test(profile)
        self.trial.refuse_offenders()
        try:
            with phase("publish") as profile:
                return self.publish(profile)
        except MergeConflictError as error:
            self.meet(error)
            return None

    def meet(self, error: MergeConflictError) -> None:
        """Put our rows on top of what others have published; a conflict where that cannot be."""
        refs, before = self.platform.lake.refs, self.branch
        met = Collision(self.work, error, self.onto, head=refs.head(MAIN))
        refusal = met.refusal
        if refusal is not None or self.collisions == MOST_COLLISIONS:
            self.journal.say(f"others published first; {refusal or 'once more'}")
            raise met.explain() from error
        self.collisions += 1
        self.journal.say("others published first: our rows go on top of theirs")
        # No branch is ever made anew, and one that lives on is the owner's by its name.
        branch = f"run-{self.run_id}-{self.hold.fence}.{self.collisions}"
        refs.create(branch, at=f"{MAIN}@{met.head}")
        self.ending.branch = self.branch = branch
        self.onto = met.head
        with self.platform.metadata.transaction() as tx:
            runs.change_branch(tx, self.hold, branch=branch)
        publishing.drop_branch(refs, before)
        met.reapply(self.open_catalog())
        self.trial.forget()

    def test(self, profile: Profile) -> None:
        """Run every quality test on what the branch holds now; read the charts if it may pass."""
        self.trial.run(profile)
        if not self.trial.blocks:
            self.charts = self.work.read_charts()

    def publish(self, profile: Profile) -> Outcome:
        """Merge the branch, and write down everything that is true from then on."""
        rows = self.work.sample()
        stated = facts.state(self.work, self.trial)
        if self.heart.task is not None:
            stated["task"] = self.heart.task.to_json()
        alerts = evaluate(
            self.work,
            self.trial,
            dagster_run_id=self.step.dagster_run_id,
            facts=stated,
        )
        if alerts:
            stated["alerts"] = alerts
        commit = self.merge(stated)
        profile.rows = stated["rows_written"]
        where = f"main {commit[:12]}" if commit else "main as it was"
        self.journal.say(f"published: {where}")
        return self.outcome(commit, stated=stated, sample=rows)

    def merge(self, stated: dict[str, Any]) -> str | None:
        """Publish the branch with what is *stated* of it; main's commit, None: nothing to merge."""
        refs, metadata = self.platform.lake.refs, self.platform.metadata
        self.ending.head = tested = refs.head(self.branch)
        intent = Intent(
            hold=self.hold,
            dagster_run_id=self.step.dagster_run_id,
            branch=self.branch,
            from_hash=tested,
            expected_main=self.onto,
            facts=stated,
        )
        with self.heart.uninterrupted():
            self.heart.refuse_stop()
            faults.point("intent")
            with metadata.transaction() as tx:
                publications.intend(tx, intent)
            return publishing.publish(metadata, refs, self.run_id, hold=self.hold)

    def outcome(
        self,
        commit: str | None,
        *,
        stated: Mapping[str, Any],
        sample: Sequence[Mapping[str, Any]],
    ) -> Outcome:
        """What was published."""
        work = self.work
        return Outcome(
            run_id=self.run_id,
            branch=self.branch,
            base_commit=self.base_commit,
            commit=commit,
            data_version=stated["data_version"],
            unchanged=work.unchanged,
            rows_total=stated["rows_total"],
            written=work.written,
            table=work.table,
            sql=work.sql,
            verdicts=tuple(self.verdicts),
            journal=self.journal,
            files=tuple(f"{file.zone.name}/{file.name}" for file in work.files),
            inputs=work.inputs,
            sample=sample,
            charts=self.charts,
            lineage=work.lineage,
            rebuild=work.rebuild,
            changes=self.trial.changes,
            alerts=stand_of(work),
        )
