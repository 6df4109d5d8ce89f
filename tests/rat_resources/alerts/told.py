"""Events and definitions, as tests of routing and delivering want them."""

import uuid
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts import definitions, events
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import Event, Payload


def define(tx: Session, channels: dict[str, Any], **said: Any) -> uuid.UUID:  # noqa: ANN401 - fields
    """The id of a definition with these channels."""
    name = said.pop("name", "late")
    whole = Definition(
        id=definitions.definition_id(tx, "nyc", name),
        name=name,
        namespace="nyc",
        kind="threshold",
        condition={"kind": "threshold", "dataset": "nyc.silver.flights"},
        channels=channels,
    )
    definitions.save(tx, whole)
    if said:
        tx.execute(text("UPDATE trace.alert_definitions SET enabled = :enabled"), said)
    return whole.id


def happen(
    tx: Session,
    definition_id: uuid.UUID | None,
    key: str = "1",
    **said: Any,  # noqa: ANN401 - the fields of Event and of its payload
) -> uuid.UUID:
    """The id of an event of a definition."""
    fields = {
        name: said.pop(name) for name in ("severity", "event_time") if name in said
    }
    payload = Payload(
        **{
            "kind": "threshold",
            "title": f"flight {key} is late",
            "definition": "late",
            "table": "nyc.silver.flights",
        }
        | said
    )
    added = events.add(
        tx, Event(f"alert:{key}", payload, definition_id=definition_id, **fields)
    )
    assert added is not None
    return added


def rows(tx: Session) -> list[Any]:
    """The deliveries, the oldest first."""
    found = text("""
        SELECT *, next_attempt_at - clock_timestamp() AS wait FROM trace.alert_deliveries
        ORDER BY created_at, (leader_id IS NOT NULL), id
    """)
    return list(tx.execute(found))


def make_due(tx: Session) -> None:
    """Let the time of every next attempt have come."""
    tx.execute(
        text("UPDATE trace.alert_deliveries SET next_attempt_at = clock_timestamp()")
    )
