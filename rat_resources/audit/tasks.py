"""rat and trace: a task for every step, with its newest attempt, what it read, made and how far it came.

What a publication stated of its task is what Trace holds; a table is what its last publications made.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from rat_resources.audit.comparison import (
    MIRROR,
    RECONCILE,
    SOMEBODY,
    Comparison,
    Scene,
    Side,
    never,
)
from rat_resources.mirror.ids import trace_id
from rat_resources.mirror.translations import OF_RUN

STANDS = "publication.state IN ('published', 'closed')"

# A task whose worker is gone waits to be taken up, or was left to another one.
WANTED = """
SELECT * FROM jsonb_to_recordset(CAST(:tasks AS jsonb))
    AS told(id text, run text, dagster_run text, job text, status text)
"""

TASKS = """
SELECT
    task.id::text AS id,
    task.run_id::text AS run,
    task.dagster_run_id AS dagster_run,
    job.dag_name || '.' || job.name AS job,
    CASE
        WHEN task.status = 'Queued' AND task.attempt > 1 AND run.status = 'failed' THEN 'Failed'
        WHEN task.status = 'Canceled' AND run.status IN ('failed', 'pending')
            THEN CAST(:task_of_run AS jsonb) ->> run.status
        ELSE task.status
    END AS status
FROM trace.tasks AS task
JOIN trace.jobs AS job ON job.id = task.job_id
LEFT JOIN rat.runs AS run ON run.id = task.run_id
WHERE run.id IS NOT NULL OR task.run_id IS NOT NULL AND task.status IN ('Queued', 'Running')
"""

# A task without a run waits for a step of a Dagster run that is still to come.
LEFT_WAITING = """
SELECT task.id::text AS id, task.dagster_run_id AS dagster_run, dagster.status AS dagster_status
FROM trace.tasks AS task
LEFT JOIN dagster.runs AS dagster ON dagster.run_id = task.dagster_run_id
WHERE task.run_id IS NULL
    AND task.status IN ('Queued', 'Running')
    AND (
        task.status = 'Running'
        OR dagster.run_id IS NULL
        OR dagster.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
        OR EXISTS (
            SELECT FROM rat.runs AS run
            JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
            JOIN trace.jobs AS job ON job.id = task.job_id
            WHERE run.dagster_run_id = task.dagster_run_id
                AND pipeline.namespace = job.dag_name
                AND pipeline.layer || '.' || pipeline.name = job.name
        )
    )
"""

# Every task of a run has its pipeline's job, unless Trace did not know it yet.
RUNS = text("""
    SELECT
        run.id,
        run.dagster_run_id,
        run.status,
        run.settings ->> 'task' AS task,
        pipeline.id AS pipeline_id,
        concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table"
    FROM rat.runs AS run
    JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    WHERE run.dagster_run_id IS NOT NULL
        AND EXISTS (
            SELECT FROM trace.jobs AS job
            WHERE job.dag_name = pipeline.namespace
                AND job.name = pipeline.layer || '.' || pipeline.name
                AND job.created_at <= run.created_at
        )
    ORDER BY run.created_at, run.attempt
""")

PUBLISHED_TASKS = f"""
SELECT
    publication.facts #>> '{{task,id}}' AS id,
    publication.run_id::text AS run,
    'Completed' AS status,
    (publication.facts ->> 'rows_written')::bigint AS rows_written
