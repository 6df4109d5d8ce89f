"""Lineage as Trace tells it: the edges of `rat.column_lineage` between the datasets that it knows."""

import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session


def reflect_lineage(tx: Session, task_ids: Sequence[uuid.UUID]) -> None:
    """Make the edges into what these tasks wrote those that hold; the latest job established them."""
    tx.execute(EDGES, {"task_ids": list(task_ids)})


EDGES = text("""
    WITH outputs AS (
        SELECT DISTINCT ON (dataset.id) dataset.id, dataset.name, dataset.org_id, job.id AS job_id
        FROM trace.tasks AS task
        JOIN trace.jobs AS job ON job.id = task.job_id
        JOIN trace.datasets AS dataset
            ON dataset.org_id = job.org_id
            AND dataset.producer_dag_name = job.dag_name
            AND dataset.producer_job_name = job.name
        WHERE task.id = ANY(:task_ids)
        ORDER BY dataset.id, task.completed_at DESC NULLS FIRST
    ),
    edges AS (
        SELECT
            outputs.id AS output,
            edge.output_column,
            input.id AS input,
            edge.input_column,
            outputs.job_id
        FROM outputs
        JOIN rat.column_lineage AS edge ON edge.output_dataset = outputs.name
        JOIN trace.datasets AS input
            ON input.org_id = outputs.org_id AND input.name = edge.input_dataset
    ),
    gone AS (
        DELETE FROM trace.column_lineage AS old
        USING outputs
        WHERE old.output_dataset_uuid = outputs.id
            AND NOT EXISTS (
                SELECT FROM edges
                WHERE edges.output = old.output_dataset_uuid
                    AND edges.output_column = old.output_column
                    AND edges.input = old.input_dataset_uuid
                    AND edges.input_column = old.input_column
            )
    )
    INSERT INTO trace.column_lineage AS old
        (output_dataset_uuid, output_column, input_dataset_uuid, input_column, job_id)
    SELECT output, output_column, input, input_column, job_id FROM edges
    ON CONFLICT (output_dataset_uuid, output_column, input_dataset_uuid, input_column)
        DO UPDATE SET job_id = EXCLUDED.job_id
        WHERE old.job_id IS DISTINCT FROM EXCLUDED.job_id
""")
