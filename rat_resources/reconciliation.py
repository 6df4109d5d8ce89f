"""Reconciling: finishing or undoing what a process that died left open.

A run is dead when the lease of its pipeline is no longer its own, or its process is gone. What it
intended and had not merged is undone; what it had merged is told to Dagster; where nobody knows, it
is found out (`publishing.settle`), and until then the run keeps what it claimed. It runs before each
run, as a sensor, and as `rat reconcile`; running it twice, or two at once, changes nothing more.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from rat_resources import (
    landing,
    leases,
    leftovers,
    publications,
    publishing,
    reaping,
    runs,
    tasks,
    wishes,
)
from rat_resources.errors import NotFoundError
from rat_resources.external_runs.staging import remove_left
from rat_resources.maintenance import records
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.quality import (
    QualityResult,
    QualityTest,
    Severity,
    Verdict,
)
from rat_resources.metadata.runs import (
    FINAL,
    Lease,
    Publication,
    PublicationState,
    Run,
    RunStatus,
)
from rat_resources.metadata.trace.tasks import Task, TaskStatus
from rat_resources.names import TableName, dagster_name
from rat_resources.platform import Platform
from rat_resources.reaping import DIED
from rat_resources.runs import WORKER_TAG
from rat_resources.specs import SCHEMA_CHANGE, WATCHED
from rat_resources.workers import is_dead

RUN_BRANCHES = "run-"
AT_ONCE = timedelta(0)
MARGIN = timedelta(seconds=5)


def reconcile(
    whole: Platform,
    instance: dg.DagsterInstance,
    *,
    patience: timedelta = AT_ONCE,
) -> list[str]:
    """Bring catalog, Postgres, files and Dagster to one truth; what was done, a line each.

    With *patience* it waits so long for a server to be surely done with what was sent to it; what
    takes longer stays open for the next one.
    """
    return [
        *end_dead_runs(whole, patience=patience),
        *leftovers.free_leases(whole),
        *settle_maintenance(whole, patience=patience),
        *reaping.reap(whole.metadata),
        *report_published(whole, instance),
        *drop_branches(whole),
        *remove_staging(whole),
        *remove_left(whole.staging),
        *end_dagster_runs(whole, instance),
        *leftovers.free_slots(instance),
    ]


def settle_maintenance(
    whole: Platform, *, patience: timedelta = AT_ONCE
) -> Iterator[str]:
    """Find out what became of maintenance whose process is gone, where that does not take too long."""
    with whole.metadata.transaction() as tx:
        left = records.left(tx, since=records.ABANDONED)
    if whole.lake.refs.latest_merge <= patience or whole.lake.refs.transactional:
        for row_id in left:
            yield from records.settle(whole.metadata, whole.lake.refs, row_id)


def long_enough(whole: Platform) -> timedelta:
    """The patience with which nothing stays open."""
    return whole.lake.refs.latest_merge + MARGIN


# Runs.


def end_dead_runs(whole: Platform, *, patience: timedelta = AT_ONCE) -> Iterator[str]:
    """End every run whose process is gone, and give back what it had claimed."""
    with whole.metadata.transaction() as tx:
        leases.spare(tx)
        tasks.spare(tx)
    with whole.metadata.transaction() as tx:
        dead = [run.id for run in unfinished(tx) if is_dead_run(tx, run)]
    # First all of them without waiting: then they wait at once.
    for run_id in dead:
        yield from end_dead_run(whole, run_id)
    if patience:
        for run_id in dead:
            yield from end_dead_run(whole, run_id, patience=patience)


def unfinished(tx: Session) -> list[Run]:
    """The runs that have not ended."""
    return list(
        tx.scalars(select(Run).where(Run.status.not_in(FINAL)).order_by(Run.created_at))
    )


def is_dead_run(tx: Session, run: Run) -> bool:
    """Whether nobody works on *run* any more."""
    if is_dead(run.worker):
        return True
    if run.status == RunStatus.PENDING and not is_silent(tx, run):
        return False  # it waits for its lease, in a process that is not surely dead
    lapsed = select(Task.id).where(
        Task.run_id == run.id,
        Task.status == TaskStatus.RUNNING,
        Task.lease_expires_at < func.clock_timestamp(),
    )
    held = select(Lease.fence).where(
        Lease.pipeline_id == run.pipeline_id,
        Lease.holder == run.id,
        Lease.expires_at > func.clock_timestamp(),
        ~lapsed.exists(),
    )
    return tx.scalar(held) is None


def is_silent(tx: Session, run: Run) -> bool:
    """Whether a run that waits for its lease has not said so for too long."""
    silent = select(Run.id).where(
        Run.id == run.id, Run.waits_until < func.clock_timestamp()
    )
    return tx.scalar(silent) is not None


def end_dead_run(
    whole: Platform, run_id: uuid.UUID, *, patience: timedelta = AT_ONCE
) -> Iterator[str]:
    """Undo one dead run. What it had merged is a success, and stays."""
    if is_settled(whole, run_id):
        yield from end_settled(whole, run_id)
        return
    refs, metadata = whole.lake.refs, whole.metadata
    state = publishing.settle(metadata, refs, run_id, patience=patience)
    if state in publications.DONE:
        yield f"run {run_id}: {DIED}, but had merged; published"
    elif state == PublicationState.UNDONE:
        yield from end_settled(whole, run_id)
    elif not patience:
        yield f"run {run_id}: {DIED} and may have merged; its branch is gone, main's log will tell"


def is_settled(whole: Platform, run_id: uuid.UUID) -> bool:
    """Take a dead run's right to publish; whether it surely has not, and never will."""
    with whole.metadata.transaction() as tx:
        # In the order in which a run locks them: its publication, its lease, its row.
        publication = publications.lock(tx, run_id)
        run = tx.get_one(Run, run_id)
        lease = tx.get(Lease, run.pipeline_id, with_for_update=True)
        if run.status in FINAL:
            return True
        if lease is not None and lease.holder == run_id:
            leases.revoke(tx, run.pipeline_id)
        return publication is None or publications.give_up(publication)


