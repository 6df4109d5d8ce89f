"""Cursors: how far the job of a pipeline with a `watermark_column` has read the tables below it.

It is the greatest value that the pipeline's own table holds, which is where its next run begins;
kept for every table that the column takes its values from, or for its own where those are files. It
never goes back, but where a full refresh begins anew.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.metadata.zeros import as_json


def state_cursors(
    tx: Session,
    task_id: uuid.UUID,
    cursors: Sequence[Sequence[str]],
    *,
    begins_anew: bool,
) -> None:
    """Bring the cursors of a task's job forward: each a dataset, a column and its value."""
    if not cursors:
        return
    if begins_anew:
        tx.execute(FORGET, {"task_id": task_id})
    tx.execute(FORWARD, {"task_id": task_id, "cursors": as_json(cursors)})


FORGET = text("""
    DELETE FROM trace.dataset_cursors
    WHERE job_id = (SELECT job_id FROM trace.tasks WHERE id = :task_id)
""")
# What a task does about an invalidation is about rows that were passed long ago.
FORWARD = text("""
    INSERT INTO trace.dataset_cursors AS old
        (dataset_uuid, dataset_version, job_id, cursor_column, cursor_value, updated_at)
    SELECT
        dataset.id,
        served.dataset_version,
        job.id,
        cursor.it ->> 1,
        cursor.it ->> 2,
        clock_timestamp()
    FROM jsonb_array_elements(CAST(:cursors AS jsonb)) AS cursor (it)
    JOIN trace.tasks AS task ON task.id = :task_id AND task.invalidation_id IS NULL
    JOIN trace.jobs AS job ON job.id = task.job_id
    JOIN trace.datasets AS dataset
        ON dataset.org_id = job.org_id AND dataset.name = cursor.it ->> 0
    JOIN trace.current_dataset_versions AS served ON served.dataset_uuid = dataset.id
    ON CONFLICT (dataset_uuid, dataset_version, job_id) DO UPDATE SET
        cursor_column = EXCLUDED.cursor_column,
        cursor_value = EXCLUDED.cursor_value,
        updated_at = EXCLUDED.updated_at
    WHERE old.cursor_column <> EXCLUDED.cursor_column
        OR NOT coalesce(
            trace.cursor_precedes(EXCLUDED.cursor_value, old.cursor_value),
            EXCLUDED.cursor_value COLLATE "C" < old.cursor_value COLLATE "C"
        )
""")
