"""Impact: everything that reads a table, or one column of it, directly or through others.

A column reaches what takes values from it, and where a query chooses, joins or groups its rows by
it, all of that table; what nobody could trace counts as reading all. Column lineage is kept by
`lineage`, who reads whom by `graph`; showing it is `rat_assets.commands.impact`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter
from typing import Any, Self

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from rat_resources.errors import NotFoundError
from rat_resources.metadata.catalog import IcebergTable
from rat_resources.names import ColumnName, nearest
from rat_resources.specs import PipelineSpec

PARTS = 3  # of the name of a table or a landing zone
RUNS = 5  # as many of the newest tell how long a rebuild takes


class Why(StrEnum):
    """How a reader depends on what it reads."""

    TABLE = "table"  # on the whole table
    COLUMNS = "columns"  # columns of it take values from the columns in question
    ROWS = "rows"  # its query chooses, joins, groups or orders rows by one of them
    UNTOLD = "untold"  # its lineage is not known: on anything


@dataclass(frozen=True)
class Figures:
    """How large a table is, and how long it takes to make anew."""

    rows: int | None = None
    rebuild_ms: int | None = None  # the median of the newest runs that made all of it
    rebuilds: int = 0  # how many those are


@dataclass(frozen=True)
class Node:
    """A pipeline of the current release, as far as what reaches it is concerned."""

    dataset: str
    spec: PipelineSpec
    columns: tuple[str, ...] = ()
    untold: frozenset[str] = frozenset()  # columns of which the sources are not known
    deciding: frozenset[ColumnName] | None = None
    rows: int | None = None
    rebuild_ms: int | None = None  # the median of the newest runs that made all of it
    rebuilds: int = 0  # how many those are

    @property
    def inputs(self) -> set[str]:
        """The tables and landing zones that it reads."""
        namespace = self.spec.table.namespace
        zones = {f"{namespace}.landing.{zone.name}" for zone in self.spec.zones}
        return {str(ref) for ref in self.spec.refs} | zones

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """The pipeline of a row of `load`."""
        deciding = row.deciding
        return cls(
            row.spec["table"],
            PipelineSpec.from_json(row.spec),
            tuple(row.columns or ()),
            frozenset(row.untold or ()),
            deciding
            if deciding is None
            else frozenset(ColumnName(*each) for each in deciding),
            row.row_count,
            row.rebuild_ms,
            row.rebuilds,
        )


@dataclass(frozen=True)
class Reader:
    """A pipeline that something reaches, and how."""

    node: Node
    why: Why
    columns: tuple[str, ...]  # that take values from what reached it
    through: tuple[str, ...]  # what it reads of that

    @property
    def is_whole(self) -> bool:
        """Whether any of its rows and columns may depend on it."""
        return self.why is not Why.COLUMNS


# An output column by the input column that it takes values from; by output and input dataset.
Arrows = Mapping[tuple[str, str], Mapping[str, Collection[str]]]


@dataclass(frozen=True)
class Impact:
    """Everything that reads a dataset, or one of its columns; each after what it reads."""

    dataset: str
    column: str | None
    rows: int | None
    readers: tuple[Reader, ...] = ()

    @property
    def name(self) -> str:
        """What it is about, as it was asked for."""
        return f"{self.dataset}.{self.column}" if self.column else self.dataset

    def of(self, dataset: str) -> list[Reader]:
        """Who reads a dataset of this, directly."""
        return [each for each in self.readers if dataset in each.through]

    @property
    def total_rows(self) -> int:
        """The rows of all readers."""
        return sum(each.node.rows or 0 for each in self.readers)

    @property
    def rebuild_ms(self) -> int:
        """How long the readers take to be made anew, one after the other, as far as known."""
        return sum(each.node.rebuild_ms or 0 for each in self.readers)

    @property
    def unknown(self) -> list[str]:
        """The readers that no run ever made as a whole."""
        return [each.node.dataset for each in self.readers if not each.node.rebuilds]

    @property
    def longest_path(self) -> tuple[int, tuple[str, ...]]:
        """How long they take where what can runs at the same time, and which of them wait for which."""
        paths: dict[str, tuple[int, tuple[str, ...]]] = {}
        for each in self.readers:
            before = [paths[name] for name in each.through if name in paths]
            ms, path = max(before, default=(0, ()))
            paths[each.node.dataset] = (
                ms + (each.node.rebuild_ms or 0),
                (*path, each.node.dataset),
            )
        return max(paths.values(), default=(0, ()))


def find(tx: Session, name: str) -> Impact:
    """What reads `ns.layer.name`, or `ns.layer.name.column`; NotFoundError with the nearest name."""
    nodes = load(tx)
    parts = name.split(".")
    dataset, column = ".".join(parts[:PARTS]), ".".join(parts[PARTS:])
    tables = table_rows(tx)
    known = {
        *nodes,
        *tables,
        *(each for node in nodes.values() for each in node.inputs),
    }
    if dataset not in known:
        raise unknown(dataset, known, what="no table or landing zone is called")
    exact = find_column(tx, dataset, column) if column else None
    below = downstream(nodes, dataset)
    return Impact(
        dataset,
        exact,
        tables.get(dataset),
        spread(below, load_arrows(tx, below), dataset=dataset, column=exact),
    )


def of_columns(
    tx: Session, dataset: str, *, columns: Iterable[str]
) -> dict[str, tuple[Reader, ...]]:
    """What reads each of these columns of *dataset*, directly or through others."""
    below = downstream(load(tx), dataset)
    arrows = load_arrows(tx, below)
    return {
        column: spread(below, arrows, dataset=dataset, column=column)
        for column in columns
    }


def find_column(tx: Session, dataset: str, column: str) -> str:
    """The column that is meant, whatever its case; NotFoundError with the nearest one."""
    columns = list(tx.scalars(COLUMNS, {"dataset": dataset}))
    for each in columns:
        if each.casefold() == column.casefold():
            return str(each)
    raise unknown(column, columns, what=f"{dataset} has no column")


COLUMNS = text("""
    SELECT unnest(columns) FROM rat.traced_tables WHERE dataset = :dataset
    UNION
    SELECT name FROM rat.iceberg_columns
    WHERE concat_ws('.', namespace, layer, table_name) = :dataset
    UNION
    SELECT input_column FROM rat.column_lineage WHERE input_dataset = :dataset
