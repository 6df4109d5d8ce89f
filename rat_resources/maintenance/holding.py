"""Holding: maintenance of a pipeline's table keeps its runs away, and they keep it away.

It takes the lease that a run would take (`rat_resources.leases`), for no longer than it takes to write
a bounded part of the table.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from rat_resources import leases
from rat_resources.errors import LeaseLostError, MetadataError
from rat_resources.leases import HEARTBEAT, Hold
from rat_resources.metadata import Metadata

LOOK_AGAIN = 0.2  # seconds


@contextmanager
def holding(
    metadata: Metadata, pipeline_id: uuid.UUID, *, patience: timedelta
) -> Iterator[Hold | None]:
    """The lease of a pipeline as long as the block lasts; None where a run kept it for too long."""
    hold = wait(metadata, pipeline_id, patience=patience)
    if hold is None:
        yield None
        return
    over = threading.Event()
    heart = threading.Thread(
        target=beat, args=(metadata, hold, over), name="rat-maintenance", daemon=True
    )
    heart.start()
    try:
        yield hold
    finally:
        over.set()
        heart.join()
        with suppress(MetadataError, SQLAlchemyError), metadata.transaction() as tx:
            leases.release(tx, hold)


def wait(
    metadata: Metadata, pipeline_id: uuid.UUID, *, patience: timedelta
) -> Hold | None:
    """Take the lease as soon as it is free, or not at all."""
    new_id, until = uuid.uuid4(), time.monotonic() + patience.total_seconds()
    while True:
        with metadata.transaction() as tx:
            leases.free_dead(tx, pipeline_id)
            hold = leases.acquire(tx, pipeline_id, run_id=new_id)
        if hold is not None or time.monotonic() > until:
            return hold
        time.sleep(LOOK_AGAIN)


def beat(metadata: Metadata, hold: Hold, over: threading.Event) -> None:
    """Keep the lease until it is over, or somebody else's."""
    while not over.wait(HEARTBEAT.total_seconds()):
        try:
            with metadata.transaction() as tx:
                leases.beat(tx, hold)
        except LeaseLostError:
            return  # the merge will notice
        except (MetadataError, SQLAlchemyError):
            continue  # Postgres may come back; the lease is ours until somebody takes it
