"""Withdrawal: what an alert raised is over when nobody looks for it any more.

Whoever was told that it began is to be told that it ended. It is done where an alert is switched off, and
by the sensor `alerts` for those that somebody's SQL did.
"""

import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts import episodes, events
from rat_resources.alerts.events import Payload, Raised

MOST_STATES = 500
# A state is of a definition, or of the trouble with one.
ABOUT = f"""(
    definition.id = state.definition_id
    OR definition.id::text = split_part(state.subject, ':', 3)
        AND starts_with(state.subject, '{episodes.SYSTEM}{episodes.TROUBLE}:')
)"""


def end_disabled(tx: Session) -> list[uuid.UUID]:
    """Resolve what is raised of definitions that are disabled; the ids of the events."""
    rows = tx.execute(DISABLED, {"number": MOST_STATES}).all()
    told = []
    for row in rows:
        over = Raised(row.definition_id, row.subject, row.event_id, row.since)
        before = Payload.from_json(row.payload)
        payload = Payload(
            kind=before.kind,
            title=f"{row.name} is not watched any more",
            definition=row.name,
            labels=before.labels,
            table=before.table,
            pipeline=before.pipeline,
            cause=before.cause,
        )
        told.append(events.resolution(over, payload, severity=row.severity))
    return events.tell(tx, told)


DISABLED = text(f"""
    SELECT
        state.definition_id, state.subject, state.event_id, state.since,
        definition.name, definition.severity, event.payload
    FROM rat.alert_states AS state
    JOIN trace.alert_definitions AS definition ON {ABOUT}
    JOIN trace.alert_events AS event ON event.id = state.event_id
    WHERE NOT definition.enabled
    ORDER BY state.since
    LIMIT :number
""")
