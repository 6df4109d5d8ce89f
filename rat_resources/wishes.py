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
from typing import Literal

from sqlalchemy import (
    ColumnElement,
    TextClause,
    and_,
    case,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.metadata.automation import (
    PipelineTrigger,
    Schedule,
    Wish,
    WishState,
)
from rat_resources.metadata.pipelines import Pipeline, RetiredPipeline
from rat_resources.metadata.runs import Run, RunStatus
from rat_resources.names import TableName

AUTO = "auto"
INVALIDATION = "invalidation:"  # and the id of the one that a run is for
MOST_ATTEMPTS = 3
# A run that was asked for and cannot even start is asked for again once a minute.
PAUSE = timedelta(minutes=1)
# By now Dagster has a run, if it was ever asked for it.
GRACE = timedelta(minutes=1)
UNASKED: Mapping[str, None] = {
    "run_id": None,
    "run_key": None,
    "requested_at": None,
    "dagster_run_id": None,
}

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

    @property
    def is_invalidation(self) -> bool:
        """Whether it is for a run that makes good what an invalidation says."""
        return self.label.startswith(INVALIDATION)


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
    takes: "Takes" = "all",
) -> list[DueWish]:
    """Let a run that starts fulfil everything of one kind that its pipeline was wished to do.

    Also what another Dagster run was asked for and has not come to: that one finds nothing new.
    Whatever the run pins (the commit of main, its files) it must pin after this, or it takes a
    wish for news that it misses.
    """
    taken = tx.scalars(
        update(Wish)
        .where(
            Wish.pipeline_id == pipeline_id,
            Wish.state.in_([WishState.WAITING, WishState.REQUESTED, WishState.HELD]),
            *taken_by(pipeline_id, takes),
        )
        .values(state=WishState.TAKEN, run_id=run_id, dagster_run_id=dagster_run_id)
        .returning(Wish),
        execution_options={"populate_existing": True},
    ).all()
    note_sources(tx, run_id, reasons=[row.reason for row in taken])
    return [DueWish.from_row(row) for row in taken]


# What a run can fulfil: one for invalidations just those; one that makes the whole table anew
# everything; one that could do so everything where an invalidation of the whole table waits; any
# other all but invalidations, whose rows it may not even read.
Takes = Literal["invalidations", "all", "all if it must", "news"]

IS_INVALIDATION = Wish.label.startswith(INVALIDATION)
WAITS_WHOLE = text("""
    EXISTS (
        SELECT FROM rat.wishes AS told
        JOIN trace.data_invalidations AS what
            ON what.id = CASE
                WHEN told.reason LIKE 'invalidation:%' THEN substr(told.reason, 14)::uuid
            END
        WHERE told.pipeline_id = :waits_for AND told.state IN ('waiting', 'requested', 'held')
            AND what.row_filter = '{}'
    )
""")


def taken_by(
    pipeline_id: uuid.UUID, takes: Takes
) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """The condition that a run which *takes* so much can fulfil a wish."""
    match takes:
        case "all":
            return ()
        case "invalidations":
            return (IS_INVALIDATION,)
        case "news":
            return (~IS_INVALIDATION,)
    return (or_(~IS_INVALIDATION, WAITS_WHOLE.bindparams(waits_for=pipeline_id)),)


def note_sources(tx: Session, run_id: uuid.UUID, *, reasons: Iterable[str]) -> None:
    """Tell the schedules and triggers that wished for a run which one it was."""
    for reason in reasons:
        kind, _, rest = reason.partition(":")
        if kind in SOURCES:
            model = SOURCES[kind]
            tx.execute(
                update(model)
                .where(model.id == uuid.UUID(rest.partition(":")[0]))
                .values(last_run_id=run_id)
            )


SOURCES: Mapping[str, type[Schedule] | type[PipelineTrigger]] = {
    "schedule": Schedule,
    "trigger": PipelineTrigger,
}


def finish(tx: Session, run_id: uuid.UUID, *, failed: bool = False) -> None:
    """Close the wishes that a run took: it ended, well or badly.

    What an invalidation asks for is only done when it was done well: the next run takes it.
    """
    ended = {"state": NOT_DONE, **FORGOTTEN} if failed else {"state": WishState.DONE}
    tx.execute(
        update(Wish)
        .where(Wish.run_id == run_id, Wish.state == WishState.TAKEN)
        .values(**ended, finished_at=clock()),
        execution_options={"synchronize_session": False},
    )


