"""Job runs: what Dagster's tables say of some runs, as the reporting star says it.

One statement derives jobs, tasks, runs and attempts at steps anew from `dagster.runs`, `run_tags` and
`event_logs` as they are now, so that a run is told the same however often, and never goes backwards.
Which runs is decided by `mirror.log`; what jobs are beside their runs is `mirror.definitions`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.mirror import snapshots, translations
from rat_resources.mirror.secrets import without_secrets

TOLD_BY_US = "rat/trigger"  # the label of a run of ours


@dataclass(frozen=True)
class Told:
    """What was written of some runs; the counts are of rows that changed."""

    runs: int
    steps: int
    unreadable: tuple[str, ...]  # what could not be read, a line each
    gone: tuple[str, ...]  # runs that are named and that Dagster no longer has


def tell(tx: Session, run_ids: Iterable[str]) -> Told:
    """Make what the star says of these runs what Dagster's tables say."""
    ids = sorted(run_ids)
    notes = read_notes(tx, ids)
    row = tx.execute(
        STATEMENT,
        {
            "ids": ids,
            "parameters": json.dumps(notes.parameters),
            "plans": json.dumps(notes.plans),
        },
    ).one()
    snapshots.describe_tasks(tx, ids)
    unreadable = [
        *(f"run {run_id}: its body is no JSON" for run_id in row.bad_bodies or ()),
        *(f"event {event_id} is no JSON" for event_id in row.bad_events or ()),
    ]
    known = set(row.known or ())
    gone = [run_id for run_id in ids if run_id not in known]
    return Told(row.runs, row.steps, tuple(unreadable), tuple(gone))


# What SQL cannot take out of a run's body.


@dataclass(frozen=True)
class Notes:
    """What Python takes out of the bodies of runs."""

    parameters: Mapping[str, Any]  # by run: what it was configured with, secrets masked
    plans: Mapping[str, Sequence[str]]  # by run that did not succeed: all its steps


NOTABLE = text("""
    SELECT
        run_id,
        body -> 'run_config' AS config,
        body -> 'step_keys_to_execute' AS steps,
        body ->> 'execution_plan_snapshot_id' AS plan,
        status
    FROM (
        SELECT run_id, status, rat.as_json(run_body) AS body
        FROM dagster.runs
        WHERE run_id = ANY(:ids)
          AND (status IN ('FAILURE', 'CANCELED') OR run_body ~ :has_parameters)
    ) AS runs
    WHERE body IS NOT NULL
""")
# `loggers` and `execution` say how a run runs, not what it is about.
HAS_PARAMETERS = r'"run_config": \{.*"(ops|solids|resources|inputs)":'
PARAMETERS = ("ops", "solids", "resources", "inputs")


def read_notes(tx: Session, ids: Sequence[str]) -> Notes:
    """What SQL cannot take out of the bodies of these runs; most have none of it."""
    parameters: dict[str, Any] = {}
    plans: dict[str, Sequence[str]] = {}
    found = tx.execute(NOTABLE, {"ids": ids, "has_parameters": HAS_PARAMETERS})
    for run_id, config, steps, plan, status in found.all():
        asked = {key: config[key] for key in PARAMETERS if config and key in config}
        if asked:
            parameters[run_id] = without_secrets(asked)
        if status in translations.OF_UNSTARTED:
            plans[run_id] = steps or snapshots.steps_of(tx, plan)
    return Notes(parameters, plans)


# The statement.


def cases(value: str, words: Mapping[str, str | None]) -> str:
    """SQL that translates *value*."""
    return (
        f"CASE {value} "
        + " ".join(
            f"WHEN '{key}' THEN {'NULL' if word is None else quoted(word)}"
            for key, word in words.items()
        )
        + " END"
    )


def quoted(word: str) -> str:
    """A word as SQL has it, and as SQLAlchemy leaves it: a colon begins no parameter."""
    return "'" + word.replace("'", "''").replace(":", "\\:") + "'"


def listed(words: Iterable[str]) -> str:
    """Words as an array of SQL's."""
    return f"ARRAY[{', '.join(map(quoted, words))}]"


def trigger() -> str:
    """SQL for why a run ran: a retry, else what our own label says, else Dagster's tags."""
    tags = list(translations.TRIGGERS)
    retries = [each for each in tags if each[1] == "ONETIME_RETRY"]
    others = [each for each in tags if each not in retries]
    whens = [
        *(f"WHEN tags ? {quoted(tag)} THEN {quoted(word)}" for tag, word in retries),
        *(
            f"WHEN starts_with(tags ->> '{TOLD_BY_US}', {quoted(label)}) THEN {quoted(word)}"
            for label, word in translations.LABELS
        ),
        *(f"WHEN tags ? {quoted(tag)} THEN {quoted(word)}" for tag, word in others),
    ]
    return f"CASE {' '.join(whens)} ELSE {quoted(translations.BY_HAND)} END"


