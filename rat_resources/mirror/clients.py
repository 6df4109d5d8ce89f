"""Our namespaces, pipelines and runs as CHM's clients, pipelines and runs.

All of it follows `rat`, but for what a person set: a client's settings, and whether a pipeline of
the current release is active. External clients and pipelines are left alone.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

from rat_resources.metadata.base import jsonb
from rat_resources.mirror.translations import CHM_SKIPPED, LAYER_TYPES, OF_RUN

CLIENTS = text("""
    INSERT INTO chm.clients (id, name, created_at)
    SELECT
        CASE WHEN EXISTS (
            SELECT FROM chm.clients WHERE clients.id = namespaces.id
        ) THEN gen_random_uuid() ELSE id END,
        name,
        created_at
    FROM rat.namespaces
    -- Where the platform's own landing zone is nobody's client, unless it has pipelines too.
    WHERE name <> 'chm'
        OR EXISTS (SELECT FROM rat.pipelines WHERE namespace = namespaces.name)
    ON CONFLICT (name) DO NOTHING
""")

# A name that was retired and published anew is one pipeline here: runs of both belong to it. An
# external pipeline of the same name or id keeps it, and ours says whose it is.
PIPELINES = text("""
    WITH current AS (
        SELECT COALESCE(max(release_number), 0) AS release FROM rat.current_release
    ),
    each AS (
        SELECT pipelines.*, EXISTS (
            SELECT FROM rat.pipeline_versions
            WHERE pipeline_id = pipelines.id AND release_number <= current.release
        ) AND NOT EXISTS (
            SELECT FROM rat.retired_pipelines
            WHERE pipeline_id = pipelines.id AND release_number <= current.release
        ) AS published
        FROM rat.pipelines CROSS JOIN current
    ),
    known AS (
        SELECT
            namespace,
            concat_ws('.', layer, name) AS name,
            concat_ws('.', namespace, layer, name) AS table_name,
            :types ->> layer AS pipeline_type,
            (array_agg(id ORDER BY created_at, id))[1] AS id,
            (array_agg(description ORDER BY published DESC, created_at DESC, id))[1] AS description,
            min(created_at) AS created_at,
            bool_or(published) AS published
        FROM each
        GROUP BY namespace, layer, each.name
    )
    INSERT INTO chm.pipelines AS ours (
        id, client_id, name, platform, external_id, pipeline_type, description, environment,
        is_active, created_at, origin, table_name, published
    )
    SELECT
        -- Whoever it was called after first: of two as old, the choice would change.
        COALESCE(told.id, known.id),
        clients.id,
        known.name || CASE WHEN EXISTS (
            SELECT FROM chm.pipelines AS other
            WHERE other.client_id = clients.id
                AND other.name = known.name AND other.origin = 'external'
        ) THEN ' (rat)' ELSE '' END,
        'custom',
        known.table_name || CASE WHEN EXISTS (
            SELECT FROM chm.pipelines AS other
            WHERE other.client_id = clients.id AND other.platform = 'custom'
                AND other.external_id = known.table_name AND other.origin = 'external'
        ) THEN ' (rat)' ELSE '' END,
        known.pipeline_type::chm.pipeline_type,
        NULLIF(known.description, ''),
        COALESCE((SELECT environment FROM rat.deployment), 'prod')::chm.environment,
        known.published,
        known.created_at,
        'rat',
        known.table_name,
        known.published
    FROM known
    JOIN chm.clients ON clients.name = known.namespace
    LEFT JOIN chm.pipelines AS told ON told.table_name = known.table_name
    ON CONFLICT (id) DO UPDATE SET
        table_name = excluded.table_name,
        client_id = excluded.client_id,
        name = excluded.name,
        platform = excluded.platform,
        external_id = excluded.external_id,
        pipeline_type = excluded.pipeline_type,
        description = excluded.description,
        environment = excluded.environment,
        -- What a person set since stays, until it is retired or published anew.
        is_active = CASE
            WHEN ours.published = excluded.published THEN ours.is_active
            ELSE excluded.published
        END,
        published = excluded.published
    WHERE (
        ours.client_id, ours.name, ours.platform, ours.external_id, ours.pipeline_type,
        ours.description, ours.environment, ours.published
    ) IS DISTINCT FROM (
        excluded.client_id, excluded.name, excluded.platform, excluded.external_id,
        excluded.pipeline_type, excluded.description, excluded.environment, excluded.published
    )
