-- Every table of Trace, with the constraints and indexes that the models name.

CREATE TABLE trace.orgs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    settings jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_orgs PRIMARY KEY (id),
    CONSTRAINT uq_orgs_slug UNIQUE (slug)
);

CREATE TABLE trace.dag_versions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    dag_name text NOT NULL,
    yaml_hash text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    state text DEFAULT 'staged' NOT NULL,
    CONSTRAINT pk_dag_versions PRIMARY KEY (id),
    CONSTRAINT uq_dag_versions_org_id_dag_name_yaml_hash UNIQUE (org_id, dag_name, yaml_hash),
    CONSTRAINT uq_dag_versions_org_id_dag_name_id UNIQUE (org_id, dag_name, id),
    CONSTRAINT ck_dag_versions_state CHECK (state IN ('staged', 'ready', 'serving', 'retired')),
    CONSTRAINT fk_dag_versions_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id)
);

CREATE UNIQUE INDEX uq_dag_versions_serving ON trace.dag_versions (org_id, dag_name) WHERE state = 'serving';

CREATE TABLE trace.datasets (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    name text NOT NULL,
    producer_dag_name text NOT NULL,
    producer_job_name text NOT NULL,
    producer_output_index integer NOT NULL,
    storage jsonb DEFAULT '{}' NOT NULL,
    read_roles text[] DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_datasets PRIMARY KEY (id),
    CONSTRAINT uq_datasets_org_id_name UNIQUE (org_id, name),
    CONSTRAINT uq_datasets_producer UNIQUE (org_id, producer_dag_name, producer_job_name, producer_output_index),
    CONSTRAINT ck_datasets_name CHECK (btrim(name) <> ''),
    CONSTRAINT ck_datasets_producer_output_index CHECK (producer_output_index >= 0),
    CONSTRAINT fk_datasets_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id)
);

CREATE TABLE trace.org_roles (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_org_roles PRIMARY KEY (id),
    CONSTRAINT uq_org_roles_org_id_slug UNIQUE (org_id, slug),
    CONSTRAINT fk_org_roles_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id)
);

CREATE TABLE trace.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    external_id text NOT NULL,
    email text,
    role text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT ck_users_role CHECK (role IN ('reader', 'writer', 'admin')),
    CONSTRAINT fk_users_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT uq_users_external_id UNIQUE (external_id)
);

CREATE INDEX ix_users_org ON trace.users (org_id);

CREATE TABLE trace.address_labels (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    address text NOT NULL,
    label text NOT NULL,
    visibility text DEFAULT 'private' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_address_labels PRIMARY KEY (id),
    CONSTRAINT uq_address_labels_org_id_user_id_address_label UNIQUE (org_id, user_id, address, label),
    CONSTRAINT ck_address_labels_visibility CHECK (visibility IN ('private', 'org', 'public') OR visibility ~ '^role:.+'),
    CONSTRAINT fk_address_labels_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_address_labels_user_id FOREIGN KEY (user_id) REFERENCES trace.users (id)
);

CREATE INDEX ix_address_labels_address ON trace.address_labels (address);
CREATE INDEX ix_address_labels_user ON trace.address_labels (user_id);

CREATE TABLE trace.alert_definitions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    condition jsonb NOT NULL,
    channels jsonb NOT NULL,
    visibility text DEFAULT 'private' NOT NULL,
    enabled boolean DEFAULT 'true' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_alert_definitions PRIMARY KEY (id),
    CONSTRAINT ck_alert_definitions_visibility CHECK (visibility IN ('private', 'org', 'public') OR visibility ~ '^role:.+'),
    CONSTRAINT fk_alert_definitions_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_alert_definitions_user_id FOREIGN KEY (user_id) REFERENCES trace.users (id)
);

CREATE INDEX ix_alert_definitions_org ON trace.alert_definitions (org_id);

CREATE TABLE trace.dag_current_versions (
    org_id uuid NOT NULL,
    dag_name text NOT NULL,
    dag_version_id uuid NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_dag_current_versions PRIMARY KEY (org_id, dag_name),
    CONSTRAINT fk_dag_current_versions_org_id_dag_name_dag_version_id FOREIGN KEY (org_id, dag_name, dag_version_id) REFERENCES trace.dag_versions (org_id, dag_name, id),
    CONSTRAINT fk_dag_current_versions_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id)
);

