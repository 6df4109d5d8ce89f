"""Dagster's runs: each goes whole, with its events, once it is old and the mirror has told it.

Whole, since half a run would be told as one that did half of it. What stays although it is old: what
goes on, what the mirror has yet to tell, what a publication, a wish, a task or a backfill still asks
for, and whatever an asset's page shows: its newest materialization, observation and check
evaluations, of each partition, and the run that was last asked for it.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import Row, text

from rat_resources.janitor.chores import Batch, Chore, Scene
from rat_resources.janitor.deleting import AT_ONCE

LOOKED_AT = 500  # runs that one question is about

# Older than all of its pipelines want to keep it; what is of no pipeline goes by the platform's word.
# The first lines are what an index knows.
IS_OLD = """
    run.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    AND run.update_timestamp < CAST(:latest AS timestamptz) AT TIME ZONE 'UTC'
    AND run.update_timestamp AT TIME ZONE 'UTC' < coalesce(
        (
            SELECT min(
                coalesce(
                    (CAST(:cutoffs AS jsonb) ->> own.pipeline_id::text)::timestamptz,
                    CAST(:cutoff AS timestamptz)
                )
            )
            FROM rat.runs AS own
            WHERE own.dagster_run_id = run.run_id
        ),
        CAST(:cutoff AS timestamptz)
    )
"""

IS_TOLD = """
    run.id <= (SELECT position FROM rat.mirror_positions WHERE feed = 'runs')
    AND coalesce((SELECT max(id) FROM dagster.event_logs WHERE run_id = run.run_id), 0)
        <= (SELECT position FROM rat.mirror_positions WHERE feed = 'event_logs')
    AND EXISTS (
        SELECT FROM lakeflow.fact_job_run_timeline AS told
        WHERE told.workspace_id = lakeflow.workspace_id()
            AND told.run_id = run.run_id
            AND told.result_state IS NOT NULL
    )
"""

IS_WANTED = """
    EXISTS (
        SELECT FROM rat.runs AS own
        LEFT JOIN rat.publications AS publication ON publication.run_id = own.id
        WHERE own.dagster_run_id = run.run_id
            AND (
                own.status IN ('pending', 'running')
                OR publication.state NOT IN ('closed', 'undone')
            )
    )
    OR EXISTS (
        SELECT FROM trace.tasks AS task
        WHERE task.dagster_run_id = run.run_id
            AND (task.status IN ('Queued', 'Running') OR task.next_retry_at IS NOT NULL)
    )
    OR EXISTS (
        SELECT FROM rat.wishes AS wish
        LEFT JOIN dagster.run_tags AS tag
            ON tag.run_id = run.run_id AND tag.key = 'dagster/run_key'
        WHERE wish.state <> 'done'
            AND (wish.dagster_run_id = run.run_id OR wish.run_key = tag.value)
    )
    OR EXISTS (
        SELECT FROM dagster.bulk_actions AS backfill
        WHERE backfill.key = run.backfill_id AND backfill.status NOT LIKE 'COMPLETED%'
            AND backfill.status NOT IN ('FAILED', 'CANCELED')
    )
