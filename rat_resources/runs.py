"""A run's row, from asked for to ended; every change of state is one guarded statement.

The states and their arrows stand in `rat_resources.metadata.runs`; publishing is
`rat_resources.publications`.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, cast, extract, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources import leases, tasks
from rat_resources.errors import CancelledError
from rat_resources.leases import Hold
from rat_resources.metadata.pipelines import PipelineVersion
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.metadata.runs import Run, RunInput, RunStatus
from rat_resources.metadata.zeros import as_json
from rat_resources.mirror import following
from rat_resources.names import TableName
from rat_resources.specs import SCHEMA_CHANGE, WATCHED
from rat_resources.tasks import Wanted
from rat_resources.workers import this_worker

NAMESPACE = uuid.UUID("6f0d5e5a-9c0e-5d2b-8a58-3f6d1f0b7a11")
# The tags of a Dagster run. A label says why a pipeline runs: manual, auto, schedule:…, trigger:…
TRIGGER_TAG = "rat/trigger"
LABELS_TAG = "rat/labels"  # JSON, where the run's pipelines have labels of their own
FULL_REFRESH_TAG = "rat/full_refresh"
ACCEPT_TAG = "rat/accept_changes"  # who lets this run's changes pass the guards
REPEATS_TAG = "dagster/parent_run_id"  # the run that Dagster does again
ONLY_CHANGED_TAG = "rat/only_changed"
RELEASE_TAG = "rat/release"
WORKER_TAG = "rat/worker"  # the process that executes it

# For how long a run that waits for its lease is believed without saying so again.
PATIENCE = 2 * leases.LIFETIME

STOPPED = ("CANCELING", "CANCELED", "FAILURE")


@dataclass(frozen=True)
class Pin:
    """The very snapshot of a table that a run reads."""

    table: TableName
    metadata_location: str
    snapshot_id: int | None


def run_id_of(dagster_run_id: str, table: TableName, *, attempt: int) -> uuid.UUID:
    """The id of a run, the same whoever computes it and whenever."""
    return uuid.uuid5(NAMESPACE, f"{dagster_run_id}/{table}/{attempt}")


def ask(tx: Session, run_id: uuid.UUID, **facts: Any) -> Wanted | None:  # noqa: ANN401 - the columns of rat.runs
    """Write that a run was asked for; asking twice is asking once. Its task waits for it."""
    row = insert(Run).values(
        id=run_id, worker=this_worker(), waits_until=leases.clock() + PATIENCE, **facts
    )
    tx.execute(row.on_conflict_do_nothing())
    wanted = tasks.want(tx, run_id)
    following.follow_runs(tx, [run_id])
    return wanted


def keep_waiting(tx: Session, run_id: uuid.UUID) -> None:
    """Say that a run still waits for its lease, for whoever cannot see its process."""
    mine = (Run.id == run_id, Run.status == RunStatus.PENDING)
    tx.execute(update(Run).where(*mine).values(waits_until=leases.clock() + PATIENCE))


def begin(
    tx: Session, hold: Hold, *, branch: str, base_commit: str, started_at: datetime
) -> None:
    """pending → running, on a branch."""
    leases.keep(tx, hold)
    refuse_abandoned(tx, hold.run_id)
    move(
        tx,
        hold.run_id,
        allowed=(RunStatus.PENDING,),
        status=RunStatus.RUNNING,
        started_at=started_at,
        branch=branch,
        base_commit=base_commit,
        fence=hold.fence,
    )


def change_branch(tx: Session, hold: Hold, *, branch: str) -> None:
    """Go on with a run on another branch, on top of what main has become; its inputs stay."""
    leases.keep(tx, hold)
    note(tx, hold.run_id, branch=branch)


def pin(tx: Session, run_id: uuid.UUID, pins: Sequence[Pin]) -> None:
    """Write down which snapshots a run reads."""
    rows = [
        {
            "run_id": run_id,
            "namespace": each.table.namespace,
            "layer": each.table.layer,
            "name": each.table.name,
            "metadata_location": each.metadata_location,
            "snapshot_id": each.snapshot_id,
        }
        for each in pins
    ]
    if rows:
        tx.execute(insert(RunInput).values(rows).on_conflict_do_nothing())


def end(tx: Session, run_id: uuid.UUID, status: RunStatus, **facts: Any) -> bool:  # noqa: ANN401 - the columns of rat.runs
    """End a run that has not ended; whether it was this call that ended it."""
    ended = func.clock_timestamp()
    elapsed = extract("epoch", ended - Run.started_at) * 1000
    return move(
        tx,
        run_id,
        allowed=(RunStatus.PENDING, RunStatus.RUNNING),
        status=status,
        finished_at=ended,
        duration_ms=cast(func.coalesce(elapsed, 0), Integer),
        **facts,
    )


def move(
    tx: Session,
    run_id: uuid.UUID,
    *,
    allowed: Sequence[RunStatus],
    **values: Any,  # noqa: ANN401 - the columns of rat.runs
) -> bool:
    """Change a run that is in one of the *allowed* states; whether it was."""
    changed = tx.execute(
        update(Run)
        .where(Run.id == run_id, Run.status.in_(allowed))
        .values(**values)
        .returning(Run.id)
    )
    if changed.scalar() is None:
        return False
    following.follow_runs(tx, [run_id])
    return True


def note(tx: Session, run_id: uuid.UUID, **facts: Any) -> None:  # noqa: ANN401 - the columns of rat.runs
    """Add facts to a run whatever its state: its log, its profile."""
    tx.execute(update(Run).where(Run.id == run_id).values(**facts))


def set_out(tx: Session, run_id: uuid.UUID, **settings: Any) -> None:  # noqa: ANN401 - JSON
    """Add to what a run was asked for what it found out that it has to do."""
    tx.execute(SET_OUT, {"run_id": run_id, "added": as_json(settings)})


SET_OUT = text("""
    UPDATE rat.runs
    SET settings = settings || CAST(:added AS jsonb)
    WHERE id = :run_id