NOT_DONE = case((IS_INVALIDATION, WishState.HELD), else_=WishState.DONE)
# Dagster need not keep the run of a wish that waits for another one.
FORGOTTEN = {
    "dagster_run_id": case((~IS_INVALIDATION, Wish.dagster_run_id)),
    "run_key": case((~IS_INVALIDATION, Wish.run_key)),
}


def give_back(tx: Session, run_id: uuid.UUID) -> None:
    """Let the wishes of a run that died wait again; at the third death they are done."""
    is_last = Wish.attempts + 1 >= MOST_ATTEMPTS
    tx.execute(
        update(Wish)
        .where(Wish.run_id == run_id, Wish.state == WishState.TAKEN)
        .values(
            # A run that kills its process each time must not go on for ever.
            state=case((is_last, NOT_DONE), else_=WishState.WAITING),
            finished_at=case((is_last, clock())),
            ended_because=case((is_last, f"{MOST_ATTEMPTS} runs died of it")),
            attempts=Wish.attempts + 1,
            **UNASKED,
        ),
        execution_options={"synchronize_session": False},
    )


def end_retired(tx: Session) -> None:
    """Close what retired pipelines were wished to do: nobody will run them any more."""
    release = (
        select(func.max(RetiredPipeline.release_number))
        .where(RetiredPipeline.pipeline_id == Wish.pipeline_id)
        .scalar_subquery()
    )
    tx.execute(
        update(Wish)
        .where(
            Wish.state.in_([WishState.WAITING, WishState.REQUESTED, WishState.HELD]),
            Wish.pipeline_id == Pipeline.id,
            Pipeline.deleted_at.is_not(None),
        )
        .values(
            state=WishState.DONE,
            finished_at=clock(),
            ended_because=func.concat("its pipeline was retired by release ", release),
        ),
        execution_options={"synchronize_session": False},
    )


# Asking for runs


def due(tx: Session, *, now: datetime | None = None) -> list[DueWish]:
    """The wishes that may become runs, the oldest first."""
    rows = (
        select(Wish)
        .where(
            Wish.state == WishState.WAITING,
            Wish.due_at <= (clock() if now is None else now),
        )
        .order_by(Wish.due_at, Wish.created_at, Wish.id)
    )
    return [DueWish.from_row(row) for row in tx.scalars(rows)]


def is_any_open(tx: Session) -> bool:
    """Whether anything at all waits to become a run, or was asked for."""
    is_open = Wish.state.in_([WishState.WAITING, WishState.REQUESTED])
    return bool(tx.scalar(select(select(Wish.id).where(is_open).exists())))


def running(tx: Session) -> set[uuid.UUID]:
    """The pipelines that a run works on now."""
    active = select(Run.pipeline_id).where(
        Run.status.in_([RunStatus.PENDING, RunStatus.RUNNING])
    )
    return set(tx.scalars(active))


def correcting(tx: Session) -> set[uuid.UUID]:
    """The pipelines that a run does something about invalidations of, or was asked to."""
    open_ones = select(Wish.pipeline_id).where(
        IS_INVALIDATION, Wish.state.in_([WishState.REQUESTED, WishState.TAKEN])
    )
    return set(tx.scalars(open_ones))


