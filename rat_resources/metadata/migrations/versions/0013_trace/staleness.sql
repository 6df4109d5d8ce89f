-- What no longer is as it would be made now, partition by partition of what is served, and why.
-- It is told, never acted upon: the next run, `rat run` or a full refresh makes it anew.

CREATE VIEW trace.staleness AS
WITH standing AS (
    -- A table is one whatever the number of its generations: the last publication knew all of it.
    SELECT partition.*
    FROM (
        SELECT DISTINCT ON (dataset_uuid) dataset_uuid, dataset_version
        FROM trace.partition_versions
        ORDER BY dataset_uuid, materialized_at DESC
    ) AS newest
    JOIN trace.partition_versions AS partition USING (dataset_uuid, dataset_version)
),
producers AS (
    SELECT
        dataset.id AS dataset_uuid,
        job.id AS job_id,
        job.config_hash,
        job.input_datasets,
        last.task_id
    FROM trace.datasets AS dataset
    JOIN trace.jobs AS job
        ON job.active
        AND job.org_id = dataset.org_id
        AND job.dag_name = dataset.producer_dag_name
        AND job.name = dataset.producer_job_name
    LEFT JOIN LATERAL (
        SELECT task.id AS task_id
        FROM trace.jobs AS version
        JOIN trace.tasks AS task ON task.job_id = version.id AND task.status = 'Completed'
        WHERE (version.org_id, version.dag_name, version.name) = (job.org_id, job.dag_name, job.name)
        ORDER BY task.completed_at DESC
        LIMIT 1
    ) AS last ON true
),
-- The inputs that have newer partitions than those that were read.
behind AS (
    SELECT producers.dataset_uuid, min(input.materialized_at) AS since
    FROM producers
    JOIN (SELECT DISTINCT task_id, input_dataset_uuid FROM trace.task_inputs) AS read
        ON read.task_id = producers.task_id
    JOIN standing AS input ON input.dataset_uuid = read.input_dataset_uuid
    LEFT JOIN trace.task_inputs AS version
        ON version.task_id = producers.task_id
        AND version.input_dataset_uuid = input.dataset_uuid
        AND version.input_partition_key = input.partition_key
    WHERE input.materialized_at > coalesce(version.input_version, '-infinity')
    GROUP BY producers.dataset_uuid
),
invalidated AS (
    SELECT producers.dataset_uuid, min(invalidation.created_at) AS since
    FROM producers
    JOIN trace.data_invalidations AS invalidation
        ON invalidation.processed_at IS NULL
        AND invalidation.dataset_uuid::text = ANY(producers.input_datasets)
        AND producers.job_id <> ALL(invalidation.processed_by)
    GROUP BY producers.dataset_uuid
)
SELECT
    served.org_id,
    served.dataset,
    served.dataset_uuid,
    standing.dataset_version,
    standing.partition_key,
    standing.materialized_at,
    standing.row_count,
    standing.dataset_version <> served.dataset_version
        OR standing.config_hash IS DISTINCT FROM producers.config_hash AS by_code,
    behind.since IS NOT NULL AS by_data,
    behind.since AS newer_data_since,
    invalidated.since IS NOT NULL AS by_invalidation,
    invalidated.since AS invalidated_since,
    standing.dataset_version <> served.dataset_version
        OR standing.config_hash IS DISTINCT FROM producers.config_hash
        OR behind.since IS NOT NULL
        OR invalidated.since IS NOT NULL AS is_stale
FROM trace.current_dataset_versions AS served
JOIN standing USING (dataset_uuid)
JOIN producers USING (dataset_uuid)
LEFT JOIN behind USING (dataset_uuid)
LEFT JOIN invalidated USING (dataset_uuid);

COMMENT ON VIEW trace.staleness IS
'Every partition that is served, and whether it is stale: by_code (another definition made it), '
'by_data (an input has been published since it was read), by_invalidation (an input was said to be wrong).';
