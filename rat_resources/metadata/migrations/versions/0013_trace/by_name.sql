-- What each name means today, and the older document's shape over the same rows: addressed by the
-- name of a dataset, one generation each, the one that is served.

CREATE VIEW trace.current_dataset_versions AS
SELECT
    datasets.org_id,
    datasets.id AS dataset_uuid,
    datasets.name AS dataset,
    pins.dataset_version
FROM trace.datasets
JOIN trace.dag_current_versions AS served
    ON served.org_id = datasets.org_id AND served.dag_name = datasets.producer_dag_name
JOIN trace.dag_version_datasets AS pins
    ON pins.dag_version_id = served.dag_version_id AND pins.dataset_uuid = datasets.id;

-- Whose rows a session sees by name: those of SET rat.org = 'slug', everybody's without it.
CREATE VIEW trace.shown_orgs AS
SELECT id AS org_id
FROM trace.orgs
WHERE coalesce(current_setting('rat.org', true), '') IN ('', slug);

CREATE FUNCTION trace.dataset_names(ids text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(datasets.name ORDER BY listed.place), '{}')
    FROM unnest(ids) WITH ORDINALITY AS listed (id, place)
    JOIN trace.datasets ON datasets.id = listed.id::uuid
$$;

CREATE VIEW trace_by_name.jobs AS
SELECT
    jobs.id,
    jobs.org_id,
    jobs.name,
    jobs.dag_name,
    jobs.activation,
    jobs.runtime,
    jobs.operator,
    jobs.source,
    jobs.execution_strategy,
    jobs.idle_timeout,
    jobs.config,
    jobs.config_hash,
    trace.dataset_names(jobs.input_datasets) AS input_datasets,
    trace.dataset_names(jobs.output_datasets) AS output_datasets,
    jobs.update_strategy,
    jobs.unique_key,
    jobs.scaling,
    jobs.timeout_seconds,
    jobs.heartbeat_timeout_seconds,
    jobs.max_attempts,
    jobs.active,
    jobs.created_at,
    jobs.updated_at
FROM trace.jobs
JOIN trace.shown_orgs USING (org_id)
WHERE jobs.active;

CREATE VIEW trace_by_name.task_inputs AS
SELECT
    inputs.task_id,
    datasets.name AS input_dataset,
    inputs.input_partition_key AS input_partition,
    inputs.input_version
FROM trace.task_inputs AS inputs
JOIN trace.datasets ON datasets.id = inputs.input_dataset_uuid
JOIN trace.shown_orgs USING (org_id);

CREATE VIEW trace_by_name.column_lineage AS
SELECT
    outputs.name AS output_dataset,
    edges.output_column,
    inputs.name AS input_dataset,
    edges.input_column,
    edges.job_id
FROM trace.column_lineage AS edges
JOIN trace.datasets AS outputs ON outputs.id = edges.output_dataset_uuid
JOIN trace.datasets AS inputs ON inputs.id = edges.input_dataset_uuid
JOIN trace.shown_orgs ON shown_orgs.org_id = outputs.org_id;

CREATE VIEW trace_by_name.partition_versions AS
SELECT
    served.dataset,
    made.partition_key,
    made.materialized_at AS version,
    made.config_hash,
    made.schema_hash,
    made.location,
    made.row_count,
    made.bytes
FROM trace.partition_versions AS made
JOIN trace.current_dataset_versions AS served USING (dataset_uuid, dataset_version)
JOIN trace.shown_orgs USING (org_id);

CREATE VIEW trace_by_name.dataset_cursors AS
SELECT
    served.dataset,
    cursors.job_id,
    cursors.cursor_column,
    cursors.cursor_value,
    cursors.updated_at
FROM trace.dataset_cursors AS cursors
JOIN trace.current_dataset_versions AS served USING (dataset_uuid, dataset_version)
JOIN trace.shown_orgs USING (org_id);

CREATE VIEW trace_by_name.data_invalidations AS
SELECT
    found.id,
    served.dataset,
    found.scope,
    found.partition_key,
    found.row_filter,
    found.reason,
    found.source_event,
    found.created_at,
    found.processed_by,
    found.processed_at
FROM trace.data_invalidations AS found
JOIN trace.current_dataset_versions AS served USING (dataset_uuid, dataset_version)
JOIN trace.shown_orgs USING (org_id);

-- People write invalidations by hand: a name means the generation that is served now.
CREATE FUNCTION trace_by_name.insert_data_invalidation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    served record;
BEGIN
    SELECT dataset_uuid, dataset_version INTO STRICT served
    FROM trace.current_dataset_versions
    JOIN trace.shown_orgs USING (org_id)
    WHERE dataset = NEW.dataset;
    INSERT INTO trace.data_invalidations
        (id, dataset_uuid, dataset_version, scope, partition_key, row_filter, reason, source_event)
    VALUES (
        coalesce(NEW.id, gen_random_uuid()), served.dataset_uuid, served.dataset_version,
        NEW.scope, NEW.partition_key, NEW.row_filter, NEW.reason, NEW.source_event
    )
    RETURNING id, created_at, processed_by INTO NEW.id, NEW.created_at, NEW.processed_by;
    RETURN NEW;
EXCEPTION
    WHEN no_data_found THEN
        RAISE EXCEPTION 'no published dataset is called %', coalesce(quote_literal(NEW.dataset), 'NULL')
            USING ERRCODE = 'foreign_key_violation',
                HINT = 'SELECT dataset FROM trace.current_dataset_versions lists them';
    WHEN too_many_rows THEN
        RAISE EXCEPTION 'more than one org has a dataset called %', quote_literal(NEW.dataset)
            USING ERRCODE = 'cardinality_violation', HINT = 'say whose: SET rat.org = ''slug''';
END $$;

CREATE TRIGGER insert_by_name INSTEAD OF INSERT ON trace_by_name.data_invalidations
    FOR EACH ROW EXECUTE FUNCTION trace_by_name.insert_data_invalidation();
