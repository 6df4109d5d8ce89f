"""Tasks: the steps of runs as Trace tells them, from being wanted to their end.

A task is one table in one Dagster run, and all attempts at it share its row. Every change is one
guarded statement in the transaction that changes the run's own row: whoever is late, or no longer
holds the lease, changes nothing. The states and their arrows stand in `metadata.trace.tasks`;
what became of tasks whose worker is gone is `reaping`.
"""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.errors import CancelledError, LeaseLostError
from rat_resources.leases import COME_BACK, LIFETIME
from rat_resources.metadata.zeros import as_json
from rat_resources.mirror.definitions import Definition
from rat_resources.mirror.ids import trace_id
from rat_resources.workers import this_worker

AGAIN = 100  # what Dagster's own retries add to the number of an attempt
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=10)
JITTER = (0.5, 1.5)


@dataclass(frozen=True)
class Wanted:
    """A task that waits for the run that was asked for."""

    id: uuid.UUID
    attempt: int
    full_refresh: bool = False  # what it goes on with was asked to begin anew


@dataclass(frozen=True)
class Claim:
    """A task that is ours until its lease lapses."""

    id: uuid.UUID
    attempt: int
    token: uuid.UUID

    def to_json(self) -> dict[str, Any]:
        """A document that `from_json` reads back."""
        return {
            "id": str(self.id),
            "attempt": self.attempt,
            "lease_token": str(self.token),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Claim":
        """The claim that a document holds."""
        return cls(
            uuid.UUID(document["id"]),
            document["attempt"],
            uuid.UUID(document["lease_token"]),
        )


def pause_after(failures: int) -> timedelta:
    """How long to wait after that many failures, before chance makes it longer or shorter."""
    doubled: int = 2 ** min(failures - 1, 10)
    return min(LONGEST_PAUSE, FIRST_PAUSE * doubled)


def pause(failures: int, *, configured: int | None) -> timedelta:
    """How long to wait: as many seconds as are configured, else longer with each failure.

    Chance makes it longer or shorter, so that not all that failed together come back together.
    """
    if configured is not None:
        return timedelta(seconds=configured)
    return pause_after(failures) * random.uniform(*JITTER)  # noqa: S311 - no secret


# Wanted.


def want(tx: Session, run_id: uuid.UUID) -> Wanted | None:
    """Let the task of a run wait for it; None where Trace does not know the pipeline.

    The first attempt makes the task, or goes on with one that lost its worker; a later one queues
    it again, or after a conflict goes on with it. Wanting it twice is wanting it once. CancelledError
    when it ended, or another run goes on with it: without its task a run would publish unseen.
    """
    step = tx.execute(STEP, {"run_id": run_id}).one_or_none()
    if step is None:
        return None
    own = trace_id("task", step.dagster_run_id, f"{step.namespace}.{step.job}")
    if step.lost and step.attempt == 1:  # a later one has its own task to go on with
        taken = take_up(tx, run_id, step, own=own)
        if taken is not None:
            return taken
    if step.attempt % AGAIN == 1 and step.attempt > AGAIN:
        # Dagster itself does again what had failed for good.
        tx.execute(text("SELECT set_config('rat.retry', 'on', true)"))
    wanted = {
        "id": step.task or own,
        "job_id": job_of_old(tx, step, run_id=run_id) if step.spec else step.job_id,
        "run_id": run_id,
        "dagster_run_id": step.dagster_run_id,
        "invalidation_id": step.invalidation_id,
    }
    row = tx.execute(QUEUE, wanted).one_or_none()
    if row is None:
        raise not_to_be_had(tx, wanted["id"])
    return Wanted(row.id, row.attempt)


def job_of_old(tx: Session, step: Row[Any], *, run_id: uuid.UUID) -> uuid.UUID:
    """The job of a run of a release that is no longer current: the newest of the same definition.

    The run remembers it, since a later publish may make another one the newest.
    """
    definition = Definition.from_spec(step.spec)
    found = tx.scalar(
        JOB_OF_OLD,
        {
            "dag": definition.dag,
            "name": definition.name,
            "hash": definition.config_hash,
        },
    )
    job: uuid.UUID = found or step.job_id
    tx.execute(REMEMBER_JOB, {"run_id": run_id, "job": str(job)})
    return job


JOB_OF_OLD = text("""
    SELECT id FROM trace.jobs
    WHERE dag_name = :dag AND name = :name AND config_hash = :hash
    ORDER BY active DESC, created_at DESC
    LIMIT 1
""")
REMEMBER_JOB = text("""
    UPDATE rat.runs
    SET settings = settings || jsonb_build_object('job', CAST(:job AS text))
    WHERE id = :run_id
""")

# What a run is of, and the tasks of its pipeline that lost their worker and are to be tried again.
STEP = text("""
    SELECT
        run.dagster_run_id,
        run.attempt,
        pipeline.namespace,
        job.name AS job,
        job.id AS job_id,
        (first.settings ->> 'task')::uuid AS task,
        invalidation.id AS invalidation_id,
        CASE WHEN (run.settings ->> 'release')::integer <> current.release_number
            THEN version.spec
        END AS spec,
        ARRAY(
            SELECT lost.id
            FROM trace.tasks AS lost
            JOIN trace.jobs AS same ON same.id = lost.job_id
            WHERE (same.org_id, same.dag_name, same.name, same.config_hash)
                    = (job.org_id, job.dag_name, job.name, job.config_hash)
                AND lost.worker_id IS NULL
                AND (
                    lost.status = 'Queued' AND lost.attempt > 1
                    OR lost.status = 'Failed' AND lost.next_retry_at IS NOT NULL
                )
                AND lost.dagster_run_id <> run.dagster_run_id
                AND NOT EXISTS (
                    SELECT FROM rat.runs AS living
                    WHERE living.id = lost.run_id AND living.status IN ('pending', 'running')
                )
            ORDER BY lost.created_at DESC
        ) AS lost
    FROM rat.runs AS run
    JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    JOIN trace.jobs AS job
        ON job.active
        AND job.dag_name = pipeline.namespace
        AND job.name = pipeline.layer || '.' || pipeline.name
    LEFT JOIN LATERAL (
        SELECT other.settings
        FROM rat.runs AS other
        WHERE other.dagster_run_id = run.dagster_run_id
            AND other.pipeline_id = run.pipeline_id
            AND other.settings ? 'task'
        LIMIT 1
    ) AS first ON true
    LEFT JOIN rat.pipeline_versions AS version ON version.id = run.version_id
    LEFT JOIN rat.current_release AS current ON true
    LEFT JOIN trace.data_invalidations AS invalidation
        ON 'invalidation:' || invalidation.id = run.trigger
    WHERE run.id = :run_id AND run.dagster_run_id IS NOT NULL
""")

# A failure queues the task anew; a conflict does not: nothing failed, main only moved on. One without
# a run waited for the step since Dagster queued it (`mirror.queue`); if it ended so, it stays ended.
QUEUE = text("""
    INSERT INTO trace.tasks AS task (id, job_id, run_id, dagster_run_id, invalidation_id)
    VALUES (:id, :job_id, :run_id, :dagster_run_id, :invalidation_id)
    ON CONFLICT (id) DO UPDATE SET
        job_id = CASE WHEN task.run_id IS NULL THEN EXCLUDED.job_id ELSE task.job_id END,
        invalidation_id = coalesce(task.invalidation_id, EXCLUDED.invalidation_id),
        status = CASE
            WHEN task.status = 'Failed' AND task.run_id IS NOT NULL THEN 'Queued'
            ELSE task.status
        END,
        attempt = task.attempt + (task.status = 'Failed' AND task.run_id IS NOT NULL)::integer,
        -- One that failed before it was claimed was an attempt too.
        attempts = CASE
            WHEN task.status = 'Failed' AND task.run_id IS NOT NULL THEN task.attempt
            ELSE task.attempts
        END,
        next_retry_at = NULL,
        completed_at = CASE WHEN task.run_id IS NULL THEN task.completed_at END,
        run_id = EXCLUDED.run_id
    WHERE task.run_id IS NULL
        OR task.run_id = EXCLUDED.run_id
        OR task.dagster_run_id = EXCLUDED.dagster_run_id AND (
            task.status = 'Running'
            -- The reaper queued it before its own process came to it.
            OR task.status = 'Queued' AND task.worker_id IS NULL
        )
        OR task.status = 'Failed' AND (task.next_retry_at IS NOT NULL OR trace.is_admin_retry())
    RETURNING task.id, task.attempt
""")


def take_up(
    tx: Session, run_id: uuid.UUID, step: Row[Any], *, own: uuid.UUID
) -> Wanted | None:
    """Go on with the newest of the tasks that lost their worker; one run does for all of them.

    For the task that waited for this very step as well.
    """
    newest, *others = step.lost
    row = tx.execute(
        TAKE_UP,
        {
            "id": newest,
            "job_id": step.job_id,
            "run_id": run_id,
            "dagster_run_id": step.dagster_run_id,
        },
    ).one_or_none()
    if row is None:
        return None  # somebody else was faster
    tx.execute(CANCEL_OTHERS, {"ids": others, "own": own, "id": str(newest)})
    return Wanted(row.id, row.attempt, full_refresh=row.full_refresh)


TAKE_UP = text("""
    WITH taken AS (
        UPDATE trace.tasks AS task
        SET
            status = 'Queued',
            attempt = attempt + (status = 'Failed')::integer,
            attempts = CASE status WHEN 'Failed' THEN attempt ELSE attempts END,
            next_retry_at = NULL,
            completed_at = NULL,
            job_id = :job_id,
            dedupe_key = CASE WHEN job_id = :job_id THEN dedupe_key END,
            run_id = :run_id,
            dagster_run_id = :dagster_run_id
        FROM (
            SELECT id, run_id FROM trace.tasks
            WHERE id = :id AND worker_id IS NULL
                AND (status = 'Queued' OR status = 'Failed' AND next_retry_at IS NOT NULL)
            FOR UPDATE SKIP LOCKED
        ) AS lost
        WHERE task.id = lost.id
        RETURNING task.id, task.attempt, task.job_id, lost.run_id AS before
    )
    UPDATE rat.runs AS run
    SET
        settings = run.settings || jsonb_build_object('task', taken.id, 'job', taken.job_id),
        full_refresh = run.full_refresh OR coalesce(before.full_refresh, false)
    FROM taken LEFT JOIN rat.runs AS before ON before.id = taken.before
    WHERE run.id = :run_id
    RETURNING taken.id, taken.attempt, run.full_refresh
""")

CANCEL_OTHERS = text("""
    UPDATE trace.tasks
    SET status = 'Canceled', next_retry_at = NULL, completed_at = clock_timestamp(),
        error_message = 'task ' || :id || ' does its work'
    WHERE id = ANY(:ids) AND worker_id IS NULL AND status IN ('Queued', 'Failed')
        OR id = :own AND run_id IS NULL AND status = 'Queued'
""")


# Ours.


def claim(tx: Session, wanted: Wanted, *, run_id: uuid.UUID, worker: str = "") -> Claim:
    """Queued → Running under a lease: of many who try, one has it, and the others a CancelledError."""
    worker = worker or this_worker()
    row = tx.execute(
        CLAIM,
        {
            "id": wanted.id,
            "attempt": wanted.attempt,
            "run_id": run_id,
            "worker": worker,
            "lifetime": LIFETIME,
        },
    ).one_or_none()
    if row is not None:
        return Claim(row.id, row.attempt, row.lease_token)
    raise not_to_be_had(tx, wanted.id)


# The very worker whose run met a conflict goes on under the lease that it has, however long it
# waited meanwhile: who else may have it goes by the state, which the reaper would have changed.
CLAIM = text("""
    UPDATE trace.tasks AS task
    SET
        status = 'Running',
        attempts = attempt,
        worker_id = :worker,
        lease_token = coalesce(lease_token, gen_random_uuid()),
        lease_expires_at = clock_timestamp() + :lifetime,
        started_at = CASE status WHEN 'Queued' THEN clock_timestamp() ELSE started_at END,
        last_heartbeat = clock_timestamp(),
        error_message = NULL,
        dedupe_key = coalesce(dedupe_key, (
            SELECT news.key
            FROM (
                SELECT CASE WHEN length(string_agg(reason, ' + ')) < 500
                    THEN string_agg(reason, ' + ' ORDER BY reason)
                    ELSE 'sha256:' || encode(sha256(convert_to(
                        string_agg(reason, ' + ' ORDER BY reason), 'UTF8'
                    )), 'hex')
                END AS key
                FROM rat.wishes
                WHERE run_id = :run_id AND state = 'taken' AND reason NOT LIKE 'task:%'
            ) AS news
            -- A wish may come back whose task has failed for good.
            WHERE NOT EXISTS (
                SELECT FROM trace.tasks AS other
                WHERE other.job_id = task.job_id AND other.dedupe_key = news.key
            )
        ))
    WHERE id = :id AND attempt = :attempt AND run_id = :run_id
        AND (
            status = 'Queued'
            OR status = 'Running' AND worker_id = :worker
        )
    RETURNING id, attempt, lease_token
""")


def not_to_be_had(tx: Session, task_id: uuid.UUID) -> CancelledError:
    """What stops a run whose task is another's, or has ended."""
    return CancelledError(
        f"the task {task_id} is not to be had: {refusal(tx, task_id)}"
    )


def refusal(tx: Session, task_id: uuid.UUID) -> str:
    """Why a task cannot be claimed: AlreadyRunning, Completed, Canceled, Failed or NotFound."""
    status = tx.scalar(
        text("SELECT status FROM trace.tasks WHERE id = :id"), {"id": task_id}
    )
    if status is None:
        return "NotFound"
    return "AlreadyRunning" if status in ("Queued", "Running") else str(status)


def beat(tx: Session, mine: Claim) -> None:
    """Keep the lease of a task; LeaseLostError once somebody else ended it, or took it over.

    One that lapsed while Postgres was gone or the machine slept is ours until somebody does.
    """
    kept = tx.execute(
        text("""
            UPDATE trace.tasks
            SET last_heartbeat = clock_timestamp(),
                lease_expires_at = clock_timestamp() + :lifetime
            WHERE id = :id AND attempt = :attempt AND lease_token = :token
                AND status = 'Running'
            RETURNING id
        """),
        {**fence(mine), "lifetime": LIFETIME},
    )
    if kept.scalar() is None:
        raise LeaseLostError


def spare(tx: Session) -> None:
    """Let no task's lease have lapsed merely because Postgres was gone, as `leases.spare`."""
    tx.execute(
        text("""
            UPDATE trace.tasks
            SET lease_expires_at = pg_postmaster_start_time() + :come_back
            WHERE status = 'Running' AND last_heartbeat < pg_postmaster_start_time()
                AND lease_expires_at < pg_postmaster_start_time() + :come_back
        """),
        {"come_back": COME_BACK},
    )


def keep(tx: Session, mine: Claim) -> None:
    """Lock a task until the transaction ends; LeaseLostError when it is no longer ours."""
    locked = tx.execute(
        text("""
            SELECT id FROM trace.tasks
            WHERE id = :id AND attempt = :attempt AND lease_token = :token
                AND status = 'Running'
            FOR UPDATE
        """),
        fence(mine),
    )
    if locked.scalar() is None:
        raise LeaseLostError


def fence(mine: Claim) -> dict[str, Any]:
    """What tells a claim from every other one."""
    return {"id": mine.id, "attempt": mine.attempt, "token": mine.token}


# Ended.

ENDED = """
        lease_token = NULL,
        lease_expires_at = NULL,
        completed_at = clock_timestamp()
    WHERE id = :id AND attempt = :attempt AND lease_token = :token AND status = 'Running'
    RETURNING id
"""


def complete(
    tx: Session,
    mine: Claim,
    *,
    outputs: Mapping[str, Any],
    partitions: list[str] | None,
    input_versions: Mapping[str, Any],
) -> None:
    """Running → Completed; LeaseLostError when it is no longer ours, and then nothing changes."""
    done = tx.execute(
        text(f"""
            UPDATE trace.tasks
            SET status = 'Completed',
                outputs = CAST(:outputs AS jsonb),
                partitions = :partitions,
                input_versions = CAST(:input_versions AS jsonb),
                {ENDED}
        """),
        {
            **fence(mine),
            "outputs": as_json(outputs),
            "partitions": partitions,
            "input_versions": as_json(input_versions),
        },
    )
    if done.scalar() is None:
        raise LeaseLostError


def fail(
    tx: Session, run_id: uuid.UUID, *, error: str, again_in: timedelta | None
) -> None:
    """The attempt of a run failed; it is tried again after a while, or never."""
    end(tx, run_id, status="Failed", error=error, again_in=again_in)


def cancel(tx: Session, run_id: uuid.UUID, *, reason: str) -> None:
    """The attempt of a run is not wanted any more."""
    end(tx, run_id, status="Canceled", error=reason, again_in=None)


def end(
    tx: Session,
    run_id: uuid.UUID,
    *,
    status: str,
    error: str,
    again_in: timedelta | None,
) -> None:
    """End the task of a run without a publication, as long as the run is its newest attempt.

    The caller has just ended the run itself, and whoever does that is the only one who does.
    """
    tx.execute(
        text("""
            UPDATE trace.tasks
            SET status = :status,
                error_message = :error,
                next_retry_at = this.moment + CAST(:again_in AS interval),
                -- Who has none has lost it.
                worker_id = coalesce(worker_id, :worker),
                lease_token = NULL,
                lease_expires_at = NULL,
                completed_at = this.moment
            FROM (SELECT clock_timestamp() AS moment) AS this
            WHERE run_id = :run_id AND status IN ('Queued', 'Running')
        """),
        {
            "run_id": run_id,
            "status": status,
            "error": error,
            "again_in": again_in,
            "worker": this_worker(),
        },
    )
