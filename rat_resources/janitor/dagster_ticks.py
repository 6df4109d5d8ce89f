"""Ticks: what Dagster wrote down each time that a sensor or schedule was looked at.

Dagster itself removes those of what still ticks (`retention` in dagster.yaml); what ticks no more is
left to us. The newest of each stays, it is what the page shows; one that goes on is never touched.
"""

from sqlalchemy import text

from rat_resources.janitor.chores import Chore
from rat_resources.janitor.deleting import OldRows

ROWS = OldRows(
    "dagster.job_ticks",
    word="ticks",
    kind="ticks",
    query=text("""
        SELECT tick.id FROM dagster.job_ticks AS tick
        WHERE tick.id > :after
            AND tick."timestamp" < CAST(:cutoff AS timestamptz) AT TIME ZONE 'UTC'
            AND tick.status <> 'STARTED'
            AND EXISTS (
                SELECT FROM dagster.job_ticks AS later
                WHERE later.selector_id = tick.selector_id
                    AND later."timestamp" > tick."timestamp"
            )
        ORDER BY tick.id
        LIMIT :at_once
    """),
)

CHORES = (Chore("ticks of sensors and schedules", (ROWS.kind,), ROWS.find),)
