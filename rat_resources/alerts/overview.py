"""What people want to see of alerts: which are raised, what happened, and what is defined.

Reading only. What was told of an event is its deliveries, one a channel.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.alerts import routing
from rat_resources.alerts.definitions import Definition, file_key
from rat_resources.metadata.base import Json


@dataclass(frozen=True)
class Delivery:
    """How far one message came."""

    channel: str
    status: str
    attempt: int
    error: str | None
    delivered_at: datetime | None
    next_attempt_at: datetime | None

    def __str__(self) -> str:
        return f"{self.channel} {self.status}"


@dataclass(frozen=True)
class Told:
    """An event, with what became of it."""

    event_id: uuid.UUID
    at: datetime  # when it happened; of what is raised, since when
    severity: str
    alert: str
    state: str
    table: str | None
    title: str
    subject: str | None  # of what is raised
    payload: Mapping[str, Json]
    deliveries: tuple[Delivery, ...]
    untold: str  # why nobody is told of it

    @classmethod
    def from_row(cls, row: Row) -> "Told":
        """The event of a row of one of the queries below."""
        values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        deliveries = [
            Delivery(
                **each
                | {
                    name: as_moment(each[name])
                    for name in ("delivered_at", "next_attempt_at")
                }
            )
            for each in values.pop("deliveries") or ()
        ]
        for name in ("is_queued", "channels", "enabled", "now"):
            del values[name]
        untold = "" if deliveries else why_untold(row)
        return cls(**values, deliveries=tuple(deliveries), untold=untold)

    def to_json(self) -> dict[str, Any]:
        """It as JSON has it."""
        return asdict(self) | {"event_id": str(self.event_id)}


class Standing(NamedTuple):
    """What is raised of a definition."""

    definition_id: uuid.UUID
    title: str
    since: datetime


def why_untold(row: Row) -> str:
    """Why an event without deliveries has none; empty where it cannot be told."""
    if row.is_queued:
        return "not yet"
    if row.enabled is None:
        return ""  # of RAT's own, or of a rule of CHM's
    payload = row.payload if isinstance(row.payload, dict) else {}
    event = routing.Happened(
        row.event_id, None, row.severity, row.at, row.table or "", payload
    )
    return routing.why_untold(event, row.channels, enabled=row.enabled, now=row.now)


def as_moment(written: str | None) -> datetime | None:
    """A time that Postgres wrote into JSON."""
    return datetime.fromisoformat(written) if written else None


EVENT = """
    event.severity,
    coalesce(
        nullif(concat_ws('/', nullif(alert.namespace, ''), alert.name), ''),
        event.payload ->> 'definition',
        event.payload ->> 'kind',
        'unknown'
    ) AS alert,
    coalesce(event.payload ->> 'state', 'firing') AS state,
    event.source_dataset AS table,
    coalesce(event.payload ->> 'title', '') AS title,
    event.payload,
    told.deliveries,
    alert.channels,
    alert.enabled,
    EXISTS (SELECT FROM rat.alert_queue AS queue WHERE queue.event_id = event.id) AS is_queued,
    clock_timestamp() AS now
"""
DELIVERIES = """
    SELECT jsonb_agg(
        jsonb_build_object(
            'channel', channel,
            'status', status,
            'attempt', attempt,
            'error', error_message,
            'delivered_at', delivered_at,
            'next_attempt_at', CASE WHEN status IN ('pending', 'retrying') THEN next_attempt_at END
        )
        ORDER BY channel
    ) AS deliveries
    FROM trace.alert_deliveries
    WHERE alert_event_id = event.id
"""
RAISED = text(f"""
    SELECT event.id AS event_id, state.since AS at, state.subject, {EVENT}
    FROM rat.alert_states AS state
    JOIN trace.alert_events AS event ON event.id = state.event_id
    LEFT JOIN trace.alert_definitions AS alert ON alert.id = state.definition_id
    CROSS JOIN LATERAL ({DELIVERIES}) AS told
    WHERE (event.source_dataset = CAST(:table AS text) OR CAST(:table AS text) IS NULL)
    ORDER BY
        array_position(ARRAY['critical', 'warning', 'info'], event.severity),
        state.since DESC,
        event.id
    LIMIT :limit
""")
HISTORY = text(f"""
    SELECT event.id AS event_id, event.event_time AS at, NULL AS subject, {EVENT}
    FROM trace.alert_events AS event
    JOIN trace.orgs AS org ON org.id = event.org_id
    JOIN rat.deployment ON deployment.org = org.slug
    LEFT JOIN trace.alert_definitions AS alert ON alert.id = event.alert_definition_id
    CROSS JOIN LATERAL ({DELIVERIES}) AS told
    WHERE (event.source_dataset = CAST(:table AS text) OR CAST(:table AS text) IS NULL)
    ORDER BY event.created_at DESC, event.id
    LIMIT :limit
""")


def raised_now(
    tx: Session, *, table: str | None = None, limit: int = 1_000
) -> list[Told]:
    """What is raised now (about *table*), the worst first, then the newest."""
    rows = tx.execute(RAISED, {"table": table, "limit": limit})
    return [Told.from_row(row) for row in rows]


def history(tx: Session, *, table: str | None = None, limit: int = 50) -> list[Told]:
    """What happened (to *table*), the newest first."""
    rows = tx.execute(HISTORY, {"table": table, "limit": limit})
    return [Told.from_row(row) for row in rows]


def raised_of(tx: Session, definition_ids: Collection[uuid.UUID]) -> Sequence[Standing]:
    """What is raised now of these definitions, the oldest first."""
    if not definition_ids:
        return []
    rows = tx.execute(OF_DEFINITIONS, {"ids": sorted(definition_ids)})
    return [Standing(*row) for row in rows]


OF_DEFINITIONS = text("""
    SELECT state.definition_id, coalesce(event.payload ->> 'title', ''), state.since
    FROM rat.alert_states AS state
    JOIN trace.alert_events AS event ON event.id = state.event_id
    WHERE state.definition_id = ANY(:ids)
    ORDER BY state.since, event.id
""")


def as_object(definition: Definition) -> dict[str, Any]:
    """A definition as JSON has it; its channels hold names of secrets only."""
    return asdict(definition) | {
        "id": str(definition.id),
        "table": definition.table and str(definition.table),
        "source": str(definition.source),
        "file": file_key(definition) if definition.source == "file" else None,
    }
