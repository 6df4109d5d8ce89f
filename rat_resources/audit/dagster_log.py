"""Dagster and rat: what Dagster shows as materialized is what was published, and runs end together.

A Dagster run that is gone with all its events was deleted in Dagster; what it told went with it.
"""

from rat_resources.audit.comparison import (
    RECONCILE,
    SOMEBODY,
    Comparison,
    Side,
    never,
)
from rat_resources.specs import SCHEMA_CHANGE

MATERIALIZED = """
SELECT
    told.id,
    array_to_string(ARRAY(SELECT jsonb_array_elements_text(log.asset_key::jsonb)), '.') AS "table",
    told.rows,
    told.rows_written,
    told.main,
    shown.materialization #>> '{tags,dagster/data_version}' AS data_version
FROM dagster.event_logs AS log
CROSS JOIN LATERAL (
    SELECT log.event::jsonb #> '{dagster_event,event_specific_data,materialization}'
        AS materialization
) AS shown
CROSS JOIN LATERAL (
    SELECT
        max(entry.entry_data ->> 'text') FILTER (WHERE entry.label = 'rat_run_id') AS id,
        max(entry.entry_data ->> 'value') FILTER (WHERE entry.label = 'dagster/row_count')::bigint
            AS rows,
        max(entry.entry_data ->> 'value') FILTER (WHERE entry.label = 'rows_written')::bigint
            AS rows_written,
        max(entry.entry_data ->> 'text') FILTER (WHERE entry.label = 'commit') AS main
    FROM jsonb_to_recordset(shown.materialization -> 'metadata_entries')
        AS entry(label text, entry_data jsonb)
) AS told
LEFT JOIN rat.publications AS publication ON publication.run_id::text = told.id
LEFT JOIN rat.runs AS run ON run.id = publication.run_id
WHERE log.dagster_event_type = 'ASSET_MATERIALIZATION'
    AND told.id IS NOT NULL
    AND publication.state IS DISTINCT FROM 'published' -- it is being told
    -- What was reported of a run outlives it where it is the newest of its asset.
    AND (
        log.run_id <> ''
        OR run.id IS NULL
        OR EXISTS (SELECT FROM dagster.runs WHERE run_id = run.dagster_run_id)
    )
"""

PUBLISHED = """
SELECT
    run.id::text AS id,
    concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table",
    run.rows_total AS rows,
    run.rows_written,
    coalesce(run.commit, run.base_commit) AS main,
    publication.facts ->> 'data_version' AS data_version
FROM rat.publications AS publication
JOIN rat.runs AS run ON run.id = publication.run_id
JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
WHERE publication.state = 'closed'
    AND (
        EXISTS (SELECT FROM dagster.runs WHERE run_id = run.dagster_run_id)
        OR EXISTS (SELECT FROM dagster.event_logs WHERE run_id = run.dagster_run_id)
    )
"""

# A run that waits or works in a process is let alone for as long as it takes to notice.
UNFINISHED = """
SELECT
    run.id::text AS id,
    run.status,
    dagster.status AS dagster_status
FROM rat.runs AS run
JOIN dagster.runs AS dagster ON dagster.run_id = run.dagster_run_id
WHERE run.status IN ('pending', 'running')
    AND CAST(:rat_of_dagster AS jsonb) ->> dagster.status IN ('success', 'failed', 'cancelled')
    AND coalesce(to_timestamp(dagster.end_time), dagster.update_timestamp AT TIME ZONE 'UTC')
        < now() - INTERVAL '5 seconds'
    AND NOT EXISTS (
        SELECT FROM rat.leases WHERE holder = run.id AND expires_at > now()
    )
"""

# Of the tables of a Dagster run the last attempts count.
LAST_ATTEMPTS = """
SELECT DISTINCT ON (run.dagster_run_id, run.pipeline_id)
    run.id::text AS id,
    run.dagster_run_id,
    run.status
FROM rat.runs AS run
WHERE run.dagster_run_id IS NOT NULL
ORDER BY run.dagster_run_id, run.pipeline_id, run.attempt DESC
"""

CONTRADICTED = f"""
SELECT last.id, last.status, dagster.status AS dagster_status
FROM ({LAST_ATTEMPTS}) AS last
JOIN dagster.runs AS dagster ON dagster.run_id = last.dagster_run_id
WHERE dagster.status = 'SUCCESS' AND last.status IN ('failed', 'cancelled')
"""

LOST = """
SELECT run.id::text AS id, run.dagster_run_id
FROM rat.runs AS run
WHERE NOT EXISTS (SELECT FROM dagster.runs WHERE run_id = run.dagster_run_id)
    AND (
        run.dagster_run_id IS NULL
        OR EXISTS (SELECT FROM dagster.event_logs WHERE run_id = run.dagster_run_id)
    )
"""

