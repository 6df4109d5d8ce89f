"""Reconciling: finishing or undoing what a process that died left open.

A run is dead when the lease of its pipeline is no longer its own, or its process is gone. What it
intended and had not merged is undone; what it had merged is told to Dagster. It runs before each
run, as a sensor, and as `rat reconcile`; running it twice, or two at once, changes nothing more.
"""

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from rat_resources import landing, leases, publications, reaping, runs, wishes
from rat_resources.errors import NotFoundError
from rat_resources.external_runs.staging import remove_left
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.quality import QualityResult, QualityTest, Verdict
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
from rat_resources.workers import is_dead

RUN_BRANCHES = "run-"


def reconcile(whole: Platform, instance: dg.DagsterInstance) -> list[str]:
    """Bring catalog, Postgres, files and Dagster to one truth; what was done, a line each."""
    return [
        *end_dead_runs(whole),
        *reaping.reap(whole.metadata),
        *report_published(whole, instance),
        *drop_branches(whole),
        *remove_staging(whole),
        *remove_left(whole.staging),
        *end_dagster_runs(whole, instance),
    ]


# Runs.


def end_dead_runs(whole: Platform) -> Iterator[str]:
    """End every run whose process is gone, and give back what it had claimed."""
    with whole.metadata.transaction() as tx:
        dead = [run.id for run in unfinished(tx) if is_dead_run(tx, run)]
    for run_id in dead:
        yield from end_dead_run(whole, run_id)


def unfinished(tx: Session) -> list[Run]:
    """The runs that have not ended."""
    return list(
        tx.scalars(select(Run).where(Run.status.not_in(FINAL)).order_by(Run.created_at))
    )


def is_dead_run(tx: Session, run: Run) -> bool:
    """Whether nobody works on *run* any more."""
    if is_dead(run.worker):
        return True
    if run.status == RunStatus.PENDING:
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


def end_dead_run(whole: Platform, run_id: uuid.UUID) -> Iterator[str]:
    """Undo one dead run. What it had merged is a success, and stays."""
    with whole.metadata.transaction() as tx:
        # In the order in which a run locks them: its publication, its lease, its row.
        publication = publications.lock(tx, run_id)
        pipeline_id = tx.get_one(Run, run_id).pipeline_id
        lease = tx.get(Lease, pipeline_id, with_for_update=True)
        run = tx.get_one(Run, run_id, with_for_update=True, populate_existing=True)
        if run.status in FINAL:
            return
        if lease is not None and lease.holder == run_id:
            leases.revoke(tx, run.pipeline_id)
        if publication is not None:
            publications.undo(tx, run_id)
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
        if not stands_in_log(instance, key, run_id=run_id):
            report_runless(tx, instance, publication, key=key)
            yield f"run {run_id}: published {table}; Dagster was told"
        publications.close(tx, run_id)


def table_of(tx: Session, publication: Publication) -> TableName:
    """The table that was published."""
    pipeline = tx.get_one(Pipeline, publication.pipeline_id)
    return TableName(pipeline.namespace, pipeline.layer, pipeline.name)


def stands_in_log(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, run_id: uuid.UUID
) -> bool:
    """Whether one of the newest materializations of *key* is that of the run."""
    for record in instance.fetch_materializations(key, limit=20).records:
        shown = record.asset_materialization
        said = shown.metadata.get("rat_run_id") if shown else None
        if said is not None and said.value == str(run_id):
            return True
    return False


def report_runless(
    tx: Session,
    instance: dg.DagsterInstance,
    publication: Publication,
    *,
    key: dg.AssetKey,
) -> None:
    """Report a publication and its tests as events of no Dagster run."""
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
    results = tx.execute(
        select(QualityTest.name, QualityTest.severity, QualityResult.status)
        .join(QualityResult, QualityResult.test_id == QualityTest.id)
        .where(QualityResult.run_id == publication.run_id)
    )
    for name, severity, status in results:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=dagster_name(name),
                passed=status == Verdict.PASSED,
                severity=dg.AssetCheckSeverity(severity.upper()),
            )
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
        """The owner that a branch's name tells: `run-<run id>-<fence>`."""
        run_id, _, fence = branch.removeprefix(RUN_BRANCHES).rpartition("-")
        try:
            return cls(uuid.UUID(run_id), int(fence))
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
    return publication is not None and publication.state == PublicationState.INTENDED


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


def settle_pipeline(whole: Platform, pipeline_id: uuid.UUID) -> None:
    """Undo what dead runs of one pipeline left, before another run of it pins its inputs."""
    with whole.metadata.transaction() as tx:
        mine = Run.pipeline_id == pipeline_id
        found = tx.scalars(select(Run).where(mine, Run.status.not_in(FINAL)))
        dead = [run.id for run in found if is_dead_run(tx, run)]
    for run_id in dead:
        list(end_dead_run(whole, run_id))
