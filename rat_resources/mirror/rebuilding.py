"""Rebuilding: an emptied mirror, filled again from what `rat` and Dagster still hold.

Everything is told anew and nothing is removed: rows whose source is gone are the only history left,
and what the sources no longer hold is said.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select, text, tuple_
from sqlalchemy.orm import Session

from rat_resources import mirror
from rat_resources.metadata import Metadata
from rat_resources.metadata.runs import Run
from rat_resources.mirror import clients, dags, log, past, positions
from rat_resources.mirror.log import Progress

# Runs of `rat` in one transaction.
TOGETHER = 1_000


@dataclass(frozen=True)
class Gaps:
    """What Dagster's log and `rat` no longer hold."""

    unknown_runs: int  # Dagster runs that `rat.runs` names
    only_here: int  # runs that only the mirror knows
    silent_runs: int  # runs that have ended and have no events left
    earliest_event: datetime | None
    pruned_versions: int = 0  # of pipelines

    def __iter__(self) -> Iterator[str]:
        if self.unknown_runs:
            yield f"{self.unknown_runs} Dagster runs that rat.runs names are no longer in Dagster's log"
        if self.only_here:
            yield f"{self.only_here} runs are only known to the mirror; they stay"
        if self.silent_runs:
            yield f"{self.silent_runs} runs have no events left, so nothing is known of their steps"
        if self.pruned_versions:
            yield (
                f"{self.pruned_versions} versions of pipelines were pruned (max_versions), so the"
                " releases that held them are not known to Trace"
            )
        if self.earliest_event:
            yield f"the log begins at {self.earliest_event:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild did."""

    runs: int  # of rat.runs
    progress: Progress  # in Dagster's log
    gaps: Gaps


def rebuild(metadata: Metadata) -> Rebuilt:
    """Tell everything anew, from `rat` and from the beginning of Dagster's log."""
    with metadata.transaction() as tx:
        positions.take_turn(tx)
        past.tell(tx)
        dags.restate(tx)
        mirror.reflect_pipelines(tx)
    runs = sum(reflect_batch(metadata, ids) for ids in batches(metadata))
    with metadata.transaction() as tx:
        positions.restart(tx)
        clients.refind_latest(tx)
    progress = log.catch_up(metadata)
    with metadata.transaction() as tx:
        gaps = find_gaps(tx) if log.has_dagster(tx) else Gaps(0, 0, 0, None)
        gaps = replace(gaps, pruned_versions=past.forgotten(tx))
    return Rebuilt(runs, progress, gaps)


def reflect_batch(metadata: Metadata, run_ids: list[uuid.UUID]) -> int:
    """Tell some runs of `rat`; how many."""
    with metadata.transaction() as tx:
        mirror.reflect_runs(tx, run_ids)
    return len(run_ids)


def batches(metadata: Metadata) -> Iterator[list[uuid.UUID]]:
    """The ids of all runs of `rat`, so many at a time, the newest first.

    What the last publication left of a partition is told before the ones that it replaced.
    """
    place = tuple_(Run.created_at, Run.id)
    oldest: tuple[datetime, uuid.UUID] | None = None
    while True:
        page = select(Run.created_at, Run.id).order_by(
            Run.created_at.desc(), Run.id.desc()
        )
        if oldest is not None:
            page = page.where(place < oldest)
        with metadata.transaction() as tx:
            found = [
                (row.created_at, row.id) for row in tx.execute(page.limit(TOGETHER))
            ]
        if not found:
            return
        oldest = found[-1]
        yield [run_id for _, run_id in found]


GAPS = text("""
    SELECT
        (
            SELECT count(DISTINCT dagster_run_id)
            FROM rat.runs
            WHERE dagster_run_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM dagster.runs AS known WHERE known.run_id = runs.dagster_run_id
            )
        ),
        (
            SELECT count(*)
            FROM lakeflow.fact_job_run_timeline AS told
            WHERE workspace_id = lakeflow.workspace_id() AND NOT EXISTS (
                SELECT FROM dagster.runs AS known WHERE known.run_id = told.run_id
            )
        ),
        (
            SELECT count(*)
            FROM dagster.runs
            WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED') AND NOT EXISTS (
                SELECT FROM dagster.event_logs AS events WHERE events.run_id = runs.run_id
            )
        ),
        (SELECT timestamp AT TIME ZONE 'UTC' FROM dagster.event_logs ORDER BY id LIMIT 1)
""")


def find_gaps(tx: Session) -> Gaps:
    """What Dagster's log no longer holds."""
    return Gaps(*tx.execute(GAPS).one())