""")


def unknown(name: str, names: Collection[str], *, what: str) -> NotFoundError:
    """The error of a name that nobody knows."""
    if not names:
        return NotFoundError(f"{what} {name}", fix="rat run finds some")
    guess = nearest(name, names)
    fix = f"did you mean {guess}?" if guess else f"there is {', '.join(sorted(names))}"
    return NotFoundError(f"{what} {name}", fix=fix)


# Reading it.


def load(tx: Session) -> dict[str, Node]:
    """Every published pipeline by the name of its table, by one query."""
    nodes = map(Node.from_row, tx.execute(NODES, {"runs": RUNS}))
    return {each.dataset: each for each in nodes}


# The rows of the tables, and the runs that made all of one.
PAST = """
    LEFT JOIN rat.iceberg_tables AS stands
        ON (stands.namespace, stands.layer, stands.name)
            = (pipeline.namespace, pipeline.layer, pipeline.name)
    CROSS JOIN LATERAL (
        SELECT
            round(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms))::integer
                AS rebuild_ms,
            count(duration_ms)::integer AS rebuilds
        FROM (
            SELECT run.duration_ms
            FROM rat.runs AS run
            WHERE run.pipeline_id = pipeline.id
                AND run.status = 'success'
                AND NOT run.unchanged
                AND (run.full_refresh OR run.rows_written = run.rows_total)
            ORDER BY run.finished_at DESC
            LIMIT :runs
        ) AS whole
    ) AS past
