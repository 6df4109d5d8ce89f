"""Tasks told again: what `rat` still knows of them, where Trace has lost them.

The run itself tells its task while it lives (`rat_resources.tasks`), and what it read and made in its
publication. From `rat.runs` and the facts of `rat.publications` follow the same rows, but for what
only the lost rows knew: leases and heartbeats, dedupe keys, pauses between attempts, whether an
attempt followed a conflict, and the tasks of retired pipelines whose release is not whole any more.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.metadata.runs import FINAL, RunStatus
from rat_resources.metadata.zeros import as_json
from rat_resources.mirror import past
from rat_resources.mirror.ids import trace_id
from rat_resources.mirror.lineage import reflect_lineage
from rat_resources.mirror.past import Place
from rat_resources.mirror.translations import OF_RUN

Step = tuple[str, str]  # its Dagster run, its pipeline
NOWHERE: Place = (0, "")  # no release, no table


def reflect_runs(tx: Session, run_ids: Sequence[uuid.UUID]) -> None:
    """Write the tasks of these runs that Trace lacks, with all that follows; what it has stays."""
    lacking = tx.execute(LACKING, {"run_ids": list(run_ids)})
    steps = [step_of(each) for each in lacking]
    if not steps:
        return
    attempts = tx.execute(ATTEMPTS, {"steps": as_json(steps)}).all()
    jobs = past.find_jobs(tx, {place for run in attempts if (place := place_of(run))})
    rows = [*tasks_of(attempts, steps=steps, jobs=jobs)]
    made = list(tx.scalars(INSERT, {"tasks": as_json(rows)})) if rows else []
    if made:
        ids = {"ids": made}
        for statement in (INPUTS, PARTITIONS, CURSORS):
            tx.execute(statement, ids)
        reflect_lineage(tx, tx.scalars(LAST, ids).all())


def step_of(row: Row[Any]) -> Step:
    """The step that a row is of."""
    return row.dagster_run_id, str(row.pipeline_id)


def place_of(run: Row[Any]) -> Place | None:
    """The release and the table of a run; None of a run that says no release.

    What is written by hand may have made its release only when it ran.
    """
    release = run.settings.get("release")
    if release is None:
        return None
    return max(release, run.version_release or 0), run.table


def job_of(
    runs: Sequence[Row[Any]], *, jobs: Mapping[Place, uuid.UUID]
) -> uuid.UUID | None:
    """The job of a task: what the Dagster run that has it remembers, or had in its release, or now."""
    has_it = runs[-1].dagster_run_id
    first = next(run for run in runs if run.dagster_run_id == has_it)
    told: uuid.UUID | None = first.remembered_job or jobs.get(
        place_of(first) or NOWHERE, first.job_id
    )
    return told


# The newest attempt of a living step names its task, so this finds nothing while all is well.
LACKING = text("""
    SELECT DISTINCT run.dagster_run_id, run.pipeline_id
    FROM rat.runs AS run
    WHERE run.id = ANY(:run_ids)
        AND run.dagster_run_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM trace.tasks AS task WHERE task.run_id = run.id)
""")
# A task that lost its worker goes on in another Dagster run, which says so.
ATTEMPTS = text("""
    WITH steps AS (
        SELECT key.it ->> 0 AS dagster_run_id, (key.it ->> 1)::uuid AS pipeline_id
        FROM jsonb_array_elements(CAST(:steps AS jsonb)) AS key (it)
    ),
    all_steps AS (
        SELECT * FROM steps
        UNION
        SELECT run.dagster_run_id, run.pipeline_id
        FROM steps JOIN rat.runs AS run USING (pipeline_id)
        WHERE run.settings ? 'task'
    )
    SELECT
        run.*,
        concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table",
        version.release_number AS version_release,
        job.id AS job_id,
        remembered.id AS remembered_job,
        publication.facts
    FROM all_steps
    JOIN rat.runs AS run USING (dagster_run_id, pipeline_id)
    JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    LEFT JOIN rat.pipeline_versions AS version ON version.id = run.version_id
    LEFT JOIN trace.jobs AS job
        ON job.active
        AND job.dag_name = pipeline.namespace
        AND job.name = pipeline.layer || '.' || pipeline.name
    LEFT JOIN trace.jobs AS remembered ON remembered.id = (run.settings ->> 'job')::uuid
    LEFT JOIN rat.publications AS publication
        ON publication.run_id = run.id AND publication.state IN ('published', 'closed')
    ORDER BY run.dagster_run_id, run.pipeline_id, run.created_at, run.attempt
