"""Deliveries: their rows, claimed by a lease, settled by whoever holds it, tried again later.

All clocks are the database's. A claim raises the attempt, and only the holder of that attempt settles
it: a sender that slept through its lease changes nothing. Rows of a group go through every state
together with the one that leads them.

    pending → sending → delivered
                      → retrying → sending …   5 s later, then twice as long each time, up to 30 min
                      → failed                 after the twelfth attempt, or at once where none helps
"""

import logging
import random
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from rat_resources.alerts import events
from rat_resources.alerts.destinations import Destination, of_channels, of_rule
from rat_resources.alerts.messages import MOST_TOLD, Message, Told, line
from rat_resources.alerts.routing import delivery_id
from rat_resources.metadata.zeros import as_json

logger = logging.getLogger(__name__)

Status = Literal["delivered", "retrying", "failed"]
MOST_ATTEMPTS = 12


@dataclass(frozen=True)
class Terms:
    """How long a sender has, and how often it is tried."""

    lease: timedelta = timedelta(seconds=60)
    first_wait: float = 5  # seconds
    longest_wait: float = 1_800
    attempts: int = MOST_ATTEMPTS


@dataclass(frozen=True)
class Claimed:
    """A delivery that we are to send, and what it is about."""

    id: uuid.UUID
    org_id: uuid.UUID
    channel: str
    attempt: int
    source: str  # the definition or the rule, by its id
    name: str  # of the definition
    told: Sequence[Told] = field(repr=False)
    total: int = 1
    destination: Destination | None = field(default=None, repr=False)
    is_enabled: bool = True

    @property
    def is_system(self) -> bool:
        """Whether it is RAT's own trouble that it tells of."""
        return self.told[0].kind == "system"

    @property
    def trouble(self) -> str:
        """The key of the trouble that it fails."""
        return f"delivery:{self.source}:{self.channel}"

    def message(self, *, ui: str | None, org: str) -> Message:
        """What is sent."""
        first = self.told[0]
        about = first.resolves or first.event_id
        return Message(
            str(self.id),
            self.told,
            total=self.total,
            ui=ui,
            org=org,
            thread=str(delivery_id(self.org_id, about, self.channel)),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery that we held."""

    claimed: Claimed
    status: Status
    why: str | None = None
    message_id: str | None = None
    wait: float = 0  # seconds
    is_untried: bool = False  # given back: the attempt does not count


# Claiming.


def claim(tx: Session, *, owner: str, most: int, terms: Terms) -> list[Claimed]:
    """Take deliveries that are due, or whose sender's lease has lapsed; each by one sender."""
    lease = terms.lease.total_seconds()
    rows = list(tx.execute(CLAIM, {"owner": owner, "most": most, "lease": lease}))
    leaders = [row.id for row in rows if row.group_key is not None]
    members: dict[uuid.UUID, list[Row[Any]]] = {}
    if leaders:
        # By a statement of its own: whoever routed a member before we took its leader is seen now.
        tx.execute(JOIN_IN, {"ids": leaders})
        for row in tx.execute(MEMBERS, {"ids": leaders, "most": MOST_TOLD - 1}):
            members.setdefault(row.leader_id, []).append(row)
    return [claimed(row, members.get(row.id, [])) for row in rows]


# What lapsed is found by the time of its next attempt too: one index serves all.
CLAIM = text("""
    WITH due AS (
        SELECT delivery.id
        FROM trace.alert_deliveries AS delivery
        WHERE delivery.leader_id IS NULL
            AND delivery.status IN ('pending', 'retrying', 'sending')
            AND delivery.next_attempt_at <= clock_timestamp()
            AND (delivery.status <> 'sending' OR delivery.leased_until < clock_timestamp())
            AND delivery.org_id = (
                SELECT org.id FROM trace.orgs AS org
                JOIN rat.deployment AS deployment ON deployment.org = org.slug
            )
        ORDER BY delivery.next_attempt_at
        LIMIT :most
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE trace.alert_deliveries AS delivery
        SET status = 'sending',
            attempt = delivery.attempt + 1,
            lease_owner = :owner,
            leased_until = clock_timestamp() + make_interval(secs => :lease),
            next_attempt_at = clock_timestamp() + make_interval(secs => :lease),
            last_attempt_at = clock_timestamp(),
            updated_at = clock_timestamp()
        FROM due
        WHERE delivery.id = due.id
        RETURNING delivery.*
    )
    SELECT
        taken.id, taken.org_id, taken.channel, taken.attempt, taken.group_key,
        event.id AS event_id, event.payload, event.severity, event.event_time,
        coalesce(definition.id, rule.id) AS source, definition.name, definition.channels,
        rule.destination, coalesce(definition.enabled, rule.is_enabled)
            OR event.payload ->> 'state' = 'resolved' AS is_enabled
    FROM taken
    JOIN trace.alert_events AS event ON event.id = taken.alert_event_id
    LEFT JOIN trace.alert_definitions AS definition
        ON definition.id = event.alert_definition_id AND definition.org_id = taken.org_id
    LEFT JOIN chm.alert_rules AS rule ON rule.id::text = event.payload ->> 'rule'
        AND event.alert_definition_id IS NULL
""")
JOIN_IN = text("""
    UPDATE trace.alert_deliveries AS member
    SET status = 'sending',
        attempt = leader.attempt,
        lease_owner = leader.lease_owner,
        leased_until = leader.leased_until,
        next_attempt_at = leader.next_attempt_at,
        last_attempt_at = leader.last_attempt_at,
        updated_at = leader.updated_at
    FROM trace.alert_deliveries AS leader
    WHERE leader.id = ANY(:ids) AND member.leader_id = leader.id
        AND member.status IN ('pending', 'retrying', 'sending')
""")
MEMBERS = text("""
    SELECT * FROM (
        SELECT
            member.leader_id, event.id AS event_id, event.payload, event.severity,
            event.event_time,
            row_number() OVER (PARTITION BY member.leader_id ORDER BY event.created_at, event.id)
                AS turn,
            count(*) OVER (PARTITION BY member.leader_id) AS members
        FROM trace.alert_deliveries AS member
        JOIN trace.alert_events AS event ON event.id = member.alert_event_id
        WHERE member.leader_id = ANY(:ids) AND member.status = 'sending'
    ) AS numbered
    WHERE turn <= :most
    ORDER BY leader_id, turn
""")


def claimed(row: Row[Any], members: Sequence[Row[Any]]) -> Claimed:
    """What a row asks us to send."""
    return Claimed(
        row.id,
        row.org_id,
        row.channel,
        row.attempt,
        str(row.source),
        row.name or "",
        [told(each) for each in (row, *members)],
        total=1 + (members[0].members if members else 0),
        destination=destination_of(row),
        is_enabled=bool(row.is_enabled),
    )


def told(row: Row[Any]) -> Told:
    """An event as a message tells it."""
    at: datetime = row.event_time
    return Told.read(row.event_id, row.payload, severity=row.severity, at=at)


def destination_of(row: Row[Any]) -> Destination | None:
    """Where a delivery goes, as it is defined now; None where it is not any more."""
    if row.destination is not None:
        return of_rule(row.channel, row.destination)
    found = (each for each in of_channels(row.channels) if each.channel == row.channel)
    return next(found, None)


# Settling.


def settle(tx: Session, outcomes: Sequence[Outcome], *, owner: str) -> list[Outcome]:
    """Write what became of deliveries that we still hold; those that it was written of."""
    if not outcomes:
        return []
    document = [
        {
            "id": str(each.claimed.id),
            "attempt": each.claimed.attempt,
            "becomes": each.status,
            "why": each.why,
            "message_id": each.message_id,
            "wait": each.wait,
            "untried": each.is_untried,
        }
        for each in outcomes
    ]
    values = {"owner": owner, "rows": as_json(document)}
    ours = set(tx.scalars(SETTLE, values))
    grouped = [each.claimed.id for each in outcomes if each.claimed.total > 1]
    if grouped:
        tx.execute(FOLLOW, {"ids": [each for each in grouped if each in ours]})
    settled = [each for each in outcomes if each.claimed.id in ours]
    try:
        with tx.begin_nested():
            tell(tx, settled)
    except SQLAlchemyError:
        # What was sent must be known to be sent, or it would be sent again.
        logger.exception("what became of deliveries cannot be told")
    return settled


SETTLE = text("""
    UPDATE trace.alert_deliveries AS delivery
    SET status = outcome.becomes,
        attempt = delivery.attempt - outcome.untried::integer,
        provider_message_id = coalesce(outcome.message_id, delivery.provider_message_id),
        error_message = CASE WHEN outcome.untried THEN delivery.error_message ELSE outcome.why END,
        delivered_at = CASE outcome.becomes WHEN 'delivered' THEN clock_timestamp() END,
        next_attempt_at = clock_timestamp() + make_interval(secs => outcome.wait),
        lease_owner = NULL,
        leased_until = NULL,
        updated_at = clock_timestamp()
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS outcome (
        id uuid, attempt integer, becomes text, why text, message_id text,
        wait double precision, untried boolean
    )
    WHERE delivery.id = outcome.id AND delivery.attempt = outcome.attempt
        AND delivery.status = 'sending' AND delivery.lease_owner = :owner
    RETURNING delivery.id
""")
FOLLOW = text("""
    UPDATE trace.alert_deliveries AS member
    SET status = leader.status,
        attempt = leader.attempt,
        provider_message_id = leader.provider_message_id,
        error_message = leader.error_message,
        delivered_at = leader.delivered_at,
        next_attempt_at = leader.next_attempt_at,
        lease_owner = NULL,
        leased_until = NULL,
        updated_at = leader.updated_at
    FROM trace.alert_deliveries AS leader
    WHERE leader.id = ANY(:ids) AND member.leader_id = leader.id AND member.status = 'sending'
""")


def backoff(attempt: int, *, terms: Terms, retry_after: float = 0) -> float:
    """How long to wait after an attempt, the first being 1; never less than the receiver wants."""
    grown = min(terms.first_wait * (1 << min(attempt - 1, 30)), terms.longest_wait)
    # Those that failed together need not come back together.
    return max(grown * random.uniform(0.8, 1.2), retry_after)  # noqa: S311 - no secret


# RAT's own trouble: nobody hears of it through the channel that has it (`routing`).


def tell(tx: Session, settled: Sequence[Outcome]) -> None:
    """Tell of channels that failed for good, once while that lasts, and that they work again."""
    failed = {
        each.claimed.trouble: each
        for each in settled
        if each.status == "failed" and not each.claimed.is_system and each.why != OFF
    }
    for key, outcome in sorted(failed.items()):
        events.add_system(
            tx,
            key=key,
            title=f"an alert was not delivered by {outcome.claimed.channel}: {line(outcome.why)}",
            remediation="correct the channel, then `rat alert retry --failed`",
            figures={
                "delivery": str(outcome.claimed.id),
                "alert": outcome.claimed.name,
                "channel": outcome.claimed.channel,
                "attempts": outcome.claimed.attempt,
            },
        )
    works = {each.claimed.trouble for each in settled if each.status == "delivered"}
    raised = {f"system:{key}": key for key in works - failed.keys()}
    for subject in tx.scalars(RAISED, {"subjects": sorted(raised)}).all():
        title = "alerts are delivered again where one was not"
        events.resolve_system(tx, key=raised[subject], title=title)


OFF = "the alert was switched off before it was sent"
RAISED = text("""
    SELECT DISTINCT subject FROM rat.alert_states WHERE subject = ANY(:subjects)
""")

# By hand.


def retry(tx: Session, ids: Collection[uuid.UUID] | None) -> list[uuid.UUID]:
    """Queue failed deliveries anew, these or all, with a fresh count; the ids of those it changed.

    A delivery of a group takes the whole group with it: that is one message.
    """
    tx.execute(text("SELECT set_config('rat.retry', 'on', true)"))
    wanted = None if ids is None else sorted(ids)
    return sorted(tx.scalars(RETRY, {"ids": wanted}))


RETRY = text("""
    UPDATE trace.alert_deliveries AS delivery
    SET status = 'pending', attempt = 0, next_attempt_at = clock_timestamp(),
        updated_at = clock_timestamp()
    WHERE delivery.status = 'failed'
        AND delivery.org_id = (
            SELECT org.id FROM trace.orgs AS org
            JOIN rat.deployment AS deployment ON deployment.org = org.slug
        )
        AND (
            CAST(:ids AS uuid[]) IS NULL
            OR coalesce(delivery.leader_id, delivery.id) IN (
                SELECT coalesce(named.leader_id, named.id)
                FROM trace.alert_deliveries AS named WHERE named.id = ANY(CAST(:ids AS uuid[]))
            )
        )
    RETURNING delivery.id
""")
WAITING = text("""
    SELECT
        count(*) FILTER (WHERE status <> 'failed') AS open,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        (SELECT count(*) FROM rat.alert_queue) AS unrouted
    FROM trace.alert_deliveries WHERE status IN ('pending', 'retrying', 'sending', 'failed')
""")
