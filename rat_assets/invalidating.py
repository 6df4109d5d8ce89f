"""Invalidating: rows of a table that turned out wrong, by a command or a form of Dagster's.

Everything that can be wrong with what is asked for is said before anything is written. Who is told is
`rat_resources.propagation`; with `work_through` nobody needs a daemon.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_assets.actions import failing, user
from rat_resources import (
    graph,
    invalidations,
    propagation,
    row_filters,
    versions,
    wishes,
)
from rat_resources.errors import AuthorError, FilterError, NotFoundError
from rat_resources.invalidations import LABEL, REASONS, Shape
from rat_resources.metadata import audit
from rat_resources.names import TableName, nearest
from rat_resources.platform import Platform
from rat_resources.row_filters import WHOLE, RowFilter
from rat_resources.wishes import Node, RunAsk


@dataclass(frozen=True)
class Ask:
    """What somebody says is wrong."""

    table: str
    partition: str = ""
    where: str = ""  # a row filter, as JSON
    columns: tuple[str, ...] = ()
    reason: str = "manual"
    message: str = ""


@dataclass(frozen=True)
class Reader:
    """A direct dependent, and what it does about it."""

    table: str
    strategy: str
    will_run: bool

    @property
    def words(self) -> str:
        """What becomes of it, in words."""
        if self.will_run:
            return f"runs ({self.strategy})"
        return "stays: nothing in it depends on those columns, or it has no rows yet"


@dataclass(frozen=True)
class Told:
    """An invalidation, and who is told of it; those tell theirs where their rows change."""

    id: uuid.UUID
    table: TableName
    rows: str
    readers: tuple[Reader, ...]
    further: tuple[str, ...]  # what reads those, and theirs
    is_dry: bool = False

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            "id": None if self.is_dry else str(self.id),
            "table": str(self.table),
            "rows": self.rows,
            "dependents": [
                {"table": each.table, "strategy": each.strategy, "runs": each.will_run}
                for each in self.readers
            ],
            "further": list(self.further),
            "dry_run": self.is_dry,
        }


def invalidate(whole: Platform, ask: Ask, *, by: str, dry_run: bool = False) -> Told:
    """Say that rows are wrong, and tell who reads them; with *dry_run* only find out who would be.

    An error names what is asked for and is not there: a table, a partition, a column, an operator.
    """
    with whole.metadata.transaction() as tx:
        table, shape = find_table(tx, ask.table)
        rows, partition = find_rows(tx, ask, table=table, shape=shape)
        propagation.refuse_unknown(ask.columns, shape=shape)
        if ask.reason not in REASONS:
            raise AuthorError(
                f"{ask.reason!r} is no reason", fix=f"use one of {', '.join(REASONS)}"
            )
        new_id = uuid.uuid4()
        event = {"by": by, **({"message": ask.message} if ask.message else {})}
        invalidations.invalidate(
            tx,
            table,
            reason=ask.reason,
            rows=rows,
            partition=partition,
            columns=ask.columns,
            source_event=event,
            new_id=new_id,
        )
        propagation.route(tx, ids=[new_id])
        shown = f"partition {partition}" if partition else json.dumps(rows.to_json())
        told = Told(
            new_id,
            table,
            "all rows" if rows.is_whole and not partition else shown,
            tuple(readers_of(tx, new_id)),
            (),
            is_dry=dry_run,
        )
        audit.record(
            tx, "data.invalidate", resource=str(table), user=by, detail=told.rows
        )
        further = find_further(tx, told)
        if dry_run:
            tx.rollback()
    return Told(**{**vars(told), "further": further})


def find_table(tx: Session, typed: str) -> tuple[TableName, Shape]:
    """The table that is meant, and what it looks like; an error where none can be wrong."""
    published = {str(each.table): each for each in graph.outlines(tx)}
    if typed not in published:
        near = nearest(typed, published)
        raise NotFoundError(
            f"no published pipeline writes {typed}",
            fix=f"did you mean {near}?" if near else "`rat tables` names those that do",
        )
    outline = published[typed]
    if outline.is_view:
        below = ", ".join(map(str, outline.refs))
        raise AuthorError(
            f"{typed} is a view and has no rows of its own",
            fix=f"invalidate what it reads: {below}",
        )
    shape = invalidations.shapes(tx, [typed]).get(typed, Shape())
    if not shape.types:
        raise NotFoundError(
            f"{typed} has not been published yet, so nobody has read it",
            fix=f"rat run {typed}",
        )
    return outline.table, shape


def find_rows(
    tx: Session, ask: Ask, *, table: TableName, shape: Shape
) -> tuple[RowFilter, str | None]:
    """Which rows are meant, and by which partition if by one."""
    if ask.partition and ask.where:
        raise AuthorError("a partition and a filter name rows twice", fix="use one")
    if ask.where:
        return row_filters.parse(read_json(ask.where), columns=shape.types), None
    if not ask.partition:
        return WHOLE, None
    known = versions.known_partitions(tx, table)
    if ask.partition not in known:
        near = nearest(ask.partition, known)
        some = ", ".join(sorted(known)[:10])
        raise NotFoundError(
            f"{table} has no partition {ask.partition!r}",
            fix=f"did you mean {near!r}?" if near else f"it has {some}",
        )
    rows = row_filters.of_partition(
        ask.partition, parts=shape.parts, columns=shape.types
    )
    return rows, ask.partition


def read_json(typed: str) -> object:
    """The document that somebody typed."""
    try:
        return json.loads(typed)
    except ValueError as error:
        raise FilterError(
            f"the filter is no JSON: {error}",
            fix="""write '{"day": "2026-01-01"}', with double quotes""",
        ) from error


READERS = text("""
    SELECT
        reader.dag_name || '.' || reader.name AS "table",
        coalesce(reader.config ->> 'merge_strategy', 'full_refresh') AS strategy,
        reader.config ->> 'materialized' = 'view' AS is_view,
        reader.id <> ALL(told.processed_by) AS will_run
    FROM trace.data_invalidations AS told
    JOIN trace.jobs AS reader
        ON reader.active AND reader.input_datasets @> ARRAY[told.dataset_uuid::text]
    WHERE told.id = :id
    ORDER BY 1