def plan(
    due: Sequence[DueWish],
    *,
    graph: Sequence[Node],
    active: Collection[uuid.UUID],
    correcting: Collection[uuid.UUID] = (),
) -> Plan:
    """The runs that fulfil the due wishes: one for a pipeline and all that follows it.

    Pipelines that depend on each other share a run. Nothing is asked for while one of its
    pipelines is active. Wishes whose last run never came to them go first, alone: together with
    an upstream that always fails they would never be reached. Those for invalidations come last,
    a run for each pipeline: what makes whole tables anew covers them. One waits while something that
    it reads is wrong itself, or just *correcting* that: it would run again for it.
    """
    shape = Shape.of(graph)
    busy = set(active)
    asks: list[RunAsk] = []
    held: list[Held] = []
    covered: set[uuid.UUID] = set()
    news = [wish for wish in due if not wish.is_invalidation]
    again = [wish for wish in news if wish.attempts]
    first = [wish for wish in news if not wish.attempts]
    for wishes in [*([wish] for wish in again), first]:
        left = [wish for wish in wishes if wish.id not in covered]
        for part in shape.components(shape.with_followers(shape.tables_of(left))):
            ids = {shape.nodes[table].pipeline_id: table for table in part}
            if stops := sorted(str(ids[each]) for each in busy & ids.keys()):
                held.append(Held(part, f"{stops[0]} is running"))
                continue
            busy |= ids.keys()
            ask = ask_for(part, wishes=wishes_of(ids, news), ids=ids)
            covered |= set(ask.wish_ids)
            asks.append(ask)
    wrong = [wish for wish in due if wish.is_invalidation]
    above = [*shape.tables_of(wrong), *shape.named(correcting)]
    later = shape.below(above)
    for table in dict.fromkeys(shape.tables_of(wrong)):
        ids = {shape.nodes[table].pipeline_id: table}
        if busy & ids.keys():
            held.append(Held((table,), f"{table} is running"))
        elif table in later:
            held.append(Held((table,), f"what {table} reads is corrected first"))
        else:
            asks.append(ask_for((table,), wishes=wishes_of(ids, wrong), ids=ids))
    return Plan(tuple(asks), tuple(held))


def wishes_of(
    pipeline_ids: Collection[uuid.UUID], due: Sequence[DueWish]
) -> list[DueWish]:
    """The wishes that a run of these pipelines fulfils."""
    return [wish for wish in due if wish.pipeline_id in pipeline_ids]


def ask_for(
    part: tuple[TableName, ...],
    *,
    wishes: Sequence[DueWish],
    ids: Mapping[uuid.UUID, TableName],
) -> RunAsk:
    """The run over these tables that fulfils these wishes."""
    labels: dict[TableName, str] = {}
    # Something that happened says more than `auto`.
    for each in sorted(wishes, key=lambda wish: wish.label == AUTO):
        labels.setdefault(ids[each.pipeline_id], each.label)
    # A wish that comes back is asked for under a new key: Dagster never runs a key twice.
    marks = sorted(f"{each.id}:{each.attempts}" for each in wishes)
    batch = sha256(" ".join(marks).encode()).hexdigest()[:16]
    return RunAsk(
        selection=part,
        labels=labels,
        wish_ids=tuple(each.id for each in wishes),
        run_key=f"{next(iter(labels.values()))}:{batch}",
    )


@dataclass(frozen=True)
class Shape:
    """A graph of pipelines, made for walking it."""

    nodes: Mapping[TableName, Node]
    names: Mapping[uuid.UUID, TableName]
    followers: Mapping[TableName, Sequence[TableName]] = field(repr=False)

    @classmethod
    def of(cls, graph: Sequence[Node]) -> "Shape":
        """The shape of a graph."""
        followers: dict[TableName, list[TableName]] = {}
        for node in graph:
            for table in node.upstream if node.eager else ():
                followers.setdefault(table, []).append(node.table)
        return cls(
            nodes={node.table: node for node in graph},
            names={node.pipeline_id: node.table for node in graph},
            followers=followers,
        )

    def asked_for(self, wishes: Collection[DueWish]) -> dict[TableName, None]:
        """The tables of a run that was asked for by these wishes."""
        tables = self.tables_of(wishes)
        if any(wish.is_invalidation for wish in wishes):
            return dict.fromkeys(tables)
        return self.with_followers(tables)

    def below(self, tables: Iterable[TableName]) -> set[TableName]:
        """Everything that reads these, directly or through others, whatever starts it."""
        readers: dict[TableName, list[TableName]] = {}
        for node in self.nodes.values():
            for table in node.upstream:
                readers.setdefault(table, []).append(node.table)
        reached: set[TableName] = set()
        edge = list(tables)
        while edge:
            fresh = [
                each for each in readers.get(edge.pop(), ()) if each not in reached
            ]
            reached.update(fresh)
            edge += fresh
        return reached

    def named(self, pipeline_ids: Iterable[uuid.UUID]) -> list[TableName]:
        """The tables of those of the pipelines that are published."""
        return [self.names[each] for each in pipeline_ids if each in self.names]

    def tables_of(self, wishes: Iterable[DueWish]) -> list[TableName]:
        """The tables that were wished for; a pipeline that is no longer published has none."""
        return [
            self.names[wish.pipeline_id]
            for wish in wishes
            if wish.pipeline_id in self.names
        ]

    def with_followers(self, seeds: Iterable[TableName]) -> dict[TableName, None]:
        """These tables and everything that follows them, in the order of the seeds."""
        reached = dict.fromkeys(seeds)
        edge = list(reached)
        while edge:
            for follower in self.followers.get(edge.pop(), ()):
                if follower not in reached:
                    reached[follower] = None
                    edge.append(follower)
        return reached

    def components(
        self, members: Mapping[TableName, None]
    ) -> Iterator[tuple[TableName, ...]]:
        """The parts of a set of tables that have nothing to do with each other."""
        near: dict[TableName, set[TableName]] = {table: set() for table in members}
        for table in members:
            for upstream in self.nodes[table].upstream & members.keys():
                near[table].add(upstream)
                near[upstream].add(table)
        left = dict.fromkeys(members)
        while left:
            edge = [next(iter(left))]
            part = set(edge)
            while edge:
                fresh = near[edge.pop()] - part
                part |= fresh
                edge.extend(fresh)
            for table in part:
                del left[table]
            yield tuple(sorted(part))