"""

# Planned or done: a check that runs is shown too.
CHECKS = """
    SELECT DISTINCT
        (said.facts #> '{asset_key,path}')::text AS asset_key,
        said.facts ->> 'check_name' AS check_name
    FROM dagster.event_logs AS event
    CROSS JOIN LATERAL (
        SELECT rat.as_json(event.event) #> '{dagster_event,event_specific_data}' AS facts
    ) AS said
    WHERE event.run_id = run.run_id
        AND event.dagster_event_type IN (
            'ASSET_CHECK_EVALUATION_PLANNED', 'ASSET_CHECK_EVALUATION'
        )
"""

# A newest evaluation shows the materialization that it is of: of a run that told of the same check.
IS_SHOWN = f"""
    EXISTS (SELECT FROM dagster.asset_keys AS asset WHERE asset.last_run_id = run.run_id)
    OR EXISTS (
        SELECT FROM dagster.event_logs AS event
        WHERE event.run_id = run.run_id
            AND event.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
            AND NOT EXISTS (
                SELECT FROM dagster.event_logs AS later
                WHERE later.asset_key = event.asset_key
                    AND later.dagster_event_type = event.dagster_event_type
                    AND later.id > event.id
                    AND later.partition IS NOT DISTINCT FROM event.partition
            )
    )
    OR EXISTS (
        SELECT FROM ({CHECKS}) AS checked
        JOIN dagster.asset_check_executions AS evaluation USING (asset_key, check_name)
        WHERE (
                evaluation.run_id = run.run_id
                OR evaluation.materialization_event_storage_id IN (
                    SELECT event.id FROM dagster.event_logs AS event
                    WHERE event.run_id = run.run_id
                        AND event.dagster_event_type = 'ASSET_MATERIALIZATION'
                )
            )
            AND NOT EXISTS (
                SELECT FROM dagster.asset_check_executions AS later
                WHERE later.asset_key = evaluation.asset_key
                    AND later.check_name = evaluation.check_name
                    AND later.id > evaluation.id
                    AND later.partition IS NOT DISTINCT FROM evaluation.partition
            )
    )
"""

OLD = text(f"""
    SELECT
        old.id,
        old.run_id,
        (SELECT count(*) FROM dagster.event_logs WHERE run_id = old.run_id) AS events,
        old.may_go
    FROM (
        SELECT
            run.id,
            run.run_id,
            {IS_TOLD} AND NOT ({IS_WANTED}) AND NOT ({IS_SHOWN}) AS may_go
        FROM dagster.runs AS run
        WHERE run.id > :after AND {IS_OLD}
        ORDER BY run.id
        LIMIT {LOOKED_AT}
    ) AS old
    ORDER BY old.id
""")


def find(scene: Scene) -> Iterator[Batch]:
    """The runs that may go, so many together that their events are not too many."""
    after = 0
    while True:
        values = scene.cutoffs("runs") | {"after": after}
        with scene.whole.metadata.transaction() as tx:
            found = tx.execute(OLD, values).all()
        for rows in together([row for row in found if row.may_go]):
            counts = {
                "dagster_runs": len(rows),
                "dagster_events": sum(row.events for row in rows),
            }
            run_ids = [row.run_id for row in rows]
            yield Batch(counts, partial(delete, scene, run_ids))
        if len(found) < LOOKED_AT:
            return
        after = found[-1].id


def together(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The runs in batches of bounded size; one that is larger by itself is a batch."""
    batch: list[Row] = []
    for row in rows:
        if batch and sum(each.events for each in batch) + row.events > AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def delete(scene: Scene, run_ids: Sequence[str]) -> None:
    """Delete runs with all that Dagster knows of them; one that somebody holds is left for the next time."""
    with scene.whole.metadata.transaction() as tx:
        held = {"ids": list(tx.scalars(HOLD, {"ids": list(run_ids)}))}
        for statement in DELETE:
            tx.execute(statement, held)


HOLD = text("""
    SELECT run_id FROM dagster.runs
    WHERE run_id = ANY(:ids) AND status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    FOR UPDATE SKIP LOCKED
""")
# Tags of a run go with its row.
DELETE = (
    text(f"""
        DELETE FROM dagster.asset_check_executions AS evaluation
        USING unnest(CAST(:ids AS text[])) AS run (run_id)
        CROSS JOIN LATERAL ({CHECKS}) AS checked
        WHERE evaluation.asset_key = checked.asset_key
            AND evaluation.check_name = checked.check_name
            AND evaluation.run_id = run.run_id
    """),
    text("""
        DELETE FROM dagster.asset_event_tags AS tag
        USING dagster.event_logs AS event
        WHERE event.run_id = ANY(:ids)
            AND event.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
            AND tag.event_id = event.id
    """),
    text("DELETE FROM dagster.event_logs WHERE run_id = ANY(:ids)"),
    text("DELETE FROM dagster.runs WHERE run_id = ANY(:ids)"),
)

CHORES = (Chore("Dagster's runs", ("dagster_runs", "dagster_events"), find),)