""")


def readers_of(tx: Session, invalidation_id: uuid.UUID) -> Iterator[Reader]:
    """The direct dependents, and whether they run."""
    for row in tx.execute(READERS, {"id": invalidation_id}):
        strategy = "view" if row.is_view else row.strategy
        yield Reader(row.table, strategy, will_run=row.will_run)


def find_further(tx: Session, told: Told) -> tuple[str, ...]:
    """What is told by those that are told, and so on, where rows change."""
    reads = {each.table: each.refs for each in graph.outlines(tx)}
    direct = {each.table for each in told.readers}
    start = [TableName.parse(each.table) for each in told.readers if each.will_run]
    reached = {str(each) for each in graph.downstream(reads, of=start)}
    return tuple(sorted(reached - direct))


# Working through it.


def next_asks(whole: Platform, told: Told) -> list[RunAsk]:
    """The runs that are due for an invalidation and what followed from it, each noted as asked for."""
    with whole.metadata.transaction() as tx:
        propagation.route(tx)
        mine = {
            f"{LABEL}{each}"
            for each in tx.scalars(FAMILY, {"root": str(told.id), "id": told.id})
        }
        nodes = [
            Node(each.pipeline_id, each.table, frozenset(each.refs))
            for each in graph.outlines(tx)
        ]
        due = [each for each in wishes.due(tx) if each.is_invalidation]
        plan = wishes.plan(
            due, graph=nodes, active=(), correcting=wishes.correcting(tx)
        )
        wanted = {each.id for each in due if each.label in mine}
        asks = [ask for ask in plan.asks if wanted & set(ask.wish_ids)]
        return [ask for ask in asks if wishes.request(tx, ask)]


FAMILY = text("""
    SELECT id FROM trace.data_invalidations
    WHERE id = :id OR source_event -> 'roots' @> to_jsonb(CAST(:root AS text))
""")


@dataclass(frozen=True)
class Made:
    """How much of a table a run made anew, and why no less."""

    table: str
    level: str
    columns: Sequence[str]
    why: str
    rows_written: int

    @property
    def words(self) -> str:
        """How much it was."""
        return self.level + (f" by {', '.join(self.columns)}" if self.columns else "")


def made_for(whole: Platform, labels: Sequence[str]) -> list[Made]:
    """What the runs of these labels made anew, in their order."""
    with whole.metadata.transaction() as tx:
        rows = tx.execute(MADE, {"labels": list(labels)}).all()
    return [
        Made(
            row.table,
            row.scope["level"],
            row.scope.get("columns") or (),
            row.scope.get("why") or "",
            row.rows_written or 0,
        )
        for row in rows
    ]


MADE = text("""
    SELECT pipelines.namespace || '.' || pipelines.layer || '.' || pipelines.name AS table,
        runs.settings -> 'scope' AS scope, runs.rows_written
    FROM rat.runs JOIN rat.pipelines ON pipelines.id = runs.pipeline_id
    WHERE runs.trigger = ANY(:labels) AND runs.settings -> 'scope' ->> 'level' IS NOT NULL
    ORDER BY runs.started_at
""")


# As a job of Dagster's.


class InvalidateConfig(dg.Config):
    """What the job `invalidate` is told."""

    table: str = Field(description="ns.layer.name of the table whose rows are wrong")
    partition: str = Field(default="", description="one partition; empty: see `where`")
    where: str = Field(
        default="",
        description='which rows, as JSON: {"day": "2026-01-01"}; empty: all of them',
    )
    columns: list[str] = Field(
        default=[], description="the columns that are wrong; none: any of them"
    )
    reason: str = Field(default="manual", description=", ".join(REASONS))
    message: str = Field(default="", description="what happened, for whoever asks")
    dry_run: bool = Field(default=False, description="only say who would be told")


@dg.op(name="invalidate_rows", required_resource_keys={"platform"})
def invalidate_op(context: dg.OpExecutionContext, config: InvalidateConfig) -> None:
    """Say that rows of a table are wrong; what reads them runs by itself."""
    said: Mapping[str, Any] = {
        key: value for key, value in dict(config).items() if key != "dry_run"
    }
    ask = Ask(**{**said, "columns": tuple(config.columns)})
    with failing():
        told = invalidate(
            context.resources.platform, ask, by=user(), dry_run=config.dry_run
        )
    for each in told.readers:
        context.log.info(f"{each.table}: {each.words}")
    context.add_output_metadata(
        {
            "invalidation": "none: a dry run" if told.is_dry else str(told.id),
            "rows": told.rows,
            "dependents": [each.table for each in told.readers],
            "further": list(told.further),
        }
    )


@dg.job(name="invalidate", executor_def=dg.in_process_executor)
def invalidate_job() -> None:
    """Have everything that depends on wrong rows made anew, and nothing else."""
    invalidate_op()
