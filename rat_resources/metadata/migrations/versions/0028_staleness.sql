-- What no longer is as it would be made now, and why: a row for each cause, table by table, and what
-- that is of each partition that is served. A view is made where it is read, and so is never older
-- than its inputs; another definition and an invalidation are its matter all the same.

CREATE VIEW trace.stale_because AS
WITH RECURSIVE producers AS (
    SELECT
        dataset.org_id,
        dataset.id AS dataset_uuid,
        dataset.name AS dataset,
        job.id AS job_id,
        job.dag_name,
        job.name AS job_name,
        job.config_hash,
        job.input_datasets,
        job.config ->> 'materialized' = 'view' AS is_view,
        job.config ->> 'merge_strategy' = 'full_refresh' AS is_whole,
        pipeline.id AS pipeline_id,
        newest.version_number,
        newest.code_version,
        last.id AS run_id,
        coalesce(ordinary.id, last.id) AS read_by,
        coalesce(ordinary.started_at, last.started_at) AS started_at,
        last.release_number,
        last.code_version AS made_by
    FROM trace.jobs AS job
    JOIN trace.orgs AS org ON org.id = job.org_id
    JOIN rat.deployment AS deployment ON deployment.org = org.slug
    JOIN trace.datasets AS dataset
        ON dataset.org_id = job.org_id
        AND dataset.producer_dag_name = job.dag_name
        AND dataset.producer_job_name = job.name
    JOIN rat.pipelines AS pipeline
        ON pipeline.deleted_at IS NULL
        AND pipeline.namespace = job.dag_name
        AND pipeline.layer || '.' || pipeline.name = job.name
    JOIN LATERAL (
        SELECT version.version_number, version.code_version
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS newest ON true
    LEFT JOIN LATERAL (
        SELECT
            run.id,
            run.started_at,
            (run.settings ->> 'release')::integer AS release_number,
            version.code_version
        FROM rat.runs AS run
        LEFT JOIN rat.pipeline_versions AS version ON version.id = run.version_id
        WHERE run.pipeline_id = pipeline.id AND run.status = 'success'
        ORDER BY run.finished_at DESC
        LIMIT 1
    ) AS last ON true
    -- A run that made good some rows has read no others of what it pinned.
    LEFT JOIN LATERAL (
        SELECT run.id, run.started_at
        FROM rat.runs AS run
        WHERE run.pipeline_id = pipeline.id
            AND run.status = 'success'
            AND (
                run.trigger NOT LIKE 'invalidation:%'
                OR job.config ->> 'merge_strategy' = 'full_refresh'
                OR run.settings #>> '{scope,level}' = 'table'
            )
        ORDER BY run.finished_at DESC
        LIMIT 1
    ) AS ordinary ON true
    WHERE job.active
),
reads AS (
    SELECT producers.dataset_uuid, input.uuid::uuid AS input_uuid
    FROM producers
    CROSS JOIN LATERAL unnest(producers.input_datasets) AS input (uuid)
),
-- The views that a table is made through, and those that they read.
through AS (
    SELECT reads.dataset_uuid, reads.input_uuid AS view_uuid
    FROM reads
    JOIN producers AS view ON view.dataset_uuid = reads.input_uuid
    WHERE view.is_view
    UNION
    SELECT through.dataset_uuid, reads.input_uuid
    FROM through
    JOIN reads ON reads.dataset_uuid = through.view_uuid
    JOIN producers AS view ON view.dataset_uuid = reads.input_uuid
    WHERE view.is_view
),
defined AS (
    -- Nothing has made it yet, another definition did, or one did that made some partitions of it.
    SELECT
        made.dataset_uuid,
        'definition' AS why,
        CAST(NULL AS text) AS input,
        (
            SELECT min(version.created_at)
            FROM rat.pipeline_versions AS version
            WHERE version.pipeline_id = made.pipeline_id
                AND version.version_number > coalesce(
                    (
                        SELECT max(other.version_number)
                        FROM rat.pipeline_versions AS other
                        WHERE other.pipeline_id = made.pipeline_id
                            AND other.code_version <> made.code_version
                    ),
                    0
                )
        ) AS since,
        CAST(NULL AS uuid) AS invalidation_id
    FROM producers AS made
    WHERE CASE
            WHEN made.made_by <> made.code_version THEN true
            -- It has no rows; but nobody has tested what its readers read.
            WHEN made.is_view THEN made.run_id IS NULL
            WHEN made.run_id IS NULL AND NOT EXISTS (
                SELECT FROM rat.iceberg_tables AS stands
                WHERE concat_ws('.', stands.namespace, stands.layer, stands.name) = made.dataset
            ) THEN true
            WHEN made.is_whole AND made.made_by IS NOT NULL THEN false
            ELSE EXISTS (
                SELECT FROM trace.partition_versions AS partition
                WHERE partition.dataset_uuid = made.dataset_uuid
                    AND partition.dataset_version = (
                        SELECT standing.dataset_version
                        FROM trace.partition_versions AS standing
                        WHERE standing.dataset_uuid = made.dataset_uuid
                        ORDER BY standing.materialized_at DESC
                        LIMIT 1
                    )
                    AND partition.config_hash IS DISTINCT FROM made.config_hash
            ) AND NOT EXISTS (
                -- Made anew by this definition, and what was the same is as it was.
                SELECT FROM rat.runs AS run
                JOIN rat.pipeline_versions AS version ON version.id = run.version_id
                WHERE run.pipeline_id = made.pipeline_id
                    AND run.status = 'success'
                    AND run.full_refresh
                    AND version.code_version = made.code_version
            )
        END
),
defined_above AS (
    SELECT
        made.dataset_uuid,
        'definition' AS why,
        view.dataset AS input,
        (
            SELECT max(version.created_at)
            FROM rat.pipeline_versions AS version
            WHERE version.pipeline_id = view.pipeline_id
                AND version.version_number = view.version_number
        ) AS since,
        CAST(NULL AS uuid) AS invalidation_id
    FROM through
    JOIN producers AS made USING (dataset_uuid)
    JOIN producers AS view ON view.dataset_uuid = through.view_uuid
    JOIN LATERAL (
        SELECT version.code_version
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = view.pipeline_id
            AND version.release_number <= made.release_number
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS was ON was.code_version <> view.code_version
    WHERE NOT made.is_view
),
-- What was read is not what stands now. What a run changed that an invalidation asked for, it told by
-- another invalidation.
moved AS (
    SELECT
        made.dataset_uuid,
        'data' AS why,
        concat_ws('.', pin.namespace, pin.layer, pin.name) AS input,
        coalesce(news.since, stands.updated_at) AS since,
        CAST(NULL AS uuid) AS invalidation_id
    FROM producers AS made
    JOIN rat.run_inputs AS pin ON pin.run_id = made.read_by
    JOIN rat.iceberg_tables AS stands
        ON (stands.namespace, stands.layer, stands.name) = (pin.namespace, pin.layer, pin.name)
    LEFT JOIN rat.run_inputs AS newest
        ON newest.run_id = made.run_id
        AND (newest.namespace, newest.layer, newest.name) = (pin.namespace, pin.layer, pin.name)
    CROSS JOIN LATERAL (
        SELECT min(run.finished_at) AS since
        FROM rat.pipelines AS source
        JOIN rat.runs AS run ON run.pipeline_id = source.id
        WHERE (source.namespace, source.layer, source.name)
                = (pin.namespace, pin.layer, pin.name)
            AND run.status = 'success'
            AND NOT run.unchanged
            AND run.trigger NOT LIKE 'invalidation:%'
            AND run.snapshot_id IS DISTINCT FROM pin.snapshot_id
            AND run.finished_at > coalesce(
                (
                    SELECT max(pinned.finished_at)
                    FROM rat.runs AS pinned
                    WHERE pinned.pipeline_id = source.id
                        AND pinned.status = 'success'
                        AND pinned.snapshot_id = pin.snapshot_id
                        AND pinned.finished_at > made.started_at
                ),
                made.started_at
            )
    ) AS news
    WHERE NOT made.is_view
        AND stands.snapshot_id IS DISTINCT FROM pin.snapshot_id
        AND (
            news.since IS NOT NULL
            -- What somebody else committed since it was described may have been read already.
            OR newest.snapshot_id IS DISTINCT FROM stands.snapshot_id
                AND stands.updated_at > made.started_at
        )
),
-- Files that it has not read.
landed AS (
    SELECT
        dataset_uuid,
        'data' AS why,
        source.name AS input,
        min(file.uploaded_at) AS since,
        CAST(NULL AS uuid) AS invalidation_id
    FROM rat.landing_zones AS zone
    JOIN trace.datasets AS source
        ON source.name = concat_ws('.', zone.namespace, 'landing', zone.name)
    JOIN reads ON reads.input_uuid = source.id
    JOIN producers AS made USING (dataset_uuid)
    JOIN rat.landing_files AS file ON file.zone_id = zone.id AND file.state = 'present'
    WHERE NOT made.is_view
        AND NOT EXISTS (
            SELECT FROM rat.landing_claims AS claim
            WHERE claim.file_id = file.id
                AND claim.pipeline_id = made.pipeline_id
                AND claim.state = 'committed'
        )
    GROUP BY dataset_uuid, source.name
),
invalidated AS (
    SELECT
        made.dataset_uuid,
        'invalidation' AS why,
        wrong.name AS input,
        told.created_at AS since,
        told.id AS invalidation_id
    FROM trace.data_invalidations AS told
    JOIN trace.datasets AS wrong ON wrong.id = told.dataset_uuid
    JOIN reads ON reads.input_uuid = told.dataset_uuid
    JOIN producers AS made ON made.dataset_uuid = reads.dataset_uuid
    WHERE told.processed_at IS NULL
        AND told.problem IS NULL
        AND EXISTS (
            SELECT FROM trace.current_dataset_versions AS served
            WHERE (served.dataset_uuid, served.dataset_version)
                = (told.dataset_uuid, told.dataset_version)
        )
        AND NOT EXISTS (
            SELECT FROM trace.jobs AS done
            WHERE done.id = ANY(told.processed_by)
                AND (done.org_id, done.dag_name, done.name)
                    = (made.org_id, made.dag_name, made.job_name)
        )
)
SELECT
    made.org_id,
    made.dataset,
    made.dataset_uuid,
    cause.why,
    cause.input,
    cause.since,
    cause.invalidation_id
FROM (
    SELECT * FROM defined
    UNION ALL SELECT * FROM defined_above
    UNION ALL SELECT * FROM moved
    UNION ALL SELECT * FROM landed
    UNION ALL SELECT * FROM invalidated
) AS cause
JOIN producers AS made USING (dataset_uuid);

COMMENT ON VIEW trace.stale_because IS
'Every table that would be made otherwise now, with a row for each cause: data (an input was published '
'since it was read, or files landed), invalidation (an input was said to be wrong), definition (another '
'one made it, or none has yet); the input, and since when.';

CREATE VIEW trace.staleness AS
WITH causes AS (
    SELECT
        dataset_uuid,
        bool_or(why = 'definition') AS by_code,
        bool_or(why = 'definition' AND input IS NOT NULL) AS by_code_above,
        bool_or(why = 'data') AS by_data,
        min(since) FILTER (WHERE why = 'data') AS newer_data_since,
        bool_or(why = 'invalidation') AS by_invalidation,
        min(since) FILTER (WHERE why = 'invalidation') AS invalidated_since,
        min(since) FILTER (WHERE why = 'definition') AS changed_since,
        array_agg(DISTINCT input ORDER BY input) FILTER (WHERE input IS NOT NULL) AS inputs
    FROM trace.stale_because
    GROUP BY dataset_uuid
),
-- First table by table: there may be a hundred partitions to each.
tables AS MATERIALIZED (
    SELECT
        served.org_id,
        served.dataset,
        served.dataset_uuid,
        newest.dataset_version,
        job.config_hash,
        coalesce(causes.by_code, false) AS by_code,
        coalesce(causes.by_code_above, false) AS by_code_above,
        coalesce(causes.by_data, false) AS by_data,
        coalesce(causes.by_invalidation, false) AS by_invalidation,
        causes.changed_since,
        causes.newer_data_since,
        causes.invalidated_since,
        causes.inputs
    FROM trace.current_dataset_versions AS served
    JOIN trace.datasets AS dataset ON dataset.id = served.dataset_uuid
    JOIN trace.jobs AS job
        ON job.active
        AND job.org_id = dataset.org_id
        AND job.dag_name = dataset.producer_dag_name
        AND job.name = dataset.producer_job_name
    -- A table is one whatever the number of its generations: the last publication knew all of it.
    JOIN LATERAL (
        SELECT made.dataset_version
        FROM trace.partition_versions AS made
        WHERE made.dataset_uuid = served.dataset_uuid
        ORDER BY made.materialized_at DESC
        LIMIT 1
    ) AS newest ON true
    LEFT JOIN causes USING (dataset_uuid)
),
judged AS (
    SELECT
        tables.org_id,
        tables.dataset,
        dataset_uuid,
        dataset_version,
        partition.partition_key,
        partition.materialized_at,
        partition.row_count,
        tables.by_code_above
            OR tables.by_code AND partition.config_hash IS DISTINCT FROM tables.config_hash AS by_code,
        tables.changed_since,
        tables.by_data,
        tables.newer_data_since,
        tables.by_invalidation,
        tables.invalidated_since,
        tables.inputs
    FROM tables
    JOIN trace.partition_versions AS partition USING (dataset_uuid, dataset_version)
)
SELECT *, by_code OR by_data OR by_invalidation AS is_stale
FROM judged;

COMMENT ON VIEW trace.staleness IS
'Every partition that is served, and whether it is stale: by_code (another definition made it), '
'by_data (an input has been published since it was read), by_invalidation (an input was said to be wrong).';