CREATE INDEX ix_dag_current_versions_version ON trace.dag_current_versions (dag_version_id);

CREATE TABLE trace.dataset_versions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    dataset_uuid uuid NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    storage_location text NOT NULL,
    config_hash text NOT NULL,
    schema_hash text,
    range_start bigint,
    range_end bigint,
    CONSTRAINT pk_dataset_versions PRIMARY KEY (id),
    CONSTRAINT uq_dataset_versions_dataset_uuid_id UNIQUE (dataset_uuid, id),
    CONSTRAINT uq_dataset_versions_range UNIQUE (dataset_uuid, config_hash, range_start, range_end),
    CONSTRAINT ck_dataset_versions_range CHECK (range_start <= range_end),
    CONSTRAINT fk_dataset_versions_dataset_uuid FOREIGN KEY (dataset_uuid) REFERENCES trace.datasets (id)
);

CREATE TABLE trace.jobs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    name text NOT NULL,
    dag_name text NOT NULL,
    dag_version_id uuid NOT NULL,
    activation text NOT NULL,
    runtime text NOT NULL,
    operator text NOT NULL,
    source jsonb,
    bootstrap jsonb,
    execution_strategy text,
    idle_timeout text,
    config jsonb DEFAULT '{}' NOT NULL,
    config_hash text NOT NULL,
    input_datasets text[] DEFAULT '{}' NOT NULL,
    output_datasets text[] DEFAULT '{}' NOT NULL,
    update_strategy text NOT NULL,
    unique_key text[],
    scaling jsonb,
    timeout_seconds integer,
    heartbeat_timeout_seconds integer,
    max_attempts integer DEFAULT '3' NOT NULL,
    active boolean DEFAULT 'false' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT uq_jobs_dag_version_id_name UNIQUE (dag_version_id, name),
    CONSTRAINT fk_jobs_org_id_dag_name_dag_version_id FOREIGN KEY (org_id, dag_name, dag_version_id) REFERENCES trace.dag_versions (org_id, dag_name, id),
    CONSTRAINT ck_jobs_activation CHECK (activation IN ('source', 'reactive')),
    CONSTRAINT ck_jobs_execution_strategy CHECK (execution_strategy IN ('PerUpdate', 'PerPartition', 'Bulk')),
    CONSTRAINT ck_jobs_source_has_no_strategy CHECK ((activation = 'source') = (execution_strategy IS NULL)),
    CONSTRAINT ck_jobs_update_strategy CHECK (update_strategy IN ('append', 'replace')),
    CONSTRAINT ck_jobs_append_needs_a_key CHECK (update_strategy <> 'append' OR coalesce(cardinality(unique_key), 0) > 0),
    CONSTRAINT ck_jobs_max_attempts CHECK (max_attempts > 0),
    CONSTRAINT ck_jobs_timeout_seconds CHECK (timeout_seconds > 0),
    CONSTRAINT ck_jobs_heartbeat_timeout_seconds CHECK (heartbeat_timeout_seconds > 0),
    CONSTRAINT fk_jobs_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id)
);

CREATE INDEX ix_jobs_inputs ON trace.jobs USING gin (input_datasets) WHERE active;
CREATE UNIQUE INDEX uq_jobs_active ON trace.jobs (org_id, dag_name, name) WHERE active;

CREATE TABLE trace.org_role_memberships (
    role_id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_org_role_memberships PRIMARY KEY (role_id, user_id),
    CONSTRAINT fk_org_role_memberships_role_id FOREIGN KEY (role_id) REFERENCES trace.org_roles (id) ON DELETE CASCADE,
    CONSTRAINT fk_org_role_memberships_user_id FOREIGN KEY (user_id) REFERENCES trace.users (id) ON DELETE CASCADE
);

CREATE INDEX ix_org_role_memberships_user ON trace.org_role_memberships (user_id);

