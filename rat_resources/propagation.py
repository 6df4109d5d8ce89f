"""Propagation: who has to do something about an invalidation, one hop at a time.

The direct dependents of its table in the current release, whatever starts them otherwise, are told by
a wish each; what they then publish is an invalidation of their own tables, or nothing. Each open row is
looked at once a release, so that ten thousand of them cost a tick one query. A dependent that reads
none of the named columns, or has no table yet, is done without a run; a row that makes no sense keeps
its problem, and bars nobody's way.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources import invalidations, lineage, releases, row_filters
from rat_resources.alerts import events
from rat_resources.errors import FilterError
from rat_resources.invalidations import OUTSTANDING, Facts, Shape, columns_of
from rat_resources.metadata.zeros import as_json
from rat_resources.names import ColumnName, TableName, nearest
from rat_resources.wishes import INVALIDATION

AT_ONCE = 1_000  # rows a tick
MOST_HOPS = 500  # no graph is that deep, and none has a circle


@dataclass(frozen=True)
class Problem:
    """An invalidation that nobody can be told of."""

    invalidation_id: uuid.UUID
    dataset: str
    what: str


@dataclass
class Routed:
    """What looking at open invalidations came to."""

    seen: int = 0
    told: int = 0  # pipelines
    spared: int = 0  # pipelines that are done without a run
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        spared = f", {self.spared} of them spared" if self.spared else ""
        return f"{self.seen} invalidations: {self.told + self.spared} told{spared}"


def state(tx: Session, run_id: uuid.UUID, facts: Facts) -> None:
    """State what a publication says of invalidations, and tell the readers of its own."""
    table = TableName.parse(tx.execute(TABLE_OF, {"run_id": run_id}).scalar_one())
    made = invalidations.state(tx, facts, run_id=run_id, table=table)
    if made is not None:
        route(tx, ids=[made])


TABLE_OF = text("""
    SELECT concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name)
    FROM rat.runs AS run
    JOIN rat.pipelines AS pipeline ON pipeline.id = run.pipeline_id
    WHERE run.id = :run_id
""")


def route(
    tx: Session,
    *,
    ids: Collection[uuid.UUID] | None = None,
    at_once: int = AT_ONCE,
) -> Routed:
    """Tell the dependents of what nobody has looked at since the last release, or of *ids*."""
    release = releases.current(tx) or 0
    rows = tx.execute(
        OPEN,
        {
            "release": release,
            "ids": None if ids is None else list(ids),
            "at_once": at_once,
        },
    ).all()
    if not rows:
        return Routed()
    served = [row for row in rows if row.is_served]
    shapes = invalidations.shapes(tx, {row.dataset for row in served})
    kinds = look_up(tx, {row.dataset for row in served})
    problems = {
        row.id: what
        for row in served
        if (what := find_problem(row, shapes=shapes, kinds=kinds))
    }
    sound = {row.id: row for row in served if row.id not in problems}
    routed = Routed(seen=len(rows))
    tell(tx, sound, shapes=shapes, routed=routed)
    note(tx, rows, release=release, problems=problems)
    invalidations.close(tx, list(sound))
    routed.problems = [
        Problem(row.id, row.dataset, problems[row.id])
        for row in served
        if row.id in problems and row.problem != problems[row.id]
    ]
    for problem in routed.problems:
        raise_alert(tx, problem)
    for row in sound.values():
        if row.problem:
            title = f"An invalidation of {row.dataset} makes sense now"
            events.resolve_system(tx, key=f"{INVALIDATION}{row.id}", title=title)
    return routed


def raise_alert(tx: Session, problem: Problem) -> None:
    """Let somebody know of a row that nobody can be told of, once."""
    events.add_system(
        tx,
        key=f"{INVALIDATION}{problem.invalidation_id}",
        title=f"An invalidation of {problem.dataset} tells nobody anything: {problem.what}",
        severity="warning",
        remediation="insert a row that is right, and delete"
        f" {problem.invalidation_id} from trace.data_invalidations",
        table=problem.dataset,
    )


OPEN = text("""
    SELECT
        told.id, dataset.name AS dataset, told.dataset_uuid, told.scope, told.row_filter,
        told.source_event, told.problem,
        EXISTS (
            SELECT FROM trace.current_dataset_versions AS served
            WHERE (served.dataset_uuid, served.dataset_version)
                = (told.dataset_uuid, told.dataset_version)
        ) AS is_served
    FROM trace.data_invalidations AS told
    JOIN trace.datasets AS dataset ON dataset.id = told.dataset_uuid
    JOIN trace.orgs AS org ON org.id = dataset.org_id
    JOIN rat.deployment AS deployment ON deployment.org = org.slug
    WHERE told.processed_at IS NULL
        AND told.routed_release IS DISTINCT FROM :release
        AND (CAST(:ids AS uuid[]) IS NULL OR told.id = ANY(CAST(:ids AS uuid[])))
    ORDER BY told.created_at, told.id
    LIMIT :at_once
    FOR UPDATE OF told SKIP LOCKED
