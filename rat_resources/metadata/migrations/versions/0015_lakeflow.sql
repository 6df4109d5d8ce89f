-- What the reporting star is asked. The workspace is the deployment: an org in an environment.

CREATE FUNCTION lakeflow.workspace_id() RETURNS text
LANGUAGE sql STABLE AS
$$ SELECT org || '/' || environment FROM rat.deployment $$;

-- The same rows under the names of the gold tables.

CREATE VIEW lakeflow.gold_dim_workspace AS
SELECT account_id, workspace_id, workspace_name, workspace_url, create_time, status
FROM lakeflow.dim_workspace;

CREATE VIEW lakeflow.gold_dim_job AS
SELECT
    account_id,
    workspace_id,
    job_id,
    job_name AS name,
    description,
    creator_user_name AS creator_id,
    run_as_user_name AS run_as,
    tags_json,
    change_time,
    delete_time
FROM lakeflow.dim_job;

CREATE VIEW lakeflow.gold_dim_job_task AS
SELECT
    account_id,
    workspace_id,
    job_id,
    task_key,
    depends_on_keys_json,
    change_time,
    delete_time
FROM lakeflow.dim_job_task;

CREATE VIEW lakeflow.gold_dim_pipeline AS
SELECT
    account_id,
    workspace_id,
    pipeline_id,
    pipeline_name AS name,
    pipeline_type,
    creator_user_name AS created_by,
    run_as,
    tags_json,
    configuration_json,
    settings_photon,
    settings_development,
    settings_continuous,
    settings_serverless,
    settings_edition,
    settings_channel,
    change_time,
    delete_time
FROM lakeflow.dim_pipeline;

CREATE VIEW lakeflow.gold_fact_job_run_timeline AS
SELECT
    account_id,
    workspace_id,
    job_id,
    run_id,
    run_type,
    run_name,
    trigger_type,
    period_start_time,
    period_end_time,
    result_state,
    termination_code,
    compute_ids,
    job_parameters,
    run_date,
    run_duration_seconds,
    run_duration_minutes,
    is_success
FROM lakeflow.fact_job_run_timeline;

CREATE VIEW lakeflow.gold_fact_job_task_run_timeline AS
SELECT
    account_id,
    workspace_id,
    job_id,
    run_id AS job_run_id,
    task_run_id AS run_id,
    parent_run_id,
    task_key,
    period_start_time,
    period_end_time,
    result_state,
    termination_code,
    compute_ids_json
FROM lakeflow.fact_job_task_run_timeline;

CREATE VIEW lakeflow.gold_fact_pipeline_update_timeline AS
SELECT
    account_id,
    workspace_id,
    pipeline_id,
    update_id,
    update_type,
    request_id,
    run_as_user_name,
    trigger_type,
    trigger_details_job_task,
    result_state,
    compute_type,
    compute_cluster_id,
    period_start_time,
    period_end_time,
    refresh_selection_json,
    full_refresh_selection_json,
    reset_checkpoint_selection_json
FROM lakeflow.fact_pipeline_update_timeline;
