"""rat and chm: every namespace is a client, every pipeline a pipeline, every run a run, once.

What people set (whether a client or a pipeline is active, the rules) is theirs. Of external pipelines
only what is told here can be judged: a run that is final was begun before it ended.
"""

from rat_resources.audit.comparison import (
    MIRROR,
    REBUILD,
    SOMEBODY,
    Comparison,
    Side,
    never,
)

# Where the platform's own landing zone is nobody's client, unless it has pipelines too.
NAMESPACES = """
    SELECT name AS id FROM rat.namespaces
    WHERE name <> 'chm' OR EXISTS (SELECT FROM rat.pipelines WHERE namespace = namespaces.name)
"""

CLIENTS = f"SELECT name AS id FROM chm.clients WHERE name IN ({NAMESPACES})"

# A name that was retired and published anew is one pipeline here.
PIPELINES = """
SELECT
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS id,
    pipeline.namespace AS client,
    concat_ws('.', pipeline.layer, pipeline.name) AS name,
    'custom' AS platform,
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS external_id,
    CAST(:type_of_layer AS jsonb) ->> pipeline.layer AS pipeline_type,
    deployment.environment,
    bool_or(
        pipeline.id IN (
            SELECT version.pipeline_id
            FROM rat.pipeline_versions AS version
            JOIN rat.current_release AS current
                ON version.release_number <= current.release_number
        )
        AND pipeline.id NOT IN (
            SELECT retired.pipeline_id
            FROM rat.retired_pipelines AS retired
            JOIN rat.current_release AS current
                ON retired.release_number <= current.release_number
        )
    ) AS published
FROM rat.pipelines AS pipeline
CROSS JOIN rat.deployment AS deployment
GROUP BY pipeline.namespace, pipeline.layer, pipeline.name, deployment.environment
"""

# Ours give way to an external one of the same name.
OURS = """
SELECT
    coalesce(pipeline.table_name, pipeline.id::text) AS id,
    client.name AS client,
    regexp_replace(pipeline.name, ' \\(rat\\)$', '') AS name,
    pipeline.platform,
    regexp_replace(pipeline.external_id, ' \\(rat\\)$', '') AS external_id,
    pipeline.pipeline_type,
    pipeline.environment,
    pipeline.published
FROM chm.pipelines AS pipeline
JOIN chm.clients AS client ON client.id = pipeline.client_id
WHERE pipeline.origin = 'rat'
"""

RUNS = """
SELECT
    run.id::text AS id,
    run.id::text AS external_run_id,
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS pipeline,
    CASE
        WHEN run.status = 'success' AND run.unchanged THEN :chm_skipped
        ELSE CAST(:chm_of_run AS jsonb) ->> run.status
    END AS status,
    run.started_at,
    run.finished_at,
    run.duration_ms / 1000 AS duration_seconds,
    run.rows_written AS rows_processed,
    run.status = 'failed' AND run.error IS NOT NULL AS has_error,
    run.created_at,
    run.dagster_run_id,
    run.attempt,
    run.trigger,
    run.commit
FROM rat.runs AS run
JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
"""

TOLD_RUNS = """
SELECT
    run.id::text AS id,
    run.external_run_id,
    pipeline.table_name AS pipeline,
    run.status,
    run.started_at,
    run.finished_at,
    run.duration_seconds,
    run.rows_processed,
    run.error_message IS NOT NULL AS has_error,
    run.created_at,
    run.payload ->> 'dagster_run_id' AS dagster_run_id,
    (run.payload ->> 'attempt')::int AS attempt,
    run.payload ->> 'trigger' AS trigger,
    run.payload ->> 'commit' AS commit
FROM chm.runs AS run
JOIN chm.pipelines AS pipeline ON pipeline.id = run.pipeline_id
WHERE pipeline.origin = 'rat'
"""

BACKWARD_RUNS = """
SELECT
    concat_ws(' ', client.name, pipeline.name, run.external_run_id) AS id,
    run.status,
    run.started_at,
    run.finished_at
FROM chm.runs AS run
JOIN chm.pipelines AS pipeline ON pipeline.id = run.pipeline_id
JOIN chm.clients AS client ON client.id = pipeline.client_id
WHERE pipeline.origin = 'external' AND run.status = 'running' AND run.finished_at IS NOT NULL
"""

# Of successes that are the latest alike, either may be kept.
LATEST = """
SELECT
    concat_ws(' ', latest.pipeline_id, CASE WHEN latest.succeeded THEN 'succeeded' END) AS id,
    CASE WHEN NOT latest.succeeded THEN latest.run_id END AS run_id,
    CASE WHEN NOT latest.succeeded THEN latest.finished_at END AS finished_at,
    latest.status,
    latest.started_at,
    latest.event_time
FROM {source} AS latest
"""

COMPARISONS = (
    Comparison(
        "chm.clients",
        "every namespace is a client",
        Side("rat.namespaces", NAMESPACES),
        Side("chm.clients", CLIENTS),
        MIRROR,
    ),
    Comparison(
        "chm.pipelines",
        "every pipeline is a pipeline of its namespace's client, and no other says it is ours",
        Side("rat.pipelines", PIPELINES),
        Side("chm.pipelines", OURS),
        MIRROR,
    ),
    Comparison(
        "chm.runs",
        "every run is one run there, with its state, times, rows and error",
        Side("rat.runs", RUNS),
        Side("chm.runs", TOLD_RUNS),
        MIRROR,
    ),
    Comparison(
        "chm.latest_runs",
        "the latest run and the latest success of every pipeline are kept as such",
        Side("chm.runs", LATEST.format(source="chm.find_latest()")),
        Side("chm.latest_runs", LATEST.format(source="chm.latest_runs")),
        REBUILD,
    ),
    never(
        "chm.external_runs",
        "no run of an external pipeline goes on after it ended",
        speaker="chm.runs",
        sql=BACKWARD_RUNS,
        expected="a run that goes on",
        fix=SOMEBODY,
    ),
)