RESULTS = {status: words.result for status, words in translations.OF_DAGSTER.items()}
STEP_BEGINS = ("STEP_START", "STEP_RESTARTED")
STEP_ENDS = tuple(translations.OF_STEP)
RUN_ENDS = ("PIPELINE_FAILURE", "PIPELINE_CANCELING")
PLANS = ("ASSET_MATERIALIZATION_PLANNED", "ASSET_CHECK_EVALUATION_PLANNED")
EVENTS = (*STEP_BEGINS, *STEP_ENDS, *RUN_ENDS, *PLANS)

READING = f"""
    touched AS MATERIALIZED (
        SELECT
            run_id, pipeline_name, status, backfill_id,
            create_timestamp AT TIME ZONE 'UTC' AS created_at,
            to_timestamp(start_time) AS started_at,
            coalesce(to_timestamp(end_time), update_timestamp AT TIME ZONE 'UTC') AS ended_at,
            rat.as_json(run_body) AS body
        FROM dagster.runs
        WHERE run_id = ANY(:ids)
    ),
    tagged AS (
        SELECT run_id, jsonb_object_agg(key, value) AS tags
        FROM dagster.run_tags
        WHERE run_id = ANY(:ids)
        GROUP BY run_id
    ),
    events AS MATERIALIZED (
        SELECT
            run_id, id, step_key, dagster_event_type AS type,
            timestamp AT TIME ZONE 'UTC' AS at,
            CASE
                WHEN dagster_event_type = ANY({listed(RUN_ENDS)}) THEN rat.as_json(event)
            END AS body,
            dagster_event_type = 'STEP_FAILURE'
                AND event ~ 'DagsterExecutionInterruptedError|CancelledError' AS stopped
        FROM dagster.event_logs
        WHERE run_id = ANY(:ids) AND dagster_event_type = ANY({listed(EVENTS)})
    ),
    ends AS (
        SELECT
            run_id,
            bool_or(message LIKE ANY({listed(translations.TIMEOUT_MESSAGES)})) AS timed_out,
            bool_or(message LIKE ANY({listed(translations.DEATH_MESSAGES)})) AS died
        FROM (
            SELECT run_id, body #>> '{{dagster_event,message}}' AS message
            FROM events
            WHERE type = ANY({listed(RUN_ENDS)})
        ) AS said
        GROUP BY run_id
    )
"""

