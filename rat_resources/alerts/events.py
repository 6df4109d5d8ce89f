"""Events: that something happened which somebody wants to hear of. The only writer of `trace.alert_events`.

An event is added once, whoever tells of it again: its `dedupe_key` says what happened to what, and
holds neither a clock nor an attempt.

    alert:{definition}:{subject}:{identity}   a condition matched; the identity is that of the data (a
                                              snapshot, a block's hash) or of the run
    chm:{rule}:{run}                          CHM's on_failure
    chm:{rule}:{bucket_start}                 CHM's failures_in_window
    resolved:{event}                          what an event told of is over
    system:{key}                              RAT's own trouble; `system:{key}:{n}` when it is back

What is raised now stands in `rat.alert_states`: while a subject is raised nothing more is told of it
(an episode), and when it is resolved that is an event too. Sending is none of this module's business.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, false, or_, select, text
from sqlalchemy.orm import Session

from rat_resources.metadata.alerts import AlertState
from rat_resources.metadata.zeros import as_json, as_text
from rat_resources.mirror import people
from rat_resources.mirror.ids import trace_id

SEVERITIES = ("info", "warning", "critical")
MOST_ROWS = 5  # that an event shows
LONGEST_TITLE = 300
LONGEST_TEXT = 2_000
MOST_ITEMS = 100  # of a list or an object

State = Literal["firing", "resolved", "test"]


@dataclass(frozen=True)
class Payload:
    """What an event tells: all that a message about it says. JSON, and nothing in it is long."""

    kind: str  # of the condition; chm, system
    title: str  # one sentence
    state: State = "firing"
    definition: str | None = None  # its name
    labels: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None  # ns.layer.name
    pipeline: str | None = None
    run_id: str | None = None
    dagster_run_id: str | None = None
    subject: Mapping[str, Any] = field(
        default_factory=dict
    )  # the group, by its columns
    since: str | None = None  # ISO
    figures: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()  # at most 5; personal columns are masked
    rows_matching: int | None = None
    description: str = ""  # what it means
    owner: str = ""  # whose it is
    remediation: str = ""  # what to do
    cause: str = ""  # events of one cause may be told in one message
    resolves: str | None = None  # the id of the event that is over
    rule: str | None = None  # the id of CHM's rule

    @property
    def namespace(self) -> str | None:
        """The namespace that it is about."""
        return (self.table or self.pipeline or "").partition(".")[0] or None

    def to_json(self) -> dict[str, Any]:
        """The document that an event's row holds."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        document["title"] = shorten(self.title, LONGEST_TITLE)
        document["rows"] = list(self.rows)[:MOST_ROWS]
        return {name: fit(value) for name, value in document.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Payload":
        """The payload of an event's row; of what somebody else wrote, as much as there is."""
        known = {each.name for each in fields(cls)}
        said = {key: value for key, value in document.items() if key in known}
        return cls(**{"kind": "", "title": ""} | said)


def fit(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """A JSON value that is not too long to be kept and sent."""
    match value:
        case str():
            return shorten(as_text(value), LONGEST_TEXT)
        case Mapping():
            items = list(value.items())[:MOST_ITEMS]
            return {shorten(str(key), LONGEST_TITLE): fit(each) for key, each in items}
        case list() | tuple():
            return [fit(each) for each in value[:MOST_ITEMS]]
    return value


def shorten(text: str, length: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


@dataclass(frozen=True)
class Event:
    """Something that happened, as its row tells it."""

    dedupe_key: str
    payload: Payload
    severity: str = "warning"
    definition_id: uuid.UUID | None = None
    # What of its definition it raises, until that is resolved; None: nothing that ends.
    raises: str | None = None
    run_id: uuid.UUID | None = None  # its task and job are the producers
    partition_key: str | None = None
    cursor_value: str | None = None
    event_time: datetime | None = None  # None: now
    # As the condition's rows have them, in columns of these names.
    chain_id: int | None = None
    block_hash: str | None = None
    tx_hash: str | None = None
    block_number: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A document that `from_json` reads back."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("definition_id", "run_id"):
            document[name] = document[name] and str(document[name])
        at = self.event_time
        return document | {
            "payload": self.payload.to_json(),
            "event_time": at and at.isoformat(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Event":
        """The event that a document holds."""
        values = dict(document) | {"payload": Payload.from_json(document["payload"])}
        for name in ("definition_id", "run_id"):
            values[name] = values[name] and uuid.UUID(values[name])
        at = values["event_time"]
        return cls(**values | {"event_time": at and datetime.fromisoformat(at)})


@dataclass(frozen=True)
class Raised:
    """An alert that is raised now."""

    definition_id: uuid.UUID | None
    subject: str
    event_id: uuid.UUID
    since: datetime

    @classmethod
    def of(cls, state: AlertState) -> "Raised":
        """The alert that a row tells of."""
        return cls(state.definition_id, state.subject, state.event_id, state.since)


# Telling.


def add(tx: Session, event: Event) -> uuid.UUID | None:
    """Tell of one event; its id, or None where that adds nothing."""
    return next(iter(tell(tx, [event])), None)


def tell(
    tx: Session, events: Iterable[Event], *, decided: bool = False
) -> list[uuid.UUID]:
    """Tell of events, all together; the ids of those that were added.

    Not added is what is known by its key, and, unless that was *decided* already, what raises a
    subject that is raised. What is added raises its subject; what says that another one is over ends
    that one's episode.
    """
    told = list(events)
    if not told:
        return []
    raising = {each.definition_id for each in told if each.raises is not None}
    known = {} if decided else raised(tx, raising)
    news = [each for each in told if (each.definition_id, each.raises) not in known]
    org_id = people.declare_org(tx)
    added = insert_rows(tx, named(tx, news), org_id=org_id)
    opened = [each for each in news if id_of(org_id, each.dedupe_key) in added]
    open_episodes(tx, opened, org_id=org_id)
    # Whoever told of it first may have died before this.
    over = [uuid.UUID(each.payload.resolves) for each in told if each.payload.resolves]
    if over:
        tx.execute(delete(AlertState).where(AlertState.event_id.in_(over)))
    return added


def named(tx: Session, events: Sequence[Event]) -> list[Event]:
    """The events, where one says that another is over with the subject of that one."""
    over = [each.payload.resolves for each in events if each.payload.resolves]
    found = (
        {row.id: row.subject for row in tx.execute(SUBJECTS, {"ids": over})}
        if over
        else {}
    )
    return [about(each, found.get(each.payload.resolves or "")) for each in events]


def about(event: Event, subject: Any) -> Event:  # noqa: ANN401 - JSON, right or wrong
    """The event, with the subject that it is about in its title too."""
    if not isinstance(subject, Mapping) or not subject:
        return event
    said = ", ".join(f"{name} {value}" for name, value in subject.items())
    title = f"{event.payload.title} ({said})"
    return replace(event, payload=replace(event.payload, title=title, subject=subject))


SUBJECTS = text("""
    SELECT id::text AS id, payload -> 'subject' AS subject FROM trace.alert_events
    WHERE id = ANY(CAST(:ids AS uuid[]))
""")


def insert_rows(
    tx: Session, events: Sequence[Event], *, org_id: uuid.UUID
) -> list[uuid.UUID]:
    """Insert the rows of events in one statement; the ids of those that were not known."""
    if not events:
        return []
    rows = [row_of(each, org_id=org_id) for each in events]
    return list(tx.scalars(INSERT, {"org_id": org_id, "events": as_json(rows)}))


def row_of(event: Event, *, org_id: uuid.UUID) -> dict[str, Any]:
    """The row of an event, but for what Postgres knows."""
    return event.to_json() | {
        "id": str(id_of(org_id, event.dedupe_key)),
        "source_dataset": event.payload.table,
    }


def id_of(org_id: uuid.UUID, dedupe_key: str) -> uuid.UUID:
    """The id of the event of a key."""
    return trace_id("alert_event", org_id, dedupe_key)


INSERT = text("""
    INSERT INTO trace.alert_events (
        id, org_id, alert_definition_id, producer_job_id, producer_task_id, severity,
        chain_id, block_hash, tx_hash, block_number,
        source_dataset, source_dataset_uuid, partition_key, cursor_value,
        payload, dedupe_key, event_time
    )
    SELECT
        told.id, :org_id, told.definition_id, task.job_id, task.id, told.severity,
        told.chain_id, told.block_hash, told.tx_hash, told.block_number,
        told.source_dataset, dataset.id, told.partition_key, told.cursor_value,
        told.payload, told.dedupe_key, coalesce(told.event_time, clock_timestamp())
    FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS told (
        id uuid, definition_id uuid, run_id uuid, severity text,
        chain_id bigint, block_hash text, tx_hash text, block_number bigint,
        source_dataset text, partition_key text, cursor_value text,
        payload jsonb, dedupe_key text, event_time timestamptz
    )
    LEFT JOIN LATERAL (
        SELECT id, job_id FROM trace.tasks WHERE run_id = told.run_id LIMIT 1
    ) AS task ON true
    LEFT JOIN trace.datasets AS dataset
        ON dataset.org_id = :org_id AND dataset.name = told.source_dataset
    ON CONFLICT DO NOTHING
    RETURNING id
""")

# Episodes.


def raised(
    tx: Session, definitions: Iterable[uuid.UUID | None]
) -> dict[tuple[uuid.UUID | None, str], Raised]:
    """What is raised now of *definitions*, by the definition and the subject."""
    wanted = set(definitions)
    if not wanted:
        return {}
    mine = or_(
        AlertState.definition_id.in_(wanted - {None}),
        AlertState.definition_id.is_(None) if None in wanted else false(),
    )
    states = tx.scalars(select(AlertState).where(mine)).all()
    return {(each.definition_id, each.subject): Raised.of(each) for each in states}


def open_episodes(tx: Session, events: Sequence[Event], *, org_id: uuid.UUID) -> None:
    """Let what was added be raised until it is resolved."""
    rows = [
        {
            "definition_id": each.definition_id,
            "subject": each.raises,
            "event_id": id_of(org_id, each.dedupe_key),
        }
        for each in events
        if each.raises is not None
    ]
    if rows:
        tx.execute(OPEN, rows)


# In SQL: to insert by the model, the models that it refers to would have to be loaded too, which
# `rat deliver` has no other use for.
OPEN = text("""
    INSERT INTO rat.alert_states (definition_id, subject, event_id)
    VALUES (:definition_id, :subject, :event_id)
    ON CONFLICT DO NOTHING
""")


def resolution(over: Raised, payload: Payload, **said: Any) -> Event:  # noqa: ANN401 - the fields of Event
    """The event that *over* is over; *payload* is that of its kind, about what is so now."""
    told = replace(
        payload,
        state="resolved",
        since=over.since.isoformat(),
        resolves=str(over.event_id),
    )
    return Event(
        f"resolved:{over.event_id}", told, definition_id=over.definition_id, **said
    )


# RAT's own troubles.


def add_system(
    tx: Session,
    *,
    key: str,
    title: str,
    severity: str = "critical",
    remediation: str = "",
    table: str | None = None,
    figures: Mapping[str, Any] | None = None,
    run_id: uuid.UUID | None = None,
) -> list[uuid.UUID]:
    """Tell of a trouble of RAT's own, once while it lasts; the ids of the events that this added.

    One for each definition of kind `system`, so that each is delivered as that says; where there is
    none, one that nobody is told of. `key` names the trouble and no occasion of it.
    """
    payload = Payload(
        kind="system",
        title=title,
        table=table,
        figures=figures or {},
        remediation=remediation,
        cause=f"system:{key}",
        run_id=str(run_id) if run_id else None,
    )
    return tell(
        tx,
        [
            Event(
                system_key(tx, key, listener=each.id),
                replace(payload, definition=each.name),
                severity=severity,
                definition_id=each.id,
                raises=f"system:{key}",
                run_id=run_id,
            )
            for each in listeners(tx)
        ],
    )


def resolve_system(tx: Session, *, key: str, title: str) -> list[uuid.UUID]:
    """Tell that a trouble of RAT's own is over, if anybody was told of it; the ids of the events."""
    mine = select(AlertState).where(AlertState.subject == f"system:{key}")
    payload = Payload(kind="system", title=title, cause=f"system:{key}")
    over = [Raised.of(state) for state in tx.scalars(mine).all()]
    return tell(tx, [resolution(each, payload, severity="info") for each in over])


class Listener(NamedTuple):
    """A definition that wants to hear of RAT's own troubles; without an id, nobody."""

    id: uuid.UUID | None = None
    name: str | None = None


def listeners(tx: Session) -> list[Listener]:
    """The definitions of kind `system`; where there is none, nobody in their place."""
    return [Listener(*each) for each in tx.execute(LISTENERS)] or [Listener()]


LISTENERS = text("""
    SELECT definition.id, definition.name
    FROM trace.alert_definitions AS definition
    JOIN trace.orgs AS org ON org.id = definition.org_id
    JOIN rat.deployment AS deployment ON deployment.org = org.slug
    WHERE definition.enabled AND definition.condition ->> 'kind' = 'system'
    ORDER BY definition.name
""")


def system_key(tx: Session, key: str, *, listener: uuid.UUID | None) -> str:
    """The key of a trouble that is not raised: after the first time with its number."""
    base = ":".join(["system", *([str(listener)] if listener else []), key])
    before: int = tx.execute(TIMES, {"base": base}).scalar_one()
    return f"{base}:{before + 1}" if before else base


TIMES = text("""
    SELECT count(*) FROM trace.alert_events
    WHERE dedupe_key = :base
        OR starts_with(dedupe_key, :base || ':')
            AND substr(dedupe_key, length(:base) + 2) ~ '^[0-9]+$'
""")
