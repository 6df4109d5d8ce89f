"""Leases: one active run a pipeline, by a row with a heartbeat and a fence.

All clocks are the database's. Whoever takes a lease gets a higher fence than everybody before,
and publishes only while the row still shows it (`hold`).
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.errors import LeaseLostError
from rat_resources.metadata.runs import Lease
from rat_resources.workers import is_dead, this_worker

LIFETIME = timedelta(seconds=30)
HEARTBEAT = timedelta(seconds=2)
# How long after Postgres came back a heartbeat may take to find it.
COME_BACK = timedelta(seconds=15)

clock = func.clock_timestamp
began = func.pg_postmaster_start_time


@dataclass(frozen=True)
class Hold:
    """A lease that was taken."""

    pipeline_id: uuid.UUID
    run_id: uuid.UUID
    fence: int


def acquire(tx: Session, pipeline_id: uuid.UUID, *, run_id: uuid.UUID) -> Hold | None:
    """Take the lease of a pipeline for a run; None while another living run holds it."""
    spare(tx)
    taken = insert(Lease).values(
        pipeline_id=pipeline_id,
        fence=1,
        holder=run_id,
        worker=this_worker(),
        heartbeat_at=clock(),
        expires_at=clock() + LIFETIME,
    )
    taken = taken.on_conflict_do_update(
        index_elements=[Lease.pipeline_id],
        set_={
            "fence": Lease.fence + 1,
            "holder": taken.excluded.holder,
            "worker": taken.excluded.worker,
            "heartbeat_at": clock(),
            "expires_at": taken.excluded.expires_at,
        },
        where=or_(Lease.holder.is_(None), Lease.expires_at < clock()),
    )
    fence = tx.execute(taken.returning(Lease.fence)).scalar()
    return None if fence is None else Hold(pipeline_id, run_id, fence)


def spare(tx: Session) -> None:
    """Let no lease have lapsed merely because Postgres was gone: its run has a moment to come back."""
    until = began() + COME_BACK
    tx.execute(
        update(Lease)
        .where(
            Lease.holder.is_not(None),
            Lease.heartbeat_at < began(),
            Lease.expires_at < until,
        )
        .values(expires_at=until)
    )


def free_dead(tx: Session, pipeline_id: uuid.UUID) -> bool:
    """Free the lease of a pipeline whose holder's process is gone, without waiting for its expiry."""
    lease = tx.get(Lease, pipeline_id, populate_existing=True)
    if lease is None or lease.holder is None or not is_dead(lease.worker):
        return False
    freed = tx.execute(
        update(Lease)
        .where(Lease.pipeline_id == pipeline_id, Lease.fence == lease.fence)
        .values(holder=None, worker=None, fence=Lease.fence + 1)
        .returning(Lease.fence)
    )
    return freed.scalar() is not None


def beat(tx: Session, hold: Hold) -> None:
    """Keep a lease; LeaseLostError when another run has taken it."""
    kept = tx.execute(
        update(Lease)
        .where(is_held(hold))
        .values(heartbeat_at=clock(), expires_at=clock() + LIFETIME)
        .returning(Lease.fence)
    )
    if kept.scalar() is None:
        raise LeaseLostError


def keep(tx: Session, hold: Hold) -> None:
    """Lock a lease until the transaction ends; LeaseLostError when it is no longer ours."""
    locked = tx.execute(select(Lease.fence).where(is_held(hold)).with_for_update())
    if locked.scalar() is None:
        raise LeaseLostError


def release(tx: Session, hold: Hold) -> None:
    """Give a lease back; one that another run has taken meanwhile stays with it."""
    tx.execute(update(Lease).where(is_held(hold)).values(holder=None, worker=None))


def revoke(tx: Session, pipeline_id: uuid.UUID) -> None:
    """Raise the fence, so that whoever holds the lease publishes no more."""
    tx.execute(
        update(Lease)
        .where(Lease.pipeline_id == pipeline_id)
        .values(holder=None, worker=None, fence=Lease.fence + 1)
    )


def is_held(hold: Hold) -> ColumnElement[bool]:
    """The row of a lease, as long as it is ours."""
    return (
        (Lease.pipeline_id == hold.pipeline_id)
        & (Lease.fence == hold.fence)
        & (Lease.holder == hold.run_id)
    )
