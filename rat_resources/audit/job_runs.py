"""Dagster and lakeflow: every run and step that Dagster's log knows, once, as it ended.

A run that goes on is not judged, it is told with its next event. What Dagster deletes stays in the star:
there it is history, as long as it is told as ended.
"""

from rat_resources.audit.comparison import MIRROR, REBUILD, Comparison, Side, never

ENDED = "status IN ('SUCCESS', 'FAILURE', 'CANCELED')"

# How a run ended badly, where Dagster knows better than its status.
RUNS = f"""
SELECT
    run.run_id AS id,
    lakeflow.workspace_id() AS workspace,
    concat_ws(
        '/',
        coalesce(
            origin.repository #>> '{{repository_location_origin,location_name}}',
            tag.tags ->> 'dagster/code_location',
            'unknown'
        ),
        coalesce(
            origin.repository ->> 'repository_name',
            nullif(split_part(tag.tags ->> '.dagster/repository', '@', 1), ''),
            'unknown'
        ),
        coalesce(run.pipeline_name, 'unknown')
    ) AS job,
    coalesce(to_timestamp(run.start_time), run.create_timestamp AT TIME ZONE 'UTC')
        AS period_start_time,
    coalesce(to_timestamp(run.end_time), run.update_timestamp AT TIME ZONE 'UTC')
        AS period_end_time,
    CASE
        WHEN run.status <> 'SUCCESS' AND said.timed_out THEN :timed_out
        WHEN run.status = 'FAILURE' AND (said.died OR run.start_time IS NULL) THEN :worker_died
        ELSE CAST(:result_of_dagster AS jsonb) ->> run.status
    END AS result_state,
    coalesce(
        (
            SELECT said.word
            FROM (
                SELECT pair ->> 1 AS word, turn
                FROM jsonb_array_elements(CAST(:triggers AS jsonb)) WITH ORDINALITY AS each(pair, turn)
                WHERE tag.tags ? (pair ->> 0) AND pair ->> 1 = :retry
                UNION ALL
                SELECT pair ->> 1, 1000 + turn
                FROM jsonb_array_elements(CAST(:labels AS jsonb)) WITH ORDINALITY AS each(pair, turn)
                WHERE starts_with(tag.tags ->> 'rat/trigger', pair ->> 0)
                UNION ALL
                SELECT pair ->> 1, 2000 + turn
                FROM jsonb_array_elements(CAST(:triggers AS jsonb)) WITH ORDINALITY AS each(pair, turn)
                WHERE tag.tags ? (pair ->> 0)
            ) AS said
            ORDER BY said.turn
            LIMIT 1
        ),
        :by_hand
    ) AS trigger_type,
    coalesce(run.pipeline_name, 'unknown') AS run_name
FROM dagster.runs AS run
CROSS JOIN LATERAL (
    SELECT rat.as_json(run.run_body)
        #> '{{external_pipeline_origin,external_repository_origin}}' AS repository
) AS origin
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(key, value) AS tags FROM dagster.run_tags WHERE run_id = run.run_id
) AS tag ON true
LEFT JOIN LATERAL (
    SELECT
        bool_or(message LIKE ANY (CAST(:timeout_messages AS text[]))) AS timed_out,
        bool_or(message LIKE ANY (CAST(:death_messages AS text[]))) AS died
    FROM (
        SELECT rat.as_json(log.event) #>> '{{dagster_event,message}}' AS message
        FROM dagster.event_logs AS log
        WHERE log.run_id = run.run_id
            AND run.status <> 'SUCCESS'
            AND log.dagster_event_type IN ('PIPELINE_FAILURE', 'PIPELINE_CANCELING')
    ) AS ending
) AS said ON true
WHERE run.{ENDED}
"""

# Of a run that goes on nothing is said yet; one that Dagster deleted is history.
TOLD_RUNS = f"""
SELECT
    told.run_id AS id,
    told.workspace_id AS workspace,
    told.job_id AS job,
    told.period_start_time,
    told.period_end_time,
    told.result_state,
    told.trigger_type,
    told.run_name
FROM lakeflow.fact_job_run_timeline AS told
WHERE told.run_id IN (SELECT run_id FROM dagster.runs WHERE {ENDED})
"""

