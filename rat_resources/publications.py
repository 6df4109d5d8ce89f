"""Publications: what a run intends to publish, with every fact, and what makes it true.

Everything that publishing will state is written down first (`intend`), so anybody can finish it,
and a bad value fails before anything is merged. The merge is `publishing`.
"""

import uuid
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources import (
    archive,
    cursors,
    landing,
    leases,
    lineage,
    propagation,
    runs,
    tasks,
    versions,
    wishes,
)
from rat_resources.alerts import episodes
from rat_resources.errors import LeaseLostError
from rat_resources.leases import Hold
from rat_resources.metadata.catalog import IcebergColumn, IcebergTable
from rat_resources.metadata.landing import RunFile
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion
from rat_resources.metadata.runs import (
    OPEN,
    Publication,
    PublicationState,
    Run,
    RunInput,
    RunStatus,
)
from rat_resources.mirror.lineage import reflect_lineage
from rat_resources.mirror.tasks import describe_outputs, made_by
from rat_resources.names import TableName
from rat_resources.releases import PublishedPipeline
from rat_resources.specs import PipelineSpec
from rat_resources.tasks import Claim

Facts = Mapping[str, Any]

DONE = (PublicationState.PUBLISHED, PublicationState.CLOSED)
GIVEN_UP = (PublicationState.UNDOING, PublicationState.UNDONE)
UNDECIDED = (PublicationState.MERGING, PublicationState.UNDOING)


@dataclass(frozen=True)
class Intent:
    """What a run is about to publish."""

    hold: Hold
    dagster_run_id: str
    branch: str
    from_hash: str  # the commit that the tests read
    expected_main: str
    facts: Facts


def intend(tx: Session, intent: Intent) -> None:
    """Write an intent, while the lease is ours and Dagster still wants the run.

    One that met a conflict takes the place of what the run intended before.
    """
    runs.refuse_abandoned(tx, intent.hold.run_id)
    publication = lock(tx, intent.hold.run_id)
    leases.keep(tx, intent.hold)
    runs.refuse_stopped(tx, intent.dagster_run_id)
    if publication is None:
        publication = Publication(
            run_id=intent.hold.run_id,
            pipeline_id=intent.hold.pipeline_id,
            state=PublicationState.INTENDED,
        )
        tx.add(publication)
    elif publication.state != PublicationState.INTENDED:
        raise LeaseLostError
    publication.branch = intent.branch
    publication.fence = intent.hold.fence
    publication.from_hash = intent.from_hash
    publication.expected_main = intent.expected_main
    publication.facts = dict(intent.facts)
    tx.flush()


def state_facts(tx: Session, publication: Publication, *, commit: str | None) -> None:
    """Make an intent true in Postgres: the run succeeded, its results stand, its files are consumed."""
    facts = publication.facts
    runs.end(
        tx,
        publication.run_id,
        RunStatus.SUCCESS,
        commit=commit,
        **{
            key: facts[key]
            for key in ("rows_written", "rows_total", "snapshot_id", "unchanged")
        },
        **({"changes": facts["changes"]} if facts.get("changes") else {}),
    )
    runs.record_results(
        tx,
        publication.run_id,
        pipeline_id=publication.pipeline_id,
        results=facts["results"],
    )
    if facts["table"]:
        describe_table(tx, facts["table"], columns=facts["columns"])
    # An intent may have been written before there was any lineage.
    if facts.get("lineage"):
        lineage.state(tx, facts["lineage"], pipeline_id=publication.pipeline_id)
    if "task" in facts:
        reflect_lineage(tx, [uuid.UUID(facts["task"]["id"])])
    landing.commit(tx, publication.run_id)
    for each in facts["archive"]:
        plan_archive(tx, publication, each)
    for each in facts["wishes"]:
        wishes.wish(
            tx,
            uuid.UUID(each["pipeline_id"]),
            label=each["label"],
            reason=each["reason"],
        )
    if facts.get("invalidations"):
        propagation.state(tx, publication.run_id, facts["invalidations"])
    wishes.finish(tx, publication.run_id)
    # An intent may have been written before there were any alerts.
    if facts.get("alerts"):
        episodes.state(tx, facts["alerts"])
    publication.state = PublicationState.PUBLISHED
    publication.published_at = publication.published_at or runs.database_time(tx)
    tx.flush()


def state_versions(
    tx: Session, publication: Publication, *, is_merged: bool = False
) -> None:
    """Complete the task, and say what it made of each partition.

    LeaseLostError if the task is not ours any more, unless what it made is on main already.
    """
    facts, published_at = publication.facts, runs.database_time(tx)
    publication.published_at = published_at
    if "task" not in facts:
        return  # Trace does not know the pipeline
    task = Claim.from_json(facts["task"])
    partitions = facts["partitions"]
    with suppress(LeaseLostError) if is_merged else nullcontext():
        tasks.complete(
            tx,
            task,
            outputs=describe_outputs(publication.run_id, facts),
            partitions=made_by(facts),
            input_versions=facts["inputs"],
        )
    versions.state_inputs(tx, task.id, facts["inputs"])
    made = versions.generation_of(tx, task.id) if partitions else None
    if made is not None:
        versions.state_partitions(tx, made, partitions, at=published_at)
    cursors.state_cursors(
        tx, task.id, facts["cursors"], begins_anew=facts["begins_anew"]
    )


def plan_archive(tx: Session, publication: Publication, planned: Facts) -> None:
    """Mark the files that every reader has committed by now to be moved to _processed/."""
    pipeline = tx.get_one(Pipeline, publication.pipeline_id)
    zone = landing.get_zone(tx, pipeline.namespace, name=planned["zone"])
    if zone is not None:
        readers = [uuid.UUID(reader) for reader in planned["readers"]]
        archive.plan_archive(tx, zone, readers=readers)