# A check of the last attempt at its table: an attempt that is tried again tells none. What the
# reconciler told belongs to no Dagster run, and names the run that it is of. That no column changes,
# where no contract asks for it, is told to Dagster alone.
EVALUATED = f"""
SELECT
    concat_ws(' ', run.id, evaluation.check_name) AS id,
    evaluation.execution_status = 'SUCCEEDED' AS passed,
    shown.facts #>> '{{metadata,verdict,text}}' AS verdict,
    (shown.facts #>> '{{metadata,offending_rows,value}}')::numeric AS offenders
FROM dagster.asset_check_executions AS evaluation
CROSS JOIN LATERAL (
    SELECT evaluation.evaluation_event::jsonb #> '{{dagster_event,event_specific_data}}' AS facts
) AS shown
JOIN rat.pipelines AS pipeline
    ON ARRAY[pipeline.namespace, pipeline.layer, pipeline.name]
        = ARRAY(SELECT jsonb_array_elements_text(evaluation.asset_key::jsonb))::varchar[]
CROSS JOIN LATERAL (
    SELECT run.id, run.dagster_run_id
    FROM rat.runs AS run
    WHERE run.pipeline_id = pipeline.id
        AND CASE
            WHEN evaluation.run_id <> '' THEN run.dagster_run_id = evaluation.run_id
            ELSE run.id::text = shown.facts #>> '{{metadata,rat_run_id,text}}'
        END
    ORDER BY run.attempt DESC
    LIMIT 1
) AS run
JOIN dagster.runs AS dagster ON dagster.run_id = run.dagster_run_id
WHERE evaluation.execution_status IN ('SUCCEEDED', 'FAILED')
    AND dagster.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    AND (
        evaluation.check_name <> '{SCHEMA_CHANGE}'
        OR evaluation.execution_status = 'FAILED'
        OR EXISTS (
            SELECT FROM rat.quality_results AS result
            JOIN rat.quality_tests AS test ON test.id = result.test_id
            WHERE result.run_id = run.id AND test.name = '{SCHEMA_CHANGE}'
        )
    )
"""

# Of steps that published, all of it; of those that the tests stopped, what the log says that was told.
SAID = """
SELECT
    concat_ws(' ', run.id, replace(test.name, '-', '_')) AS id,
    result.status = 'passed' AS passed,
    result.status AS verdict,
    result.value AS offenders
FROM rat.quality_results AS result
JOIN rat.quality_tests AS test ON test.id = result.test_id
JOIN rat.runs AS run ON run.id = result.run_id
JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
JOIN dagster.runs AS dagster ON dagster.run_id = run.dagster_run_id
LEFT JOIN rat.publications AS publication ON publication.run_id = run.id
WHERE dagster.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    AND (
        dagster.status = 'SUCCESS'
        OR publication.state = 'closed'
        OR EXISTS (
            SELECT FROM dagster.event_logs AS log
            WHERE log.run_id = run.dagster_run_id
                AND log.dagster_event_type = 'ASSET_CHECK_EVALUATION'
                AND log.event::jsonb
                    #> '{dagster_event,event_specific_data,asset_key,path}'
                    = jsonb_build_array(pipeline.namespace, pipeline.layer, pipeline.name)
                AND log.event::jsonb #>> '{dagster_event,event_specific_data,check_name}'
                    = replace(test.name, '-', '_')
        )
    )
    AND NOT EXISTS (
        SELECT FROM rat.runs AS later
        WHERE later.dagster_run_id = run.dagster_run_id
            AND later.pipeline_id = run.pipeline_id
            AND later.attempt > run.attempt
    )
"""

UNTOLD = """
SELECT
    publication.run_id::text AS id,
    publication.state,
    dagster.status AS dagster_status
FROM rat.publications AS publication
JOIN rat.runs AS run ON run.id = publication.run_id
JOIN dagster.runs AS dagster ON dagster.run_id = run.dagster_run_id
WHERE publication.state IN ('intended', 'merging', 'undoing', 'published')
    AND dagster.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    AND NOT EXISTS (
        SELECT FROM rat.leases WHERE holder = run.id AND expires_at > now()
    )
"""

COMPARISONS = (
    Comparison(
        "dagster.materializations",
        "every materialization is a publication, told once, with its rows, version and commit",
        Side("Dagster", MATERIALIZED),
        Side("rat.publications", PUBLISHED),
        RECONCILE,
    ),
    never(
        "dagster.open_publications",
        "no publication is left open once its Dagster run has ended",
        speaker="rat.publications",
        sql=UNTOLD,
        expected="a Dagster run that has ended",
        fix=RECONCILE,
    ),
    never(
        "dagster.unfinished_runs",
        "no run goes on once its Dagster run has ended, unless its process still works on it",
        speaker="rat.runs",
        sql=UNFINISHED,
        expected="a Dagster run that has ended",
        fix=RECONCILE,
    ),
    never(
        "dagster.runs",
        "a Dagster run succeeded only if the last attempt at each of its tables did",
        speaker="rat.runs",
        sql=CONTRADICTED,
        expected="a Dagster run that succeeded",
        fix=SOMEBODY,
    ),
    never(
        "dagster.lost_runs",
        "every run names its Dagster run; one that was deleted in Dagster is gone with its events",
        speaker="rat.runs",
        sql=LOST,
        expected="Dagster",
        fix=SOMEBODY,
    ),
    Comparison(
        "dagster.checks",
        "what Dagster shows of a check is what the test said in the run",
        Side("Dagster", EVALUATED),
        Side("rat.quality_results", SAID),
        SOMEBODY,
    ),
)
