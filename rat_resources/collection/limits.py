"""Limits: how long what is kept of the lake, as moments of the database's clock."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources import retention, runs
from rat_resources.collection.roots import SKEW
from rat_resources.metadata.collection import Warehouse
from rat_resources.platform import Platform

EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Limits:
    """The moments of one round."""

    now: datetime
    history: datetime | None  # main's commits since then are kept; None: all
    backups: datetime | None  # and what backups need that were made since then
    noted: datetime  # what was noted by then, nothing needs
    young: datetime  # what is newer, somebody may be about to commit


def read_limits(whole: Platform, warehouse: str, *, now: datetime | None) -> Limits:
    """The limits of a round that begins now."""
    kept = retention.of_platform(whole.settings.retention)
    with whole.metadata.transaction() as tx:
        now = now or runs.database_time(tx)
        known = tx.get(Warehouse, warehouse)
        history = retention.before(kept.history, now=now)
        if history is not None and known is not None and known.history_since:
            # What an earlier round did not keep is not promised anew.
            history = max(history, known.history_since)
        noted = retention.before(kept.unused, now=now) or EVER
        oldest = tx.scalar(OLDEST) or now
        return Limits(
            now=now,
            history=history,
            backups=retention.before(kept.backups, now=now),
            noted=noted,
            young=EVER if noted == EVER else min(noted, oldest) - SKEW,
        )


# However long a run takes that goes on, it may still commit what it wrote first.
OLDEST = text("""
    SELECT min(coalesce(started_at, created_at)) FROM rat.runs WHERE status = 'running'
""")
EXPIRE = text("DELETE FROM rat.backups WHERE made_at < :backups")


def begin(tx: Session, warehouse: str, limits: Limits) -> None:
    """Promise nothing older from now on."""
    known = tx.get_one(Warehouse, warehouse, with_for_update=True)
    if limits.history is not None:
        known.history_since = max(known.history_since or limits.history, limits.history)
    if limits.backups is not None:
        tx.execute(EXPIRE, {"backups": limits.backups})