CREATE TABLE trace.saved_queries (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    query text NOT NULL,
    visibility text DEFAULT 'private' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_saved_queries PRIMARY KEY (id),
    CONSTRAINT ck_saved_queries_visibility CHECK (visibility IN ('private', 'org', 'public') OR visibility ~ '^role:.+'),
    CONSTRAINT fk_saved_queries_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_saved_queries_user_id FOREIGN KEY (user_id) REFERENCES trace.users (id)
);

CREATE INDEX ix_saved_queries_org ON trace.saved_queries (org_id);

CREATE TABLE trace.column_lineage (
    output_dataset_uuid uuid NOT NULL,
    output_column text NOT NULL,
    input_dataset_uuid uuid NOT NULL,
    input_column text NOT NULL,
    job_id uuid,
    CONSTRAINT pk_column_lineage PRIMARY KEY (output_dataset_uuid, output_column, input_dataset_uuid, input_column),
    CONSTRAINT fk_column_lineage_output_dataset_uuid FOREIGN KEY (output_dataset_uuid) REFERENCES trace.datasets (id),
    CONSTRAINT fk_column_lineage_input_dataset_uuid FOREIGN KEY (input_dataset_uuid) REFERENCES trace.datasets (id),
    CONSTRAINT fk_column_lineage_job_id FOREIGN KEY (job_id) REFERENCES trace.jobs (id) ON DELETE SET NULL
);

CREATE INDEX ix_column_lineage_input ON trace.column_lineage (input_dataset_uuid, input_column);

CREATE TABLE trace.dag_version_datasets (
    dag_version_id uuid NOT NULL,
    dataset_uuid uuid NOT NULL,
    dataset_version uuid NOT NULL,
    CONSTRAINT pk_dag_version_datasets PRIMARY KEY (dag_version_id, dataset_uuid),
    CONSTRAINT fk_dag_version_datasets_dataset_uuid_dataset_version FOREIGN KEY (dataset_uuid, dataset_version) REFERENCES trace.dataset_versions (dataset_uuid, id),
    CONSTRAINT fk_dag_version_datasets_dag_version_id FOREIGN KEY (dag_version_id) REFERENCES trace.dag_versions (id) ON DELETE CASCADE,
    CONSTRAINT fk_dag_version_datasets_dataset_uuid FOREIGN KEY (dataset_uuid) REFERENCES trace.datasets (id)
);

CREATE INDEX ix_dag_version_datasets_version ON trace.dag_version_datasets (dataset_version);

CREATE TABLE trace.data_invalidations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    dataset_uuid uuid NOT NULL,
    dataset_version uuid NOT NULL,
    scope text NOT NULL,
    partition_key text,
    row_filter jsonb,
    reason text NOT NULL,
    source_event jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    processed_by uuid[] DEFAULT '{}' NOT NULL,
    processed_at timestamptz,
    CONSTRAINT pk_data_invalidations PRIMARY KEY (id),
    CONSTRAINT fk_data_invalidations_dataset_uuid_dataset_version FOREIGN KEY (dataset_uuid, dataset_version) REFERENCES trace.dataset_versions (dataset_uuid, id),
    CONSTRAINT ck_data_invalidations_scope CHECK (scope IN ('partition', 'row_range')),
    CONSTRAINT ck_data_invalidations_what CHECK ((scope = 'partition' AND partition_key IS NOT NULL AND row_filter IS NULL) OR (scope = 'row_range' AND row_filter IS NOT NULL AND partition_key IS NULL)),
    CONSTRAINT ck_data_invalidations_row_filter CHECK (jsonb_typeof(row_filter) = 'object'),
    CONSTRAINT ck_data_invalidations_reason CHECK (reason IN ('reorg', 'correction', 'manual', 'schema_change')),
    CONSTRAINT fk_data_invalidations_dataset_uuid FOREIGN KEY (dataset_uuid) REFERENCES trace.datasets (id)
);

CREATE INDEX ix_data_invalidations_open ON trace.data_invalidations (dataset_uuid, dataset_version) WHERE processed_at IS NULL;

