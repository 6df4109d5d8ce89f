"""Invalidations: parts of tables that are no longer what their readers took them for.

Each is a row of `trace.data_invalidations`: made by a person, a restored table, an outside commit,
or the publication of a run that did something about another one. Who reads the table is told by
`propagation`; a run takes what its pipeline was told (`taken`), and its publication says that it is
done (`state`).
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources import row_filters
from rat_resources.errors import FilterError, NotFoundError
from rat_resources.metadata.zeros import as_json
from rat_resources.names import TableName
from rat_resources.row_filters import WHOLE, RowFilter
from rat_resources.runs import Pin

LABEL = "invalidation:"  # and the id: the wish's label and reason, the run's trigger
REASONS = ("reorg", "correction", "manual", "schema_change")
NAMED = 100  # ids that an event of many names

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """The columns of a table, and those that name its partitions."""

    types: Mapping[str, str] = field(default_factory=dict)  # DuckDB's words
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Invalidation:
    """Rows of a table that its readers have to read again."""

    id: uuid.UUID
    table: TableName
    generation: uuid.UUID
    filter: RowFilter  # which rows; all of them where that is not known
    partition_key: str | None
    columns: tuple[str, ...]  # that may have other values than before; none: any
    reason: str
    source_event: Mapping[str, Any]
    created_at: datetime

    @property
    def snapshot_before(self) -> Pin | None:
        """The table as it was before; None when nobody knows."""
        pin = self.source_event.get("snapshot_before")
        if not isinstance(pin, Mapping) or "metadata_location" not in pin:
            return None
        return Pin(self.table, pin["metadata_location"], pin.get("snapshot_id"))

    @property
    def root(self) -> str:
        """The invalidation that this one follows from in the end."""
        return str(self.source_event.get("root") or self.id)

    @property
    def hop(self) -> int:
        """How many tables away from its root it is."""
        hop = self.source_event.get("hop")
        return hop if isinstance(hop, int) else 0

    @classmethod
    def from_row(cls, row: Row[Any], shape: Shape) -> "Invalidation":
        """The invalidation that a row of `TOLD` holds, of a table of this shape."""
        event = row.source_event if isinstance(row.source_event, Mapping) else {}
        return cls(
            id=row.id,
            table=TableName.parse(row.dataset),
            generation=row.dataset_version,
            filter=filter_of(row, shape),
            partition_key=row.partition_key,
            columns=columns_of(event),
            reason=row.reason,
            source_event=event,
            created_at=row.created_at,
        )


def names(told: Iterable[Invalidation]) -> str:
    """The tables that these are about."""
    return ", ".join(sorted({str(each.table) for each in told}))


def collapsed(told: Sequence[Invalidation]) -> list[Invalidation]:
    """As few invalidations as mean the same rows: ten thousand of a row each are one of all those."""
    by_table: dict[TableName, list[Invalidation]] = {}
    for each in told:
        by_table.setdefault(each.table, []).append(each)
    return [
        replace(some[0], filter=rows)
        for some in by_table.values()
        for rows in row_filters.together(each.filter for each in some)
    ]


def filter_of(row: Row[Any], shape: Shape) -> RowFilter:
    """The rows that an invalidation means; all of them where the table no longer tells."""
    if row.scope == "partition":
        return row_filters.of_partition(
            row.partition_key, parts=shape.parts, columns=shape.types
        )
    try:
        return row_filters.parse(row.row_filter, columns=shape.types)
    except FilterError:
        return WHOLE


def columns_of(event: Facts) -> tuple[str, ...]:
    """The columns that an event names; none where it names none that are text."""
    named = event.get("columns")
    if not isinstance(named, Sequence) or isinstance(named, str):
        return ()
    return tuple(each for each in named if isinstance(each, str))


# Making one.


def invalidate(
    tx: Session,
    table: TableName,
    *,
    reason: str,
    rows: RowFilter = WHOLE,
    partition: str | None = None,
    columns: Iterable[str] = (),
    source_event: Facts | None = None,
    new_id: uuid.UUID | None = None,
) -> uuid.UUID | None:
    """Say that rows of a table, or a partition, are not what they were; None when *new_id* is known.

    NotFoundError for what no pipeline of the current release writes.
    """
    event = {**(source_event or {})}
    if named := list(columns):
        event["columns"] = named
    served = tx.execute(SERVED, {"dataset": str(table)}).one_or_none()
    if served is None:
        raise NotFoundError(
            f"no published pipeline writes {table}",
            fix="`rat tables` names those that do",
        )
    made: uuid.UUID | None = tx.scalar(
        INVALIDATE,
        {
            "id": new_id or uuid.uuid4(),
            "dataset": served.dataset_uuid,
            "version": served.dataset_version,
            "scope": "row_range" if partition is None else "partition",
            "partition": partition,
            "rows": as_json(rows.to_json()) if partition is None else None,
            "reason": reason,
            "event": as_json(event),
        },
    )
    return made


# Of the org that this deployment is.
SERVED = text("""
    SELECT served.dataset_uuid, served.dataset_version
    FROM trace.current_dataset_versions AS served
    JOIN trace.orgs AS org ON org.id = served.org_id
    JOIN rat.deployment AS deployment ON deployment.org = org.slug
    WHERE served.dataset = :dataset