def request(tx: Session, ask: RunAsk) -> bool:
    """Note that Dagster is about to be asked; False when somebody else came first."""
    asked = tx.scalars(
        update(Wish)
        .where(Wish.id.in_(ask.wish_ids), Wish.state == WishState.WAITING)
        .values(state=WishState.REQUESTED, run_key=ask.run_key, requested_at=clock())
        .returning(Wish.id)
    )
    return bool(asked.all())


@dataclass(frozen=True)
class Asked:
    """A run that Dagster was asked for, and the wishes that it has not come to."""

    run_key: str
    wishes: tuple[DueWish, ...]
    is_overdue: bool  # by now Dagster must have the run, if it was ever asked


def asked(tx: Session) -> list[Asked]:
    """Every run that was asked for and has not taken all its wishes."""
    rows = tx.execute(
        select(Wish, Wish.requested_at < clock() - GRACE)
        .where(Wish.state == WishState.REQUESTED)
        .order_by(Wish.requested_at, Wish.id)
    )
    by_key: dict[str, list[tuple[Wish, bool]]] = {}
    for row, overdue in rows:
        by_key.setdefault(row.run_key or "", []).append((row, bool(overdue)))
    return [
        Asked(
            key,
            tuple(DueWish.from_row(row) for row, _ in found),
            all(overdue for _, overdue in found),
        )
        for key, found in by_key.items()
    ]


def return_unstarted(tx: Session, run_key: str) -> None:
    """Let the wishes that an ended Dagster run never came to wait again.

    The first time at once, later after a pause; never given up, since nothing of them was tried.
    """
    tx.execute(
        update(Wish)
        .where(Wish.run_key == run_key, Wish.state == WishState.REQUESTED)
        .values(
            state=WishState.WAITING,
            due_at=case((Wish.attempts == 0, clock()), else_=clock() + PAUSE),
            attempts=Wish.attempts + 1,
            **UNASKED,
        ),
        execution_options={"synchronize_session": False},
    )


def cancel_unstarted(tx: Session, run_key: str) -> None:
    """Close the wishes of a run that a person took out of Dagster's queue."""
    tx.execute(
        update(Wish)
        .where(Wish.run_key == run_key, Wish.state == WishState.REQUESTED)
        .values(
            state=NOT_DONE,
            finished_at=clock(),
            ended_because="its run was taken out of Dagster's queue",
        ),
        execution_options={"synchronize_session": False},
    )


def is_open(pipeline_id: uuid.UUID, *, label: str) -> ColumnElement[bool]:
    """The wishes of one label that a coming run will take."""
    return and_(
        Wish.pipeline_id == pipeline_id,
        Wish.label == label,
        Wish.state == WishState.WAITING,
    )
