"""Publishing a run's branch: an intent with every fact, a merge, one transaction.

Everything that publishing will state is written down first (`intend`), so anybody can finish it,
and a bad value fails before anything is merged. With a keeper of refs that lives in Postgres the
merge and the facts are one transaction; with a server the merge comes first and the facts follow.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources import landing, leases, runs, wishes
from rat_resources.leases import Hold
from rat_resources.metadata import Metadata
from rat_resources.metadata.catalog import IcebergColumn, IcebergTable
from rat_resources.metadata.runs import (
    Publication,
    PublicationState,
    Run,
    RunStatus,
)

Facts = Mapping[str, Any]


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
    """Write an intent, while the lease is ours and Dagster still wants the run."""
    leases.keep(tx, intent.hold)
    runs.refuse_stopped(tx, intent.dagster_run_id)
    tx.add(
        Publication(
            run_id=intent.hold.run_id,
            pipeline_id=intent.hold.pipeline_id,
            branch=intent.branch,
            fence=intent.hold.fence,
            from_hash=intent.from_hash,
            expected_main=intent.expected_main,
            facts=dict(intent.facts),
        )
    )
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
    )
    runs.record_results(
        tx,
        publication.run_id,
        pipeline_id=publication.pipeline_id,
        results=facts["results"],
    )
    if facts["table"]:
        describe_table(tx, facts["table"], columns=facts["columns"])
    landing.commit(tx, publication.run_id)
    for each in facts["wishes"]:
        wishes.wish(
            tx,
            uuid.UUID(each["pipeline_id"]),
            label=each["label"],
            reason=each["reason"],
        )
    wishes.finish(tx, publication.run_id)
    publication.state = PublicationState.PUBLISHED
    publication.published_at = func.clock_timestamp()
    tx.flush()


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
        tx.execute(insert(IcebergColumn).values([key | each for each in columns]))


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
    states = (PublicationState.INTENDED, PublicationState.PUBLISHED)
    wanted = (
        select(Publication, Run)
        .join(Run, Run.id == Publication.run_id)
        .where(Publication.state.in_(states))
        .order_by(Publication.created_at)
    )
    if pipeline_id is not None:
        wanted = wanted.where(Publication.pipeline_id == pipeline_id)
    return [(each[0], each[1]) for each in tx.execute(wanted)]