def end_settled(whole: Platform, run_id: uuid.UUID) -> Iterator[str]:
    """Fail a dead run that will never publish, and give back what it had claimed."""
    with whole.metadata.transaction() as tx:
        publication = publications.lock(tx, run_id)
        run = tx.get_one(Run, run_id, with_for_update=True)
        # One that was written since the run was looked at; what may be merged is the next one's.
        may_merge = publication is not None and not publications.give_up(publication)
        if may_merge or run.status in FINAL:
            return
        runs.end(tx, run_id, RunStatus.FAILED, error=DIED)
        reaping.lose(tx, run_id)
        landing.release(tx, run_id, died=True)
        wishes.give_back(tx, run_id)
    yield f"run {run_id}: {DIED}; undone"


# Dagster.


def report_published(whole: Platform, instance: dg.DagsterInstance) -> Iterator[str]:
    """Tell Dagster of publications whose process died before Dagster's log had them."""
    with whole.metadata.transaction() as tx:
        left = [
            publication.run_id
            for publication, run in publications.open_intents(tx)
            if publication.state == PublicationState.PUBLISHED
            and is_over(run, instance)
        ]
    for run_id in left:
        yield from report_one(whole, instance, run_id)


def is_over(run: Run, instance: dg.DagsterInstance) -> bool:
    """Whether the step that published will surely say no more."""
    if is_dead(run.worker):
        return True
    dagster_run = instance.get_run_by_id(run.dagster_run_id or "")
    return dagster_run is None or dagster_run.is_finished


def report_one(
    whole: Platform, instance: dg.DagsterInstance, run_id: uuid.UUID
) -> Iterator[str]:
    """Tell Dagster of one publication, unless its log has it."""
    with whole.metadata.transaction() as tx:
        publication = publications.lock(tx, run_id)
        if publication is None or publication.state != PublicationState.PUBLISHED:
            return
        table = table_of(tx, publication)
        key = dg.AssetKey([*table.key])
        told = find_materialization(instance, key, run_id=run_id)
        if told is None:
            report_materialization(tx, instance, publication, key=key)
            yield f"run {run_id}: published {table}; Dagster was told"
            told = find_materialization(instance, key, run_id=run_id)
        if told is not None:
            yield from report_checks(tx, instance, key, of=told, run_id=run_id)
        publications.close(tx, run_id)


def table_of(tx: Session, publication: Publication) -> TableName:
    """The table that was published."""
    pipeline = tx.get_one(Pipeline, publication.pipeline_id)
    return TableName(pipeline.namespace, pipeline.layer, pipeline.name)