""")


# What makes no sense.


def look_up(tx: Session, datasets: Iterable[str]) -> Mapping[str, str]:
    """What each dataset is made as: a table or a view; nothing of what is not made."""
    found = tx.execute(KINDS, {"datasets": sorted(datasets)})
    return {row.dataset: row.kind for row in found}


KINDS = text("""
    SELECT dataset.name AS dataset, job.config ->> 'materialized' AS kind
    FROM trace.jobs AS job
    JOIN trace.datasets AS dataset ON dataset.id::text = ANY(job.output_datasets)
    WHERE job.active AND dataset.name = ANY(:datasets)
""")


def find_problem(
    row: Row[Any], *, shapes: Mapping[str, Shape], kinds: Mapping[str, str]
) -> str | None:
    """Why nobody can be told of a row; None where all is well."""
    shape = shapes.get(row.dataset, Shape())
    event = row.source_event if isinstance(row.source_event, Mapping) else {}
    if row.dataset not in kinds:
        return f"{row.dataset} is made by no pipeline"
    hop = event.get("hop")
    if isinstance(hop, int) and hop > MOST_HOPS:
        return f"it is {hop} tables away from its root, which nothing is"
    if kinds[row.dataset] == "view":
        return None  # which rows is not known of a view, and all of them are right
    if not shape.types:
        return f"{row.dataset} has not been published yet"
    try:
        if row.scope == "row_range":
            row_filters.parse(row.row_filter, columns=shape.types)
        refuse_unknown(columns_of(event), shape=shape)
    except FilterError as error:
        return str(error)
    return None


def refuse_unknown(names: Iterable[str], *, shape: Shape) -> None:
    """FilterError for a column that the table has not."""
    known = {name.casefold() for name in shape.types}
    for name in names:
        if name.casefold() not in known:
            near = nearest(name, shape.types)
            raise FilterError(
                f"the column {name!r} is not there",
                fix=f"did you mean {near!r}?"
                if near
                else f"use one of {', '.join(shape.types)}",
            )


# Telling.


def tell(
    tx: Session,
    sound: Mapping[uuid.UUID, Row[Any]],
    *,
    shapes: Mapping[str, Shape],
    routed: Routed,
) -> None:
    """Wish for a run of each dependent that has to, and say of the others that they are done."""
    if not sound:
        return
    wanted, spared = [], []
    readers = tx.execute(READERS, {"ids": list(sound)}).all()
    indifferent = find_indifferent(tx, readers, sound=sound, shapes=shapes)
    for each in readers:
        row = sound[each.invalidation_id]
        if each.has_rows and (each.reader, asked_of(row, shapes)) not in indifferent:
            wanted.append([str(each.pipeline_id), str(each.invalidation_id)])
        else:
            spared.append([str(each.job_id), str(each.invalidation_id)])
    routed.told, routed.spared = len(wanted), len(spared)
    if wanted:
        tx.execute(WISH, {"wanted": as_json(wanted)})
        tx.execute(TRY_AGAIN, {"wanted": as_json(wanted)})
    if spared:
        tx.execute(SPARE, {"spared": as_json(spared)})


Columns = tuple[ColumnName, ...]


def asked_of(row: Row[Any], shapes: Mapping[str, Shape]) -> Columns:
    """The columns that an invalidation names, as its table spells them."""
    event = row.source_event if isinstance(row.source_event, Mapping) else {}
    types = shapes.get(row.dataset, Shape()).types
    spelt = {name.casefold(): name for name in types}
    named = sorted({name.casefold() for name in columns_of(event)} & spelt.keys())
    return tuple(ColumnName(row.dataset, spelt[name]) for name in named)


def find_indifferent(
    tx: Session,
    readers: Sequence[Row[Any]],
    *,
    sound: Mapping[uuid.UUID, Row[Any]],
    shapes: Mapping[str, Shape],
) -> set[tuple[str, Columns]]:
    """The readers in which nothing depends on the columns that are named, by what their last run read.

    Nothing is known of a reader whose code has not run yet.
    """
    questions: dict[Columns, set[str]] = {}
    for each in readers:
        columns = asked_of(sound[each.invalidation_id], shapes)
        if columns and each.is_traced:
            questions.setdefault(columns, set()).add(each.reader)
    return {
        (reader, columns)
        for columns, names in questions.items()
        for reader in lineage.indifferent(tx, names, columns=columns)
    }


# Of what has no rows, and no run that makes some, none are wrong.
READERS = text(f"""
    SELECT
        reader.invalidation_id,
        reader.job_id,
        reader.dag_name || '.' || reader.name AS reader,
        pipeline.id AS pipeline_id,
        EXISTS (
            SELECT FROM rat.runs AS run
            WHERE run.status = 'success' AND run.version_id = (
                SELECT version.id
                FROM rat.pipeline_versions AS version
                WHERE version.pipeline_id = pipeline.id
                ORDER BY version.version_number DESC
                LIMIT 1
            )
        ) AS is_traced,
        EXISTS (
            SELECT FROM rat.iceberg_tables AS made
            WHERE (made.namespace, made.layer, made.name)
                = (pipeline.namespace, pipeline.layer, pipeline.name)
        ) OR EXISTS (
            SELECT FROM rat.runs AS run
            WHERE run.pipeline_id = pipeline.id
                AND run.status IN ('success', 'pending', 'running')
        ) AS has_rows
    FROM ({OUTSTANDING}) AS reader
    JOIN rat.pipelines AS pipeline
        ON pipeline.namespace = reader.dag_name
        AND pipeline.layer || '.' || pipeline.name = reader.name
        AND pipeline.deleted_at IS NULL
    WHERE reader.invalidation_id = ANY(:ids)