""").bindparams(bindparam("types", type_=jsonb))

UNKNOWN = text("""
    SELECT EXISTS (
        SELECT FROM rat.runs
        JOIN rat.pipelines ON pipelines.id = runs.pipeline_id
        WHERE runs.id = ANY(:ids) AND NOT EXISTS (
            SELECT FROM chm.pipelines AS ours
            WHERE ours.table_name
                = concat_ws('.', pipelines.namespace, pipelines.layer, pipelines.name)
        )
    )
""")

# Of two that tell the same run at once, the second waits at the index that is checked first: the key.
RUNS = text("""
    WITH told AS (
        SELECT
            runs.*,
            CASE
                WHEN runs.status = 'success' AND runs.unchanged THEN :skipped
                ELSE :words ->> runs.status
            END::chm.run_status AS word,
            ours.id AS ours_id,
            NULLIF(left(split_part(ltrim(runs.error, E' \\n'), E'\\n', 1), 500), '') AS said,
            versions.version_number
        FROM rat.runs
        JOIN rat.pipelines ON pipelines.id = runs.pipeline_id
        JOIN chm.pipelines AS ours ON ours.table_name
            = concat_ws('.', pipelines.namespace, pipelines.layer, pipelines.name)
        LEFT JOIN rat.pipeline_versions AS versions ON versions.id = runs.version_id
        WHERE runs.id = ANY(:ids)
    ),
    written AS (
        INSERT INTO chm.runs AS ours (
            id, pipeline_id, external_run_id, status, started_at, finished_at, duration_seconds,
            rows_processed, error_message, status_reason, payload, created_at
        )
        SELECT
            id,
            ours_id,
            id::text,
            word,
            started_at,
            finished_at,
            duration_ms / 1000,
            rows_written,
            CASE WHEN word = 'failed' THEN said END,
            CASE
                WHEN word = 'skipped' THEN 'nothing new; asked for: ' || trigger
                WHEN word = 'canceled' THEN COALESCE(said, 'cancelled') || '; asked for: ' || trigger
                ELSE 'asked for: ' || trigger
            END,
            jsonb_strip_nulls(jsonb_build_object(
                'dagster_run_id', dagster_run_id,
                'attempt', attempt,
                'trigger', trigger,
                'version', version_number,
                'full_refresh', full_refresh,
                'branch', branch,
                'base_commit', base_commit,
                'commit', commit,
                'snapshot_id', snapshot_id::text,
                'rows_total', rows_total
            )),
            created_at
        FROM told
        ON CONFLICT (id) DO UPDATE SET
            status = excluded.status,
            started_at = excluded.started_at,
            finished_at = excluded.finished_at,
            duration_seconds = excluded.duration_seconds,
            rows_processed = excluded.rows_processed,
            error_message = excluded.error_message,
            status_reason = excluded.status_reason,
            payload = excluded.payload,
            ingested_at = now()
        WHERE (
            ours.status, ours.started_at, ours.finished_at, ours.duration_seconds,
            ours.rows_processed, ours.error_message, ours.status_reason, ours.payload
        ) IS DISTINCT FROM (
            excluded.status, excluded.started_at, excluded.finished_at, excluded.duration_seconds,
            excluded.rows_processed, excluded.error_message, excluded.status_reason, excluded.payload
        )
        -- What somebody else made final stays so: `rat audit` tells of it.
        AND (ours.status = 'running' OR ours.status = excluded.status)
        RETURNING 1
    )
    SELECT count(*) FROM written
""").bindparams(bindparam("words", type_=jsonb))


def reflect_pipelines(tx: Session) -> None:
    """Make our clients and pipelines what `rat` says of namespaces and pipelines, retired ones too."""
    tx.execute(CLIENTS)
    tx.execute(PIPELINES, {"types": dict(LAYER_TYPES)})


def reflect_runs(tx: Session, run_ids: Sequence[uuid.UUID]) -> None:
    """Make our runs what `rat.runs` says of these."""
    words = {status: each.chm for status, each in OF_RUN.items()}
    told = {"ids": list(run_ids), "words": words, "skipped": CHM_SKIPPED}
    written = tx.execute(RUNS, told).scalar_one()
    # A pipeline that was retired before there were clients has not been told of.
    if written < len(run_ids) and tx.execute(UNKNOWN, {"ids": told["ids"]}).scalar():
        reflect_pipelines(tx)
        tx.execute(RUNS, told)


def refind_latest(tx: Session) -> None:
    """Make the latest run of each pipeline what the runs say, as triggers keep it otherwise."""
    tx.execute(text("SELECT chm.refind_latest()"))
