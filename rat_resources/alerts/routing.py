"""Routing: which deliveries follow from an event. Nothing is sent here.

Every event that is written stands in `rat.alert_queue` until it was looked at, in the transaction that
writes its deliveries: one for each channel of its definition whose `where` it fits, unless it is older
than the channel's `max_delivery_age`. When it is due is decided here too, by quiet hours and by how long
a group waits for others; what is told together has one delivery that leads the others.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.alerts.destinations import Destination, of_channels, of_rule
from rat_resources.alerts.readers import seconds_of
from rat_resources.metadata.base import Json
from rat_resources.metadata.zeros import as_json
from rat_resources.mirror.ids import trace_id
from rat_resources.mirror.people import declare_org

AT_ONCE = 1_000  # events, in one transaction
GROUP_WAIT = "30s"
SEVERITIES = ("info", "warning", "critical")
# PagerDuty groups by itself, and an incident is resolved one by one.
UNGROUPED = ("pagerduty",)
LABELS = "labels."


@dataclass(frozen=True)
class Routed:
    """What a look at the queue came to."""

    events: int
    deliveries: int


@dataclass(frozen=True)
class Happened:
    """An event, as routing looks at it."""

    id: uuid.UUID
    definition_id: uuid.UUID | None
    severity: str
    at: datetime
    dataset: str
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Whether something began, ended, or is only tried."""
        return str(self.payload.get("state") or "firing")

    @property
    def kind(self) -> str:
        """The kind of its condition."""
        return str(self.payload.get("kind") or "")

    def value(self, name: str) -> str:
        """What a `where` or a `group_by` calls *name*."""
        if name.startswith(LABELS):
            labels = self.payload.get("labels")
            return str((labels if isinstance(labels, dict) else {}).get(name[7:], ""))
        known = {
            "severity": self.severity,
            "state": self.state,
            "kind": self.kind,
            "dataset": self.dataset,
            "table": self.dataset,
            "namespace": self.namespace,
            "definition": str(self.payload.get("definition") or ""),
            "cause": str(self.payload.get("cause") or self.definition_id or self.id),
        }
        return known.get(name, "")

    @property
    def namespace(self) -> str:
        """The namespace that it is about."""
        about = self.dataset or str(self.payload.get("pipeline") or "")
        return about.partition(".")[0]


@dataclass(frozen=True)
class Wanted:
    """A delivery that an event asks for."""

    id: uuid.UUID
    event_id: uuid.UUID
    channel: str
    due: datetime
    group_key: str | None = None
    leader_id: uuid.UUID | None = None


def delivery_id(org_id: uuid.UUID, event_id: object, channel: str) -> uuid.UUID:
    """The id of the delivery of an event through a channel: always the same."""
    return trace_id("alert_delivery", org_id, event_id, channel)


def route(tx: Session, *, most: int = AT_ONCE) -> Routed:
    """Write the deliveries of the events that wait longest; each is written once."""
    ids = list(tx.scalars(TAKE, {"most": most}))
    if not ids:
        return Routed(0, 0)
    org_id = declare_org(tx)
    rows = list(tx.execute(EVENTS, {"ids": ids, "org_id": org_id}))
    known = {tuple(row) for row in tx.execute(KNOWN, {"ids": ids})}
    found = [
        each
        for row in rows
        for each in wanted_by(tx, row, org_id=org_id)
        if (each.event_id, each.channel) not in known
    ]
    return Routed(len(ids), write(tx, found, org_id=org_id))


TAKE = text("""
    DELETE FROM rat.alert_queue WHERE event_id IN (
        SELECT event_id FROM rat.alert_queue ORDER BY queued_at, event_id
        LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING event_id
""")
# What is another organisation's never leaves: neither its events nor by its definitions.
EVENTS = text("""
    SELECT
        event.id, event.alert_definition_id, event.severity, event.event_time,
        event.source_dataset, event.payload, definition.channels, definition.enabled,
        rule.channel::text AS rule_channel, rule.destination, rule.is_enabled,
        ARRAY(
            SELECT before.channel
            FROM trace.alert_deliveries AS before
            WHERE before.status IN ('sending', 'delivered')
                -- Events are also inserted by hand.
                AND before.alert_event_id = CASE
                    WHEN event.payload ->> 'resolves' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                    THEN (event.payload ->> 'resolves')::uuid
                END
        ) AS told_by,
        clock_timestamp() AS now
    FROM trace.alert_events AS event
    LEFT JOIN trace.alert_definitions AS definition
        ON definition.id = event.alert_definition_id AND definition.org_id = event.org_id
    LEFT JOIN chm.alert_rules AS rule ON rule.id::text = event.payload ->> 'rule'
        AND event.alert_definition_id IS NULL
    WHERE event.id = ANY(:ids) AND event.org_id = :org_id
    ORDER BY event.created_at, event.id
""")
KNOWN = text("""
    SELECT alert_event_id, channel FROM trace.alert_deliveries WHERE alert_event_id = ANY(:ids)
""")


