"""Schedules: a pipeline's clocks, read from their table and turned into wishes.

When the clock is read is `rat_sensors.schedules`; what a wish becomes is `rat_resources.wishes`.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from rat_resources import wishes
from rat_resources.metadata.automation import Schedule, Wish, WishState
from rat_resources.metadata.pipelines import Pipeline

# How late a time may be served that is not to be caught up.
LATE = timedelta(minutes=2)


@dataclass(frozen=True)
class Turn:
    """What a schedule that is due does now."""

    fires: datetime | None  # the scheduled time that a run is wished for
    next_run_at: datetime


def next_time(cron: str, *, timezone: str, after: datetime) -> datetime:
    """The next time of a cron expression in its zone's wall time, through changes of the clock.

    A time that the clock skips is served when it jumps. One that it repeats is served once, or
    twice when the expression names no hours, so that every hour stays every hour.
    """
    zone = ZoneInfo(timezone)
    start = after.astimezone(zone)
    folds = (0, 1) if cron.split()[1].startswith("*") else (0,)
    # Cron counts in wall time; starting a little earlier sees a repeated hour twice.
    walls = croniter(cron, (start - timedelta(hours=3)).replace(tzinfo=None))
    best: datetime | None = None
    while True:
        wall = walls.get_next(datetime)
        moments = [
            wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in folds
        ]
        if best is not None and min(moments) >= best:
            return best
        coming = [moment for moment in moments if moment > after]
        best = min([*coming, *([best] if best else [])], default=None)


def decide(
    *,
    cron: str,
    timezone: str,
    catch_up: str,
    next_run_at: datetime,
    now: datetime,
) -> Turn:
    """What a due schedule does: which of the times that have come it serves, and when it is next."""
    following = next_time(cron, timezone=timezone, after=next_run_at)
    if catch_up == "all":
        return Turn(next_run_at, following)
    latest = next_run_at
    while following <= now:
        latest = following
        following = next_time(cron, timezone=timezone, after=following)
    missed = catch_up == "none" and now - latest > LATE
    return Turn(None if missed else latest, following)


def fire_due(
    tx: Session, *, now: datetime, active: Collection[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """Wish for the pipeline of every schedule whose time has come; the wishes' ids.

    A schedule that was never looked at only learns its next time. With `catch_up: all`, a missed
    time waits for the run of the one before it.
    """
    rows = (
        select(Schedule)
        .join(Pipeline, Pipeline.id == Schedule.pipeline_id)
        .where(
            Schedule.enabled,
            Pipeline.deleted_at.is_(None),
            or_(Schedule.next_run_at.is_(None), Schedule.next_run_at <= now),
        )
        .order_by(Schedule.next_run_at, Schedule.id)
        .with_for_update(of=Schedule, skip_locked=True)
    )
    fired = [
        serve(tx, schedule, now=now, active=active)
        for schedule in tx.scalars(rows).all()
    ]
    tx.flush()
    return [wish_id for wish_id in fired if wish_id is not None]


def serve(
    tx: Session, schedule: Schedule, *, now: datetime, active: Collection[uuid.UUID]
) -> uuid.UUID | None:
    """Move one schedule on, and wish for its pipeline when it should run."""
    if schedule.next_run_at is None:
        schedule.next_run_at = next_time(
            schedule.cron_expr, timezone=schedule.timezone, after=now
        )
        return None
    is_busy = schedule.pipeline_id in active or has_open_wish(tx, schedule)
    if is_busy and schedule.catch_up == "all" and schedule.overlap == "wait":
        return None
    turn = decide(
        cron=schedule.cron_expr,
        timezone=schedule.timezone,
        catch_up=schedule.catch_up,
        next_run_at=schedule.next_run_at,
        now=now,
    )
    schedule.next_run_at = turn.next_run_at
    if turn.fires is None or (is_busy and schedule.overlap == "skip"):
        return None
    schedule.last_run_at = now
    return wishes.wish(
        tx,
        schedule.pipeline_id,
        label=f"schedule:{schedule.cron_expr}",
        reason=f"schedule:{schedule.id}:{turn.fires.isoformat()}",
        due_at=now,
    )


def has_open_wish(tx: Session, schedule: Schedule) -> bool:
    """Whether an earlier time of a schedule has not been served to the end."""
    found = select(Wish.id).where(
        Wish.pipeline_id == schedule.pipeline_id,
        Wish.label == f"schedule:{schedule.cron_expr}",
        Wish.state != WishState.DONE,
    )
    return tx.scalar(found.limit(1)) is not None
