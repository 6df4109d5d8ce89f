"""Leftovers: what runs that have ended still hold of what is scarce, and whether anything is left open.

A lease that nobody gave back, a slot of one of Dagster's pools. Ending the runs is `reconciliation`.
"""

from collections.abc import Iterator

import dagster as dg
from sqlalchemy import or_, select, text, update
from sqlalchemy.orm import Session

from rat_resources.leases import clock
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.runs import FINAL, Lease, Run
from rat_resources.platform import Platform
from rat_resources.workers import is_dead


def free_leases(whole: Platform) -> Iterator[str]:
    """Free the leases of runs that have ended, once their process is gone or they have lapsed."""
    with whole.metadata.transaction() as tx:
        for lease, run, name in held_by_ended(tx):
            if not is_over(tx, lease):
                continue
            freed = tx.execute(
                update(Lease)
                .where(
                    Lease.pipeline_id == lease.pipeline_id,
                    Lease.holder == run.id,
                    Lease.fence == lease.fence,
                )
                .values(holder=None, worker=None, fence=Lease.fence + 1)
                .returning(Lease.fence)
            )
            if freed.scalar() is not None:
                yield f"lease of {name}: run {run.id} has ended; freed"


def held_by_ended(tx: Session) -> list[tuple[Lease, Run, str]]:
    """The leases whose runs have ended, with the pipelines that they are of."""
    rows = tx.execute(
        select(Lease, Run, Pipeline)
        .join(Run, Run.id == Lease.holder)
        .join(Pipeline, Pipeline.id == Lease.pipeline_id)
        .where(Run.status.in_(FINAL))
        .order_by(Lease.pipeline_id)
    )
    return [
        (lease, run, f"{pipeline.namespace}.{pipeline.layer}.{pipeline.name}")
        for lease, run, pipeline in rows
    ]


def is_over(tx: Session, lease: Lease) -> bool:
    """Whether who took a lease tidies up no more."""
    if is_dead(lease.worker):
        return True
    lapsed = or_(Lease.expires_at.is_(None), Lease.expires_at < clock())
    of_pipeline = Lease.pipeline_id == lease.pipeline_id
    return tx.scalar(select(Lease.fence).where(of_pipeline, lapsed)) is not None


def free_slots(instance: dg.DagsterInstance) -> Iterator[str]:
    """Free the slots of Dagster's pools that runs hold or wait for which have ended."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    for pool, run_id in sorted(taken_slots(instance)):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
            yield f"pool {pool}: the slots of Dagster run {run_id} are free again"


def taken_slots(instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    """The pools of Dagster with the runs that hold or wait for a slot of each."""
    storage = instance.event_log_storage
    infos = storage.get_concurrency_infos(sorted(storage.get_concurrency_keys()))
    held = {
        (pool, slot.run_id)
        for pool, info in infos.items()
        for slot in info.claimed_slots
    }
    return held | {
        (pool, step.run_id)
        for pool, info in infos.items()
        for step in info.pending_steps
    }


def left_open(whole: Platform, instance: dg.DagsterInstance) -> list[str]:
    """What is still to be brought to one truth, a line each; of runs that live nothing is."""
    with whole.metadata.transaction() as tx:
        left = [row.what for row in tx.execute(LEFT)]
    for pool, run_id in sorted(taken_slots(instance)):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            left.append(f"pool {pool}: Dagster run {run_id} has ended and holds a slot")
    return left


# A run that lives keeps its lease; one whose Dagster run has ended is over, or never began.
LEFT = text("""
    SELECT concat('run ', run.id, ': its process is gone, and it has not ended') AS what
    FROM rat.runs AS run
    WHERE run.status = 'running' AND NOT EXISTS (
        SELECT FROM rat.leases WHERE holder = run.id AND expires_at > clock_timestamp()
    )
    UNION ALL
    SELECT concat('run ', run.id, ': published, and Dagster was not told')
    FROM rat.publications AS publication
    JOIN rat.runs AS run ON run.id = publication.run_id
    JOIN dagster.runs AS dagster ON dagster.run_id = run.dagster_run_id
    WHERE publication.state = 'published'
        AND dagster.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    UNION ALL
    SELECT concat('run ', run.id, ': it has ended, and claims a landing file')
    FROM rat.landing_claims AS claim
    JOIN rat.runs AS run ON run.id = claim.run_id
    WHERE claim.state = 'claimed' AND run.status IN ('success', 'failed', 'cancelled')
    ORDER BY 1
""")
