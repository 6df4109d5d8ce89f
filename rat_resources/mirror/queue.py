"""The queue: steps that a Dagster run has not come to yet, as tasks of Trace.

A step asks for its task when it begins (`rat_resources.tasks`), and the task that waited here becomes
that one; until then it has no run. When its Dagster run ends without it, the task ends and says why.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.metadata.zeros import as_json
from rat_resources.mirror import past
from rat_resources.mirror.ids import trace_id
from rat_resources.mirror.past import Place
from rat_resources.mirror.translations import (
    CANCELLED,
    FAILED,
    OF_DAGSTER,
    PENDING,
    RUNNING,
    SUCCESS,
)
from rat_resources.runs import RELEASE_TAG


def tell(tx: Session, dagster_run_ids: Sequence[str]) -> None:
    """Let a task wait for each step that is still to come, and end those that will not come any more."""
    found = tx.execute(
        UNASKED, {"ids": dagster_run_ids, "release_tag": RELEASE_TAG}
    ).all()
    jobs = past.find_jobs(tx, {(step.release, step.table) for step in found})
    tasks = sorted(
        (describe(step, jobs=jobs) for step in found), key=lambda task: str(task["id"])
    )
    if tasks:
        tx.execute(TELL, {"tasks": as_json(tasks)})
    end(tx, dagster_run_ids, besides=[task["id"] for task in tasks])


def end(
    tx: Session, dagster_run_ids: Iterable[str], *, besides: Sequence[str] = ()
) -> None:
    """Cancel what waits for these Dagster runs, *besides* some tasks: they are gone, or go on otherwise."""
    tx.execute(
        END,
        {
            "ids": list(dagster_run_ids),
            "besides": [uuid.UUID(each) for each in besides],
        },
    )


def describe(step: Row[Any], *, jobs: Mapping[Place, uuid.UUID]) -> dict[str, Any]:
    """The task of a step that never asked for one."""
    status, why = fate(step)
    return {
        "id": str(trace_id("task", step.run_id, step.table)),
        "job_id": str(jobs.get((step.release, step.table), step.job_id)),
        "status": status,
        "completed_at": step.ended_at and step.ended_at.isoformat(),
        "error_message": why,
        "created_at": step.created_at.isoformat(),
        "dagster_run_id": step.run_id,
    }


def fate(step: Row[Any]) -> tuple[str, str | None]:
    """What became of a step that never asked for its task, in Trace's words, and why.

    It failed only if nothing before it did: its run could not start, or the step itself could not ask.
    """
    words = OF_DAGSTER.get(step.status, RUNNING)
    if words is FAILED and (step.has_begun or not step.run_began):
        return FAILED.task, step.said or "its Dagster run failed"
    if words is FAILED:
        return CANCELLED.task, f"its Dagster run failed before it: {step.said or ''}"
    if words is CANCELLED:
        return CANCELLED.task, step.said or "its Dagster run was canceled"
    if words is SUCCESS:
        return CANCELLED.task, "its Dagster run succeeded without it"
    return PENDING.task, None


# A pipeline that was created after the run is another one of the same name. A run that does not say
# its release is of the one that was current when it was asked for.
UNASKED = text("""
    WITH planned AS MATERIALIZED (
        SELECT DISTINCT run_id, step_key, asset_key
        FROM dagster.event_logs
        WHERE run_id = ANY(:ids)
          AND dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'
    )
    SELECT DISTINCT ON (step.run_id, step."table")
        step.*,
        job.id AS job_id,
        EXISTS (
            SELECT FROM dagster.event_logs AS log
            WHERE log.run_id = step.run_id
              AND log.step_key = step.step_key
              AND log.dagster_event_type = 'STEP_START'
        ) AS has_begun,
        CASE WHEN step.status IN ('FAILURE', 'CANCELED') THEN (
            SELECT rat.as_json(log.event) #>> '{dagster_event,message}'
            FROM dagster.event_logs AS log
            WHERE log.run_id = step.run_id
              AND log.dagster_event_type IN ('PIPELINE_FAILURE', 'PIPELINE_CANCELED')
            ORDER BY log.id DESC
            LIMIT 1
        ) END AS said
    FROM (
        SELECT
            run.run_id, run.status, planned.step_key,
            run.start_time IS NOT NULL AS run_began,
            run.create_timestamp AT TIME ZONE 'UTC' AS created_at,
            coalesce(
                (
                    SELECT release.number
                    FROM dagster.run_tags AS tag
                    JOIN rat.releases AS release ON release.number::text = tag.value
                    WHERE tag.run_id = run.run_id AND tag.key = :release_tag
                    LIMIT 1
                ),
                (
                    SELECT max(release.number)
                    FROM rat.releases AS release
                    WHERE release.created_at <= run.create_timestamp AT TIME ZONE 'UTC'
                ),
                0
            ) AS release,
            CASE WHEN run.status IN ('SUCCESS', 'FAILURE', 'CANCELED') THEN coalesce(
                to_timestamp(run.end_time), run.update_timestamp AT TIME ZONE 'UTC'
            ) END AS ended_at,
            pipeline.id AS pipeline_id,
            pipeline.namespace,
            pipeline.layer || '.' || pipeline.name AS job_name,
            concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table"
        FROM planned
        JOIN dagster.runs AS run USING (run_id)
        JOIN rat.pipelines AS pipeline
            ON planned.asset_key = format(
                '["%s", "%s", "%s"]', pipeline.namespace, pipeline.layer, pipeline.name
            )
            AND pipeline.created_at <= run.create_timestamp AT TIME ZONE 'UTC'
    ) AS step
    JOIN LATERAL (
        SELECT id FROM trace.jobs
        WHERE dag_name = step.namespace AND name = step.job_name
        ORDER BY active DESC, created_at DESC
        LIMIT 1
    ) AS job ON true
    WHERE NOT EXISTS (
        SELECT FROM rat.runs AS asked
        WHERE asked.dagster_run_id = step.run_id AND asked.pipeline_id = step.pipeline_id
    )
    ORDER BY step.run_id, step."table", step.pipeline_id
""")

# What has a run by now belongs to that run.
TELL = text("""
    INSERT INTO trace.tasks AS task
        (id, job_id, status, completed_at, error_message, created_at, dagster_run_id)
    SELECT id, job_id, status, completed_at, error_message, created_at, dagster_run_id
    FROM jsonb_to_recordset(CAST(:tasks AS jsonb)) AS told (
        id uuid, job_id uuid, status text, completed_at timestamptz, error_message text,
        created_at timestamptz, dagster_run_id text
    )
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET
        status = EXCLUDED.status,
        completed_at = EXCLUDED.completed_at,
        error_message = EXCLUDED.error_message
    WHERE task.run_id IS NULL AND task.status = 'Queued' AND EXCLUDED.status <> 'Queued'
""")

END = text("""
    UPDATE trace.tasks AS task
    SET status = 'Canceled',
        completed_at = clock_timestamp(),
        error_message = CASE
            WHEN EXISTS (SELECT FROM dagster.runs AS run WHERE run.run_id = task.dagster_run_id)
                THEN 'another task does its work'
            ELSE 'its Dagster run was deleted'
        END
    FROM (
        SELECT id
        FROM trace.tasks
        WHERE dagster_run_id = ANY(:ids)
          AND status = 'Queued'
          AND run_id IS NULL
          AND id <> ALL(:besides)
        ORDER BY id
        FOR UPDATE
    ) AS idle
    WHERE task.id = idle.id
""")