CREATE TABLE trace.dataset_cursors (
    dataset_uuid uuid NOT NULL,
    dataset_version uuid NOT NULL,
    job_id uuid NOT NULL,
    cursor_column text NOT NULL,
    cursor_value text NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_dataset_cursors PRIMARY KEY (dataset_uuid, dataset_version, job_id),
    CONSTRAINT fk_dataset_cursors_dataset_uuid_dataset_version FOREIGN KEY (dataset_uuid, dataset_version) REFERENCES trace.dataset_versions (dataset_uuid, id),
    CONSTRAINT fk_dataset_cursors_dataset_uuid FOREIGN KEY (dataset_uuid) REFERENCES trace.datasets (id),
    CONSTRAINT fk_dataset_cursors_job_id FOREIGN KEY (job_id) REFERENCES trace.jobs (id)
);

CREATE INDEX ix_dataset_cursors_job ON trace.dataset_cursors (job_id);

CREATE TABLE trace.partition_versions (
    dataset_uuid uuid NOT NULL,
    dataset_version uuid NOT NULL,
    partition_key text NOT NULL,
    materialized_at timestamptz DEFAULT now() NOT NULL,
    config_hash text,
    schema_hash text,
    location text,
    row_count bigint,
    bytes bigint,
    CONSTRAINT pk_partition_versions PRIMARY KEY (dataset_uuid, dataset_version, partition_key),
    CONSTRAINT fk_partition_versions_dataset_uuid_dataset_version FOREIGN KEY (dataset_uuid, dataset_version) REFERENCES trace.dataset_versions (dataset_uuid, id),
    CONSTRAINT ck_partition_versions_row_count CHECK (row_count >= 0),
    CONSTRAINT ck_partition_versions_bytes CHECK (bytes >= 0),
    CONSTRAINT fk_partition_versions_dataset_uuid FOREIGN KEY (dataset_uuid) REFERENCES trace.datasets (id)
);

CREATE INDEX ix_partition_versions_time ON trace.partition_versions (materialized_at);

CREATE TABLE trace.tasks (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    job_id uuid NOT NULL,
    dedupe_key text,
    status text DEFAULT 'Queued' NOT NULL,
    attempt integer DEFAULT '1' NOT NULL,
    attempts integer DEFAULT '0' NOT NULL,
    partitions text[],
    input_versions jsonb,
    worker_id text,
    lease_token uuid,
    lease_expires_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    last_heartbeat timestamptz,
    next_retry_at timestamptz,
    error_message text,
    outputs jsonb,
    invalidation_id uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    run_id uuid,
    dagster_run_id VARCHAR(63),
    CONSTRAINT pk_tasks PRIMARY KEY (id),
    CONSTRAINT ck_tasks_status CHECK (status IN ('Queued', 'Running', 'Completed', 'Failed', 'Canceled')),
    CONSTRAINT ck_tasks_lease_token CHECK ((status = 'Running') = (lease_token IS NOT NULL)),
    CONSTRAINT ck_tasks_lease_expires_at CHECK ((lease_token IS NULL) = (lease_expires_at IS NULL)),
    CONSTRAINT ck_tasks_attempt CHECK (attempt >= 1),
    CONSTRAINT ck_tasks_attempts CHECK (attempts = attempt OR (attempts = attempt - 1 AND status IN ('Queued', 'Failed', 'Canceled'))),
    CONSTRAINT ck_tasks_queued CHECK (status <> 'Queued' OR attempts = attempt - 1),
    CONSTRAINT ck_tasks_completed CHECK (status <> 'Completed' OR completed_at IS NOT NULL),
    CONSTRAINT ck_tasks_unfinished CHECK (status NOT IN ('Queued', 'Running') OR completed_at IS NULL),
    CONSTRAINT ck_tasks_retry CHECK (status = 'Failed' OR next_retry_at IS NULL),
    CONSTRAINT fk_tasks_job_id FOREIGN KEY (job_id) REFERENCES trace.jobs (id),
    CONSTRAINT fk_tasks_invalidation_id FOREIGN KEY (invalidation_id) REFERENCES trace.data_invalidations (id)
);

