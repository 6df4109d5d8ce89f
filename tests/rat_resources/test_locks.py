"""Locks: run, heartbeat, reconciler and undoing take them in one order, so that none ends another."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sqlalchemy import text

from rat_resources import leases, publications, reaping, runs, tasks
from rat_resources.errors import CancelledError, LeaseLostError
from rat_resources.leases import Hold
from rat_resources.metadata.runs import RunStatus
from rat_resources.publications import Intent
from rat_resources.reconciliation import end_dead_run
from rat_resources.tasks import Wanted
from tests.factories import Shop

NUMBERS = {"shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(3)"}
ROUNDS = 15


class Racer:
    """One run, and everything that may touch it at once."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.run_id = uuid.uuid4()
        with shop.whole.metadata.transaction() as tx:
            tx.execute(text("UPDATE rat.leases SET holder = NULL"))
            pipeline, version = tx.execute(
                text("SELECT pipeline_id, id FROM rat.pipeline_versions")
            ).one()
            wanted = runs.ask(
                tx,
                self.run_id,
                pipeline_id=pipeline,
                version_id=version,
                dagster_run_id=str(self.run_id),
            )
            hold = leases.acquire(tx, pipeline, run_id=self.run_id)
        assert wanted is not None
        assert hold is not None
        self.wanted: Wanted = wanted
        self.hold: Hold = hold

    def begin(self) -> None:
        """What a run does when it opens its branch, and when it publishes."""
        with self.shop.whole.metadata.transaction() as tx:
            now = runs.database_time(tx)
            runs.begin(tx, self.hold, branch="b", base_commit="c", started_at=now)
            tasks.claim(tx, self.wanted, run_id=self.run_id)
        with self.shop.whole.metadata.transaction() as tx:
            publications.intend(
                tx, Intent(self.hold, str(self.run_id), "b", "c", "c", {})
            )

    def beat(self) -> None:
        """What its heartbeat does."""
        with self.shop.whole.metadata.transaction() as tx:
            leases.beat(tx, self.hold)
            claim = tx.execute(
                text(
                    "SELECT id, attempt, lease_token FROM trace.tasks WHERE run_id = :id"
                ),
                {"id": self.run_id},
            ).one()
            tasks.beat(tx, tasks.Claim(*claim))

    def undo(self) -> None:
        """What it does when it fails."""
        with self.shop.whole.metadata.transaction() as tx:
            publication = publications.lock(tx, self.run_id)
            if runs.end(tx, self.run_id, RunStatus.FAILED, error="it broke"):
                tasks.fail(tx, self.run_id, error="it broke", again_in=None)
                if publication is not None:
                    publications.give_up(publication)

    def bury(self) -> None:
        """What a reconciler does that takes it for dead."""
        list(end_dead_run(self.shop.whole, self.run_id))

    def reap(self) -> None:
        """What the reaper does."""
        list(reaping.reap(self.shop.whole.metadata))


def test_nobody_waits_in_a_circle(shop: Shop) -> None:
    shop.publish(NUMBERS)

    for _ in range(ROUNDS):
        racer = Racer(shop)
        at_once(racer.begin, racer.beat, racer.undo, racer.bury, racer.reap)

        with shop.whole.metadata.transaction() as tx:
            left = tx.execute(
                text(
                    "SELECT run.status, task.status FROM rat.runs AS run"
                    " JOIN trace.tasks AS task ON task.run_id = run.id WHERE run.id = :id"
                ),
                {"id": racer.run_id},
            ).one()
        assert left == ("failed", "Failed")


def at_once(*todo: Callable[[], None]) -> None:
    """Do all of it at the same moment; whoever is too late may say so, and nothing else."""
    ready = threading.Barrier(len(todo))

    def do(each: Callable[[], None]) -> None:
        ready.wait()
        with suppress(LeaseLostError, CancelledError):
            each()

    with ThreadPoolExecutor(len(todo)) as pool:
        list(pool.map(do, todo))