""")


def tasks_of(
    attempts: Iterable[Row[Any]],
    *,
    steps: Sequence[Step],
    jobs: Mapping[Place, uuid.UUID],
) -> Iterator[dict[str, Any]]:
    """A row for each task that any of *steps* belongs to, from all its attempts.

    One that runs cannot be told: its lease is lost, and so will it be. Nor can one whose job nobody
    knows: its release is not wholly there any more, and its pipeline is retired.
    """
    by_task: dict[uuid.UUID, list[Row[Any]]] = {}
    for _, members in groupby(attempts, key=step_of):
        runs = list(members)
        by_task.setdefault(task_of(runs), []).extend(runs)
    wanted = set(steps)
    for task_id, runs in by_task.items():
        runs.sort(key=lambda run: (run.created_at, run.attempt))
        last = runs[-1]
        job = job_of(runs, jobs=jobs)
        is_over = last.status != RunStatus.RUNNING
        if job and is_over and wanted & {*map(step_of, runs)}:
            yield describe(task_id, runs, job=job)


def task_of(runs: Sequence[Row[Any]]) -> uuid.UUID:
    """The id of the task of a step."""
    for run in runs:
        if "task" in run.settings:
            return uuid.UUID(run.settings["task"])
    return trace_id("task", runs[0].dagster_run_id, runs[0].table)


def describe(
    task_id: uuid.UUID, runs: Sequence[Row[Any]], *, job: uuid.UUID
) -> dict[str, Any]:
    """The row of a task, by its attempts."""
    last, tried = runs[-1], len(runs)
    facts: Mapping[str, Any] = last.facts or {}
    return {
        "id": str(task_id),
        "job_id": str(job),
        "status": OF_RUN[last.status].task,
        "attempt": tried,
        "attempts": tried if last.status in FINAL else tried - 1,
        "worker_id": last.worker,
        "started_at": last.started_at and last.started_at.isoformat(),
        "completed_at": last.finished_at and last.finished_at.isoformat(),
        "error_message": last.error,
        "partitions": made_by(facts) if facts else None,
        "input_versions": facts.get("inputs"),
        "outputs": describe_outputs(last.id, facts) if facts else None,
        "created_at": runs[0].created_at.isoformat(),
        "run_id": str(last.id),
        "dagster_run_id": last.dagster_run_id,
    }


def describe_outputs(run_id: uuid.UUID, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a task made, as its row tells it."""
    table, partitions = facts["table"], facts.get("partitions")
    return {
        "run_id": str(run_id),
        "unchanged": facts["unchanged"],
        "paths": [table["metadata_location"]] if table else [],
        "partitions": partitions["made"] if partitions else [],
        "metrics": {
            "rows_written": facts["rows_written"],
            "rows_total": facts["rows_total"],
            "bytes": table["size_bytes"] if table else None,
        },
        "cursors": facts.get("cursors", []),
    }


def made_by(facts: Mapping[str, Any]) -> list[str]:
    """The partitions that a publication made."""
    partitions = facts.get("partitions")
    return [each[0] for each in partitions["made"]] if partitions else []