""")
WISH = text(f"""
    INSERT INTO rat.wishes (pipeline_id, label, reason, due_at)
    SELECT
        (told.it ->> 0)::uuid,
        '{INVALIDATION}' || (told.it ->> 1),
        '{INVALIDATION}' || (told.it ->> 1),
        clock_timestamp()
    FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS told (it)
    ORDER BY 1, 3
    ON CONFLICT (pipeline_id, reason) DO NOTHING
""")
# What failed is tried again once its pipeline is published anew.
TRY_AGAIN = text(f"""
    UPDATE rat.wishes AS wish
    SET state = 'waiting', attempts = 0, due_at = clock_timestamp(), finished_at = NULL,
        ended_because = NULL, run_id = NULL
    FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS told (it)
    WHERE wish.pipeline_id = (told.it ->> 0)::uuid
        AND wish.reason = '{INVALIDATION}' || (told.it ->> 1)
        AND wish.state = 'held'
        AND EXISTS (
            SELECT FROM rat.pipeline_versions AS version
            WHERE version.pipeline_id = wish.pipeline_id AND version.created_at > wish.finished_at
        )
""")
SPARE = text("""
    UPDATE trace.data_invalidations AS told
    SET processed_by = told.processed_by || spared.jobs
    FROM (
        SELECT
            (spared.it ->> 1)::uuid AS id,
            array_agg((spared.it ->> 0)::uuid) AS jobs
        FROM jsonb_array_elements(CAST(:spared AS jsonb)) AS spared (it)
        GROUP BY 1
    ) AS spared
    WHERE told.id = spared.id
""")


def note(
    tx: Session,
    rows: Sequence[Row[Any]],
    *,
    release: int,
    problems: Mapping[uuid.UUID, str],
) -> None:
    """Write down that these were looked at, and what is wrong with some."""
    told = [[str(row.id), problems.get(row.id)] for row in rows]
    tx.execute(NOTE, {"release": release, "told": as_json(told)})


NOTE = text("""
    UPDATE trace.data_invalidations AS row
    SET routed_release = :release, problem = told.it ->> 1
    FROM jsonb_array_elements(CAST(:told AS jsonb)) AS told (it)
    WHERE row.id = (told.it ->> 0)::uuid
""")
