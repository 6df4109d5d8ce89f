"""A run that is about to publish, for tests of what becomes of it."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg
from sqlalchemy import select

from rat_resources import leases, publications, publishing, runs
from rat_resources.lake.refs import MAIN, IcebergTable, Put
from rat_resources.lake.refs import Namespace as NamespaceContent
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.runs import Publication, Run
from rat_resources.publications import Intent
from rat_resources.publishing import Served
from tests.factories import Shop

FACTS: dict[str, Any] = {
    "rows_written": 1,
    "rows_total": 1,
    "snapshot_id": 1,
    "unchanged": False,
    "data_version": "1",
    "results": [],
    "table": None,
    "columns": [],
    "archive": [],
    "wishes": [],
}


@dataclass
class Ready:
    """A run that is about to publish a table."""

    shop: Shop
    intent: Intent

    def intend(self, intent: Intent | None = None) -> None:
        """Write the intent."""
        with self.shop.whole.metadata.transaction() as tx:
            publications.intend(tx, intent or self.intent)

    def publish(self) -> str | None:
        """Publish what is intended."""
        return publishing.publish(
            self.shop.whole.metadata,
            self.shop.whole.lake.refs,
            self.intent.hold.run_id,
            hold=self.intent.hold,
        )

    def begin(self) -> Served:
        """Come as far as a process does that is about to send the merge to a server; that process."""
        whole, hold = self.shop.whole, self.intent.hold
        process = Served(whole.metadata, whole.lake.refs, hold.run_id)
        process.begin(hold)
        return process

    def settle(self, *, patience: timedelta = publishing.PATIENCE) -> str:
        """Find out what became of it, as a reconciler does."""
        whole, run_id = self.shop.whole, self.intent.hold.run_id
        return publishing.settle(
            whole.metadata, whole.lake.refs, run_id, patience=patience
        )

    def cancel(self) -> None:
        """Ask Dagster's run to stop."""
        run = self.shop.instance.get_run_by_id(self.intent.dagster_run_id)
        assert run is not None
        self.shop.instance.report_run_canceling(run)

    @property
    def publication(self) -> Publication:
        """The publication as it is now."""
        with self.shop.whole.metadata.transaction() as tx:
            return tx.scalars(select(Publication)).one()

    @property
    def state(self) -> str | None:
        """How far the publication came."""
        with self.shop.whole.metadata.transaction() as tx:
            return tx.scalar(select(Publication.state))

    @property
    def run(self) -> Run:
        """The run as it is now."""
        (run,) = self.shop.runs()
        return run


def make_ready(shop: Shop) -> Ready:
    """A run with a branch that holds a table of its own."""
    shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(3)"})
    dagster_run = shop.instance.create_run_for_job(
        dg.GraphDefinition(name="pipelines", node_defs=[]).to_job(),
        status=dg.DagsterRunStatus.STARTED,
    )
    refs, run_id = shop.whole.lake.refs, uuid.uuid4()
    base = shop.main
    branch = refs.create(f"run-{run_id}-1", at=MAIN)
    head = put_table(shop, branch.name)
    with shop.whole.metadata.transaction() as tx:
        (pipeline_id,) = tx.scalars(select(Pipeline.id)).all()
        runs.ask(tx, run_id, pipeline_id=pipeline_id, dagster_run_id=dagster_run.run_id)
        hold = leases.acquire(tx, pipeline_id, run_id=run_id)
        assert hold is not None
        runs.begin(
            tx,
            hold,
            branch=branch.name,
            base_commit=base,
            started_at=runs.database_time(tx),
        )
    intent = Intent(hold, dagster_run.run_id, branch.name, head, base, FACTS)
    return Ready(shop, intent)


def put_table(shop: Shop, branch: str) -> str:
    """Commit a table to a branch; the commit."""
    refs = shop.whole.lake.refs
    table = IcebergTable("file:///t.json", 1, 0, 0, 0)
    return refs.commit(
        branch,
        [
            Put(("shop",), NamespaceContent()),
            Put(("shop", "bronze"), NamespaceContent()),
            Put(("shop", "bronze", "numbers"), table),
        ],
        message="a table",
        expected_hash=refs.head(branch),
    ).hash
