"""Leases: one active run a pipeline, and no late publication."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from rat_resources import leases
from rat_resources.errors import LeaseLostError
from rat_resources.leases import Hold
from rat_resources.metadata import Metadata
from rat_resources.metadata.runs import Lease
from tests.rat_resources.rows import make_pipeline
from tests.rat_resources.test_workers import dead_worker


@pytest.fixture
def pipeline_id(metadata: Metadata) -> uuid.UUID:
    """A pipeline that can be leased."""
    with metadata.transaction() as tx:
        return make_pipeline(tx)


def acquire(tx: Session, pipeline_id: uuid.UUID) -> Hold:
    """A lease that nobody else wants."""
    hold = leases.acquire(tx, pipeline_id, run_id=uuid.uuid4())
    assert hold is not None
    return hold


def expire(tx: Session, pipeline_id: uuid.UUID) -> None:
    """Let a lease lapse."""
    past = func.clock_timestamp() - timedelta(seconds=1)
    lapsed = update(Lease).where(Lease.pipeline_id == pipeline_id)
    tx.execute(lapsed.values(expires_at=past))


def test_one_run_holds_a_lease(metadata: Metadata, pipeline_id: uuid.UUID) -> None:
    with metadata.transaction() as tx:
        acquire(tx, pipeline_id)
    with metadata.transaction() as tx:
        second = leases.acquire(tx, pipeline_id, run_id=uuid.uuid4())

    assert second is None


def test_a_released_lease_can_be_taken_with_a_higher_fence(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        leases.release(tx, first)
    with metadata.transaction() as tx:
        second = acquire(tx, pipeline_id)

    assert second.fence > first.fence


def test_an_expired_lease_can_be_taken(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        expire(tx, pipeline_id)
        second = acquire(tx, pipeline_id)

    assert second.fence > first.fence


@pytest.mark.parametrize("was_gone", [True, False])
def test_a_lease_that_lapsed_while_postgres_was_gone_waits_for_its_run_to_come_back(
    metadata: Metadata,
    pipeline_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
    *,
    was_gone: bool,
) -> None:
    monkeypatch.setattr(leases, "COME_BACK", timedelta(days=1))
    before = leases.began() - timedelta(seconds=1)
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        expire(tx, pipeline_id)
        if was_gone:
            tx.execute(update(Lease).values(heartbeat_at=before))

        second = leases.acquire(tx, pipeline_id, run_id=uuid.uuid4())

    assert (second is None) == was_gone
    if was_gone:
        with metadata.transaction() as tx:
            leases.beat(tx, first)


def test_a_heartbeat_keeps_a_lease(metadata: Metadata, pipeline_id: uuid.UUID) -> None:
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        expire(tx, pipeline_id)
        leases.beat(tx, first)
        second = leases.acquire(tx, pipeline_id, run_id=uuid.uuid4())

    assert second is None


@pytest.mark.parametrize("use", [leases.beat, leases.keep])
def test_a_lease_that_was_taken_over_is_lost(
    metadata: Metadata,
    pipeline_id: uuid.UUID,
    use: Callable[[Session, Hold], None],
) -> None:
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        expire(tx, pipeline_id)
        acquire(tx, pipeline_id)

        with pytest.raises(LeaseLostError):
            use(tx, first)


@pytest.mark.parametrize("use", [leases.beat, leases.keep])
def test_a_revoked_lease_is_lost(
    metadata: Metadata,
    pipeline_id: uuid.UUID,
    use: Callable[[Session, Hold], None],
) -> None:
    with metadata.transaction() as tx:
        hold = acquire(tx, pipeline_id)
        leases.revoke(tx, pipeline_id)

        with pytest.raises(LeaseLostError):
            use(tx, hold)


def test_releasing_late_leaves_the_lease_with_its_new_holder(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        expire(tx, pipeline_id)
        second = acquire(tx, pipeline_id)
        leases.release(tx, first)

        leases.keep(tx, second)


def test_the_lease_of_a_dead_process_is_freed_at_once(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    with metadata.transaction() as tx:
        first = acquire(tx, pipeline_id)
        tx.execute(update(Lease).values(worker=dead_worker()))
    with metadata.transaction() as tx:
        freed = leases.free_dead(tx, pipeline_id)
        second = acquire(tx, pipeline_id)

    assert freed
    assert second.fence > first.fence


def test_the_lease_of_a_living_process_is_not_freed(
    metadata: Metadata, pipeline_id: uuid.UUID
) -> None:
    with metadata.transaction() as tx:
        acquire(tx, pipeline_id)

        assert not leases.free_dead(tx, pipeline_id)