FROM rat.publications AS publication
WHERE {STANDS} AND publication.facts ? 'task'
"""

COMPLETED_TASKS = """
SELECT
    task.id::text AS id,
    task.run_id::text AS run,
    task.status,
    (task.outputs #>> '{metrics,rows_written}')::bigint AS rows_written
FROM trace.tasks AS task
WHERE task.status = 'Completed'
"""

READ = f"""
SELECT
    concat_ws(' ', publication.facts #>> '{{task,id}}', input.key, version.key) AS id,
    version.value::timestamptz AS input_version
FROM rat.publications AS publication
CROSS JOIN LATERAL jsonb_each(publication.facts -> 'inputs') AS input
CROSS JOIN LATERAL jsonb_each_text(input.value) AS version
WHERE {STANDS} AND publication.facts ? 'task'
    AND EXISTS (SELECT FROM trace.datasets WHERE name = input.key)
"""

TASK_INPUTS = """
SELECT
    concat_ws(' ', input.task_id, dataset.name, input.input_partition_key) AS id,
    input.input_version
FROM trace.task_inputs AS input
LEFT JOIN trace.datasets AS dataset ON dataset.id = input.input_dataset_uuid
"""

READ_TABLES = f"""
SELECT concat_ws(' ', publication.run_id, input.key) AS id, true AS was_published
FROM rat.publications AS publication
CROSS JOIN LATERAL jsonb_each(publication.facts -> 'inputs') AS input
WHERE {STANDS} AND publication.facts ? 'task'
"""

RUN_INPUTS = f"""
SELECT
    concat_ws(' ', pin.run_id, concat_ws('.', pin.namespace, pin.layer, pin.name)) AS id,
    EXISTS (
        SELECT FROM rat.publications AS made
        WHERE made.facts #>> '{{table,metadata_location}}'
                = rat.published_location(pin.metadata_location)
            AND made.facts #>> '{{table,snapshot_id}}'
                IS NOT DISTINCT FROM rat.published_snapshot(pin.snapshot_id)::text
    ) AS was_published
FROM rat.run_inputs AS pin
JOIN rat.publications AS publication ON publication.run_id = pin.run_id
WHERE {STANDS}
    AND publication.facts -> 'inputs' ? concat_ws('.', pin.namespace, pin.layer, pin.name)
"""

STATED = f"""
SELECT
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS name,
    publication.published_at,
    publication.facts -> 'partitions' AS partitions
FROM rat.publications AS publication
JOIN rat.pipelines AS pipeline ON pipeline.id = publication.pipeline_id
WHERE {STANDS} AND publication.facts ? 'task'
    AND jsonb_typeof(publication.facts -> 'partitions') = 'object'
"""

# Of a table what was made since it was last made as a whole, unless it is gone again.
PARTITIONS = f"""
SELECT DISTINCT ON (stated.name, part.it ->> 0)
    concat_ws(' ', stated.name, part.it ->> 0) AS id,
    stated.published_at AS materialized_at,
    (part.it ->> 1)::bigint AS row_count,
    (part.it ->> 2)::bigint AS bytes,
    stated.partitions ->> 'location' AS location,
    stated.partitions ->> 'schema_hash' AS schema_hash
FROM ({STATED}) AS stated
CROSS JOIN LATERAL jsonb_array_elements(stated.partitions -> 'made') AS part(it)
WHERE NOT EXISTS (
    SELECT FROM ({STATED}) AS later
    WHERE later.name = stated.name
        AND later.published_at > stated.published_at
        AND (
            (later.partitions ->> 'is_whole')::boolean
            OR later.partitions -> 'gone' ? (part.it ->> 0)
        )
)
ORDER BY stated.name, part.it ->> 0, stated.published_at DESC
"""

# The newest generation knows all of the table.
STANDING = """
SELECT
    concat_ws(' ', dataset.name, part.partition_key) AS id,
    part.materialized_at,
    part.row_count,
    part.bytes,
    part.location,
    part.schema_hash
FROM trace.partition_versions AS part
LEFT JOIN trace.datasets AS dataset ON dataset.id = part.dataset_uuid
JOIN (
    SELECT DISTINCT ON (newest.dataset_uuid) newest.dataset_uuid, newest.dataset_version
    FROM (
        SELECT dataset_uuid, dataset_version, max(materialized_at) AS made_at
        FROM trace.partition_versions
        GROUP BY dataset_uuid, dataset_version
    ) AS newest
    LEFT JOIN trace.current_dataset_versions AS served USING (dataset_uuid, dataset_version)
    ORDER BY newest.dataset_uuid, newest.made_at DESC, served.dataset_version IS NULL
) AS generation USING (dataset_uuid, dataset_version)
"""

CURSORS = f"""
SELECT DISTINCT
    concat_ws(' ', task.job_id, stated.cursor ->> 0) AS id,
    stated.cursor ->> 1 AS cursor_column,
    true AS was_stated
FROM rat.publications AS publication
JOIN trace.tasks AS task ON task.id::text = publication.facts #>> '{{task,id}}'
CROSS JOIN LATERAL jsonb_array_elements(publication.facts -> 'cursors') AS stated(cursor)
WHERE {STANDS} AND task.invalidation_id IS NULL
"""

DATASET_CURSORS = f"""
SELECT DISTINCT ON (cursor.job_id, dataset.name)
    concat_ws(' ', cursor.job_id, dataset.name) AS id,
    cursor.cursor_column,
    EXISTS (
        SELECT FROM rat.publications AS publication
        JOIN trace.tasks AS task ON task.id::text = publication.facts #>> '{{task,id}}'
        WHERE {STANDS}
            AND task.job_id = cursor.job_id
            AND publication.facts -> 'cursors' @> jsonb_build_array(
                jsonb_build_array(dataset.name, cursor.cursor_column, cursor.cursor_value)
            )
    ) AS was_stated
FROM trace.dataset_cursors AS cursor
LEFT JOIN trace.datasets AS dataset ON dataset.id = cursor.dataset_uuid
ORDER BY cursor.job_id, dataset.name, cursor.updated_at DESC
"""

EDGES = """
SELECT
    concat_ws(' ', output_dataset || '.' || output_column, '<-', input_dataset, input_column)
        AS id
FROM rat.column_lineage
WHERE output_dataset IN (SELECT name FROM trace.datasets)
    AND input_dataset IN (SELECT name FROM trace.datasets)
"""

TOLD_EDGES = """
SELECT
    concat_ws(
        ' ', output.name || '.' || edge.output_column, '<-', input.name, edge.input_column
    ) AS id
FROM trace.column_lineage AS edge
LEFT JOIN trace.datasets AS output ON output.id = edge.output_dataset_uuid
LEFT JOIN trace.datasets AS input ON input.id = edge.input_dataset_uuid
"""

# What one row cannot say of itself.
BROKEN = """
SELECT 'task ' || task.id AS id, 'it runs after its run has ended' AS what
FROM trace.tasks AS task
JOIN rat.runs AS run ON run.id = task.run_id
WHERE task.status = 'Running' AND run.status IN ('success', 'failed', 'cancelled')
UNION ALL
SELECT 'task ' || task.id, 'nobody keeps its lease'
FROM trace.tasks AS task
WHERE task.status = 'Running' AND task.lease_expires_at < now() - INTERVAL '1 minute'
UNION ALL
SELECT 'dag ' || version.dag_name, 'it has ' || count(*) || ' versions that are served'
FROM trace.dag_versions AS version
WHERE version.state = 'serving'
GROUP BY version.org_id, version.dag_name
HAVING count(*) > 1
UNION ALL
SELECT 'delivery ' || delivery.id, 'it is ' || delivery.status || ' with its time'
FROM trace.alert_deliveries AS delivery
WHERE (delivery.status = 'delivered') <> (delivery.delivered_at IS NOT NULL)
UNION ALL
SELECT
    'delivery ' || member.id,
    'it is ' || member.status || ', and what it is told with is ' || leader.status
FROM trace.alert_deliveries AS member
JOIN trace.alert_deliveries AS leader ON leader.id = member.leader_id
WHERE (member.status, member.provider_message_id)
    IS DISTINCT FROM (leader.status, leader.provider_message_id)
UNION ALL
SELECT 'delivery ' || delivery.id, 'its event is of another organisation'
FROM trace.alert_deliveries AS delivery
JOIN trace.alert_events AS event ON event.id = delivery.alert_event_id
WHERE event.org_id <> delivery.org_id
"""


def tell_tasks(scene: Scene) -> Mapping[str, Any]:
    """The task of every step, with its newest attempt."""
    steps: dict[tuple[str, str], str] = {}
    newest: dict[str, dict[str, str]] = {}
    for row in scene.tx.execute(RUNS, execution_options={"yield_per": 10_000}):
        step = (row.dagster_run_id, row.table)
        # A run that goes on with the task of another says so, and its retries do too.
        task = row.task or steps.get(step) or str(trace_id("task", *step))
        steps[step] = task
        newest[task] = {
            "id": task,
            "run": str(row.id),
            "dagster_run": row.dagster_run_id,
            "job": row.table,
            "status": OF_RUN[row.status].task,
        }
    return {"tasks": json.dumps(list(newest.values()))}


COMPARISONS = (
    Comparison(
        "trace.tasks",
        "every step that a run was asked for is a task, in the state of its newest attempt",
        Side("rat.runs", WANTED),
        Side("trace.tasks", TASKS),
        RECONCILE,
        tell_tasks,
    ),
    never(
        "trace.waiting_tasks",
        "a task without a run waits for a step that its Dagster run is still to come to",
        speaker="trace.tasks",
        sql=LEFT_WAITING,
        expected="a Dagster run that will come to it",
        fix=MIRROR,
    ),
    Comparison(
        "trace.completed_tasks",
        "a task is completed by the publication that stated it, and by no other",
        Side("rat.publications", PUBLISHED_TASKS),
        Side("trace.tasks", COMPLETED_TASKS),
        SOMEBODY,
    ),
    Comparison(
        "trace.task_inputs",
        "what a publication read is what its task says",
        Side("rat.publications", READ),
        Side("trace.task_inputs", TASK_INPUTS),
        SOMEBODY,
    ),
    Comparison(
        "rat.run_inputs",
        "what a publication read was pinned, as another one left it",
        Side("rat.publications", READ_TABLES),
        Side("rat.run_inputs", RUN_INPUTS),
        SOMEBODY,
    ),
    Comparison(
        "trace.partition_versions",
        "the partitions of a table are those that its publications made",
        Side("rat.publications", PARTITIONS),
        Side("trace.partition_versions", STANDING),
        SOMEBODY,
    ),
    Comparison(
        "trace.dataset_cursors",
        "a job has come as far as one of its publications said",
        Side("rat.publications", CURSORS),
        Side("trace.dataset_cursors", DATASET_CURSORS),
        SOMEBODY,
    ),
    Comparison(
        "trace.column_lineage",
        "the arrows between the columns of known datasets are those of rat",
        Side("rat.column_lineage", EDGES),
        Side("trace.column_lineage", TOLD_EDGES),
        MIRROR,
    ),
    never(
        "trace.invariants",
        "no task runs without a run or a lease, no DAG is served twice, no delivery lacks its time",
        speaker="trace",
        sql=BROKEN,
        expected="what the states mean",
        fix=RECONCILE,
    ),
)
