"""Positions: how far Dagster's tables were read, and what came since.

Ids of a sequence become visible out of order, since every writer commits for itself: a reader that
goes on behind the highest id loses rows. So what was seen is read again until it has stood for
`SETTLED`; only then the position passes it. Reading twice is free, because whole runs are told, by
upserts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.metadata.mirror import MirrorPosition

# A writer takes its id and commits within one statement.
SETTLED = timedelta(seconds=30)
# Nor is any writer so many ids behind, so that a long way back is not read again from its start.
OVERLAP = 100_000


@dataclass(frozen=True)
class Feed:
    """A table of Dagster's that only grows, whose rows name runs."""

    name: str
    limit: int  # rows in one transaction


EVENTS = Feed("event_logs", limit=10_000)  # what happened to runs
RUNS = Feed("runs", limit=500)  # every run that there is, the oldest first
FEEDS = (EVENTS, RUNS)  # locked in this order


@dataclass(frozen=True)
class Place:
    """Where a reader stands in a feed."""

    position: int  # the next reader begins behind it
    horizon: int  # what the position may move up to


@dataclass(frozen=True)
class Batch:
    """The runs that the next rows of a feed name."""

    last: int  # the highest id among the rows
    run_ids: frozenset[str]
    is_last: bool


IDLE = text("""
    SELECT count(*) = 2 AND bool_and(known.position >= latest.id)
    FROM rat.mirror_positions AS known
    JOIN (
        SELECT 'runs' AS feed, coalesce(max(id), 0) AS id FROM dagster.runs
        UNION ALL
        SELECT 'event_logs', coalesce(max(id), 0) FROM dagster.event_logs
    ) AS latest USING (feed)
""")

LATEST: Mapping[Feed, str] = {
    feed: f"SELECT coalesce(max(id), 0) FROM dagster.{feed.name}" for feed in FEEDS
}

LOOK = text("""
    SELECT
        position,
        seen,
        seen_at < clock_timestamp() - CAST(:settled AS interval) AS has_settled,
        seen_at > clock_timestamp() AS is_ahead
    FROM rat.mirror_positions
    WHERE feed = :feed
    FOR UPDATE
""")

TAKE_TURN = text("SELECT FROM rat.mirror_positions ORDER BY feed FOR UPDATE")

READ: Mapping[Feed, str] = {
    feed: f"""
        SELECT max(id), count(*), array_agg(DISTINCT run_id) FILTER (WHERE run_id <> '')
        FROM (
            SELECT id, run_id FROM dagster.{feed.name}
            WHERE id > :after
            ORDER BY id
            LIMIT {feed.limit}
        ) AS next
    """
    for feed in FEEDS
}


def is_idle(tx: Session) -> bool:
    """Whether nothing was written since everything was read."""
    return bool(tx.scalar(IDLE))


def take_turn(tx: Session) -> None:
    """Wait for whoever reads Dagster's log; nobody reads it until the transaction ends.

    Who publishes asks for it first of all: a reader waits for runs, and those for who publishes.
    """
    tx.execute(TAKE_TURN)


def lock(tx: Session, feed: Feed, *, horizon: int = 0) -> Place:
    """Where to read *feed*; nobody else reads it until the transaction ends.

    *horizon* is what an earlier transaction of the same reader found.
    """
    latest: int = tx.execute(text(LATEST[feed])).scalar_one()
    # What happened before the first look is told of the runs, all of which are read.
    start = latest if feed is EVENTS else 0
    tx.execute(
        insert(MirrorPosition)
        .values(feed=feed.name, position=start, seen=latest, seen_at=func.now())
        .on_conflict_do_nothing()
    )
    looked = tx.execute(LOOK, {"feed": feed.name, "settled": SETTLED})
    position, seen, has_settled, is_ahead = looked.one()
    # A clock that was set back would have everything read again until it has caught up.
    if has_settled or is_ahead:
        note(tx, feed, seen=max(latest, seen), seen_at=func.clock_timestamp())
    horizon = max(horizon, position, seen if has_settled else 0, latest - OVERLAP)
    return Place(position, horizon)


def read(tx: Session, feed: Feed, *, after: int) -> Batch:
    """The runs that the next rows of *feed* name."""
    last, count, run_ids = tx.execute(text(READ[feed]), {"after": after}).one()
    return Batch(last or after, frozenset(run_ids or ()), is_last=count < feed.limit)


def advance(tx: Session, feed: Feed, *, place: Place, read_to: int) -> None:
    """Let the next reader begin where everything was read and nothing can appear any more."""
    position = min(read_to, place.horizon)
    if position > place.position:
        note(tx, feed, position=position)


def restart(tx: Session) -> None:
    """Let the next reader begin with the first run that there is."""
    lock(tx, EVENTS)
    lock(tx, RUNS)
    note(tx, RUNS, position=0)


def note(tx: Session, feed: Feed, **values: object) -> None:
    """Change what is known of a feed."""
    tx.execute(
        update(MirrorPosition)
        .where(MirrorPosition.feed == feed.name)
        .values(updated_at=func.now(), **values)
    )