""")
INVALIDATE = text("""
    INSERT INTO trace.data_invalidations (
        id, dataset_uuid, dataset_version, scope, partition_key, row_filter, reason, source_event,
        created_at
    )
    VALUES (
        :id, :dataset, :version, :scope, :partition, CAST(:rows AS jsonb), :reason,
        CAST(:event AS jsonb), clock_timestamp()
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING id
""")


def pin_json(pin: Pin | None) -> dict[str, Any] | None:
    """A pin as an event keeps it."""
    if pin is None:
        return None
    return {
        "metadata_location": pin.metadata_location,
        "snapshot_id": pin.snapshot_id,
    }


# Reading them.


def taken(tx: Session, run_id: uuid.UUID) -> list[Invalidation]:
    """The invalidations that a run does something about, the oldest first."""
    return load(tx, tx.execute(TAKEN, {"run_id": run_id}).all())


def by_id(tx: Session, ids: Collection[uuid.UUID]) -> list[Invalidation]:
    """These invalidations, the oldest first."""
    return load(tx, tx.execute(BY_ID, {"ids": list(ids)}).all())


def load(tx: Session, rows: Sequence[Row[Any]]) -> list[Invalidation]:
    """The invalidations that rows of `TOLD` hold."""
    known = shapes(tx, {row.dataset for row in rows})
    return [Invalidation.from_row(row, known.get(row.dataset, Shape())) for row in rows]


TOLD = """
    SELECT
        told.id, dataset.name AS dataset, told.dataset_version, told.scope, told.partition_key,
        told.row_filter, told.reason, told.source_event, told.created_at
    FROM trace.data_invalidations AS told
    JOIN trace.datasets AS dataset ON dataset.id = told.dataset_uuid
"""
TAKEN = text(f"""
    {TOLD}
    WHERE told.id IN (
        SELECT CASE WHEN wish.reason LIKE '{LABEL}%' THEN substr(wish.reason, 14)::uuid END
        FROM rat.wishes AS wish
        WHERE wish.run_id = :run_id AND wish.state = 'taken'
    )
    ORDER BY told.created_at, told.id
""")
BY_ID = text(f"{TOLD} WHERE told.id = ANY(:ids) ORDER BY told.created_at, told.id")


def shapes(tx: Session, datasets: Collection[str]) -> dict[str, Shape]:
    """What the tables of these names look like; a view or what is not published has no columns."""
    if not datasets:
        return {}
    return {
        row.dataset: Shape(dict(row.types), partition_columns(row.config, row.types))
        for row in tx.execute(SHAPES, {"datasets": sorted(datasets)})
    }


SHAPES = text("""
    SELECT
        looked.dataset,
        ARRAY(
            SELECT ARRAY[known.name, known.type]
            FROM rat.iceberg_columns AS known
            WHERE (known.namespace, known.layer, known.table_name)
                = (pipeline.namespace, pipeline.layer, pipeline.name)
            ORDER BY known.ordinal
        ) AS types,
        (
            SELECT version.spec -> 'config'
            FROM rat.pipeline_versions AS version
            WHERE version.pipeline_id = pipeline.id
            ORDER BY version.version_number DESC
            LIMIT 1
        ) AS config
    FROM unnest(CAST(:datasets AS text[])) AS looked (dataset)
    JOIN rat.pipelines AS pipeline
        ON (pipeline.namespace, pipeline.layer, pipeline.name) = (
            split_part(looked.dataset, '.', 1),
            split_part(looked.dataset, '.', 2),
            split_part(looked.dataset, '.', 3)
        )
""")


def partition_columns(
    config: Facts | None, types: Iterable[Sequence[str]]
) -> tuple[str, ...]:
    """The columns that name a table's partitions, as `lake.partitions` finds them."""
    if not config:
        return ()
    named = (
        [config["partition_column"]]
        if config.get("partition_column")
        else [
            each["column"]
            for each in config.get("partition_by") or ()
            if each.get("transform", "identity") == "identity"
        ]
    )
    known = {name.casefold(): name for name, _ in types}
    return tuple(known[each.casefold()] for each in named if each.casefold() in known)


# What a publication says.


def describe(
    told: Sequence[Invalidation],
    *,
    emits: RowFilter | Mapping[str, Any] | None,
    facts: Facts,
) -> dict[str, Any] | None:
    """What publishing a run states of the invalidations that it took; None when it took none.

    *emits* is which rows of its own table are others now, None where no reader has to know.
    """
    if not told:
        return None
    document = emits.to_json() if isinstance(emits, RowFilter) else emits
    first = told[0]
    child = {
        **facts,
        "reason": first.reason,
        "row_filter": document,
        "parent": str(first.id),
        "parents": [str(each.id) for each in told[:NAMED]],
        "root": first.root,
        "roots": sorted({each.root for each in told})[:NAMED],
        "hop": 1 + max(each.hop for each in told),
    }
    return {
        "taken": [str(each.id) for each in told],
        "emits": None if document is None else child,
    }


def state(
    tx: Session, facts: Facts, *, run_id: uuid.UUID, table: TableName
) -> uuid.UUID | None:
    """Make true what `describe` said; the id of the new invalidation of the run's own table, if any."""
    finish(tx, [uuid.UUID(each) for each in facts["taken"]], run_id=run_id)
    child = facts["emits"]
    if child is None:
        return None
    event = {key: child[key] for key in child if key not in ("reason", "row_filter")}
    made: uuid.UUID | None = tx.scalar(
        EMIT,
        {
            "id": child_id(run_id),
            "dataset": str(table),
            "rows": as_json(child["row_filter"]),
            "reason": child["reason"],
            "event": as_json(event),
        },
    )
    return made


def child_id(run_id: uuid.UUID) -> uuid.UUID:
    """The id of the invalidation that a run's publication makes: one, however often it is stated."""
    return uuid.uuid5(run_id, "invalidation")


# What is written is one table, whichever generation it was launched as: its readers read that.
EMIT = text("""
    INSERT INTO trace.data_invalidations
        (id, dataset_uuid, dataset_version, scope, row_filter, reason, source_event, created_at)
    SELECT
        :id, served.dataset_uuid, served.dataset_version, 'row_range', CAST(:rows AS jsonb),
        :reason, CAST(:event AS jsonb), clock_timestamp()
    FROM trace.current_dataset_versions AS served
    JOIN trace.orgs AS org ON org.id = served.org_id
    JOIN rat.deployment AS deployment ON deployment.org = org.slug
    WHERE served.dataset = :dataset
    ON CONFLICT (id) DO NOTHING
    RETURNING id
""")


def finish(tx: Session, ids: Sequence[uuid.UUID], *, run_id: uuid.UUID) -> None:
    """Say that the job of a run has done something about these, and which of them are over by that."""
    if not ids:
        return
    wanted = {"ids": list(ids), "run_id": run_id}
    tx.execute(LOCK, wanted)
    tx.execute(DONE_BY, wanted)
    close(tx, ids)


def close(tx: Session, ids: Sequence[uuid.UUID]) -> None:
    """Set `processed_at` where every direct dependent of today is among `processed_by`."""
    tx.execute(CLOSE, {"ids": list(ids)})


# Always in one order, or two publications could wait for each other.
LOCK = text("""
    SELECT id FROM trace.data_invalidations WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")
# The job of the run's task; where that was cleared away the one that is active.
DONE_BY = text("""
    WITH done AS (
        SELECT coalesce(
            (SELECT task.job_id FROM trace.tasks AS task WHERE task.run_id = run.id LIMIT 1),
            job.id
        ) AS id
        FROM rat.runs AS run
        JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
        LEFT JOIN trace.jobs AS job
            ON job.active
            AND job.dag_name = pipeline.namespace
            AND job.name = pipeline.layer || '.' || pipeline.name
        WHERE run.id = :run_id
    )
    UPDATE trace.data_invalidations AS told
    SET processed_by = told.processed_by || done.id
    FROM done
    WHERE told.id = ANY(:ids) AND done.id IS NOT NULL AND done.id <> ALL(told.processed_by)
""")
# A job is another row in every version of its DAG; what did it is known by name.
OUTSTANDING = """
    SELECT told.id AS invalidation_id, reader.id AS job_id, reader.dag_name, reader.name
    FROM trace.data_invalidations AS told
    JOIN trace.jobs AS reader
        ON reader.active AND reader.input_datasets @> ARRAY[told.dataset_uuid::text]
    WHERE told.processed_at IS NULL
        AND NOT EXISTS (
            SELECT FROM trace.jobs AS done
            WHERE done.id = ANY(told.processed_by)
                AND (done.org_id, done.dag_name, done.name)
                    = (reader.org_id, reader.dag_name, reader.name)
        )
"""
CLOSE = text(f"""
    UPDATE trace.data_invalidations AS open
    SET processed_at = clock_timestamp()
    WHERE open.id = ANY(:ids) AND open.processed_at IS NULL
        AND NOT EXISTS (
            SELECT FROM ({OUTSTANDING}) AS left_over WHERE left_over.invalidation_id = open.id
        )
""")