def wanted_by(tx: Session, row: Row[Any], *, org_id: uuid.UUID) -> list[Wanted]:
    """The deliveries that an event asks for."""
    event = happened(row)
    failed = failed_destination(tx, event)
    return [
        wanted(event, each, org_id=org_id, now=row.now)
        for each in destinations_of(row)
        if fits(event, each.options.get("where"))
        and not is_stale(event, each.options.get("max_delivery_age"), now=row.now)
        and each.identity != failed
    ]


def happened(row: Row[Any]) -> Happened:
    """The event of a row."""
    payload = row.payload if isinstance(row.payload, dict) else {}
    severity = row.severity if row.severity in SEVERITIES else "warning"
    dataset = row.source_dataset or str(payload.get("table") or "")
    at: datetime = row.event_time
    return Happened(row.id, row.alert_definition_id, severity, at, dataset, payload)


def destinations_of(row: Row[Any]) -> list[Destination]:
    """Where somebody wants to hear of an event."""
    if row.rule_channel is not None:
        return [of_rule(row.rule_channel, row.destination)] if row.is_enabled else []
    found = of_channels(row.channels)
    # Who was told that it began hears that it is over, though the alert is withdrawn by now.
    return (
        found
        if row.enabled
        else [each for each in found if each.channel in row.told_by]
    )


def failed_destination(tx: Session, event: Happened) -> str:
    """The destination that an event of RAT's own tells has failed: nobody hears of that through it."""
    figures = event.payload.get("figures")
    delivery = figures.get("delivery") if isinstance(figures, dict) else None
    if event.kind != "system" or not delivery:
        return ""
    row = tx.execute(FAILED, {"id": str(delivery)}).first()
    if row is None:
        return ""
    if row.rule_channel is not None:
        return of_rule(row.rule_channel, row.destination).identity
    found = {each.channel: each for each in of_channels(row.channels)}
    return found[row.channel].identity if row.channel in found else ""


FAILED = text("""
    SELECT
        delivery.channel, definition.channels, rule.channel::text AS rule_channel,
        rule.destination
    FROM trace.alert_deliveries AS delivery
    JOIN trace.alert_events AS event ON event.id = delivery.alert_event_id
    LEFT JOIN trace.alert_definitions AS definition ON definition.id = event.alert_definition_id
    LEFT JOIN chm.alert_rules AS rule ON rule.id::text = event.payload ->> 'rule'
    WHERE delivery.id::text = :id
""")


def fits(event: Happened, where: Any) -> bool:  # noqa: ANN401 - JSON, right or wrong
    """Whether an event has one of the values of every field."""
    if where is None:
        return True
    if not isinstance(where, Mapping):
        return False
    return all(
        event.value(name) in map(str, said if isinstance(said, list) else [said])
        for name, said in where.items()
    )


def is_stale(event: Happened, oldest: Any, *, now: datetime) -> bool:  # noqa: ANN401 - JSON, right or wrong
    """Whether nobody wants to hear of an event any more."""
    return oldest is not None and now - event.at > span(oldest)


def why_untold(event: Happened, channels: Json, *, enabled: bool, now: datetime) -> str:
    """Why no channel of a definition wants to hear of an event, by what it says today."""
    found = of_channels(channels)
    if not found:
        return "no channel"
    if not enabled:
        return "switched off"
    misfits = {
        each.channel for each in found if not fits(event, each.options.get("where"))
    }
    late = {
        each.channel
        for each in found
        if is_stale(event, each.options.get("max_delivery_age"), now=now)
    }
    said = [
        *([f"`where` of {', '.join(sorted(misfits))}"] if misfits else []),
        *(
            [f"too old for {', '.join(sorted(late - misfits))}"]
            if late - misfits
            else []
        ),
    ]
    return "; ".join(said)


def span(written: Any) -> timedelta:  # noqa: ANN401 - JSON, right or wrong
    """A span of time; what is none lasts for ever, for an alert too many is better than none."""
    try:
        return timedelta(seconds=seconds_of(str(written)))
    except (ValueError, OverflowError):
        return timedelta.max


def wanted(
    event: Happened, destination: Destination, *, org_id: uuid.UUID, now: datetime
) -> Wanted:
    """The delivery of an event through one channel, and when it is due."""
    options = destination.options
    due = quiet_until(event, options.get("quiet_hours"), now=now)
    key = group_key(event, destination)
    if key is not None:
        wait = min(span(options.get("group_wait", GROUP_WAIT)), timedelta(days=1))
        due = max(due, now + wait)
    name = delivery_id(org_id, event.id, destination.channel)
    return Wanted(name, event.id, destination.channel, due, key)


