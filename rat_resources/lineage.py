"""Lineage as Postgres keeps it: the sources of the columns of every published table and view.

They are replaced by the publication that changes them, in its transaction, and stay while the
table stands on main, whether or not a pipeline still writes it. Finding sources in a query is
`rat_resources.lake.lineage`.
"""

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.metadata.lineage import ColumnLineage, TracedTable
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.names import ColumnName


@dataclass(frozen=True)
class Lineage:
    """The columns of a dataset, and the sources of those whose sources are known."""

    dataset: str
    columns: tuple[str, ...]
    sources: Mapping[str, tuple[ColumnName, ...]]
    query_hash: str
    probes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # What decides which rows there are, and which stand together; None where it is not known.
    deciding: tuple[ColumnName, ...] | None = None

    @property
    def untold(self) -> tuple[str, ...]:
        """The columns of which the sources are not known."""
        return tuple(name for name in self.columns if name not in self.sources)

    @property
    def facts(self) -> dict[str, Any]:
        """The lineage as the facts of a publication state it."""
        return {
            "dataset": self.dataset,
            "columns": list(self.columns),
            "untold": list(self.untold),
            "query_hash": self.query_hash,
            "probes": {call: list(names) for call, names in self.probes.items()},
            "deciding": None
            if self.deciding is None
            else [list(each) for each in self.deciding],
            "edges": [
                [name, *source]
                for name, sources in self.sources.items()
                for source in sources
            ],
        }


def state(tx: Session, facts: Mapping[str, Any], *, pipeline_id: uuid.UUID) -> None:
    """Replace what is known of a dataset by what its publication says."""
    dataset = facts["dataset"]
    tx.execute(delete(TracedTable).where(TracedTable.dataset == dataset))
    tx.execute(
        insert(TracedTable).values(
            **{
                key: facts[key] for key in ("columns", "untold", "query_hash", "probes")
            },
            dataset=dataset,
            # An intent may have been written before anybody asked for it.
            deciding=facts.get("deciding"),
            pipeline_id=pipeline_id,
            updated_at=func.clock_timestamp(),
        )
    )
    edges = [
        {
            "output_dataset": dataset,
            "output_column": name,
            "input_dataset": source,
            "input_column": column,
            "pipeline_id": pipeline_id,
        }
        for name, source, column in facts["edges"]
    ]
    if edges:
        tx.execute(insert(ColumnLineage), edges)


def load(tx: Session, dataset: str) -> Lineage | None:
    """What is known of a dataset; None when it was never traced."""
    edge = ColumnLineage.output_dataset == TracedTable.dataset
    rows = tx.execute(
        select(TracedTable, ColumnLineage)
        .outerjoin(ColumnLineage, edge)
        .where(TracedTable.dataset == dataset)
    ).all()
    if not rows:
        return None
    traced, untold = rows[0][0], set(rows[0][0].untold)
    found: dict[str, list[ColumnName]] = {
        name: [] for name in traced.columns if name not in untold
    }
    for _, each in rows:
        if each is not None:
            source = ColumnName(each.input_dataset, each.input_column)
            found[each.output_column].append(source)
    return Lineage(
        dataset,
        tuple(traced.columns),
        {name: tuple(sorted(sources)) for name, sources in found.items()},
        traced.query_hash,
        traced.probes,
        named(traced.deciding),
    )


def named(columns: Iterable[Sequence[str]] | None) -> tuple[ColumnName, ...] | None:
    """The columns that Postgres keeps by dataset and name."""
    if columns is None:
        return None
    return tuple(ColumnName(dataset, column) for dataset, column in columns)


def indifferent(
    tx: Session, readers: Collection[str], *, columns: Iterable[ColumnName]
) -> set[str]:
    """Those of *readers* in which nothing depends on any of these columns, as far as is surely known.

    Neither do they take values from one, nor choose, join, group or order their rows by it.
    """
    asked = [list(each) for each in columns]
    return set(
        tx.scalars(
            INDIFFERENT, {"readers": list(readers), "columns": json.dumps(asked)}
        )
    )


INDIFFERENT = text("""
    SELECT dataset
    FROM rat.traced_tables AS traced
    WHERE dataset = ANY(:readers)
        AND cardinality(untold) = 0
        AND deciding IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(CAST(:columns AS jsonb)) AS asked (it)
            WHERE deciding @> jsonb_build_array(it)
                OR EXISTS (
                    SELECT FROM rat.column_lineage AS edge
                    WHERE edge.output_dataset = traced.dataset
                        AND edge.input_dataset = it ->> 0
                        AND edge.input_column = it ->> 1
                )
        )
""")


# Following the arrows.

# Postgres takes 65,535 values in a statement, and a column is two of them.
AT_ONCE = 10_000
Arrows = Mapping[ColumnName, Sequence[ColumnName]]


def upstream(tx: Session, start: Iterable[ColumnName]) -> Arrows:
    """Where *start* takes its values from, and those in turn: the sources of each column."""
    return follow(tx, start, by=OUTPUT, to=INPUT)


def downstream(tx: Session, start: Iterable[ColumnName]) -> Arrows:
    """What takes values from *start*, and from that in turn: the followers of each column."""
    return follow(tx, start, by=INPUT, to=OUTPUT)


INPUT = (ColumnLineage.input_dataset, ColumnLineage.input_column)
OUTPUT = (ColumnLineage.output_dataset, ColumnLineage.output_column)


def follow(
    tx: Session,
    start: Iterable[ColumnName],
    *,
    by: tuple[Any, Any],
    to: tuple[Any, Any],
) -> Arrows:
    """Everything that the arrows lead to from *start*, a question a hop."""
    arrows: dict[ColumnName, list[ColumnName]] = {}
    edge = set(start)
    while edge:
        arrows |= {each: [] for each in edge}
        columns = sorted(edge)
        for first in range(0, len(columns), AT_ONCE):
            some = columns[first : first + AT_ONCE]
            found = select(*by, *to).where(tuple_(*by).in_(some)).order_by(*to)
            for here, here_column, there, there_column in tx.execute(found):
                arrows[ColumnName(here, here_column)].append(
                    ColumnName(there, there_column)
                )
        edge = {to for each in edge for to in arrows[each]} - arrows.keys()
    return arrows


def datasets(tx: Session) -> dict[str, tuple[str, ...]]:
    """Every dataset that is known, with its columns; of a landing zone those that are read."""
    known = {
        traced.dataset: tuple(traced.columns)
        for traced in tx.scalars(select(TracedTable))
    }
    for dataset, column in tx.execute(select(*INPUT).distinct().order_by(*INPUT)):
        if column not in known.get(dataset, ()):
            known[dataset] = (*known.get(dataset, ()), column)
    return known


def untold(tx: Session) -> dict[ColumnName, str]:
    """Every column of which the sources are not known, with what writes it: sql or python."""
    rows = tx.execute(
        select(TracedTable, Pipeline.type).join(
            Pipeline, Pipeline.id == TracedTable.pipeline_id
        )
    )
    return {
        ColumnName(traced.dataset, column): written_in
        for traced, written_in in rows
        for column in traced.untold
    }