COLUMNS = {
    "id": "uuid",
    "job_id": "uuid",
    "status": "text",
    "attempt": "integer",
    "attempts": "integer",
    "worker_id": "text",
    "started_at": "timestamptz",
    "completed_at": "timestamptz",
    "error_message": "text",
    "partitions": "text[]",
    "input_versions": "jsonb",
    "outputs": "jsonb",
    "created_at": "timestamptz",
    "run_id": "uuid",
    "dagster_run_id": "text",
}
# A later batch may hold another attempt of what an earlier one told.
INSERT = text(f"""
    INSERT INTO trace.tasks ({", ".join(COLUMNS)})
    SELECT {", ".join(COLUMNS)}
    FROM jsonb_to_recordset(CAST(:tasks AS jsonb))
        AS told ({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())})
    ON CONFLICT (id) DO NOTHING
    RETURNING id
""")
INPUTS = text("""
    INSERT INTO trace.task_inputs
        (task_id, input_dataset_uuid, input_partition_key, input_version)
    SELECT task.id, dataset.id, version.key, version.value::timestamptz
    FROM trace.tasks AS task
    JOIN trace.jobs AS job ON job.id = task.job_id
    JOIN rat.publications AS publication ON publication.run_id = task.run_id
    CROSS JOIN LATERAL jsonb_each(publication.facts -> 'inputs') AS read (dataset, versions)
    CROSS JOIN LATERAL jsonb_each_text(read.versions) AS version (key, value)
    JOIN trace.datasets AS dataset
        ON dataset.org_id = job.org_id AND dataset.name = read.dataset
    WHERE task.id = ANY(:ids) AND task.status = 'Completed'
    ON CONFLICT DO NOTHING
""")
# A generation stands as its last publication left the table: of each partition the last publication
# that made it until then, unless it was gone, or all was made anew, since.
PARTITIONS = text("""
    WITH touched AS (
        SELECT DISTINCT job.dag_name, job.name, dataset.id AS dataset_uuid, dataset.name AS dataset
        FROM trace.tasks AS task
        JOIN trace.jobs AS job ON job.id = task.job_id
        JOIN trace.datasets AS dataset
            ON dataset.org_id = job.org_id
            AND dataset.producer_dag_name = job.dag_name
            AND dataset.producer_job_name = job.name
        WHERE task.id = ANY(:ids) AND task.status = 'Completed'
    ),
    published AS (
        SELECT
            touched.dataset_uuid,
            publication.published_at,
            pin.dataset_version,
            job.config_hash,
            CASE jsonb_typeof(publication.facts -> 'partitions')
                WHEN 'object' THEN publication.facts -> 'partitions'
                -- An older RAT told no partitions apart.
                ELSE jsonb_build_object(
                    'is_whole', true,
                    'gone', '[]'::jsonb,
                    'location', publication.facts -> 'table' -> 'metadata_location',
                    'made', jsonb_build_array(jsonb_build_array(
                        'all',
                        publication.facts -> 'table' -> 'row_count',
                        publication.facts -> 'table' -> 'size_bytes'
                    ))
                )
            END AS said
        FROM touched
        JOIN rat.pipelines AS pipeline
            ON pipeline.namespace = touched.dag_name
            AND pipeline.layer || '.' || pipeline.name = touched.name
        JOIN rat.publications AS publication ON publication.pipeline_id = pipeline.id
        LEFT JOIN trace.tasks AS task
            ON task.run_id = publication.run_id AND task.status = 'Completed'
        LEFT JOIN trace.jobs AS job ON job.id = task.job_id
        LEFT JOIN trace.dag_version_datasets AS pin
            ON pin.dag_version_id = job.dag_version_id AND pin.dataset_uuid = touched.dataset_uuid
        WHERE publication.state IN ('published', 'closed')
            AND publication.facts ->> 'unchanged' = 'false'
            AND jsonb_typeof(publication.facts -> 'table') = 'object'
    ),
    generations AS (
        SELECT dataset_uuid, dataset_version, max(published_at) AS left_at
        FROM published
        WHERE dataset_version IS NOT NULL
        GROUP BY dataset_uuid, dataset_version
    ),
    made AS (
        SELECT DISTINCT ON (dataset_uuid, generation.dataset_version, part.it ->> 0)
            generation.dataset_version AS generation,
            generation.left_at,
            published.*,
            part.it
        FROM generations AS generation
        JOIN published USING (dataset_uuid)
        CROSS JOIN LATERAL jsonb_array_elements(said -> 'made') AS part (it)
        WHERE published_at <= left_at
        ORDER BY dataset_uuid, generation.dataset_version, part.it ->> 0, published_at DESC
    )
    INSERT INTO trace.partition_versions AS old (
        dataset_uuid, dataset_version, partition_key, materialized_at, config_hash, schema_hash,
        location, row_count, bytes
    )
    SELECT
        dataset_uuid,
        generation,
        it ->> 0,
        published_at,
        config_hash,
        said ->> 'schema_hash',
        said ->> 'location',
        (it ->> 1)::bigint,
        (it ->> 2)::bigint
    FROM made
    WHERE NOT EXISTS (
        SELECT FROM published AS later
        WHERE later.dataset_uuid = made.dataset_uuid
            AND later.published_at > made.published_at
            AND later.published_at <= made.left_at
            AND ((later.said ->> 'is_whole')::boolean OR later.said -> 'gone' ? (made.it ->> 0))
    )
    ON CONFLICT (dataset_uuid, dataset_version, partition_key) DO UPDATE
    -- The task that made it is told by now.
    SET config_hash = EXCLUDED.config_hash
    WHERE old.config_hash IS NULL
        AND EXCLUDED.config_hash IS NOT NULL
        AND old.materialized_at = EXCLUDED.materialized_at
""")
# The last publication of each table established where its columns come from.
LAST = text("""
    WITH touched AS (
        SELECT DISTINCT job.dag_name, job.name
        FROM trace.tasks AS task
        JOIN trace.jobs AS job ON job.id = task.job_id
        WHERE task.id = ANY(:ids) AND task.status = 'Completed'
    )
    SELECT DISTINCT ON (touched.dag_name, touched.name) task.id
    FROM touched
    JOIN rat.pipelines AS pipeline
        ON pipeline.namespace = touched.dag_name
        AND pipeline.layer || '.' || pipeline.name = touched.name
    JOIN rat.publications AS publication ON publication.pipeline_id = pipeline.id
    JOIN trace.tasks AS task ON task.run_id = publication.run_id AND task.status = 'Completed'
    WHERE publication.state IN ('published', 'closed')
    ORDER BY touched.dag_name, touched.name, publication.published_at DESC
""")
CURSORS = text("""
    INSERT INTO trace.dataset_cursors AS old
        (dataset_uuid, dataset_version, job_id, cursor_column, cursor_value, updated_at)
    SELECT DISTINCT ON (dataset.id, generation.id, job.id)
        dataset.id,
        generation.id,
        job.id,
        cursor.it ->> 1,
        cursor.it ->> 2,
        publication.published_at
    FROM trace.tasks AS task
    JOIN trace.jobs AS job ON job.id = task.job_id
    JOIN rat.publications AS publication ON publication.run_id = task.run_id
    CROSS JOIN LATERAL jsonb_array_elements(publication.facts -> 'cursors') AS cursor (it)
    JOIN trace.datasets AS dataset
        ON dataset.org_id = job.org_id AND dataset.name = cursor.it ->> 0
    LEFT JOIN trace.dag_version_datasets AS pin
        ON pin.dag_version_id = job.dag_version_id AND pin.dataset_uuid = dataset.id
    -- Which one of another DAG's was served then, nobody knows.
    LEFT JOIN trace.current_dataset_versions AS served ON served.dataset_uuid = dataset.id
    JOIN trace.dataset_versions AS generation
        ON generation.id = coalesce(pin.dataset_version, served.dataset_version)
    WHERE task.id = ANY(:ids) AND task.status = 'Completed'
    ORDER BY dataset.id, generation.id, job.id, publication.published_at DESC
    ON CONFLICT (dataset_uuid, dataset_version, job_id) DO UPDATE SET
        cursor_column = EXCLUDED.cursor_column,
        cursor_value = EXCLUDED.cursor_value,
        updated_at = EXCLUDED.updated_at
    WHERE old.updated_at < EXCLUDED.updated_at
        AND NOT coalesce(trace.cursor_precedes(EXCLUDED.cursor_value, old.cursor_value), false)
""")
