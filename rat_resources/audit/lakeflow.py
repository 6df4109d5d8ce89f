"""rat and lakeflow: the deployment, every pipeline and every run of ours in the reporting star, once."""

from rat_resources.audit.comparison import MIRROR, Comparison, Side

DEPLOYMENT = """
SELECT
    org || '/' || environment AS id,
    org || ' (' || environment || ')' AS workspace_name,
    'RUNNING' AS status
FROM rat.deployment
"""

WORKSPACES = (
    "SELECT workspace_id AS id, workspace_name, status FROM lakeflow.dim_workspace"
)

PIPELINES = """
SELECT
    pipeline.id::text AS id,
    lakeflow.workspace_id() AS workspace,
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS name,
    pipeline.type,
    NULLIF(newest.published_by, '') AS run_as,
    newest.config,
    pipeline.created_at AS create_time,
    coalesce(newest.created_at, pipeline.created_at) AS change_time,
    pipeline.deleted_at AS delete_time
FROM rat.pipelines AS pipeline
LEFT JOIN (
    SELECT DISTINCT ON (version.pipeline_id)
        version.pipeline_id,
        version.created_at,
        version.spec -> 'config' AS config,
        release.published_by
    FROM rat.pipeline_versions AS version
    JOIN rat.releases AS release ON release.number = version.release_number
    ORDER BY version.pipeline_id, version.version_number DESC
) AS newest ON newest.pipeline_id = pipeline.id
"""

DIM_PIPELINES = """
SELECT
    pipeline_id AS id,
    workspace_id AS workspace,
    pipeline_name AS name,
    pipeline_type AS type,
    run_as,
    configuration_json AS config,
    create_time,
    change_time,
    delete_time
FROM lakeflow.dim_pipeline
"""

# A retry of ours is another attempt; one of Dagster's is another run of the same root.
RUNS = """
SELECT
    run.id::text AS id,
    lakeflow.workspace_id() AS workspace,
    run.pipeline_id::text AS pipeline,
    CAST(:update_of_run AS jsonb) ->> run.status AS state,
    coalesce(run.started_at, run.created_at) AS period_start_time,
    run.finished_at AS period_end_time,
    CASE WHEN run.full_refresh THEN 'FULL_REFRESH' ELSE 'REFRESH' END AS update_type,
    coalesce(root.value, run.dagster_run_id) AS request,
    CASE
        WHEN run.attempt > 1 OR root.value <> run.dagster_run_id THEN :retry
        ELSE (
            SELECT pair ->> 1
            FROM jsonb_array_elements(CAST(:labels AS jsonb)) WITH ORDINALITY AS label(pair, turn)
            WHERE starts_with(run.trigger, pair ->> 0)
            ORDER BY turn
            LIMIT 1
        )
    END AS trigger_type,
    run.dagster_run_id AS job_run
FROM rat.runs AS run
LEFT JOIN LATERAL (
    SELECT value FROM dagster.run_tags
    WHERE run_id = run.dagster_run_id AND key = 'dagster/root_run_id'
    UNION ALL
    -- What Dagster no longer has only the star remembers.
    SELECT told.request_id
    FROM lakeflow.fact_pipeline_update_timeline AS told
    WHERE told.update_id = run.id::text
        AND NOT EXISTS (SELECT FROM dagster.runs WHERE run_id = run.dagster_run_id)
    LIMIT 1
) AS root ON true
"""

UPDATES = """
SELECT
    update_id AS id,
    workspace_id AS workspace,
    pipeline_id AS pipeline,
    state,
    period_start_time,
    period_end_time,
    update_type,
    request_id AS request,
    trigger_type,
    trigger_details_job_task ->> 'run_id' AS job_run
FROM lakeflow.fact_pipeline_update_timeline
"""

COMPARISONS = (
    Comparison(
        "lakeflow.dim_workspace",
        "the deployment is the one workspace",
        Side("rat.deployment", DEPLOYMENT),
        Side("lakeflow.dim_workspace", WORKSPACES),
        MIRROR,
    ),
    Comparison(
        "lakeflow.dim_pipeline",
        "every pipeline, published or retired, is there as its newest version says",
        Side("rat.pipelines", PIPELINES),
        Side("lakeflow.dim_pipeline", DIM_PIPELINES),
        MIRROR,
    ),
    Comparison(
        "lakeflow.fact_pipeline_update_timeline",
        "every run is an update of its pipeline, with its state, times and trigger",
        Side("rat.runs", RUNS),
        Side("lakeflow.fact_pipeline_update_timeline", UPDATES),
        MIRROR,
    ),
)