UNKNOWN_RUNS = """
SELECT told.run_id AS id, told.job_id AS job, told.result_state
FROM lakeflow.fact_job_run_timeline AS told
WHERE NOT EXISTS (SELECT FROM dagster.runs WHERE run_id = told.run_id)
    AND (
        told.result_state IS NULL
        OR EXISTS (SELECT FROM dagster.event_logs WHERE run_id = told.run_id)
    )
"""

ATTEMPTS = f"""
SELECT
    log.run_id,
    log.step_key,
    log.attempt,
    bool_or(log.type IN ('STEP_START', 'STEP_RESTARTED')) AS has_started,
    (array_agg(log.type ORDER BY log.id DESC) FILTER (
        WHERE log.type IN ('STEP_SUCCESS', 'STEP_FAILURE', 'STEP_UP_FOR_RETRY', 'STEP_SKIPPED')
    ))[1] AS outcome,
    bool_or(log.was_stopped) AS was_stopped
FROM (
    SELECT
        event.id,
        event.run_id,
        event.step_key,
        event.dagster_event_type AS type,
        event.dagster_event_type = 'STEP_FAILURE'
            AND event.event ~ 'DagsterExecutionInterruptedError|CancelledError' AS was_stopped,
        1 + count(*) FILTER (WHERE event.dagster_event_type = 'STEP_UP_FOR_RETRY') OVER (
            PARTITION BY event.run_id, event.step_key
            ORDER BY event.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS attempt
    FROM dagster.event_logs AS event
    WHERE event.step_key IS NOT NULL
        AND event.dagster_event_type IN (
            'STEP_START', 'STEP_RESTARTED',
            'STEP_SUCCESS', 'STEP_FAILURE', 'STEP_UP_FOR_RETRY', 'STEP_SKIPPED'
        )
        AND event.run_id IN (SELECT run_id FROM dagster.runs WHERE {ENDED})
) AS log
GROUP BY log.run_id, log.step_key, log.attempt
"""

# What Dagster planned and never came to; of a run without assets only its plan would tell.
UNSTARTED = """
SELECT DISTINCT planned.run_id, planned.step_key, run.status
FROM dagster.event_logs AS planned
JOIN dagster.runs AS run ON run.run_id = planned.run_id AND run.status IN ('FAILURE', 'CANCELED')
WHERE planned.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'
    AND planned.step_key IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM dagster.event_logs AS event
        WHERE event.run_id = planned.run_id
            AND event.step_key = planned.step_key
            AND event.dagster_event_type IN (
                'STEP_START', 'STEP_RESTARTED',
                'STEP_SUCCESS', 'STEP_FAILURE', 'STEP_UP_FOR_RETRY', 'STEP_SKIPPED'
            )
    )
"""

STEPS = f"""
SELECT
    concat_ws(':', attempt.run_id, attempt.step_key, attempt.attempt) AS id,
    lakeflow.workspace_id() AS workspace,
    attempt.run_id AS run,
    regexp_replace(attempt.step_key, '\\[.*\\]$', '') AS task,
    attempt.has_started AS has_begun,
    CASE
        WHEN attempt.outcome IS NULL THEN told.result_state
        WHEN attempt.was_stopped AND told.result_state IN ('CANCELLED', :timed_out)
            THEN told.result_state
        ELSE CAST(:result_of_step AS jsonb) ->> attempt.outcome
    END AS result_state
FROM ({ATTEMPTS}) AS attempt
LEFT JOIN lakeflow.fact_job_run_timeline AS told ON told.run_id = attempt.run_id
UNION ALL
SELECT
    concat_ws(':', run_id, step_key, 1),
    lakeflow.workspace_id(),
    run_id,
    regexp_replace(step_key, '\\[.*\\]$', ''),
    false,
    CAST(:result_of_unstarted AS jsonb) ->> status
FROM ({UNSTARTED}) AS unstarted
"""

