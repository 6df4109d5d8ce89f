"""The watch: what alerts follow from time, and from what no publication tells. One tick of it.

Failed runs and CHM's rules are read from where the last tick left off, some at a time; what is late is
looked for anew, in the database's time. Whatever a tick does twice adds nothing: events have keys.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources import runs
from rat_resources.alerts import endings, episodes, lateness, rules
from rat_resources.alerts.definitions import Definition, load
from rat_resources.alerts.matches import Looked, Occasion
from rat_resources.alerts.withdrawal import ABOUT, end_disabled
from rat_resources.metadata import Metadata
from rat_resources.metadata.alerts import AlertPosition

MOST_RUNS = 200  # that a tick reads of a feed
MOST_CODE = 5  # queries and functions that a tick runs
# What ended is visible when its transaction has committed, which may be later than another's.
OVERLAP = timedelta(minutes=2)
CODE = "code"

Ask = Callable[[Sequence[Definition], str], Sequence[Looked]]
"""What the queries and functions of definitions find in main at a commit."""


@dataclass(frozen=True)
class Feed:
    """Rows that end up in a table, each once, and what is told of them."""

    name: str
    read: TextClause  # id and time of what came since
    tell: Callable[[Session, Sequence[uuid.UUID]], list[uuid.UUID]]


RUNS = Feed(
    "runs",
    text("""
        SELECT id, finished_at AS at FROM rat.runs
        WHERE finished_at > :after AND status IN ('failed', 'cancelled')
            AND NOT id = ANY(:seen)
        ORDER BY finished_at, id
        LIMIT :number
    """),
    endings.tell,
)
CLIENT_RUNS = Feed(
    "client_runs",
    text("""
        SELECT id, updated_at AS at FROM chm.runs
        WHERE updated_at > :after AND status = 'failed' AND NOT id = ANY(:seen)
        ORDER BY updated_at, id
        LIMIT :number
    """),
    rules.tell,
)


@dataclass(frozen=True)
class Work:
    """What there is to do."""

    runs: bool
    client_runs: bool
    late: bool
    code: bool
    disabled: bool

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing."""
        return not any(vars(self).values())


def tick(metadata: Metadata, *, head: Callable[[], str], ask: Ask | None = None) -> int:
    """Look once; how many events this added. *head* is main's commit, *ask* what runs alert code."""
    with metadata.transaction() as tx:
        work = Work(*tx.execute(WORK).one())
    if work.is_idle:
        return 0
    added = 0
    for feed in [
        *([RUNS] if work.runs else []),
        *([CLIENT_RUNS] if work.client_runs else []),
    ]:
        with metadata.transaction() as tx:
            added += len(read_on(tx, feed))
    if work.late:
        with metadata.transaction() as tx:
            added += len(lateness.tell(tx, now=runs.database_time(tx)))
    if work.code and ask is not None:
        added += run_code(metadata, ask, head=head)
    if work.disabled:
        with metadata.transaction() as tx:
            added += len(end_disabled(tx))
    return added


# One look at indexes; a feed that was never read is work, too.
WORK = text(f"""
    SELECT
        NOT EXISTS (SELECT FROM rat.alert_positions WHERE feed = 'runs') OR EXISTS (
            SELECT
            FROM rat.alert_positions AS place
            JOIN rat.runs ON finished_at > place.position - interval '{OVERLAP.seconds} s'
            WHERE feed = 'runs' AND status IN ('failed', 'cancelled')
                AND NOT place.seen ? runs.id::text
        ),
        NOT EXISTS (SELECT FROM rat.alert_positions WHERE feed = 'client_runs') OR EXISTS (
            SELECT
            FROM rat.alert_positions AS place
            JOIN chm.runs
                ON runs.updated_at > place.position - interval '{OVERLAP.seconds} s'
            WHERE feed = 'client_runs' AND status = 'failed'
                AND NOT place.seen ? runs.id::text
        ),
        EXISTS (
            SELECT FROM trace.alert_definitions
            WHERE enabled AND (
                kind = 'freshness'
                OR kind = 'run_status' AND condition -> 'statuses' ? '{lateness.MISSING}'
            )
        ),
        EXISTS (
            SELECT FROM trace.alert_definitions
            WHERE enabled AND kind IN ('sql', 'udf') AND dataset IS NULL
        ),
        EXISTS (
            SELECT FROM rat.alert_states AS state
            JOIN trace.alert_definitions AS definition ON {ABOUT}
            WHERE NOT definition.enabled
        )
""")


def read_on(tx: Session, feed: Feed) -> list[uuid.UUID]:
    """Tell of what came to a feed since it was read; the ids of the events that this added."""
    place = lock(tx, feed)
    if place.position is None:
        # What happened before anybody looked is told to nobody.
        place.position = runs.database_time(tx)
        return []
    seen = {
        uuid.UUID(key): datetime.fromisoformat(at) for key, at in place.seen.items()
    }
    found = tx.execute(
        feed.read,
        {"after": place.position - OVERLAP, "seen": [*seen], "number": MOST_RUNS},
    ).all()
    added = feed.tell(tx, [each.id for each in found]) if found else []
    seen |= {each.id: each.at for each in found}
    place.position = max([place.position, *(each.at for each in found)])
    place.seen = {
        str(key): at.isoformat()
        for key, at in seen.items()
        if at > place.position - OVERLAP
    }
    place.updated_at = runs.database_time(tx)
    tx.flush()
    return added


def lock(tx: Session, feed: Feed) -> AlertPosition:
    """Where a feed was read to; nobody else reads it until the transaction ends."""
    tx.execute(insert(AlertPosition).values(feed=feed.name).on_conflict_do_nothing())
    return tx.get_one(AlertPosition, feed.name, with_for_update=True)


# Queries and functions that are about no one table.


def run_code(metadata: Metadata, ask: Ask, *, head: Callable[[], str]) -> int:
    """Run what has not seen main as it is now; how many events this added."""
    commit = head()
    with metadata.transaction() as tx:
        place = tx.get(AlertPosition, CODE)
        known = place.seen if place else {}
        wanted = [
            each
            for each in load(tx, kinds=("sql", "udf"))
            if each.table is None and known.get(str(each.id)) != commit
        ]
    chosen = wanted[:MOST_CODE]
    if not chosen:
        return 0
    looked = ask(chosen, commit)
    occasion = Occasion(identity=commit, cause=f"main {commit}")
    with metadata.transaction() as tx:
        told = episodes.conclude(tx, looked, occasion=occasion)
        added = episodes.state(tx, told.to_json()) if told else []
        seen = known | {str(each.id): commit for each in chosen}
        row = insert(AlertPosition).values(feed=CODE, seen=seen)
        tx.execute(
            row.on_conflict_do_update(
                index_elements=[AlertPosition.feed], set_={"seen": row.excluded.seen}
            )
        )
    return len(added)
