"""Wishes: what should run next, as rows, so that none is lost and none runs twice.

Whoever knows a reason to run writes a wish; `plan` turns the due ones into runs, one for a
pipeline and all that follows it; a run takes the wishes of its pipeline. Asking Dagster is
`rat_sensors.wishes`.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.metadata.automation import (
    PipelineTrigger,
    Schedule,
    Wish,
    WishState,
)
from rat_resources.metadata.runs import Run, RunStatus
from rat_resources.names import TableName

AUTO = "auto"
MOST_ATTEMPTS = 3
# A run that was asked for and cannot even start is asked for again once a minute.
PAUSE = timedelta(minutes=1)

clock = func.clock_timestamp


@dataclass(frozen=True)
class DueWish:
    """A wish that waits to become a run."""

    id: uuid.UUID
    pipeline_id: uuid.UUID
    label: str
    attempts: int = 0  # how often its run ended without coming to it

    @classmethod
    def from_row(cls, row: Wish) -> "DueWish":
        """The wish that a row holds."""
        return cls(row.id, row.pipeline_id, row.label, row.attempts)


@dataclass(frozen=True)
class Node:
    """A pipeline as the plan sees it."""

    pipeline_id: uuid.UUID
    table: TableName
    upstream: frozenset[TableName] = frozenset()
    eager: bool = True  # it follows its upstream tables


@dataclass(frozen=True)
class RunAsk:
    """A run to ask Dagster for."""

    selection: tuple[TableName, ...]
    labels: Mapping[TableName, str]  # of those that were wished for; the rest is `auto`
    wish_ids: tuple[uuid.UUID, ...]
    run_key: str

    @property
    def label(self) -> str:
        """What the run is shown to be started by."""
        return next(iter(self.labels.values()), AUTO)


@dataclass(frozen=True)
class Held:
    """Pipelines that should run and cannot yet, and why."""

    tables: tuple[TableName, ...]
    why: str


@dataclass(frozen=True)
class Plan:
    """What to ask for now, and what keeps waiting."""

    asks: tuple[RunAsk, ...] = ()
    held: tuple[Held, ...] = ()


# Writing and ending wishes


def wish(
    tx: Session,
    pipeline_id: uuid.UUID,
    *,
    label: str,
    reason: str,
    due_at: datetime | None = None,
) -> uuid.UUID | None:
    """Wish that a pipeline runs; None when the same reason has wished it before."""
    return tx.scalar(
        insert(Wish)
        .values(
            pipeline_id=pipeline_id,
            label=label,
            reason=reason,
            due_at=clock() if due_at is None else due_at,
        )
        .on_conflict_do_nothing(index_elements=["pipeline_id", "reason"])
        .returning(Wish.id)
    )


def take(
    tx: Session,
    pipeline_id: uuid.UUID,
    *,
    run_id: uuid.UUID,
    dagster_run_id: str | None,
    run_key: str | None = None,
) -> list[DueWish]:
    """Let a run that starts fulfil what its pipeline was wished to do.

    That is everything that waits, and what this Dagster run was asked for. Whatever the run pins
    (the commit of main, its files) it must pin after this, or it takes a wish for news it misses.
    """
    taken = tx.scalars(
        update(Wish)
        .where(
            Wish.pipeline_id == pipeline_id,
            or_(
                Wish.state == WishState.WAITING,
                and_(
                    Wish.state == WishState.REQUESTED,
                    or_(Wish.run_key == run_key, Wish.dagster_run_id == dagster_run_id),
                ),
            ),
        )
        .values(state=WishState.TAKEN, run_id=run_id, dagster_run_id=dagster_run_id)
        .returning(Wish)
    ).all()
    note_source(tx, run_id, reasons=[row.reason for row in taken])
    return [DueWish.from_row(row) for row in taken]


def note_source(tx: Session, run_id: uuid.UUID, *, reasons: Iterable[str]) -> None:
    """Tell the schedules and triggers that wished for a run which one it was."""
    sources = {"schedule": Schedule, "trigger": PipelineTrigger}
    for reason in reasons:
        kind, _, rest = reason.partition(":")
        if kind in sources:
            source = tx.get(sources[kind], uuid.UUID(rest.partition(":")[0]))
            if source is not None:
                source.last_run_id = run_id


def finish(tx: Session, run_id: uuid.UUID) -> None:
    """Close the wishes that a run took: it ended, well or badly."""
    tx.execute(
        update(Wish)
        .where(Wish.run_id == run_id, Wish.state == WishState.TAKEN)
        .values(state=WishState.DONE, finished_at=clock()),
        execution_options={"synchronize_session": False},
    )


def give_back(tx: Session, run_id: uuid.UUID) -> None:
    """Let the wishes of a run that died wait again; at the third death they are done."""
    is_last = Wish.attempts + 1 >= MOST_ATTEMPTS
    tx.execute(
        update(Wish)
        .where(Wish.run_id == run_id, Wish.state == WishState.TAKEN)
        .values(
            # A run that kills its process each time must not go on for ever.
            state=case((is_last, WishState.DONE), else_=WishState.WAITING),
            finished_at=case((is_last, clock())),
            attempts=Wish.attempts + 1,
            **UNASKED,
        ),
        execution_options={"synchronize_session": False},
    )


UNASKED = {
    "run_id": None,
    "run_key": None,
    "requested_at": None,
    "dagster_run_id": None,
}