# A status is newer than the events before it: a run that was given up, and went on, may succeed.
NAMING = f"""
    runs AS MATERIALIZED (
        SELECT
            lakeflow.workspace_id() AS workspace_id,
            (SELECT org FROM rat.deployment) AS account_id,
            concat_ws(
                '/',
                coalesce(
                    repository #>> '{{repository_location_origin,location_name}}',
                    tags ->> 'dagster/code_location',
                    'unknown'
                ),
                coalesce(
                    repository ->> 'repository_name',
                    nullif(split_part(tags ->> '.dagster/repository', '@', 1), ''),
                    'unknown'
                ),
                coalesce(pipeline_name, 'unknown')
            ) AS job_id,
            coalesce(pipeline_name, 'unknown') AS job_name,
            run_id, status, created_at, started_at,
            coalesce(started_at, created_at) AS begun_at,
            CASE WHEN status IN ('SUCCESS', 'FAILURE', 'CANCELED') THEN ended_at END AS ended_at,
            CASE
                WHEN status IN ('FAILURE', 'CANCELED') AND ends.timed_out
                    THEN '{translations.TIMED_OUT[0]}'
                WHEN status = 'FAILURE' AND (ends.died OR started_at IS NULL)
                    THEN '{translations.WORKER_DIED[0]}'
                ELSE {cases("status", RESULTS)}
            END AS result_state,
            {trigger()} AS trigger_type,
            CASE
                WHEN coalesce(backfill_id, tags ->> 'dagster/backfill') IS NULL THEN 'JOB_RUN'
                ELSE 'SUBMIT_RUN'
            END AS run_type,
            tags ->> 'dagster/parent_run_id' AS parent_run_id,
            tags ->> 'user' AS run_as,
            tags ->> 'rat/worker' AS worker,
            CAST(:parameters AS jsonb) -> run_id AS parameters
        FROM touched
        LEFT JOIN tagged USING (run_id)
        LEFT JOIN ends USING (run_id)
        CROSS JOIN LATERAL (
            SELECT body #> '{{external_pipeline_origin,external_repository_origin}}' AS repository
        ) AS origin
    ),
    attempts AS MATERIALIZED (
        SELECT
            run_id, step_key, attempt,
            min(at) FILTER (WHERE type = ANY({listed(STEP_BEGINS)})) AS started_at,
            max(at) FILTER (
                WHERE type = ANY({listed(STEP_ENDS)}) AND type <> 'STEP_SKIPPED'
            ) AS ended_at,
            (array_agg(type ORDER BY id DESC) FILTER (WHERE type = ANY({listed(STEP_ENDS)})))[1]
                AS outcome,
            bool_or(stopped) AS stopped
        FROM (
            SELECT
                *,
                1 + count(*) FILTER (WHERE type = 'STEP_UP_FOR_RETRY') OVER (
                    PARTITION BY run_id, step_key ORDER BY id
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS attempt
            FROM events
            WHERE step_key IS NOT NULL
              AND type = ANY({listed((*STEP_BEGINS, *STEP_ENDS))})
        ) AS numbered
        GROUP BY run_id, step_key, attempt
    ),
    unstarted AS (
        SELECT run_id, planned.step_key
        FROM runs
        CROSS JOIN LATERAL jsonb_array_elements_text(
            CAST(:plans AS jsonb) -> run_id
        ) AS planned (step_key)
        WHERE status = ANY({listed(translations.OF_UNSTARTED)})
          AND NOT EXISTS (
            SELECT FROM attempts
            WHERE attempts.run_id = runs.run_id
              AND (
                attempts.step_key = planned.step_key
                -- `step[?]` stands for as many steps as the run turns out to have.
                OR planned.step_key LIKE '%[?]'
                AND starts_with(attempts.step_key, replace(planned.step_key, '?]', ''))
              )
          )
    ),
    steps AS MATERIALIZED (
        SELECT
            workspace_id, account_id, run_id, job_id, parent_run_id, worker,
            run_id || ':' || step_key || ':' || attempt AS task_run_id,
            step_key,
            regexp_replace(step_key, '\\[.*\\]$', '') AS task_key,
            attempts.started_at,
            CASE
                WHEN attempts.outcome = 'STEP_SKIPPED' THEN NULL
                ELSE coalesce(attempts.ended_at, runs.ended_at)
            END AS ended_at,
            CASE
                WHEN attempts.outcome IS NULL THEN result_state
                WHEN attempts.stopped
                    AND result_state IN ('CANCELLED', '{translations.TIMED_OUT[0]}')
                    THEN result_state
                ELSE {cases("attempts.outcome", translations.OF_STEP)}
            END AS result_state
        FROM runs
        JOIN attempts USING (run_id)
        UNION ALL
        SELECT
            workspace_id, account_id, run_id, job_id, parent_run_id, worker,
            run_id || ':' || step_key || '\\:1',
            step_key,
            regexp_replace(step_key, '\\[.*\\]$', ''),
            NULL,
            NULL,
            {cases("status", translations.OF_UNSTARTED)}
        FROM runs
        JOIN unstarted USING (run_id)
    ),
    planned AS (
        SELECT
            run_id, step_key,
            CASE
                WHEN bool_or(type = '{PLANS[0]}') THEN 'asset'
                ELSE 'asset_check'
            END AS task_type
        FROM events
        WHERE type = ANY({listed(PLANS)})
        GROUP BY run_id, step_key
    )
"""

