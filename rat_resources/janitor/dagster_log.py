"""Events of no run: what was reported to Dagster about an asset from outside, longer ago than runs are kept.

The newest of each asset and partition stays. What the reconciler reported of a publication stays as
long as Dagster has the run that published.
"""

from sqlalchemy import text

from rat_resources.janitor.chores import Chore
from rat_resources.janitor.deleting import OldRows

EVENTS = OldRows(
    "dagster.event_logs",
    word="runs",
    kind="dagster_events_of_no_run",
    query=text("""
        SELECT event.id FROM dagster.event_logs AS event
        WHERE event.run_id = ''
            AND event.id > :after
            AND event."timestamp" < CAST(:cutoff AS timestamptz) AT TIME ZONE 'UTC'
            AND event.id <= (
                SELECT position FROM rat.mirror_positions WHERE feed = 'event_logs'
            )
            AND event.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
            AND EXISTS (
                SELECT FROM dagster.event_logs AS later
                WHERE later.asset_key = event.asset_key
                    AND later.dagster_event_type = event.dagster_event_type
                    AND later.id > event.id
                    AND later.partition IS NOT DISTINCT FROM event.partition
            )
            AND NOT EXISTS (
                SELECT FROM jsonb_to_recordset(
                    rat.as_json(event.event)
                        #> '{dagster_event,event_specific_data,materialization,metadata_entries}'
                ) AS told (label text, entry_data jsonb)
                JOIN rat.runs AS run ON run.id::text = told.entry_data ->> 'text'
                JOIN dagster.runs AS kept ON kept.run_id = run.dagster_run_id
                WHERE told.label = 'rat_run_id'
            )
        ORDER BY event.id
        LIMIT :at_once
    """),
)

CHORES = (Chore("events of no run", (EVENTS.kind,), EVENTS.find),)
