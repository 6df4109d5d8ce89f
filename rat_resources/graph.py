"""The graph of a release: who reads whom."""

import uuid
from collections.abc import Collection, Iterable, Mapping
from graphlib import TopologicalSorter

from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from rat_resources import releases
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion, RetiredPipeline
from rat_resources.names import TableName

Reads = Mapping[TableName, Collection[TableName]]


def followers(tx: Session, table: TableName) -> dict[TableName, uuid.UUID]:
    """The pipelines of the current release that run when *table* was published."""
    number = releases.current(tx) or 0
    retired = exists().where(
        RetiredPipeline.pipeline_id == Pipeline.id,
        RetiredPipeline.release_number <= number,
    )
    newest = (
        select(Pipeline.id, PipelineVersion.spec)
        .join(PipelineVersion, PipelineVersion.pipeline_id == Pipeline.id)
        .where(PipelineVersion.release_number <= number, ~retired)
        .ext(distinct_on(Pipeline.id))
        .order_by(Pipeline.id, PipelineVersion.version_number.desc())
        .subquery()
    )
    follows = {"refs": [str(table)], "automation": "eager"}
    found = tx.execute(
        select(newest.c.id, newest.c.spec["table"].astext).where(
            newest.c.spec.contains(follows)
        )
    )
    return {TableName.parse(name): pipeline_id for pipeline_id, name in found}


def readers(tx: Session, namespace: str, *, zone: str) -> list[uuid.UUID]:
    """The pipelines of the current release that read a landing zone."""
    return [
        each.pipeline_id
        for each in releases.load(tx)
        if each.spec.table.namespace == namespace
        and any(mention.name == zone for mention in each.spec.zones)
    ]


def in_order(reads: Reads) -> list[TableName]:
    """All tables, each after what it reads; names that are no key of *reads* are left out."""
    sorter = TopologicalSorter({table: sorted(reads[table]) for table in sorted(reads)})
    return [table for table in sorter.static_order() if table in reads]


def downstream(reads: Reads, *, of: Iterable[TableName]) -> set[TableName]:
    """Everything that reads *of*, directly or through others."""
    readers: dict[TableName, set[TableName]] = {}
    for reader, tables in reads.items():
        for table in tables:
            readers.setdefault(table, set()).add(reader)
    return reach(readers, of=of)


def upstream(reads: Reads, *, of: Iterable[TableName]) -> set[TableName]:
    """Everything that *of* reads, directly or through others, as far as pipelines write it."""
    return {table for table in reach(reads, of=of) if table in reads}


def reach(arrows: Reads, *, of: Iterable[TableName]) -> set[TableName]:
    """Everything that the arrows lead to from *of*."""
    reached: set[TableName] = set()
    edge = set(of)
    while edge:
        edge = {to for table in edge for to in arrows.get(table, ())} - reached
        reached |= edge
    return reached