WRITING = f"""
    jobs AS (
        INSERT INTO lakeflow.dim_job AS known
            (workspace_id, job_id, job_name, account_id, create_time, change_time)
        SELECT workspace_id, job_id, min(job_name), min(account_id), min(created_at), min(created_at)
        FROM runs
        GROUP BY workspace_id, job_id
        ORDER BY workspace_id, job_id
        ON CONFLICT (workspace_id, job_id) DO UPDATE
        SET create_time = least(known.create_time, excluded.create_time),
            change_time = least(known.change_time, excluded.change_time)
        WHERE known.create_time > excluded.create_time
    ),
    tasks AS (
        INSERT INTO lakeflow.dim_job_task AS known
            (workspace_id, job_id, task_key, task_type, account_id, change_time)
        SELECT
            steps.workspace_id, steps.job_id, task_key,
            coalesce(min(planned.task_type), 'op'),
            min(steps.account_id), min(created_at)
        FROM steps
        JOIN runs USING (run_id)
        LEFT JOIN planned USING (run_id, step_key)
        GROUP BY steps.workspace_id, steps.job_id, task_key
        ORDER BY steps.workspace_id, steps.job_id, task_key
        ON CONFLICT (workspace_id, job_id, task_key) DO UPDATE
        SET task_type = CASE
                WHEN 'asset' IN (known.task_type, excluded.task_type) THEN 'asset'
                ELSE least(known.task_type, excluded.task_type)
            END,
            change_time = least(known.change_time, excluded.change_time)
        WHERE known.task_type IS NULL
           OR known.change_time > excluded.change_time
           OR excluded.task_type < known.task_type
    ),
    told_runs AS (
        INSERT INTO lakeflow.fact_job_run_timeline AS known
            (workspace_id, run_id, job_id, period_start_time, period_end_time, result_state,
             trigger_type, account_id, run_type, run_name, termination_code, compute_ids,
             job_parameters)
        SELECT
            workspace_id, run_id, job_id, begun_at, ended_at, result_state,
            trigger_type, account_id, run_type, job_name,
            {cases("result_state", translations.TERMINATIONS)},
            CASE WHEN worker IS NOT NULL THEN ARRAY[worker] END,
            parameters
        FROM runs
        ORDER BY workspace_id, run_id
        ON CONFLICT (workspace_id, run_id) DO UPDATE
        SET job_id = excluded.job_id,
            period_start_time = excluded.period_start_time,
            period_end_time = excluded.period_end_time,
            result_state = excluded.result_state,
            trigger_type = excluded.trigger_type,
            account_id = excluded.account_id,
            run_type = excluded.run_type,
            run_name = excluded.run_name,
            termination_code = excluded.termination_code,
            compute_ids = excluded.compute_ids,
            job_parameters = excluded.job_parameters
        WHERE (known.job_id, known.period_start_time, known.period_end_time, known.result_state,
               known.trigger_type, known.account_id, known.run_type, known.run_name,
               known.termination_code, known.compute_ids, known.job_parameters)
              IS DISTINCT FROM
              (excluded.job_id, excluded.period_start_time, excluded.period_end_time,
               excluded.result_state, excluded.trigger_type, excluded.account_id,
               excluded.run_type, excluded.run_name, excluded.termination_code,
               excluded.compute_ids, excluded.job_parameters)
        RETURNING run_id
    ),
    told_steps AS (
        INSERT INTO lakeflow.fact_job_task_run_timeline AS known
            (workspace_id, run_id, task_run_id, job_id, task_key, period_start_time,
             period_end_time, result_state, account_id, parent_run_id, termination_code,
             compute_ids_json)
        SELECT
            workspace_id, run_id, task_run_id, job_id, task_key, started_at, ended_at,
            result_state, account_id, parent_run_id,
            {cases("result_state", translations.TERMINATIONS)},
            CASE
                WHEN worker IS NOT NULL AND started_at IS NOT NULL
                    THEN jsonb_build_array(worker)
            END
        FROM steps
        ORDER BY workspace_id, run_id, task_run_id
        ON CONFLICT (workspace_id, run_id, task_run_id) DO UPDATE
        SET job_id = excluded.job_id,
            task_key = excluded.task_key,
            period_start_time = excluded.period_start_time,
            period_end_time = excluded.period_end_time,
            result_state = excluded.result_state,
            account_id = excluded.account_id,
            parent_run_id = excluded.parent_run_id,
            termination_code = excluded.termination_code,
            compute_ids_json = excluded.compute_ids_json
        WHERE (known.job_id, known.task_key, known.period_start_time, known.period_end_time,
               known.result_state, known.account_id, known.parent_run_id,
               known.termination_code, known.compute_ids_json)
              IS DISTINCT FROM
              (excluded.job_id, excluded.task_key, excluded.period_start_time,
               excluded.period_end_time, excluded.result_state, excluded.account_id,
               excluded.parent_run_id, excluded.termination_code, excluded.compute_ids_json)
        RETURNING task_run_id
    ),
    -- A step that seemed never to begin may have begun, under another key or in a run that went on.
    untold AS (
        DELETE FROM lakeflow.fact_job_task_run_timeline AS known
        USING runs
        WHERE known.workspace_id = runs.workspace_id
          AND known.run_id = runs.run_id
          AND known.period_start_time IS NULL
          AND NOT EXISTS (
            SELECT FROM steps
            WHERE steps.run_id = known.run_id AND steps.task_run_id = known.task_run_id
          )
    )
"""

STATEMENT = text(
    f"""
    WITH {READING}, {NAMING}, {WRITING}
    SELECT
        (SELECT count(*) FROM told_runs) AS runs,
        (SELECT count(*) FROM told_steps) AS steps,
        (SELECT array_agg(run_id) FROM touched) AS known,
        (SELECT array_agg(run_id) FROM touched WHERE body IS NULL) AS bad_bodies,
        (SELECT array_agg(id) FROM events WHERE body IS NULL AND type = ANY({listed(RUN_ENDS)}))
            AS bad_events
    """
)