def find_materialization(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, run_id: uuid.UUID
) -> dg.EventLogRecord | None:
    """The one of the newest materializations of *key* that is that of the run."""
    for record in instance.fetch_materializations(key, limit=20).records:
        shown = record.asset_materialization
        said = shown.metadata.get("rat_run_id") if shown else None
        if said is not None and said.value == str(run_id):
            return record
    return None


def report_materialization(
    tx: Session,
    instance: dg.DagsterInstance,
    publication: Publication,
    *,
    key: dg.AssetKey,
) -> None:
    """Report what was published as an event of no Dagster run."""
    facts = publication.facts
    run = tx.get_one(Run, publication.run_id)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            key,
            description="reported by the reconciler: the run's process died after the merge",
            metadata={
                "rat_run_id": str(publication.run_id),
                "dagster/row_count": facts["rows_total"],
                "rows_written": facts["rows_written"],
                "branch": publication.branch,
                "commit": run.commit or publication.expected_main,
            },
            tags={"dagster/data_version": facts["data_version"]},
        )
    )


def report_checks(
    tx: Session,
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    *,
    of: dg.EventLogRecord,
    run_id: uuid.UUID,
) -> Iterator[str]:
    """Report what tests said of a materialization, unless Dagster's log has it."""
    run = tx.get_one(Run, run_id)
    results = tx.execute(
        select(QualityTest, QualityResult)
        .join(QualityResult, QualityResult.test_id == QualityTest.id)
        .where(QualityResult.run_id == run_id)
        .order_by(QualityTest.name)
    )
    for test, result in results:
        name = dagster_name(test.name)
        key = dg.AssetCheckKey(asset, name)
        if not is_evaluated(instance, key, run=run):
            instance.report_runless_asset_event(evaluate(key, test, result, of=of))
            yield f"run {run_id}: check {name}; Dagster was told"
    yield from report_calm(tx, instance, asset, of=of, run=run)


def report_calm(
    tx: Session,
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    *,
    of: dg.EventLogRecord,
    run: Run,
) -> Iterator[str]:
    """Report that a run left the columns as they were, of which no row tells, where an earlier did not."""
    key = dg.AssetCheckKey(asset, SCHEMA_CHANGE)
    newest = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    )
    shown = newest[0].evaluation if newest else None
    if shown is None or shown.passed or has_result(tx, run.id):
        return
    if not is_evaluated(instance, key, run=run):
        calm = QualityResult(run_id=run.id, status=Verdict.PASSED)
        test = QualityTest(name=SCHEMA_CHANGE, severity=WATCHED.severity)
        instance.report_runless_asset_event(evaluate(key, test, calm, of=of))
        yield f"run {run.id}: check {SCHEMA_CHANGE}; Dagster was told"


def has_result(tx: Session, run_id: uuid.UUID) -> bool:
    """Whether something was said of the columns in a run."""
    said = (
        select(QualityResult.id)
        .join(QualityTest, QualityResult.test_id == QualityTest.id)
        .where(QualityResult.run_id == run_id, QualityTest.name == SCHEMA_CHANGE)
    )
    return tx.scalar(said) is not None