"""
# What only a page of Dagster shows is not even read.
NODES = text(f"""
    SELECT
        newest.spec - 'excerpt' || '{{"tests": []}}' AS spec,
        traced.columns,
        traced.untold,
        -- What it read is known of the code that ran last, and of no other.
        CASE WHEN last.code_version = newest.code_version THEN traced.deciding END AS deciding,
        stands.row_count,
        past.rebuild_ms,
        past.rebuilds
    FROM rat.pipelines AS pipeline
    CROSS JOIN LATERAL (
        SELECT version.spec, version.code_version
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS newest
    LEFT JOIN LATERAL (
        SELECT version.code_version
        FROM rat.runs AS run
        JOIN rat.pipeline_versions AS version ON version.id = run.version_id
        WHERE run.pipeline_id = pipeline.id AND run.status = 'success'
        ORDER BY run.finished_at DESC
        LIMIT 1
    ) AS last ON true
    LEFT JOIN rat.traced_tables AS traced ON traced.dataset = newest.spec ->> 'table'
    {PAST}
    WHERE pipeline.deleted_at IS NULL
    ORDER BY pipeline.namespace, pipeline.layer, pipeline.name
""")


def figures(tx: Session) -> dict[str, Figures]:
    """The rows of every published pipeline's table, and how long it takes to rebuild, by one query."""
    rows = tx.execute(FIGURES, {"runs": RUNS})
    return {name: Figures(count, ms, number) for name, count, ms, number in rows}


FIGURES = text(f"""
    SELECT
        concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name),
        stands.row_count,
        past.rebuild_ms,
        past.rebuilds
    FROM rat.pipelines AS pipeline
    {PAST}
    WHERE pipeline.deleted_at IS NULL
""")


def table_rows(tx: Session) -> dict[str, int | None]:
    """The tables that stand on main, whoever wrote them, with their rows."""
    rows = tx.execute(select(IcebergTable))
    return {
        f"{each.namespace}.{each.layer}.{each.name}": each.row_count
        for each in rows.scalars()
    }


def load_arrows(tx: Session, nodes: Collection[Node]) -> Arrows:
    """Which columns of these take values from which of their inputs, by one query."""
    if not nodes:
        return {}
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    names = [each.dataset for each in nodes]
    for output, source, pairs in tx.execute(ARROWS, {"names": names}):
        into = found.setdefault((output, source), {})
        for column, reading in pairs:
            into.setdefault(column, []).append(reading)
    return found


ARROWS = text("""
    SELECT
        output_dataset,
        input_dataset,
        array_agg(ARRAY[input_column, output_column])
    FROM rat.column_lineage
    WHERE output_dataset = ANY(:names)
    GROUP BY output_dataset, input_dataset
""")


# Following it.


def downstream(nodes: Mapping[str, Node], dataset: str) -> list[Node]:
    """The pipelines that read *dataset*, directly or through others, each after what it reads."""
    reads = {name: node.inputs for name, node in nodes.items()}
    readers: dict[str, set[str]] = {}
    for name, inputs in reads.items():
        for each in inputs:
            readers.setdefault(each, set()).add(name)
    reached: set[str] = set()
    edge = {dataset}
    while edge:
        edge = {name for each in edge for name in readers.get(each, ())} - reached
        reached |= edge
    return [
        nodes[name]
        for name in TopologicalSorter(
            {name: sorted(reads[name] & reached) for name in sorted(reached)}
        ).static_order()
    ]


def spread(
    nodes: Iterable[Node], arrows: Arrows, *, dataset: str, column: str | None
) -> tuple[Reader, ...]:
    """Which of *nodes*, each after what it reads, the dataset (or one column of it) reaches."""
    # Of what is reached: the columns of it that are; None: all of them, and its rows.
    reached: dict[str, set[str] | None] = {dataset: {column} if column else None}
    readers = []
    for node in nodes:
        hits = {
            name: hit
            for name in sorted(node.inputs & reached.keys())
            if (hit := depend(node, name, reached[name], arrows)) is not None
        }
        if not hits:
            continue
        why = min((why for why, _ in hits.values()), key=FIRST.index)
        columns = set().union(*(columns for _, columns in hits.values()))
        ordered = tuple(each for each in node.columns if each in columns)
        reader = Reader(node, why, ordered, tuple(hits))
        readers.append(reader)
        reached[node.dataset] = (
            None if reader.is_whole else settle(node, columns, arrows)
        )
    return tuple(readers)


# What says most about how a table depends comes first.
FIRST = (Why.TABLE, Why.ROWS, Why.UNTOLD, Why.COLUMNS)


def depend(
    node: Node, source: str, changed: set[str] | None, arrows: Arrows
) -> tuple[Why, set[str]] | None:
    """How a pipeline depends on these columns of what it reads (None: on all); None: not at all."""
    into = arrows.get((node.dataset, source), {})
    takers = {
        reading
        for name, readings in into.items()
        if changed is None or name in changed
        for reading in readings
    }
    if changed is None:
        return Why.TABLE, takers
    if node.deciding is None:
        return Why.UNTOLD, takers
    if any(ColumnName(source, name) in node.deciding for name in changed):
        return Why.ROWS, takers
    takers |= node.untold
    return (Why.COLUMNS, takers) if takers else None


def settle(node: Node, columns: set[str], arrows: Arrows) -> set[str]:
    """These columns of a table, and those that take values from them where it reads itself."""
    own = arrows.get((node.dataset, node.dataset), {})
    settled: set[str] = set()
    while columns - settled:
        settled |= columns
        columns = {each for name in settled for each in own.get(name, ())}
    return settled