# A step of an op that never began is told by the run's plan alone.
TOLD_STEPS = f"""
SELECT
    step.task_run_id AS id,
    step.workspace_id AS workspace,
    step.run_id AS run,
    step.task_key AS task,
    step.period_start_time IS NOT NULL AS has_begun,
    step.result_state
FROM lakeflow.fact_job_task_run_timeline AS step
WHERE step.run_id IN (SELECT run_id FROM dagster.runs WHERE {ENDED})
    -- Where the log was cut the star remembers.
    AND EXISTS (SELECT FROM dagster.event_logs AS log WHERE log.run_id = step.run_id)
    AND (
        step.period_start_time IS NOT NULL
        OR EXISTS (
            SELECT FROM dagster.event_logs AS log
            WHERE log.run_id = step.run_id
                AND log.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'
                AND step.task_run_id LIKE concat(log.run_id, ':', log.step_key, ':%')
        )
    )
"""

JOBS = """
SELECT DISTINCT
    fact.job_id AS id,
    fact.workspace_id AS workspace,
    fact.run_name AS name
FROM lakeflow.fact_job_run_timeline AS fact
"""

TOLD_JOBS = """
SELECT job.job_id AS id, job.workspace_id AS workspace, job.job_name AS name
FROM lakeflow.dim_job AS job
WHERE EXISTS (
    SELECT FROM lakeflow.fact_job_run_timeline AS fact
    WHERE fact.workspace_id = job.workspace_id AND fact.job_id = job.job_id
)
"""

TASKS = """
SELECT
    concat_ws(' ', step.job_id, step.task_key) AS id,
    step.workspace_id AS workspace,
    CASE
        WHEN bool_or(planned.type = 'ASSET_MATERIALIZATION_PLANNED') THEN 'asset'
        WHEN bool_or(planned.type = 'ASSET_CHECK_EVALUATION_PLANNED') THEN 'asset_check'
        ELSE 'op'
    END AS task_type
FROM lakeflow.fact_job_task_run_timeline AS step
JOIN dagster.runs AS run ON run.run_id = step.run_id
LEFT JOIN LATERAL (
    SELECT log.dagster_event_type AS type
    FROM dagster.event_logs AS log
    WHERE log.run_id = step.run_id
        AND log.step_key = step.task_key
        AND log.dagster_event_type IN (
            'ASSET_MATERIALIZATION_PLANNED', 'ASSET_CHECK_EVALUATION_PLANNED'
        )
) AS planned ON true
GROUP BY step.job_id, step.task_key, step.workspace_id
"""

TOLD_TASKS = """
SELECT
    concat_ws(' ', task.job_id, task.task_key) AS id,
    task.workspace_id AS workspace,
    task.task_type
FROM lakeflow.dim_job_task AS task
WHERE EXISTS (
    SELECT FROM lakeflow.fact_job_task_run_timeline AS step
    JOIN dagster.runs AS run ON run.run_id = step.run_id
    WHERE step.workspace_id = task.workspace_id
        AND step.job_id = task.job_id
        AND step.task_key = task.task_key
)
"""

COMPARISONS = (
    Comparison(
        "lakeflow.fact_job_run_timeline",
        "every run of Dagster's that has ended is there, with its job, times, result and trigger",
        Side("Dagster", RUNS),
        Side("lakeflow.fact_job_run_timeline", TOLD_RUNS),
        MIRROR,
    ),
    never(
        "lakeflow.deleted_runs",
        "a run that Dagster deleted is told as ended, and one that it never had is not told",
        speaker="lakeflow.fact_job_run_timeline",
        sql=UNKNOWN_RUNS,
        expected="Dagster",
        fix=MIRROR,
    ),
    Comparison(
        "lakeflow.fact_job_task_run_timeline",
        "so is every attempt at every step of it, and every table that it never came to",
        Side("Dagster", STEPS),
        Side("lakeflow.fact_job_task_run_timeline", TOLD_STEPS),
        MIRROR,
    ),
    Comparison(
        "lakeflow.dim_job",
        "every job that ran is there by its name",
        Side("lakeflow.fact_job_run_timeline", JOBS),
        Side("lakeflow.dim_job", TOLD_JOBS),
        REBUILD,
    ),
    Comparison(
        "lakeflow.dim_job_task",
        "so is every step, as what it is",
        Side("Dagster", TASKS),
        Side("lakeflow.dim_job_task", TOLD_TASKS),
        REBUILD,
    ),
)