def is_evaluated(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, *, run: Run
) -> bool:
    """Whether one of the newest evaluations of a check is that of the run."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        key,
        limit=20,
        status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    )
    for record in history:
        shown = record.evaluation
        said = shown.metadata.get("rat_run_id") if shown else None
        if record.run_id == run.dagster_run_id or (said and said.value == str(run.id)):
            return True
    return False


def evaluate(
    key: dg.AssetCheckKey,
    test: QualityTest,
    result: QualityResult,
    *,
    of: dg.EventLogRecord,
) -> dg.AssetCheckEvaluation:
    """What a test said, as Dagster shows it of a materialization."""
    # What somebody accepted is a warning, however severe the test is.
    is_error = test.severity == Severity.ERROR and result.status != Verdict.WARNED
    metadata: dict[str, dg.MetadataValue] = {
        "rat_run_id": dg.MetadataValue.text(str(result.run_id)),
        "verdict": dg.MetadataValue.text(result.status),
    }
    if result.value is not None:
        metadata["offending_rows"] = dg.MetadataValue.int(int(result.value))
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.status == Verdict.PASSED,
        severity=dg.AssetCheckSeverity.ERROR
        if is_error
        else dg.AssetCheckSeverity.WARN,
        description="reported by the reconciler: the run's process died after the merge",
        metadata=metadata,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=of.storage_id, run_id=of.run_id, timestamp=of.timestamp
        ),
    )


def end_dagster_runs(whole: Platform, instance: dg.DagsterInstance) -> Iterator[str]:
    """End the Dagster runs whose worker died."""
    active = [
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.CANCELING,
        dg.DagsterRunStatus.NOT_STARTED,
    ]
    for run in instance.get_runs(dg.RunsFilter(statuses=active)):
        worker = run.tags.get(WORKER_TAG) or last_worker(whole, run.run_id)
        if not is_dead(worker) and not was_lost(whole, run.run_id):
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=DIED)
        else:
            instance.report_run_failed(run, message=DIED)
        yield f"Dagster run {run.run_id}: {DIED}"


def was_lost(whole: Platform, dagster_run_id: str) -> bool:
    """Whether what a Dagster run did last was ended because its worker kept no lease."""
    newest = (
        select(Run.error)
        .where(Run.dagster_run_id == dagster_run_id)
        .order_by(Run.created_at.desc())
        .limit(1)
    )
    with whole.metadata.transaction() as tx:
        return tx.scalar(newest) == DIED


def last_worker(whole: Platform, dagster_run_id: str) -> str | None:
    """The process that worked last on a Dagster run; a launched one carries no tag."""
    newest = (
        select(Run.worker)
        .where(Run.dagster_run_id == dagster_run_id)
        .order_by(Run.created_at.desc())
        .limit(1)
    )
    with whole.metadata.transaction() as tx:
        return tx.scalar(newest)


# The rest.


@dataclass(frozen=True)
class BranchOwner:
    """The run that a branch was made for."""

    run_id: uuid.UUID
    fence: int

    @classmethod
    def of(cls, branch: str) -> "BranchOwner | None":
        """The owner that a branch's name tells: `run-<run id>-<fence>`, or `….<n>` after collisions."""
        run_id, _, fence = branch.removeprefix(RUN_BRANCHES).rpartition("-")
        try:
            return cls(uuid.UUID(run_id), int(fence.partition(".")[0]))
        except ValueError:
            return None


def drop_branches(whole: Platform) -> Iterator[str]:
    """Delete the branches of runs that have ended."""
    refs = whole.lake.refs
    for reference in list(refs.references(prefix=RUN_BRANCHES)):
        owner = BranchOwner.of(reference.name)
        if owner is None or not has_ended(whole, owner):
            continue
        try:
            refs.delete(reference.name, expected_hash=reference.hash)
        except NotFoundError:
            continue  # somebody else was faster
        yield f"branch {reference.name}: dropped"


def has_ended(whole: Platform, owner: BranchOwner) -> bool:
    """Whether the run of a branch ended; a run that nobody knows never began."""
    with whole.metadata.transaction() as tx:
        run = tx.get(Run, owner.run_id)
        if run is None:
            return True
        return run.status in FINAL and not is_publishing(tx, run)


def is_publishing(tx: Session, run: Run) -> bool:
    """Whether the branch of a run may still be merged."""
    publication = tx.get(Publication, run.id)
    return publication is not None and publication.state in (
        PublicationState.INTENDED,
        PublicationState.MERGING,
    )


def remove_staging(whole: Platform) -> Iterator[str]:
    """Remove the staged files of runs that have ended."""
    if not whole.staging.is_dir():
        return
    for folder in sorted(whole.staging.iterdir()):
        run_id = as_uuid(folder.name)
        if run_id is None:
            continue  # not ours
        with whole.metadata.transaction() as tx:
            run = tx.get(Run, run_id)
        if run is None or run.status in FINAL:
            shutil.rmtree(folder, ignore_errors=True)
            yield f"staging of run {folder.name}: removed"


def as_uuid(name: str) -> uuid.UUID | None:
    """The id that *name* is, if it is one."""
    try:
        return uuid.UUID(name)
    except ValueError:
        return None


def settle_pipeline(
    whole: Platform, pipeline_id: uuid.UUID, *, say: Callable[[str], None]
) -> None:
    """Settle what dead runs of one pipeline left, before another run of it pins its inputs.

    It waits until that is done, and what it did is *said*.
    """
    with whole.metadata.transaction() as tx:
        mine = Run.pipeline_id == pipeline_id
        found = tx.scalars(select(Run).where(mine, Run.status.not_in(FINAL)))
        dead = [run.id for run in found if is_dead_run(tx, run)]
    for run_id in dead:
        for line in end_dead_run(whole, run_id, patience=long_enough(whole)):
            say(line)
