"""Jobs beside their runs: the tasks of the job of all pipelines, and what a code location has.

The job `pipelines` has a task for every pipeline, which `rat` knows by itself. Which other jobs a
location has is only known where its code is loaded.
"""

import json
from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.mirror import positions
from rat_resources.mirror.workspace import declare_workspace
from rat_resources.names import TableName, op_name

# As `rat_assets.location` and `rat_sensors.jobs` call them.
LOCATION = "rat/__repository__"
PIPELINES = f"{LOCATION}/pipelines"

OUTLINES = text("""
    SELECT DISTINCT ON (pipeline.namespace, pipeline.layer, pipeline.name)
        pipeline.namespace, pipeline.layer, pipeline.name, pipeline.s3_path,
        version.spec -> 'refs' AS refs,
        version.spec ->> 'type' AS type,
        version.spec ->> 'hand_written' AS hand_written,
        pipeline.created_at, version.created_at AS changed_at, pipeline.deleted_at
    FROM rat.pipelines AS pipeline
    JOIN LATERAL (
        SELECT spec, created_at
        FROM rat.pipeline_versions
        WHERE pipeline_id = pipeline.id
        ORDER BY version_number DESC
        LIMIT 1
    ) AS version ON true
    ORDER BY
        pipeline.namespace, pipeline.layer, pipeline.name,
        pipeline.deleted_at DESC NULLS FIRST, pipeline.created_at DESC
""")

JOB = text("""
    INSERT INTO lakeflow.dim_job AS known
        (workspace_id, job_id, job_name, account_id, create_time, change_time)
    SELECT lakeflow.workspace_id(), :job_id, 'pipelines', org, created_at, created_at
    FROM rat.deployment
    CROSS JOIN (SELECT min(created_at) AS created_at FROM rat.pipelines) AS first
    ON CONFLICT (workspace_id, job_id) DO UPDATE SET create_time = excluded.create_time
    WHERE known.create_time > excluded.create_time
""")

TASKS = text("""
    INSERT INTO lakeflow.dim_job_task AS known
        (workspace_id, job_id, task_key, task_type, notebook_path, account_id,
         depends_on_keys_json, change_time, delete_time)
    SELECT
        lakeflow.workspace_id(), :job_id, task_key, 'asset', notebook_path, org,
        depends_on, change_time, delete_time
    FROM jsonb_to_recordset(CAST(:tasks AS jsonb)) AS tasks (
        task_key text, notebook_path text, depends_on jsonb,
        change_time timestamptz, delete_time timestamptz
    )
    CROSS JOIN rat.deployment
    ORDER BY task_key
    ON CONFLICT (workspace_id, job_id, task_key) DO UPDATE
    SET task_type = excluded.task_type,
        notebook_path = excluded.notebook_path,
        depends_on_keys_json = excluded.depends_on_keys_json,
        change_time = excluded.change_time,
        delete_time = excluded.delete_time
    WHERE (known.task_type, known.notebook_path, known.depends_on_keys_json, known.change_time,
           known.delete_time)
          IS DISTINCT FROM
          (excluded.task_type, excluded.notebook_path, excluded.depends_on_keys_json,
           excluded.change_time, excluded.delete_time)
""")


def reflect_pipelines(tx: Session) -> None:
    """Make the tasks of the job of all pipelines what `rat` knows of those."""
    tasks = [
        {
            "task_key": op_name(TableName(row.namespace, row.layer, row.name)),
            "notebook_path": row.hand_written
            or f"{row.s3_path}/pipeline.{'py' if row.type == 'python' else 'sql'}",
            "depends_on": sorted(
                op_name(TableName.parse(ref)) for ref in row.refs or ()
            ),
            "change_time": row.changed_at.isoformat(),
            "delete_time": row.deleted_at and row.deleted_at.isoformat(),
        }
        for row in tx.execute(OUTLINES)
    ]
    if not tasks:
        return
    # Whoever reads Dagster's log tells the same tasks in an order of its own.
    positions.take_turn(tx)
    declare_workspace(tx)
    tx.execute(JOB, {"job_id": PIPELINES})
    tx.execute(TASKS, {"job_id": PIPELINES, "tasks": json.dumps(tasks)})


DECLARE = text("""
    INSERT INTO lakeflow.dim_job AS known
        (workspace_id, job_id, job_name, account_id, create_time, change_time)
    SELECT
        lakeflow.workspace_id(), CAST(:location AS text) || '/' || name, name, org,
        clock_timestamp(), clock_timestamp()
    FROM unnest(CAST(:names AS text[])) AS jobs (name)
    CROSS JOIN rat.deployment
    ORDER BY name
    ON CONFLICT (workspace_id, job_id) DO UPDATE SET delete_time = NULL
    WHERE known.delete_time IS NOT NULL
""")

FORGET = text("""
    UPDATE lakeflow.dim_job
    SET delete_time = clock_timestamp()
    WHERE workspace_id = lakeflow.workspace_id()
      AND delete_time IS NULL
      AND starts_with(job_id, CAST(:location AS text) || '/')
      AND job_name <> ALL(CAST(:names AS text[]))
""")


def declare_jobs(
    tx: Session, names: Collection[str], *, location: str = LOCATION
) -> None:
    """Say which jobs a location has now; one that it no longer has was deleted, and may come back."""
    positions.take_turn(tx)
    declare_workspace(tx)
    said = {"location": location, "names": sorted(names)}
    tx.execute(DECLARE, said)
    tx.execute(FORGET, said)
