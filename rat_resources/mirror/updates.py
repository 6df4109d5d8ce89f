"""Pipeline updates: pipelines and their runs as the reporting star tells them, from `rat` alone.

A pipeline keeps the id that `rat` gave it, so a name that is published again after it was retired is
another pipeline here too. An update is a row of `rat.runs`; the retries of Dagster share a request.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.mirror.translations import BY_HAND, LABELS, OF_RUN, RETRY
from rat_resources.mirror.workspace import declare_workspace

PIPELINE = """
    SELECT
        lakeflow.workspace_id() AS workspace_id,
        pipeline.id::text AS pipeline_id,
        concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS pipeline_name,
        pipeline.type AS pipeline_type,
        NULLIF(first.published_by, '') AS creator_user_name,
        deployment.org AS account_id,
        NULLIF(newest.published_by, '') AS run_as,
        jsonb_strip_nulls(jsonb_build_object(
            'namespace', pipeline.namespace,
            'layer', pipeline.layer,
            'owner', pipeline.owner,
            'written_by_hand', NULLIF(newest.spec ->> 'hand_written', '')
        )) AS tags_json,
        newest.spec -> 'config' AS configuration_json,
        pipeline.created_at AS create_time,
        COALESCE(newest.created_at, pipeline.created_at) AS change_time,
        pipeline.deleted_at AS delete_time,
        deployment.environment <> 'prod' AS settings_development,
        newest.spec ->> 'automation' = 'eager' AS settings_continuous
    FROM rat.pipelines AS pipeline
    CROSS JOIN rat.deployment AS deployment
    -- The pipeline and the release that brought it were written in one transaction.
    LEFT JOIN LATERAL (
        SELECT release.published_by
        FROM rat.releases AS release
        WHERE release.created_at = pipeline.created_at
        ORDER BY release.number
        LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
        SELECT version.spec, version.created_at, release.published_by
        FROM rat.pipeline_versions AS version
        JOIN rat.releases AS release ON release.number = version.release_number
        WHERE version.pipeline_id = pipeline.id
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS newest ON true
"""
PIPELINE_COLUMNS = (
    "pipeline_name",
    "pipeline_type",
    "creator_user_name",
    "account_id",
    "run_as",
    "tags_json",
    "configuration_json",
    "create_time",
    "change_time",
    "delete_time",
    "settings_development",
    "settings_continuous",
)
UPDATE = """
    SELECT
        lakeflow.workspace_id() AS workspace_id,
        run.id::text AS update_id,
        run.pipeline_id::text AS pipeline_id,
        COALESCE(run.started_at, run.created_at) AS period_start_time,
        (
            SELECT word
            FROM unnest(CAST(:statuses AS text[]), CAST(:states AS text[])) AS said (status, word)
            WHERE status = run.status
        ) AS state,
        deployment.org AS account_id,
        run.finished_at AS period_end_time,
        CASE WHEN run.full_refresh THEN 'FULL_REFRESH' ELSE 'REFRESH' END AS update_type,
        COALESCE(root.value, run.dagster_run_id) AS request_id,
        NULLIF(release.published_by, '') AS run_as_user_name,
        CASE
            WHEN run.attempt > 1 OR root.value <> run.dagster_run_id THEN :retry
            ELSE COALESCE(
                (
                    SELECT word
                    FROM unnest(CAST(:labels AS text[]), CAST(:triggers AS text[]))
                        WITH ORDINALITY AS said (label, word, turn)
                    WHERE starts_with(run.trigger, label)
                    ORDER BY turn
                    LIMIT 1
                ),
                :by_hand
            )
        END AS trigger_type,
        jsonb_build_object('run_id', run.dagster_run_id) AS trigger_details_job_task,
        run.worker AS compute_cluster_id,
        CASE WHEN NOT run.full_refresh THEN
            jsonb_build_array(concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name))
        END AS refresh_selection_json,
        CASE WHEN run.full_refresh THEN
            jsonb_build_array(concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name))
        END AS full_refresh_selection_json
    FROM rat.runs AS run
    JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    CROSS JOIN rat.deployment AS deployment
    LEFT JOIN rat.releases AS release ON release.number = (run.settings ->> 'release')::integer
    LEFT JOIN LATERAL (
        SELECT tag.value
        FROM dagster.run_tags AS tag
        WHERE tag.run_id = run.dagster_run_id AND tag.key = 'dagster/root_run_id'
        UNION ALL
        -- Of a run that Dagster no longer has, what was told of it stands.
        SELECT told.request_id
        FROM lakeflow.fact_pipeline_update_timeline AS told
        WHERE told.workspace_id = lakeflow.workspace_id()
            AND told.update_id = run.id::text
            AND NOT EXISTS (SELECT FROM dagster.runs WHERE run_id = run.dagster_run_id)
        LIMIT 1
    ) AS root ON true
"""
UPDATE_COLUMNS = (
    "pipeline_id",
    "period_start_time",
    "state",
    "account_id",
    "period_end_time",
    "update_type",
    "request_id",
    "run_as_user_name",
    "trigger_type",
    "trigger_details_job_task",
    "compute_cluster_id",
    "refresh_selection_json",
    "full_refresh_selection_json",
)
WORDS = {
    "statuses": [str(status) for status in OF_RUN],
    "states": [words.update for words in OF_RUN.values()],
    "labels": [label for label, _ in LABELS],
    "triggers": [word for _, word in LABELS],
    "retry": RETRY,
    "by_hand": BY_HAND,
}


def reflect_pipelines(tx: Session) -> None:
    """Tell every pipeline that there is or was, as its newest version says."""
    declare_workspace(tx)
    tx.execute(TELL_PIPELINES)


def reflect_updates(tx: Session, run_ids: Sequence[uuid.UUID]) -> None:
    """Tell these runs as updates of their pipelines; telling them again changes nothing."""
    # They were published before there was a star to tell them to.
    if tx.execute(UNTOLD, {"ids": list(run_ids)}).first():
        reflect_pipelines(tx)
    tx.execute(TELL_UPDATES, {"ids": list(run_ids), **WORDS})


def upsert(table: str, *, key: str, columns: Sequence[str], rows: str) -> str:
    """The statement that makes *rows* of *table* what they are told to be, and no row else."""
    names = ", ".join(("workspace_id", key, *columns))
    mine = ", ".join(f"known.{name}" for name in columns)
    told = ", ".join(f"excluded.{name}" for name in columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    # In one order, lest two transactions wait for each other.
    return f"""
        INSERT INTO lakeflow.{table} AS known ({names})
        SELECT {names} FROM ({rows}) AS told ORDER BY {key}
        ON CONFLICT (workspace_id, {key}) DO UPDATE SET {changes}
        WHERE ({mine}) IS DISTINCT FROM ({told})
    """


TELL_PIPELINES = text(
    upsert("dim_pipeline", key="pipeline_id", columns=PIPELINE_COLUMNS, rows=PIPELINE)
)
UNTOLD = text("""
    SELECT 1 FROM rat.runs AS run
    WHERE run.id = ANY(:ids) AND NOT EXISTS (
        SELECT 1 FROM lakeflow.dim_pipeline AS told
        WHERE told.workspace_id = lakeflow.workspace_id()
        AND told.pipeline_id = run.pipeline_id::text
    )
    LIMIT 1
""")
TELL_UPDATES = text(
    upsert(
        "fact_pipeline_update_timeline",
        key="update_id",
        columns=UPDATE_COLUMNS,
        rows=f"{UPDATE} WHERE run.id = ANY(:ids)",
    )
)
