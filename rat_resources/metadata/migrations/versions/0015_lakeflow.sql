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

-- The metrics. Each looks back *days* from *as_of*, by when runs started; what happened after *as_of*
-- is not known yet. Finished is whatever has a result; a failure is FAILED, ERROR or TIMED_OUT, so
-- a run that was cancelled or skipped is neither a success nor a failure. Durations are of whole runs.

CREATE FUNCTION lakeflow.percent(part numeric, whole numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT round(100.0 * part / NULLIF(whole, 0), 2) $$;

-- The runs of a window as they stood at its end.
CREATE FUNCTION lakeflow.job_runs(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    run_id text,
    started_at timestamptz,
    ended_at timestamptz,
    result_state text,
    seconds bigint,
    trigger_type text,
    is_success boolean,
    is_failure boolean
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        run.workspace_id,
        run.job_id,
        run.run_id,
        run.period_start_time,
        CASE WHEN run.period_end_time <= as_of THEN run.period_end_time END,
        CASE WHEN run.period_end_time <= as_of THEN run.result_state END,
        CASE WHEN run.period_end_time <= as_of THEN run.run_duration_seconds END,
        run.trigger_type,
        COALESCE(run.period_end_time <= as_of AND run.result_state IN ('SUCCEEDED', 'SUCCESS'), false),
        COALESCE(run.period_end_time <= as_of AND run.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT'), false)
    FROM lakeflow.fact_job_run_timeline AS run
    WHERE run.period_start_time > as_of - days * INTERVAL '1 day'
        AND run.period_start_time <= as_of
$$;

-- Rates of each job; the ones *of_all* divide by unfinished runs too, as the metric views of the source do.
CREATE FUNCTION lakeflow.job_rates(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    runs bigint,
    finished bigint,
    succeeded bigint,
    failed bigint,
    timed_out bigint,
    cancelled bigint,
    skipped bigint,
    repairs bigint,
    success_rate numeric,
    success_rate_of_all numeric,
    failure_rate numeric,
    failure_rate_of_all numeric,
    unsuccessful_rate_of_all numeric,
    timeout_rate numeric,
    cancel_rate numeric,
    skip_rate numeric,
    repair_rate numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            run.workspace_id,
            run.job_id,
            count(*) AS runs,
            count(run.result_state) AS finished,
            count(*) FILTER (WHERE run.is_success) AS succeeded,
            count(*) FILTER (WHERE run.is_failure) AS failed,
            count(*) FILTER (WHERE run.result_state = 'TIMED_OUT') AS timed_out,
            count(*) FILTER (WHERE run.result_state = 'CANCELLED') AS cancelled,
            count(*) FILTER (WHERE run.result_state = 'SKIPPED') AS skipped,
            count(*) FILTER (WHERE run.trigger_type IN ('ONETIME_RETRY', 'RETRY')) AS repairs
        FROM lakeflow.job_runs(as_of, days) AS run
        GROUP BY run.workspace_id, run.job_id
    )

    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        each.runs,
        each.finished,
        each.succeeded,
        each.failed,
        each.timed_out,
        each.cancelled,
        each.skipped,
        each.repairs,
        lakeflow.percent(each.succeeded, each.finished),
        lakeflow.percent(each.succeeded, each.runs),
        lakeflow.percent(each.failed, each.finished),
        lakeflow.percent(each.failed - each.timed_out, each.runs),
        lakeflow.percent(each.runs - each.succeeded, each.runs),
        lakeflow.percent(each.timed_out, each.finished),
        lakeflow.percent(each.cancelled, each.finished),
        lakeflow.percent(each.skipped, each.finished),
        lakeflow.percent(each.repairs, each.runs)
    FROM counted AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    ORDER BY each.runs DESC, each.workspace_id, each.job_id
$$;

-- The same over all jobs.
CREATE FUNCTION lakeflow.rates(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    jobs bigint,
    runs bigint,
    finished bigint,
    succeeded bigint,
    failed bigint,
    timed_out bigint,
    cancelled bigint,
    skipped bigint,
    repairs bigint,
    success_rate numeric,
    success_rate_of_all numeric,
    failure_rate numeric,
    timeout_rate numeric,
    cancel_rate numeric,
    skip_rate numeric,
    repair_rate numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            count(*) AS jobs,
            COALESCE(sum(each.runs), 0)::bigint AS runs,
            COALESCE(sum(each.finished), 0)::bigint AS finished,
            COALESCE(sum(each.succeeded), 0)::bigint AS succeeded,
            COALESCE(sum(each.failed), 0)::bigint AS failed,
            COALESCE(sum(each.timed_out), 0)::bigint AS timed_out,
            COALESCE(sum(each.cancelled), 0)::bigint AS cancelled,
            COALESCE(sum(each.skipped), 0)::bigint AS skipped,
            COALESCE(sum(each.repairs), 0)::bigint AS repairs
        FROM lakeflow.job_rates(as_of, days) AS each
    )

    SELECT
        jobs,
        runs,
        finished,
        succeeded,
        failed,
        timed_out,
        cancelled,
        skipped,
        repairs,
        lakeflow.percent(succeeded, finished),
        lakeflow.percent(succeeded, runs),
        lakeflow.percent(failed, finished),
        lakeflow.percent(timed_out, finished),
        lakeflow.percent(cancelled, finished),
        lakeflow.percent(skipped, finished),
        lakeflow.percent(repairs, runs)
    FROM counted
$$;

CREATE FUNCTION lakeflow.low_success_jobs(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 7,
    at_least integer DEFAULT 5,
    top integer DEFAULT 15
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    runs bigint,
    finished bigint,
    failed bigint,
    success_rate numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        workspace_id,
        job_id,
        job_name,
        runs,
        finished,
        failed,
        success_rate
    FROM lakeflow.job_rates(as_of, days)
    WHERE finished >= at_least
    ORDER BY success_rate, failed DESC, workspace_id, job_id
    LIMIT top
$$;

-- Jobs of which fewer than *below* percent succeeded just now.
CREATE FUNCTION lakeflow.success_drops(
    as_of timestamptz DEFAULT now(),
    hours double precision DEFAULT 1,
    below numeric DEFAULT 90
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    finished bigint,
    failed bigint,
    success_rate numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        workspace_id,
        job_id,
        job_name,
        finished,
        failed,
        success_rate
    FROM lakeflow.job_rates(as_of, hours / 24)
    WHERE success_rate < below
    ORDER BY success_rate, failed DESC, workspace_id, job_id
$$;

-- How long the runs of each job take, in seconds; of successful ones, or of all that have *finished*.
CREATE FUNCTION lakeflow.job_durations(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 7,
    at_least integer DEFAULT 5,
    finished boolean DEFAULT false
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    runs bigint,
    average numeric,
    p50 double precision,
    p75 double precision,
    p90 double precision,
    p95 double precision,
    p99 double precision,
    longest bigint,
    deviation numeric,
    variation numeric,
    skew numeric,
    tail numeric,
    long_runs bigint,
    very_long_runs bigint,
    long_share numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH measured AS (
        SELECT
            run.workspace_id,
            run.job_id,
            count(*) AS runs,
            avg(run.seconds) AS average,
            percentile_cont(ARRAY[0.5, 0.75, 0.9, 0.95, 0.99])
                WITHIN GROUP (ORDER BY run.seconds) AS p,
            max(run.seconds) AS longest,
            stddev_samp(run.seconds) AS deviation,
            count(*) FILTER (WHERE run.seconds > 60 * 60) AS long_runs,
            count(*) FILTER (WHERE run.seconds > 240 * 60) AS very_long_runs
        FROM lakeflow.job_runs(as_of, days) AS run
        WHERE run.seconds IS NOT NULL AND (finished OR run.is_success)
        GROUP BY run.workspace_id, run.job_id
        HAVING count(*) >= at_least
    )

    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        each.runs,
        round(each.average, 2),
        each.p[1],
        each.p[2],
        each.p[3],
        each.p[4],
        each.p[5],
        each.longest,
        round(each.deviation, 2),
        round(each.deviation / NULLIF(each.average, 0), 4),
        round((each.p[3] / NULLIF(each.p[1], 0))::numeric, 4),
        round((each.p[5] / NULLIF(each.p[4], 0))::numeric, 4),
        each.long_runs,
        each.very_long_runs,
        lakeflow.percent(each.long_runs, each.runs)
    FROM measured AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    ORDER BY each.average DESC, each.workspace_id, each.job_id
$$;

-- Jobs whose longest run is far from what nine in ten need.
CREATE FUNCTION lakeflow.outliers(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 7,
    at_least integer DEFAULT 5,
    factor numeric DEFAULT 1.5
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    runs bigint,
    p90 double precision,
    longest bigint,
    deviation double precision
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        workspace_id,
        job_id,
        job_name,
        runs,
        p90,
        longest,
        longest - p90
    FROM lakeflow.job_durations(as_of, days, at_least, true)
    WHERE longest > factor * p90
    ORDER BY longest - p90 DESC, workspace_id, job_id
$$;

-- The share of each job's successful runs that took no longer than *minutes*.
CREATE FUNCTION lakeflow.sla_compliance(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 7,
    minutes double precision DEFAULT 60,
    at_least integer DEFAULT 3
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    successful bigint,
    in_time bigint,
    compliance numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            run.workspace_id,
            run.job_id,
            count(*) AS successful,
            count(*) FILTER (WHERE run.seconds <= minutes * 60) AS in_time
        FROM lakeflow.job_runs(as_of, days) AS run
        WHERE run.is_success
        GROUP BY run.workspace_id, run.job_id
        HAVING count(*) >= at_least
    )

    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        each.successful,
        each.in_time,
        lakeflow.percent(each.in_time, each.successful)
    FROM counted AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    ORDER BY lakeflow.percent(each.in_time, each.successful), each.workspace_id, each.job_id
$$;

-- A row for each day that had runs; the averages are over it and the six such days before it, of
-- which the six calendar days before the window count too.
CREATE FUNCTION lakeflow.daily_trend(
    as_of timestamptz DEFAULT now(), days integer DEFAULT 30
)
RETURNS TABLE (
    day date,
    runs bigint,
    finished bigint,
    failed bigint,
    failure_rate numeric,
    failing_jobs bigint,
    runs_average numeric,
    failure_rate_average numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT calendar.starts_at::date AS day, each.*
        FROM generate_series(
            date_trunc('day', as_of AT TIME ZONE 'UTC') - (days + 5) * INTERVAL '1 day',
            as_of AT TIME ZONE 'UTC',
            INTERVAL '1 day'
        ) AS calendar (starts_at)
        -- Day by day: which day it was, need not be computed of every run.
        CROSS JOIN LATERAL (
            SELECT
                count(*) AS runs,
                count(run.result_state) FILTER (WHERE run.period_end_time <= as_of) AS finished,
                count(*) FILTER (
                    WHERE run.period_end_time <= as_of
                        AND run.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')
                ) AS failed
            FROM lakeflow.fact_job_run_timeline AS run
            WHERE run.period_start_time >= calendar.starts_at AT TIME ZONE 'UTC'
                AND run.period_start_time < (calendar.starts_at + INTERVAL '1 day') AT TIME ZONE 'UTC'
                AND run.period_start_time <= as_of
        ) AS each
        WHERE each.runs > 0
    ),

    failing AS (
        SELECT
            (run.period_start_time AT TIME ZONE 'UTC')::date AS day,
            count(DISTINCT (run.workspace_id, run.job_id)) AS jobs
        FROM lakeflow.fact_job_run_timeline AS run
        WHERE run.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')
            AND run.period_start_time >= date_trunc('day', as_of, 'UTC') - (days - 1) * INTERVAL '1 day'
            AND run.period_start_time <= as_of
            AND run.period_end_time <= as_of
        GROUP BY 1
    ),

    averaged AS (
        SELECT
            each.*,
            lakeflow.percent(each.failed, each.finished) AS failure_rate,
            round(avg(each.runs) OVER week, 2) AS runs_average,
            round(avg(lakeflow.percent(each.failed, each.finished)) OVER week, 2) AS failure_rate_average
        FROM counted AS each
        WINDOW week AS (ORDER BY each.day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)
    )

    SELECT
        each.day,
        each.runs,
        each.finished,
        each.failed,
        each.failure_rate,
        COALESCE(failing.jobs, 0),
        each.runs_average,
        each.failure_rate_average
    FROM averaged AS each
    LEFT JOIN failing ON failing.day = each.day
    WHERE each.day > (as_of AT TIME ZONE 'UTC')::date - days
    ORDER BY each.day
$$;

-- The days on which a job ran more than once.
CREATE FUNCTION lakeflow.retries(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    day date,
    runs bigint,
    retries bigint,
    failed bigint,
    eventual_success boolean
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            run.workspace_id,
            run.job_id,
            (run.started_at AT TIME ZONE 'UTC')::date AS day,
            count(*) AS runs,
            count(*) FILTER (WHERE run.is_failure) AS failed,
            bool_or(run.is_success) AS eventual_success
        FROM lakeflow.job_runs(as_of, days) AS run
        GROUP BY 1, 2, 3
        HAVING count(*) > 1
    )

    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        each.day,
        each.runs,
        each.runs - 1,
        each.failed,
        each.eventual_success
    FROM counted AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    ORDER BY each.day DESC, each.runs DESC, each.workspace_id, each.job_id
$$;

-- Every failure that the very next run of its job made good.
CREATE FUNCTION lakeflow.repairs(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    failed_run_id text,
    failed_at timestamptz,
    repaired_by text,
    repaired_at timestamptz,
    seconds bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        failed.workspace_id,
        failed.job_id,
        failed.run_id,
        failed.period_end_time,
        following.run_id,
        following.period_end_time,
        GREATEST(0, floor(EXTRACT(epoch FROM following.period_end_time - failed.period_end_time)))::bigint
    FROM lakeflow.fact_job_run_timeline AS failed
    CROSS JOIN LATERAL (
        SELECT run.run_id, run.period_end_time, run.result_state
        FROM lakeflow.fact_job_run_timeline AS run
        WHERE run.workspace_id = failed.workspace_id
            AND run.job_id = failed.job_id
            AND run.period_start_time > failed.period_start_time
            AND run.period_start_time <= as_of
            AND run.period_end_time <= as_of
            AND run.result_state IS NOT NULL
        ORDER BY run.period_start_time
        LIMIT 1
    ) AS following
    WHERE failed.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')
        AND failed.period_start_time > as_of - days * INTERVAL '1 day'
        AND failed.period_start_time <= as_of
        AND failed.period_end_time <= as_of
        AND following.result_state IN ('SUCCEEDED', 'SUCCESS')
    ORDER BY following.period_end_time DESC, failed.run_id
$$;

-- Every streak of failures that a success of the window ended: from the end of its first failure,
-- which may lie before the window, to the end of that success.
CREATE FUNCTION lakeflow.recoveries(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    failures bigint,
    failed_at timestamptz,
    recovered_at timestamptz,
    seconds bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH open_before AS (
        SELECT
            job.workspace_id,
            job.job_id,
            before.failures,
            before.failed_at
        FROM lakeflow.dim_job AS job
        -- Most jobs succeeded last, and then there is nothing to count.
        CROSS JOIN LATERAL (
            SELECT newest.result_state
            FROM lakeflow.fact_job_run_timeline AS newest
            WHERE newest.workspace_id = job.workspace_id
                AND newest.job_id = job.job_id
                AND newest.period_start_time <= as_of - days * INTERVAL '1 day'
                AND newest.period_end_time <= as_of
                AND newest.result_state IN ('SUCCEEDED', 'SUCCESS', 'FAILED', 'ERROR', 'TIMED_OUT')
            ORDER BY newest.period_start_time DESC
            LIMIT 1
        ) AS decided
        CROSS JOIN LATERAL (
            SELECT
                count(*) AS failures,
                min(run.period_end_time) AS failed_at
            FROM lakeflow.fact_job_run_timeline AS run
            WHERE run.workspace_id = job.workspace_id
                AND run.job_id = job.job_id
                AND run.period_start_time <= as_of - days * INTERVAL '1 day'
                AND run.period_end_time <= as_of
                AND run.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')
                AND run.period_start_time > COALESCE(
                    (
                        SELECT success.period_start_time
                        FROM lakeflow.fact_job_run_timeline AS success
                        WHERE success.workspace_id = job.workspace_id
                            AND success.job_id = job.job_id
                            AND success.period_start_time <= as_of - days * INTERVAL '1 day'
                            AND success.period_end_time <= as_of
                            AND success.result_state IN ('SUCCEEDED', 'SUCCESS')
                        ORDER BY success.period_start_time DESC
                        LIMIT 1
                    ),
                    '-infinity'
                )
        ) AS before
        WHERE decided.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')
    ),

    failed AS (
        SELECT
            each.workspace_id,
            each.job_id,
            each.failures,
            each.failed_at,
            as_of - days * INTERVAL '1 day' AS started_at
        FROM open_before AS each
        UNION ALL
        SELECT
            run.workspace_id,
            run.job_id,
            1,
            run.period_end_time,
            run.period_start_time
        FROM lakeflow.fact_job_run_timeline AS run
        WHERE run.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')
            AND run.period_start_time > as_of - days * INTERVAL '1 day'
            AND run.period_start_time <= as_of
            AND run.period_end_time <= as_of
    )

    SELECT
        each.workspace_id,
        each.job_id,
        sum(each.failures)::bigint,
        min(each.failed_at),
        recovered.recovered_at,
        GREATEST(0, floor(EXTRACT(epoch FROM recovered.recovered_at - min(each.failed_at))))::bigint
    FROM failed AS each
    CROSS JOIN LATERAL (
        SELECT success.period_end_time AS recovered_at
        FROM lakeflow.fact_job_run_timeline AS success
        WHERE success.workspace_id = each.workspace_id
            AND success.job_id = each.job_id
            AND success.period_start_time > each.started_at
            AND success.period_start_time <= as_of
            AND success.period_end_time <= as_of
            AND success.result_state IN ('SUCCEEDED', 'SUCCESS')
        ORDER BY success.period_start_time
        LIMIT 1
    ) AS recovered
    GROUP BY each.workspace_id, each.job_id, recovered.recovered_at
    ORDER BY recovered.recovered_at DESC, each.workspace_id, each.job_id
$$;

-- The mean time to recovery of each job.
CREATE FUNCTION lakeflow.mttr(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    recoveries bigint,
    failures bigint,
    mttr_seconds numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        count(*),
        sum(each.failures)::bigint,
        round(avg(each.seconds), 2)
    FROM lakeflow.recoveries(as_of, days) AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    GROUP BY each.workspace_id, each.job_id, job.job_name
    ORDER BY avg(each.seconds) DESC, each.workspace_id, each.job_id
$$;

-- Jobs whose successful runs of the last *days* took longer than *factor* times those of the *days* before.
CREATE FUNCTION lakeflow.regressions(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 7,
    factor numeric DEFAULT 1.2
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    runs bigint,
    average numeric,
    previous_runs bigint,
    previous_average numeric,
    ratio numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH compared AS (
        SELECT
            run.workspace_id,
            run.job_id,
            count(*) FILTER (WHERE run.started_at > as_of - days * INTERVAL '1 day') AS runs,
            avg(run.seconds) FILTER (WHERE run.started_at > as_of - days * INTERVAL '1 day') AS average,
            count(*) FILTER (WHERE run.started_at <= as_of - days * INTERVAL '1 day') AS previous_runs,
            avg(run.seconds) FILTER (WHERE run.started_at <= as_of - days * INTERVAL '1 day')
                AS previous_average
        FROM lakeflow.job_runs(as_of, 2 * days) AS run
        WHERE run.is_success
        GROUP BY run.workspace_id, run.job_id
    )

    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        each.runs,
        round(each.average, 2),
        each.previous_runs,
        round(each.previous_average, 2),
        round(each.average / NULLIF(each.previous_average, 0), 4)
    FROM compared AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    WHERE each.average > factor * each.previous_average
    ORDER BY each.average / NULLIF(each.previous_average, 0) DESC, each.workspace_id, each.job_id
$$;

-- Each successful run of the window beside the success before it, which may lie before the window.
CREATE FUNCTION lakeflow.compared_runs(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 1
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    run_id text,
    started_at timestamptz,
    seconds bigint,
    previous_seconds bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        run.workspace_id,
        run.job_id,
        run.run_id,
        run.started_at,
        run.seconds,
        COALESCE(
            lag(run.seconds) OVER (
                PARTITION BY run.workspace_id, run.job_id ORDER BY run.started_at, run.run_id
            ),
            (
                SELECT before.run_duration_seconds
                FROM lakeflow.fact_job_run_timeline AS before
                WHERE before.workspace_id = run.workspace_id
                    AND before.job_id = run.job_id
                    AND before.period_start_time <= as_of - days * INTERVAL '1 day'
                    AND before.result_state IN ('SUCCEEDED', 'SUCCESS')
                    AND before.period_end_time <= as_of
                ORDER BY before.period_start_time DESC
                LIMIT 1
            )
        )
    FROM lakeflow.job_runs(as_of, days) AS run
    WHERE run.is_success
$$;

CREATE FUNCTION lakeflow.slow_runs(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 1,
    factor numeric DEFAULT 1.5,
    over_seconds integer DEFAULT 300
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    run_id text,
    started_at timestamptz,
    seconds bigint,
    previous_seconds bigint,
    ratio numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        run.workspace_id,
        run.job_id,
        job.job_name,
        run.run_id,
        run.started_at,
        run.seconds,
        run.previous_seconds,
        round(run.seconds::numeric / NULLIF(run.previous_seconds, 0), 4)
    FROM lakeflow.compared_runs(as_of, days) AS run
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    WHERE run.seconds > over_seconds AND run.seconds > factor * run.previous_seconds
    ORDER BY run.seconds::numeric / NULLIF(run.previous_seconds, 0) DESC NULLS LAST, run.run_id
$$;

CREATE FUNCTION lakeflow.suspiciously_fast_runs(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 1,
    factor numeric DEFAULT 0.5,
    over_seconds integer DEFAULT 300
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    run_id text,
    started_at timestamptz,
    seconds bigint,
    previous_seconds bigint,
    ratio numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        run.workspace_id,
        run.job_id,
        job.job_name,
        run.run_id,
        run.started_at,
        run.seconds,
        run.previous_seconds,
        round(run.seconds::numeric / NULLIF(run.previous_seconds, 0), 4)
    FROM lakeflow.compared_runs(as_of, days) AS run
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    WHERE run.previous_seconds > over_seconds AND run.seconds < factor * run.previous_seconds
    ORDER BY run.seconds::numeric / NULLIF(run.previous_seconds, 0), run.run_id
$$;

-- Jobs whose last *streak* decided runs all failed, all of them within *hours*.
CREATE FUNCTION lakeflow.consecutive_failures(
    as_of timestamptz DEFAULT now(),
    streak integer DEFAULT 3,
    hours double precision DEFAULT 24
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    failures bigint,
    first_failed_at timestamptz,
    last_failed_at timestamptz,
    last_result text
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH newest AS (
        SELECT
            run.*,
            row_number() OVER (
                PARTITION BY run.workspace_id, run.job_id
                ORDER BY run.started_at DESC, run.run_id DESC
            ) AS age
        FROM lakeflow.job_runs(as_of, hours / 24) AS run
        WHERE run.is_success OR run.is_failure
    )

    SELECT
        each.workspace_id,
        each.job_id,
        max(job.job_name),
        count(*),
        min(each.ended_at),
        max(each.ended_at),
        max(each.result_state) FILTER (WHERE each.age = 1)
    FROM newest AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    WHERE each.age <= streak
    GROUP BY each.workspace_id, each.job_id
    HAVING count(*) = streak AND bool_and(each.is_failure)
    ORDER BY max(each.ended_at) DESC, each.workspace_id, each.job_id
$$;

-- What the last *days* are beside the *days* before: points for rates, percent for counts and durations.
CREATE FUNCTION lakeflow.drift(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    metric text,
    unit text,
    current numeric,
    baseline numeric,
    drift numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH measured AS (
        SELECT
            run.started_at > as_of - days * INTERVAL '1 day' AS is_current,
            count(*)::numeric AS runs,
            lakeflow.percent(count(*) FILTER (WHERE run.is_success), count(run.result_state)) AS success_rate,
            lakeflow.percent(count(*) FILTER (WHERE run.is_failure), count(run.result_state)) AS failure_rate,
            round(avg(run.seconds) FILTER (WHERE run.is_success), 2) AS average
        FROM lakeflow.job_runs(as_of, 2 * days) AS run
        GROUP BY 1
    ),

    compared AS (
        SELECT
            said.turn,
            said.metric,
            said.unit,
            max(said.value) FILTER (WHERE each.is_current) AS current,
            max(said.value) FILTER (WHERE NOT each.is_current) AS baseline
        FROM measured AS each
        CROSS JOIN LATERAL (
            VALUES
            (1, 'runs', 'percent', each.runs),
            (2, 'success_rate', 'points', each.success_rate),
            (3, 'failure_rate', 'points', each.failure_rate),
            (4, 'average_seconds', 'percent', each.average)
        ) AS said (turn, metric, unit, value)
        GROUP BY said.turn, said.metric, said.unit
    )

    SELECT
        each.metric,
        each.unit,
        each.current,
        each.baseline,
        CASE each.unit
            WHEN 'points' THEN each.current - each.baseline
            ELSE lakeflow.percent(each.current - each.baseline, each.baseline)
        END
    FROM compared AS each
    ORDER BY each.turn
$$;

-- The updates of each pipeline: how many completed, and how long those took.
CREATE FUNCTION lakeflow.pipeline_health(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    pipeline_id text,
    pipeline_name text,
    updates bigint,
    finished bigint,
    completed bigint,
    failed bigint,
    completed_share numeric,
    average_minutes numeric,
    last_update_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH counted AS (
        SELECT
            each.workspace_id,
            each.pipeline_id,
            count(*) AS updates,
            count(each.result_state) FILTER (WHERE each.period_end_time <= as_of) AS finished,
            count(*) FILTER (WHERE each.state = 'COMPLETED' AND each.period_end_time <= as_of) AS completed,
            count(*) FILTER (WHERE each.state = 'FAILED' AND each.period_end_time <= as_of) AS failed,
            avg(EXTRACT(epoch FROM each.period_end_time - each.period_start_time))
                FILTER (WHERE each.state = 'COMPLETED' AND each.period_end_time <= as_of) AS seconds,
            max(each.period_start_time) AS last_update_at
        FROM lakeflow.fact_pipeline_update_timeline AS each
        WHERE each.period_start_time > as_of - days * INTERVAL '1 day'
            AND each.period_start_time <= as_of
        GROUP BY each.workspace_id, each.pipeline_id
    )

    SELECT
        each.workspace_id,
        each.pipeline_id,
        pipeline.pipeline_name,
        each.updates,
        each.finished,
        each.completed,
        each.failed,
        lakeflow.percent(each.completed, each.finished),
        round(each.seconds / 60, 4),
        each.last_update_at
    FROM counted AS each
    LEFT JOIN lakeflow.dim_pipeline AS pipeline USING (workspace_id, pipeline_id)
    ORDER BY each.updates DESC, each.workspace_id, each.pipeline_id
$$;

-- Which table reads which: by the newest versions of the pipelines that are published, and by the columns.
CREATE VIEW lakeflow.table_readers AS
SELECT DISTINCT
    ref AS table_name,
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS reader
FROM rat.pipelines AS pipeline
CROSS JOIN LATERAL (
    SELECT version.spec
    FROM rat.pipeline_versions AS version
    WHERE version.pipeline_id = pipeline.id
    ORDER BY version.version_number DESC
    LIMIT 1
) AS newest
CROSS JOIN LATERAL jsonb_array_elements_text(COALESCE(newest.spec -> 'refs', '[]')) AS ref
WHERE pipeline.deleted_at IS NULL
UNION
SELECT DISTINCT lineage.input_dataset, lineage.output_dataset
FROM rat.column_lineage AS lineage
JOIN rat.pipelines AS pipeline ON pipeline.id = lineage.pipeline_id AND pipeline.deleted_at IS NULL
WHERE lineage.input_dataset <> lineage.output_dataset;

-- Which tables wait for a table whose update failed and has not completed since, through any number of steps.
CREATE FUNCTION lakeflow.impact(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 1
)
RETURNS TABLE (
    job_id text,
    job_name text,
    run_id text,
    failed_at timestamptz,
    table_name text,
    reader text,
    distance integer
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH RECURSIVE failed AS (
        SELECT DISTINCT ON (each.workspace_id, each.pipeline_id)
            each.workspace_id,
            each.trigger_details_job_task ->> 'run_id' AS run_id,
            each.period_end_time AS failed_at,
            pipeline.pipeline_name AS table_name,
            each.state
        FROM lakeflow.fact_pipeline_update_timeline AS each
        JOIN lakeflow.dim_pipeline AS pipeline USING (workspace_id, pipeline_id)
        WHERE each.period_start_time > as_of - days * INTERVAL '1 day'
            AND each.period_start_time <= as_of
            AND each.period_end_time <= as_of
            AND each.state IN ('COMPLETED', 'FAILED')
        ORDER BY
            each.workspace_id,
            each.pipeline_id,
            each.period_start_time DESC,
            each.update_id DESC
    ),

    downstream AS (
        SELECT failed.table_name, edge.reader, 1 AS distance
        FROM failed
        JOIN lakeflow.table_readers AS edge ON edge.table_name = failed.table_name
        WHERE failed.state = 'FAILED'
        UNION
        SELECT before.table_name, edge.reader, before.distance + 1
        FROM downstream AS before
        JOIN lakeflow.table_readers AS edge ON edge.table_name = before.reader
        WHERE before.distance < 100
    )

    SELECT
        run.job_id,
        job.job_name,
        failed.run_id,
        failed.failed_at,
        failed.table_name,
        reached.reader,
        min(reached.distance)
    FROM failed
    LEFT JOIN downstream AS reached ON reached.table_name = failed.table_name
    LEFT JOIN lakeflow.fact_job_run_timeline AS run
        ON run.workspace_id = failed.workspace_id AND run.run_id = failed.run_id
    LEFT JOIN lakeflow.dim_job AS job
        ON job.workspace_id = run.workspace_id AND job.job_id = run.job_id
    WHERE failed.state = 'FAILED'
    GROUP BY 1, 2, 3, 4, 5, 6
    ORDER BY failed.failed_at DESC, failed.table_name, min(reached.distance), reached.reader
$$;

-- What the steps of jobs take, the slowest first.
CREATE FUNCTION lakeflow.slowest_tasks(
    as_of timestamptz DEFAULT now(),
    days double precision DEFAULT 7,
    top integer DEFAULT 20
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    task_key text,
    runs bigint,
    average numeric,
    p95 double precision,
    longest numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH slowest AS (
        SELECT
            task.workspace_id,
            task.job_id,
            task.task_key,
            count(*) AS runs,
            avg(task.period_end_time - task.period_start_time) AS average,
            max(task.period_end_time - task.period_start_time) AS longest
        FROM lakeflow.fact_job_task_run_timeline AS task
        WHERE task.period_start_time > as_of - days * INTERVAL '1 day'
            AND task.period_start_time <= as_of
            AND task.period_end_time <= as_of
            AND task.result_state IN ('SUCCEEDED', 'SUCCESS')
        GROUP BY task.workspace_id, task.job_id, task.task_key
        ORDER BY average DESC, task.workspace_id, task.job_id, task.task_key
        LIMIT top
    )

    SELECT
        each.workspace_id,
        each.job_id,
        job.job_name,
        each.task_key,
        each.runs,
        round(EXTRACT(epoch FROM each.average), 3),
        -- Of these few only: it sorts.
        (
            SELECT
                percentile_cont(0.95) WITHIN GROUP (
                    ORDER BY EXTRACT(epoch FROM task.period_end_time - task.period_start_time)::double precision
                )
            FROM lakeflow.fact_job_task_run_timeline AS task
            WHERE task.workspace_id = each.workspace_id
                AND task.job_id = each.job_id
                AND task.task_key = each.task_key
                AND task.period_start_time > as_of - days * INTERVAL '1 day'
                AND task.period_start_time <= as_of
                AND task.period_end_time <= as_of
                AND task.result_state IN ('SUCCEEDED', 'SUCCESS')
        ),
        EXTRACT(epoch FROM each.longest)
    FROM slowest AS each
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    ORDER BY each.average DESC, each.workspace_id, each.job_id, each.task_key
$$;

-- Which steps fail.
CREATE FUNCTION lakeflow.failing_tasks(
    as_of timestamptz DEFAULT now(), days double precision DEFAULT 7
)
RETURNS TABLE (
    workspace_id text,
    job_id text,
    job_name text,
    task_key text,
    finished bigint,
    failed bigint,
    failure_rate numeric,
    last_failed_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        task.workspace_id,
        task.job_id,
        max(job.job_name),
        task.task_key,
        count(*),
        count(*) FILTER (WHERE task.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')),
        lakeflow.percent(
            count(*) FILTER (WHERE task.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')), count(*)
        ),
        max(task.period_end_time) FILTER (WHERE task.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT'))
    FROM lakeflow.fact_job_task_run_timeline AS task
    LEFT JOIN lakeflow.dim_job AS job USING (workspace_id, job_id)
    WHERE task.period_start_time > as_of - days * INTERVAL '1 day'
        AND task.period_start_time <= as_of
        AND task.period_end_time <= as_of
        AND task.result_state IS NOT NULL
    GROUP BY task.workspace_id, task.job_id, task.task_key
    HAVING count(*) FILTER (WHERE task.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')) > 0
    ORDER BY
        count(*) FILTER (WHERE task.result_state IN ('FAILED', 'ERROR', 'TIMED_OUT')) DESC,
        task.workspace_id,
        task.job_id,
        task.task_key
$$;
