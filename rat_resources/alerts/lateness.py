"""Lateness: tables that were not published in time, and runs that no schedule got.

A table is as old as its last publication that changed it; a run that found nothing new makes it no
younger. What a table's own rhythm is, its last publications say.
"""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.alerts import episodes, outcomes
from rat_resources.alerts.conditions import listed
from rat_resources.alerts.definitions import Definition, load
from rat_resources.alerts.matches import Looked, Match, Occasion
from rat_resources.errors import FilterError

PUBLICATIONS = 21  # the intervals between so many say what is usual
FEWEST = 4  # that say anything
FACTOR = 2.0
# How long after its time a scheduled run may wait for others before it is missing.
PATIENCE = timedelta(minutes=15)
MISSING = "missing"


def tell(tx: Session, *, now: datetime) -> list[uuid.UUID]:
    """Tell of what is late *now*, and of what no longer is; the ids of the events that this added."""
    added = []
    for definition in load(tx, kinds=("freshness", "run_status")):
        if definition.kind == "freshness":
            looked = look(tx, definition, now=now)
        elif MISSING in listed(definition.condition.get("statuses")):
            looked = look_for_missing(tx, definition, now=now)
        else:
            continue
        occasion = Occasion(
            identity=f"{now:%Y-%m-%d}",
            table=str(definition.table) if definition.table else None,
            pipeline=str(definition.table) if definition.table else None,
            cause=f"late {definition.table or definition.id}",
        )
        told = episodes.conclude(tx, [looked], occasion=occasion)
        added += episodes.state(tx, told.to_json()) if told else []
    return added


# Tables.


def look(tx: Session, definition: Definition, *, now: datetime) -> Looked:
    """Whether a table is older than it may be."""
    table = definition.table
    if table is None:
        return Looked(definition)
    named = {"namespace": table.namespace, "layer": table.layer, "name": table.name}
    published = tx.execute(LAST, {**named, "number": PUBLICATIONS}).all()
    try:
        allowed = allowed_age(definition, [each.finished_at for each in published])
    except (TypeError, ValueError) as error:
        message = f"its condition makes no sense: {error}"
        return Looked(definition, trouble=FilterError(message, fix="correct it"))
    if allowed is None or now - published[0].finished_at <= allowed:
        return Looked(definition)
    last = published[0]
    age = now - last.finished_at
    match = Match(
        f"{table} was last published {words(age)} ago, and {words(allowed)} is allowed",
        figures={
            "last_published": last.finished_at.isoformat(),
            "allowed_minutes": round(allowed.total_seconds() / 60, 1),
        },
        copied={"event_time": last.finished_at + allowed},
        # Whenever somebody looks, it is late since the same publication.
        identity=str(last.id),
    )
    return Looked(definition, [match])


LAST = text("""
    SELECT run.id, run.finished_at
    FROM rat.pipelines AS pipeline
    CROSS JOIN LATERAL (
        SELECT id, finished_at
        FROM rat.runs
        WHERE pipeline_id = pipeline.id AND status = 'success' AND NOT unchanged
        ORDER BY finished_at DESC
        LIMIT :number
    ) AS run
    WHERE pipeline.namespace = :namespace
        AND pipeline.layer = :layer
        AND pipeline.name = :name
        AND pipeline.deleted_at IS NULL
    ORDER BY run.finished_at DESC
""")


def allowed_age(
    definition: Definition, published: Sequence[datetime]
) -> timedelta | None:
    """How old a table may be, by its last publications; None: nobody knows."""
    said = definition.condition
    if not published:
        return None
    if said.get("max_age_minutes") is not None:
        return timedelta(minutes=float(said["max_age_minutes"]))
    if len(published) < FEWEST:
        return None
    factor = float((said.get("rhythm") or {}).get("factor") or FACTOR)
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(published)]
    return timedelta(seconds=median(gaps) * factor)


def words(span: timedelta) -> str:
    """A span of time as people say it."""
    minutes = round(span.total_seconds() / 60)
    hours, rest = divmod(minutes, 60)
    days, left = divmod(hours, 24)
    if days:
        return f"{days} d {left} h"
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


# Runs.


def look_for_missing(tx: Session, definition: Definition, *, now: datetime) -> Looked:
    """The scheduled times of pipelines that no run has served."""
    overdue = tx.execute(OVERDUE, {"before": now - PATIENCE}).all()
    matches = [*missing(definition, overdue)]
    raised = episodes.find_raised(tx, [definition.id])[definition.id]
    mine = {one.subject for one in raised if one.subject.endswith(f" {MISSING}")}
    found = {each.key for each in matches}
    return Looked(definition, matches, covers=frozenset(mine | found))


def missing(definition: Definition, overdue: Sequence[Row[Any]]) -> Iterator[Match]:
    """What is overdue of the pipelines that a definition is about, the oldest time of each."""
    told = set()
    for each in overdue:
        if each.table in told or not outcomes.watches(definition, each.table):
            continue
        told.add(each.table)
        due = each.due_at.astimezone(UTC)
        yield Match(
            f"{each.table} should have run at {due:%Y-%m-%d %H:%M} UTC, and did not",
            subject={"pipeline": each.table},
            key=f"{each.table} {MISSING}",
            figures={"schedule": each.cron_expr, "due": due.isoformat()},
            copied={"event_time": due},
            identity=f"{each.schedule_id} {due.isoformat()}",
        )


# A wish that nobody took, and a clock that nobody looked at.
OVERDUE = text("""
    SELECT
        concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name) AS "table",
        schedule.id AS schedule_id,
        schedule.cron_expr,
        late.due_at
    FROM rat.schedules AS schedule
    JOIN rat.pipelines AS pipeline ON pipeline.id = schedule.pipeline_id
    CROSS JOIN LATERAL (
        SELECT wish.due_at
        FROM rat.wishes AS wish
        WHERE wish.pipeline_id = schedule.pipeline_id
            AND wish.state IN ('waiting', 'requested')
            AND wish.due_at < :before
            AND starts_with(wish.reason, 'schedule:' || schedule.id || ':')
        UNION ALL
        SELECT schedule.next_run_at WHERE schedule.next_run_at < :before
    ) AS late
    WHERE schedule.enabled AND pipeline.deleted_at IS NULL
    ORDER BY "table", late.due_at
""")