def group_key(event: Happened, destination: Destination) -> str | None:
    """What an event has in common with those that one message tells of; None: it has its own."""
    names = destination.options.get("group_by")
    if (
        not isinstance(names, list)
        or not names
        or destination.channel in UNGROUPED
        or event.state == "test"
    ):
        return None
    values = [[name, event.value(str(name))] for name in names]
    said = as_json([destination.identity, event.state, values])
    return sha256(said.encode()).hexdigest()[:32]


def quiet_until(event: Happened, said: Any, *, now: datetime) -> datetime:  # noqa: ANN401 - JSON, right or wrong
    """When an event may be told: now, or at the end of the quiet hours."""
    if not isinstance(said, Mapping) or event.state == "test":
        return now
    loud = said.get("unless_severity")
    if loud in SEVERITIES and SEVERITIES.index(event.severity) >= SEVERITIES.index(
        loud
    ):
        return now
    try:
        zone = ZoneInfo(str(said.get("timezone") or "UTC"))
        begins, ends = (clock(said.get(name)) for name in ("from", "to"))
    except (ValueError, KeyError, OSError):
        return now
    return end_of_quiet(now, begins=begins, ends=ends, zone=zone)


def clock(written: Any) -> timedelta:  # noqa: ANN401 - JSON, right or wrong
    """A time of day, since midnight."""
    hours, _, minutes = str(written).partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def end_of_quiet(
    now: datetime, *, begins: timedelta, ends: timedelta, zone: ZoneInfo
) -> datetime:
    """The end of the quiet hours that are now; *now* when none are."""
    here = now.astimezone(zone)
    since = timedelta(hours=here.hour, minutes=here.minute, seconds=here.second)
    over_night = begins > ends
    is_quiet = since >= begins or since < ends if over_night else begins <= since < ends
    if not is_quiet:
        return now
    day = here.date() + timedelta(days=int(over_night and since >= begins))
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    # By the clock on the wall: a day may have 23 hours.
    return max(now, midnight + ends)


# Writing.


def write(tx: Session, found: Sequence[Wanted], *, org_id: uuid.UUID) -> int:
    """Write deliveries, those of a group behind the one that leads it; how many are new."""
    led = [
        each
        for key in sorted({each.group_key for each in found if each.group_key})
        for each in behind_leader(tx, key, found, org_id=org_id)
    ]
    alone = [each for each in found if each.group_key is None]
    return insert(tx, [*alone, *led], org_id=org_id)


def behind_leader(
    tx: Session, key: str, found: Iterable[Wanted], *, org_id: uuid.UUID
) -> list[Wanted]:
    """The deliveries of a group: behind one that nobody has taken yet, or behind their own first."""
    # Two who route the same group at once would each find none.
    tx.execute(LOCK, {"key": key})
    leader = tx.execute(LEADER, {"key": key, "org_id": org_id}).scalar()
    members = [each for each in found if each.group_key == key]
    if leader is None:
        first, *members = members
        return [first, *(follow(each, first.id) for each in members)]
    return [follow(each, leader) for each in members]


def follow(wanted: Wanted, leader_id: uuid.UUID) -> Wanted:
    """A delivery that is told with another one."""
    return Wanted(
        wanted.id,
        wanted.event_id,
        wanted.channel,
        wanted.due,
        wanted.group_key,
        leader_id,
    )


LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
LEADER = text("""
    SELECT id FROM trace.alert_deliveries
    WHERE group_key = :key AND org_id = :org_id AND leader_id IS NULL
        AND status = 'pending' AND attempt = 0
    ORDER BY created_at LIMIT 1
    FOR UPDATE
""")


def insert(tx: Session, rows: Sequence[Wanted], *, org_id: uuid.UUID) -> int:
    """Write deliveries that are not there yet; how many."""
    if not rows:
        return 0
    document = [
        {
            "id": str(each.id),
            "event_id": str(each.event_id),
            "channel": each.channel,
            "due": each.due.isoformat(),
            "group_key": each.group_key,
            "leader_id": each.leader_id and str(each.leader_id),
        }
        for each in rows
    ]
    done = tx.scalars(INSERT, {"org_id": org_id, "rows": as_json(document)})
    return len(done.all())


INSERT = text("""
    INSERT INTO trace.alert_deliveries (
        id, org_id, alert_event_id, channel, next_attempt_at, group_key, leader_id
    )
    SELECT wanted.id, :org_id, wanted.event_id, wanted.channel, wanted.due,
        wanted.group_key, wanted.leader_id
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS wanted (
        id uuid, event_id uuid, channel text, due timestamptz, group_key text, leader_id uuid
    )
    ON CONFLICT DO NOTHING
    RETURNING id
""")
