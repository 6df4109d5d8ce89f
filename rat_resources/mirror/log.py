"""Dagster's log, mirrored: every run that something happened to is told anew, whole.

What happened since is `mirror.positions`, what is said of a run `mirror.job_runs`. Bounded: a
transaction tells a few hundred runs, a call may be given a time. Two at once take turns.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from rat_resources.errors import RatError
from rat_resources.metadata import Metadata
from rat_resources.mirror import following, job_runs, positions, queue
from rat_resources.mirror.positions import EVENTS, FEEDS, RUNS
from rat_resources.mirror.workspace import declare_workspace

# Runs that one statement tells.
TOGETHER = 500
FOREVER = timedelta.max
# How long a command that ran something tells what others did before it.
SHORTLY = timedelta(seconds=2)


@dataclass
class Progress:
    """What a reader did."""

    read: int = 0  # runs that were looked at
    runs: int = 0  # … and whose row changed
    steps: int = 0  # rows of steps that changed
    unreadable: list[str] = field(default_factory=list)  # a line each
    gone: set[str] = field(default_factory=set)  # runs that Dagster deleted
    caught_up: bool = True

    def add(self, told: job_runs.Told, *, read: int) -> None:
        """Count what was told."""
        self.read += read
        self.runs += told.runs
        self.steps += told.steps
        self.unreadable += [
            line for line in told.unreadable if line not in self.unreadable
        ]
        self.gone |= set(told.gone)

    def __str__(self) -> str:
        parts = [f"{self.read} runs read, {self.runs} runs and {self.steps} steps told"]
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} items could not be read")
        if not self.caught_up:
            parts.append("more to read")
        return "; ".join(parts)


def catch_up(metadata: Metadata, *, budget: timedelta = FOREVER) -> Progress:
    """Tell everything that happened since it was told last, as far as *budget* goes.

    On an idle system this is one question of indexes.
    """
    progress, started = Progress(), time.monotonic()
    with metadata.transaction() as tx:
        if not has_dagster(tx):
            return progress
        late = stragglers(tx)
        if not late and positions.is_idle(tx):
            return progress
    read_to = dict.fromkeys(FEEDS, positions.Place(0, 0))
    is_last = False
    while not is_last:
        if time.monotonic() - started > budget.total_seconds():
            progress.caught_up = False
            break
        try:
            with metadata.transaction() as tx:
                wait_at_most(tx, budget)
                is_last = read_on(tx, read_to, late=late, progress=progress)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            progress.caught_up = (
                False  # whoever has the turn, or the next look, goes on
            )
            break
        late = frozenset()
    return progress


def wait_at_most(tx: Session, budget: timedelta) -> None:
    """Wait for others no longer than *budget*, where there is one."""
    if budget < FOREVER:
        limit = text("SELECT set_config('lock_timeout', :limit, true)")
        tx.execute(limit, {"limit": f"{round(budget.total_seconds() * 1000)}ms"})


def try_to_catch_up(metadata: Metadata) -> None:
    """Tell what happened, if it can be told now: the run that just ended is what counts.

    What is left is told by the sensor, or by the next command.
    """
    try:
        catch_up(metadata, budget=SHORTLY)
    except (SQLAlchemyError, RatError):
        logging.getLogger(__name__).warning("not mirrored yet", exc_info=True)


def has_dagster(tx: Session) -> bool:
    """Whether Dagster has made its tables."""
    return bool(tx.scalar(text("SELECT to_regclass('dagster.event_logs') IS NOT NULL")))


def read_on(
    tx: Session,
    read_to: dict[positions.Feed, positions.Place],
    *,
    late: Iterable[str],
    progress: Progress,
) -> bool:
    """Tell the next runs of both feeds; whether those were all."""
    places = {
        feed: positions.lock(tx, feed, horizon=read_to[feed].horizon) for feed in FEEDS
    }
    declare_workspace(tx)
    batches = {
        feed: positions.read(
            tx, feed, after=max(places[feed].position, read_to[feed].position)
        )
        for feed in FEEDS
    }
    tell(
        tx,
        {*late, *batches[EVENTS].run_ids, *batches[RUNS].run_ids},
        progress=progress,
    )
    for feed, batch in batches.items():
        read_to[feed] = positions.Place(batch.last, places[feed].horizon)
        positions.advance(tx, feed, place=places[feed], read_to=batch.last)
    return all(batch.is_last for batch in batches.values())


def tell(tx: Session, run_ids: Iterable[str], *, progress: Progress) -> None:
    """Tell some runs, so many at a time; one that cannot be told is reported, the rest is told."""
    ids = sorted(run_ids)
    for start in range(0, len(ids), TOGETHER):
        tell_together(tx, ids[start : start + TOGETHER], progress=progress)
    end_gone(tx, progress.gone & set(ids))


def tell_together(tx: Session, ids: list[str], *, progress: Progress) -> None:
    """Tell runs by one statement; if that fails, by halves, down to the one that is to blame."""
    try:
        with tx.begin_nested():
            told = job_runs.tell(tx, ids)
            queue.tell(tx, ids)
            following.follow_late(tx, ids)
        progress.add(told, read=len(ids))
    except DBAPIError as error:
        is_ours = not isinstance(
            error, OperationalError
        )  # not a lock's, not Postgres's
        if isinstance(error.orig, LockNotAvailable) or (len(ids) == 1 and not is_ours):
            raise
        if len(ids) == 1:
            said = str(error.orig).partition("\n")[0]
            line = f"run {ids[0]}: {said}"
            if line not in progress.unreadable:
                progress.unreadable.append(line)
            return
        middle = len(ids) // 2
        tell_together(tx, ids[:middle], progress=progress)
        tell_together(tx, ids[middle:], progress=progress)


# Runs that ended without a word, and runs that are no longer there.

STRAGGLERS = text("""
    SELECT told.run_id
    FROM lakeflow.fact_job_run_timeline AS told
    LEFT JOIN dagster.runs USING (run_id)
    WHERE told.result_state IS NULL
      AND told.workspace_id = lakeflow.workspace_id()
      AND (runs.run_id IS NULL OR runs.status IN ('SUCCESS', 'FAILURE', 'CANCELED'))
    LIMIT 1000
""")

END_GONE = (
    text("""
        UPDATE lakeflow.fact_job_run_timeline
        SET result_state = 'CANCELLED',
            termination_code = 'RUN_DELETED',
            period_end_time = period_start_time
        WHERE workspace_id = lakeflow.workspace_id()
          AND run_id = ANY(:ids)
          AND result_state IS NULL
    """),
    text("""
        UPDATE lakeflow.fact_job_task_run_timeline
        SET result_state = 'CANCELLED',
            termination_code = 'RUN_DELETED',
            period_end_time = period_start_time
        WHERE workspace_id = lakeflow.workspace_id()
          AND run_id = ANY(:ids)
          AND result_state IS NULL
    """),
)


def stragglers(tx: Session) -> frozenset[str]:
    """Runs that are told as unfinished, and that have ended or are gone."""
    return frozenset(tx.scalars(STRAGGLERS))


def end_gone(tx: Session, run_ids: Iterable[str]) -> None:
    """End what is told as unfinished of runs that Dagster no longer has; the rest stays as history."""
    ids = sorted(run_ids)
    if ids:
        for statement in END_GONE:
            tx.execute(statement, {"ids": ids})
