"""Reaping: tasks whose worker is gone are tried again, or have failed for good.

A lost task with attempts left waits as the documents say, is then queued as its next attempt, and
in the same transaction its pipeline is wished to run: whichever run comes takes it up. That a run
itself is dead is found by `reconciliation`, which ends its task in the same transaction.
"""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources import tasks, wishes
from rat_resources.leases import LIFETIME
from rat_resources.metadata import Metadata
from rat_resources.workers import is_dead

AT_ONCE = 50
DIED = "the process that ran it died"


def reap(metadata: Metadata) -> Iterator[str]:
    """Fail what lost its lease, queue what is due again, cancel what nobody waits for; a line each."""
    yield from in_batches(metadata, reap_lapsed)
    yield from in_batches(metadata, queue_due)
    yield from in_batches(metadata, cancel_forgotten)


def in_batches(metadata: Metadata, step: Any) -> Iterator[str]:  # noqa: ANN401
    """Do *step* in transactions of its own until it finds nothing more."""
    while True:
        with metadata.transaction() as tx:
            done = step(tx)
        yield from done
        if len(done) < AT_ONCE:
            return


# Lost.


def lose(tx: Session, run_id: uuid.UUID) -> None:
    """The worker of a run is gone: its task failed, and is tried again if it has attempts left."""
    for task in tx.execute(LOST_WITH_RUN, {"run_id": run_id}):
        lose_task(tx, task)


def reap_lapsed(tx: Session) -> list[str]:
    """Fail a batch of tasks whose lease lapsed and whose run goes on nowhere."""
    lapsed = tx.execute(LAPSED, {"at_once": AT_ONCE}).all()
    for task in lapsed:
        lose_task(tx, task)
    return [f"task {task.id}: {DIED}" for task in lapsed]


def lose_task(tx: Session, task: Row[Any]) -> None:
    """Running → Failed, without a worker; with attempts left it is tried again after a while."""
    tx.execute(LOSE, {"id": task.id, "error": DIED, "again_in": again_in(task)})


def again_in(task: Row[Any]) -> timedelta | None:
    """When a task that failed is tried again; None when it has no attempts left."""
    if task.attempt >= task.max_attempts:
        return None
    return tasks.pause(task.attempt, configured=task.configured)


TASKS = """
    SELECT
        task.id,
        task.attempt,
        job.max_attempts,
        (version.spec -> 'config' ->> 'retry_delay_seconds')::integer AS configured
    FROM trace.tasks AS task
    JOIN trace.jobs AS job ON job.id = task.job_id
    LEFT JOIN rat.runs AS run ON run.id = task.run_id
    LEFT JOIN rat.pipeline_versions AS version ON version.id = run.version_id
"""
LOST_WITH_RUN = text(f"""
    {TASKS}
    WHERE task.run_id = :run_id AND task.status IN ('Queued', 'Running')
    FOR UPDATE OF task
""")
# A run that has not ended is ended with its task, by whoever finds that it is dead.
LAPSED = text(f"""
    {TASKS}
    WHERE task.status = 'Running' AND task.lease_expires_at < clock_timestamp()
        AND coalesce(run.status, '') NOT IN ('pending', 'running')
    ORDER BY task.lease_expires_at
    LIMIT :at_once
    FOR UPDATE OF task SKIP LOCKED
""")
LOSE = text("""
    UPDATE trace.tasks
    SET status = 'Failed',
        error_message = :error,
        next_retry_at = clock_timestamp() + CAST(:again_in AS interval),
        worker_id = NULL,
        lease_token = NULL,
        lease_expires_at = NULL,
        completed_at = clock_timestamp()
    WHERE id = :id
""")


# Due.


def queue_due(tx: Session) -> list[str]:
    """Queue a batch of tasks whose pause is over, each with a wish that its pipeline runs."""
    due = tx.execute(DUE, {"at_once": AT_ONCE, "grace": LIFETIME}).all()
    return [queue(tx, task) for task in due if task.overdue or is_dead(task.worker_id)]