def describe_table(tx: Session, table: Facts, *, columns: list[Facts]) -> None:
    """Write what a published table looks like now."""
    row = insert(IcebergTable).values(**table, updated_at=func.clock_timestamp())
    changed = {key: row.excluded[key] for key in table} | {
        "updated_at": row.excluded.updated_at
    }
    tx.execute(
        row.on_conflict_do_update(
            index_elements=["namespace", "layer", "name"], set_=changed
        )
    )
    key = {
        "namespace": table["namespace"],
        "layer": table["layer"],
        "table_name": table["name"],
    }
    tx.execute(
        delete(IcebergColumn).where(
            *(getattr(IcebergColumn, each) == value for each, value in key.items())
        )
    )
    if columns:
        tx.execute(insert(IcebergColumn).values([{**key, **each} for each in columns]))


def published_at(tx: Session, table: TableName) -> str | None:
    """The metadata file of a table as its last publication left it; None: there was none."""
    found = tx.get(IcebergTable, (table.namespace, table.layer, table.name))
    return None if found is None else found.metadata_location


def lock(tx: Session, run_id: uuid.UUID) -> Publication | None:
    """The intent of a run, held until the transaction ends, so that only one finishes or undoes it."""
    return tx.execute(
        select(Publication).where(Publication.run_id == run_id).with_for_update()
    ).scalar_one_or_none()


def close(tx: Session, run_id: uuid.UUID) -> None:
    """published → closed: Dagster's log has the materialization."""
    tx.execute(
        update(Publication)
        .where(
            Publication.run_id == run_id,
            Publication.state == PublicationState.PUBLISHED,
        )
        .values(state=PublicationState.CLOSED, closed_at=func.clock_timestamp())
    )


def open_intents(
    tx: Session, *, pipeline_id: uuid.UUID | None = None
) -> list[tuple[Publication, Run]]:
    """The publications that somebody left between two steps, the oldest first."""
    wanted = (
        select(Publication, Run)
        .join(Run, Run.id == Publication.run_id)
        .where(Publication.state.in_(OPEN))
        .order_by(Publication.created_at)
    )
    if pipeline_id is not None:
        wanted = wanted.where(Publication.pipeline_id == pipeline_id)
    return [(each[0], each[1]) for each in tx.execute(wanted)]


def undo(tx: Session, run_id: uuid.UUID) -> None:
    """intended → undone: it will never be merged."""
    tx.execute(
        update(Publication)
        .where(
            Publication.run_id == run_id,
            Publication.state == PublicationState.INTENDED,
        )
        .values(state=PublicationState.UNDONE, closed_at=func.clock_timestamp())
    )


def give_up(publication: Publication) -> bool:
    """Give up a locked publication, if it is not done: whether it is settled by that.

    What was never sent is undone at once; of what may have been, main's log has to tell.
    """
    if publication.state == PublicationState.INTENDED:
        publication.state = PublicationState.UNDONE
        publication.closed_at = func.clock_timestamp()
    elif publication.state == PublicationState.MERGING:
        publication.state = PublicationState.UNDOING
    return publication.state != PublicationState.UNDOING


def undo_settled(tx: Session, run_id: uuid.UUID) -> str:
    """undoing → undone: its merge surely was not and will not be done; the state afterwards."""
    publication = lock(tx, run_id)
    if publication is None:
        return PublicationState.UNDONE
    if publication.state == PublicationState.UNDOING:
        publication.state = PublicationState.UNDONE
        publication.closed_at = func.clock_timestamp()
    return publication.state


def undo_abandoned(tx: Session, *, by: int) -> None:
    """Undo what runs intended by the versions that release *by* rolled back."""
    abandoned = (
        select(Run.id)
        .join(PipelineVersion, PipelineVersion.id == Run.version_id)
        .where(PipelineVersion.abandoned_by == by)
    )
    intended = select(Publication.run_id).where(
        Publication.run_id.in_(abandoned),
        Publication.state == PublicationState.INTENDED,
    )
    for run_id in tx.scalars(intended.order_by(Publication.run_id)).all():
        undo(tx, run_id)


@dataclass(frozen=True)
class LastInputs:
    """What the last publication of a pipeline read."""

    tables: Mapping[TableName, int | None]
    files: frozenset[uuid.UUID]


def last_inputs(tx: Session, pipeline: PublishedPipeline) -> LastInputs | None:
    """What the last publication of a pipeline read; None when there is none by the same code."""
    last = tx.execute(
        select(Run.id, PipelineVersion.code_version)
        .join(PipelineVersion, PipelineVersion.id == Run.version_id)
        .where(Run.pipeline_id == pipeline.pipeline_id, Run.status == RunStatus.SUCCESS)
        .order_by(Run.finished_at.desc())
        .limit(1)
    ).one_or_none()
    if last is None or last.code_version != pipeline.spec.code_version:
        return None
    # Maintenance wrote the same rows to other files.
    published = func.rat.published_snapshot(RunInput.snapshot_id)
    pins = tx.execute(
        select(RunInput.namespace, RunInput.layer, RunInput.name, published).where(
            RunInput.run_id == last.id
        )
    )
    files = tx.scalars(select(RunFile.file_id).where(RunFile.run_id == last.id))
    return LastInputs(
        {TableName(*key): snapshot for *key, snapshot in pins},
        frozenset(files),
    )


def view_version(spec: PipelineSpec, snapshots: Mapping[TableName, int | None]) -> str:
    """What tells the rows of a view from any other: its code and the snapshots that it reads."""
    parts = [
        spec.code_version,
        *(f"{table}={snapshot}" for table, snapshot in snapshots.items()),
    ]
    return sha256("\n".join(parts).encode()).hexdigest()[:20]