""")


def record_results(
    tx: Session,
    run_id: uuid.UUID,
    *,
    pipeline_id: uuid.UUID,
    results: Sequence[Mapping[str, Any]],
) -> None:
    """Write what every test said in a run; the same result twice is one row."""
    if not results:
        return
    named = tx.execute(
        select(QualityTest.name, QualityTest.id).where(
            QualityTest.pipeline_id == pipeline_id
        )
    )
    tests = {name: test_id for name, test_id in named}
    if any(each["name"] == SCHEMA_CHANGE for each in results):
        tests[SCHEMA_CHANGE] = tests.get(SCHEMA_CHANGE) or watch(tx, pipeline_id)
    rows = [
        {"test_id": tests[each["name"]], "run_id": run_id}
        | {key: value for key, value in each.items() if key != "name"}
        for each in results
        if each["name"] in tests
    ]
    if rows:
        tx.execute(insert(QualityResult).values(rows).on_conflict_do_nothing())


def watch(tx: Session, pipeline_id: uuid.UUID) -> uuid.UUID:
    """The test that nobody declared: its row is made when it first has something to say."""
    test = QualityTest(
        pipeline_id=pipeline_id,
        name=WATCHED.name,
        description=WATCHED.description,
        severity=WATCHED.severity,
    )
    tx.add(test)
    tx.flush()
    return test.id


def stopped_by(tx: Session, dagster_run_id: str, *, lock: bool = False) -> str | None:
    """Why Dagster wants a run to stop (its status), or None while it may go on.

    With *lock* nobody can cancel the run before the transaction ends.
    """
    statement = "SELECT status FROM dagster.runs WHERE run_id = :run"
    status = tx.execute(
        text(f"{statement} FOR SHARE" if lock else statement), {"run": dagster_run_id}
    ).scalar()
    return str(status) if status in STOPPED else None


def refuse_stopped(tx: Session, dagster_run_id: str) -> None:
    """CancelledError when Dagster's run is no longer wanted; else it stays wanted until the commit."""
    status = stopped_by(tx, dagster_run_id, lock=True)
    if status is not None:
        message = f"Dagster's run is {status}"
        raise CancelledError(message)


def refuse_abandoned(tx: Session, run_id: uuid.UUID) -> None:
    """CancelledError when what a run was launched with was rolled back since.

    The version stays as it is until the commit: a rollback waits for it.
    """
    of_run = select(Run.version_id).where(Run.id == run_id).scalar_subquery()
    version = tx.execute(
        select(PipelineVersion.release_number, PipelineVersion.abandoned_by)
        .where(PipelineVersion.id == of_run)
        .with_for_update(read=True)
    ).one_or_none()
    if version is not None and version.abandoned_by is not None:
        message = (
            f"its code is of release {version.release_number},"
            f" which release {version.abandoned_by} rolled back"
        )
        raise CancelledError(message)


def database_time(tx: Session) -> datetime:
    """The database's clock."""
    now: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
    return now