def queue(tx: Session, task: Row[Any]) -> str:
    """Failed → Queued as the next attempt, and wish for it; what nobody wants is cancelled."""
    if task.cancelled or not task.stands:
        reason = (
            "its run was cancelled"
            if task.cancelled
            else "its pipeline was published anew"
        )
        tx.execute(ABANDON, {"id": task.id, "reason": reason})
        return f"task {task.id}: cancelled, {reason}"
    tx.execute(QUEUE, {"id": task.id})
    wishes.wish(
        tx,
        task.pipeline_id,
        label=task.trigger,
        reason=f"task:{task.id}:{task.attempt + 1}",
    )
    return f"task {task.id}: queued for attempt {task.attempt + 1}"


# A run that waits in its own process queues the task itself, at once when it is due.
DUE = text("""
    SELECT
        task.id,
        task.attempt,
        task.worker_id,
        task.worker_id IS NULL
            OR task.next_retry_at < clock_timestamp() - CAST(:grace AS interval) AS overdue,
        run.id IS NOT NULL AND same.id IS NOT NULL AS stands,
        coalesce(dagster_run.status, '') LIKE 'CANCEL%' AS cancelled,
        run.pipeline_id,
        run.trigger
    FROM trace.tasks AS task
    JOIN trace.jobs AS job ON job.id = task.job_id
    -- The same definition, whatever else was published since.
    LEFT JOIN trace.jobs AS same
        ON same.active
        AND (same.org_id, same.dag_name, same.name, same.config_hash)
            = (job.org_id, job.dag_name, job.name, job.config_hash)
    LEFT JOIN rat.runs AS run ON run.id = task.run_id
    LEFT JOIN dagster.runs AS dagster_run ON dagster_run.run_id = task.dagster_run_id
    WHERE task.status = 'Failed' AND task.next_retry_at <= clock_timestamp()
    ORDER BY task.next_retry_at
    LIMIT :at_once
    FOR UPDATE OF task SKIP LOCKED
""")
QUEUE = text("""
    UPDATE trace.tasks
    SET status = 'Queued', attempt = attempt + 1, attempts = attempt, next_retry_at = NULL,
        completed_at = NULL, worker_id = NULL
    WHERE id = :id
""")
ABANDON = text("""
    UPDATE trace.tasks
    SET status = 'Canceled', next_retry_at = NULL,
        error_message = :reason
    WHERE id = :id
""")


# Forgotten.


def cancel_forgotten(tx: Session) -> list[str]:
    """Cancel a batch of queued tasks that no run and no wish will come to."""
    forgotten = tx.scalars(FORGOTTEN, {"at_once": AT_ONCE}).all()
    if not forgotten:
        return []
    # By a statement of its own, which sees what was asked for until they were locked.
    cancelled = tx.scalars(CANCEL, {"ids": list(forgotten), "reason": OVER}).all()
    return [f"task {task_id}: cancelled, {OVER}" for task_id in cancelled]


OVER = "the run that was wished for it is over"
LIVING = """
    SELECT FROM rat.runs AS run
    WHERE run.id = task.run_id AND run.status IN ('pending', 'running')
"""
# A run that was asked for before its wish came takes the wish, and not the task.
FORGOTTEN = text(f"""
    SELECT id FROM trace.tasks AS task
    WHERE status = 'Queued'
        AND run_id IS NOT NULL -- what waits in Dagster's queue is told by its log
        AND NOT EXISTS ({LIVING})
        AND NOT EXISTS (
            SELECT FROM rat.wishes AS wish
            WHERE wish.state <> 'done'
                AND wish.reason = 'task:' || task.id || ':' || task.attempt
        )
    ORDER BY created_at
    LIMIT :at_once
    FOR UPDATE SKIP LOCKED
""")
CANCEL = text(f"""
    UPDATE trace.tasks AS task
    SET status = 'Canceled', completed_at = clock_timestamp(), error_message = :reason
    WHERE id = ANY(:ids) AND NOT EXISTS ({LIVING})
    RETURNING id
""")