CREATE INDEX ix_tasks_dagster ON trace.tasks (dagster_run_id);
CREATE INDEX ix_tasks_invalidation ON trace.tasks (invalidation_id) WHERE invalidation_id IS NOT NULL;
CREATE INDEX ix_tasks_job ON trace.tasks (job_id, created_at DESC);
CREATE INDEX ix_tasks_lease ON trace.tasks (lease_expires_at) WHERE status = 'Running';
CREATE INDEX ix_tasks_open ON trace.tasks (status, created_at) WHERE status IN ('Queued', 'Running');
CREATE INDEX ix_tasks_retry ON trace.tasks (next_retry_at) WHERE status = 'Failed' AND next_retry_at IS NOT NULL;
CREATE INDEX ix_tasks_run ON trace.tasks (run_id);
CREATE UNIQUE INDEX uq_tasks_dedupe_key ON trace.tasks (job_id, dedupe_key) WHERE dedupe_key IS NOT NULL;

CREATE TABLE trace.alert_events (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    alert_definition_id uuid,
    producer_job_id uuid,
    producer_task_id uuid,
    severity text,
    chain_id bigint,
    block_hash text,
    tx_hash text,
    block_number bigint,
    source_dataset text,
    source_dataset_uuid uuid,
    partition_key text,
    cursor_value text,
    payload jsonb DEFAULT '{}' NOT NULL,
    dedupe_key text NOT NULL,
    event_time timestamptz DEFAULT now() NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_alert_events PRIMARY KEY (id),
    CONSTRAINT uq_alert_events_org_id_dedupe_key UNIQUE (org_id, dedupe_key),
    CONSTRAINT ck_alert_events_severity CHECK (severity IN ('info', 'warning', 'critical')),
    CONSTRAINT fk_alert_events_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_alert_events_alert_definition_id FOREIGN KEY (alert_definition_id) REFERENCES trace.alert_definitions (id),
    CONSTRAINT fk_alert_events_producer_job_id FOREIGN KEY (producer_job_id) REFERENCES trace.jobs (id),
    CONSTRAINT fk_alert_events_producer_task_id FOREIGN KEY (producer_task_id) REFERENCES trace.tasks (id),
    CONSTRAINT fk_alert_events_source_dataset_uuid FOREIGN KEY (source_dataset_uuid) REFERENCES trace.datasets (id)
);

CREATE INDEX ix_alert_events_definition ON trace.alert_events (alert_definition_id);
CREATE INDEX ix_alert_events_time ON trace.alert_events (org_id, created_at DESC);

CREATE TABLE trace.pii_access_log (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    user_id uuid,
    task_id uuid,
    dataset text NOT NULL,
    column_name text,
    record_id uuid,
    action text NOT NULL,
    accessed_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_pii_access_log PRIMARY KEY (id),
    CONSTRAINT ck_pii_access_log_action CHECK (action IN ('read', 'write', 'delete')),
    CONSTRAINT ck_pii_access_log_one_principal CHECK ((user_id IS NULL) <> (task_id IS NULL)),
    CONSTRAINT fk_pii_access_log_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_pii_access_log_user_id FOREIGN KEY (user_id) REFERENCES trace.users (id),
    CONSTRAINT fk_pii_access_log_task_id FOREIGN KEY (task_id) REFERENCES trace.tasks (id)
);

CREATE INDEX ix_pii_access_log_dataset ON trace.pii_access_log (dataset);
CREATE INDEX ix_pii_access_log_org ON trace.pii_access_log (org_id);
CREATE INDEX ix_pii_access_log_task ON trace.pii_access_log (task_id);
CREATE INDEX ix_pii_access_log_time ON trace.pii_access_log (accessed_at);
CREATE INDEX ix_pii_access_log_user ON trace.pii_access_log (user_id);

CREATE TABLE trace.query_results (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    user_id uuid,
    saved_query_id uuid,
    task_id uuid,
    mode text NOT NULL,
    status text NOT NULL,
    sql_hash text NOT NULL,
    output_format text,
    output_location text,
    row_count bigint,
    bytes bigint,
    duration_ms integer,
    error_code text,
    error_message text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_query_results PRIMARY KEY (id),
    CONSTRAINT ck_query_results_mode CHECK (mode IN ('interactive', 'batch')),
    CONSTRAINT ck_query_results_status CHECK (status IN ('Queued', 'Running', 'Succeeded', 'Failed')),
    CONSTRAINT ck_query_results_output_format CHECK (output_format IN ('json', 'csv', 'parquet')),
    CONSTRAINT ck_query_results_batch_has_a_task CHECK (task_id IS NULL OR mode = 'batch'),
    CONSTRAINT ck_query_results_row_count CHECK (row_count >= 0),
    CONSTRAINT ck_query_results_bytes CHECK (bytes >= 0),
    CONSTRAINT ck_query_results_duration_ms CHECK (duration_ms >= 0),
    CONSTRAINT fk_query_results_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_query_results_user_id FOREIGN KEY (user_id) REFERENCES trace.users (id),
    CONSTRAINT fk_query_results_saved_query_id FOREIGN KEY (saved_query_id) REFERENCES trace.saved_queries (id) ON DELETE SET NULL,
    CONSTRAINT fk_query_results_task_id FOREIGN KEY (task_id) REFERENCES trace.tasks (id)
);

CREATE INDEX ix_query_results_org ON trace.query_results (org_id, created_at DESC);
CREATE INDEX ix_query_results_task ON trace.query_results (task_id);
CREATE INDEX ix_query_results_user ON trace.query_results (user_id, created_at DESC);

CREATE TABLE trace.task_inputs (
    task_id uuid NOT NULL,
    input_dataset_uuid uuid NOT NULL,
    input_partition_key text NOT NULL,
    input_version timestamptz NOT NULL,
    CONSTRAINT pk_task_inputs PRIMARY KEY (task_id, input_dataset_uuid, input_partition_key),
    CONSTRAINT fk_task_inputs_task_id FOREIGN KEY (task_id) REFERENCES trace.tasks (id) ON DELETE CASCADE,
    CONSTRAINT fk_task_inputs_input_dataset_uuid FOREIGN KEY (input_dataset_uuid) REFERENCES trace.datasets (id)
);

CREATE INDEX ix_task_inputs_dataset ON trace.task_inputs (input_dataset_uuid, input_partition_key);

CREATE TABLE trace.alert_deliveries (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id uuid NOT NULL,
    alert_event_id uuid NOT NULL,
    channel text NOT NULL,
    status text DEFAULT 'pending' NOT NULL,
    attempt integer DEFAULT '0' NOT NULL,
    next_attempt_at timestamptz DEFAULT now() NOT NULL,
    leased_until timestamptz,
    lease_owner text,
    last_attempt_at timestamptz,
    provider_message_id text,
    error_message text,
    delivered_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_alert_deliveries PRIMARY KEY (id),
    CONSTRAINT uq_alert_deliveries_org_id_alert_event_id_channel UNIQUE (org_id, alert_event_id, channel),
    CONSTRAINT ck_alert_deliveries_channel CHECK (channel IN ('email', 'sms', 'webhook', 'slack', 'pagerduty')),
    CONSTRAINT ck_alert_deliveries_status CHECK (status IN ('pending', 'sending', 'delivered', 'retrying', 'failed')),
    CONSTRAINT ck_alert_deliveries_delivered CHECK ((status = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT ck_alert_deliveries_leased CHECK ((status = 'sending') = (leased_until IS NOT NULL)),
    CONSTRAINT ck_alert_deliveries_attempt CHECK (attempt >= 0),
    CONSTRAINT fk_alert_deliveries_org_id FOREIGN KEY (org_id) REFERENCES trace.orgs (id),
    CONSTRAINT fk_alert_deliveries_alert_event_id FOREIGN KEY (alert_event_id) REFERENCES trace.alert_events (id)
);

CREATE INDEX ix_alert_deliveries_due ON trace.alert_deliveries (status, next_attempt_at);
CREATE INDEX ix_alert_deliveries_event ON trace.alert_deliveries (alert_event_id);
