"""Publishing: an intent, a merge, and everything that is true from then on, all or nothing."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select, update

from rat_assets import actions
from rat_resources import leases, publications, publishing, runs
from rat_resources.errors import CancelledError, LeaseLostError, MergeConflictError
from rat_resources.lake.refs import MAIN, IcebergTable, Put
from rat_resources.lake.refs import Namespace as NamespaceContent
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion
from rat_resources.metadata.runs import Publication, PublicationState, Run
from rat_resources.publications import Intent
from rat_resources.reconciliation import reconcile
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

    def cancel(self) -> None:
        """Ask Dagster's run to stop."""
        run = self.shop.instance.get_run_by_id(self.intent.dagster_run_id)
        assert run is not None
        self.shop.instance.report_run_canceling(run)

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


@pytest.fixture
def ready(shop: Shop) -> Ready:
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


def test_a_publication_is_merged_and_true_at_once(ready: Ready) -> None:
    ready.intend()

    commit = ready.publish()

    assert ready.shop.main == commit
    assert (ready.run.status, ready.run.commit) == ("success", commit)
    assert ready.state == PublicationState.PUBLISHED


def test_a_run_that_dagster_stops_may_not_even_intend(ready: Ready) -> None:
    ready.cancel()

    with pytest.raises(CancelledError, match="CANCELING"):
        ready.intend()

    assert ready.state is None


def test_a_run_that_dagster_stops_after_the_intent_is_not_merged(ready: Ready) -> None:
    before = ready.shop.main
    ready.intend()
    ready.cancel()

    with pytest.raises(CancelledError):
        ready.publish()

    assert (ready.shop.main, ready.state) == (before, PublicationState.INTENDED)
    assert ready.run.status == "running"


def test_who_lost_the_lease_publishes_nothing(ready: Ready) -> None:
    before = ready.shop.main
    ready.intend()
    with ready.shop.whole.metadata.transaction() as tx:
        leases.revoke(tx, ready.intent.hold.pipeline_id)

    with pytest.raises(LeaseLostError):
        ready.publish()

    assert ready.shop.main == before


def test_what_was_undone_is_never_published(ready: Ready) -> None:
    before = ready.shop.main
    ready.intend()
    with ready.shop.whole.metadata.transaction() as tx:
        publications.undo(tx, ready.intent.hold.run_id)

    with pytest.raises(LeaseLostError):
        ready.publish()

    assert (ready.shop.main, ready.state) == (before, PublicationState.UNDONE)


def launch_with_newest(ready: Ready) -> None:
    """Publish a second version, and let the run be one of it."""
    ready.shop.publish({"shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(4)"})
    newest = select(PipelineVersion.id).where(PipelineVersion.version_number == 2)
    with ready.shop.whole.metadata.transaction() as tx:
        tx.execute(update(Run).values(version_id=newest.scalar_subquery()))


def test_what_was_intended_before_a_rollback_is_undone_by_it(ready: Ready) -> None:
    launch_with_newest(ready)
    before = ready.shop.main
    ready.intend()

    actions.roll_back(ready.shop.whole, 1)

    with pytest.raises(CancelledError, match=r"release 2, which release 3 rolled back"):
        ready.publish()
    assert (ready.shop.main, ready.state) == (before, PublicationState.UNDONE)


def test_nobody_finishes_for_a_dead_run_what_was_rolled_back(ready: Ready) -> None:
    launch_with_newest(ready)
    before = ready.shop.main
    ready.intend()
    actions.roll_back(ready.shop.whole, 1)
    with ready.shop.whole.metadata.transaction() as tx:
        leases.revoke(tx, ready.intent.hold.pipeline_id)

    reconcile(ready.shop.whole, ready.shop.instance)

    with pytest.raises(CancelledError):
        publishing.publish(
            ready.shop.whole.metadata,
            ready.shop.whole.lake.refs,
            ready.intent.hold.run_id,
            hold=None,
        )
    assert (ready.shop.main, ready.state) == (before, PublicationState.UNDONE)
    assert ready.run.status == "failed"


def test_a_rollback_leaves_what_was_published_before_it(ready: Ready) -> None:
    launch_with_newest(ready)
    ready.intend()
    commit = ready.publish()

    actions.roll_back(ready.shop.whole, 1)

    assert (ready.shop.main, ready.state) == (commit, PublicationState.PUBLISHED)


def test_a_merge_that_conflicts_makes_nothing_true(ready: Ready) -> None:
    ready.intend()
    other = ready.shop.whole.lake.refs.create("other", at=MAIN)
    put_table(ready.shop, other.name)
    refs = ready.shop.whole.lake.refs
    refs.merge(
        "other",
        from_hash=refs.head("other"),
        into=MAIN,
        expected_hash=ready.intent.expected_main,
    )
    before = ready.shop.main

    with pytest.raises(MergeConflictError):
        ready.publish()

    assert (ready.shop.main, ready.state) == (before, PublicationState.INTENDED)
    assert ready.run.status == "running"


def test_a_bad_fact_takes_the_merge_back(ready: Ready) -> None:
    before = ready.shop.main
    broken = {**FACTS, "rows_written": -1}
    ready.intend(replace(ready.intent, facts=broken))

    with pytest.raises(Exception, match="rows_written"):
        ready.publish()

    assert (ready.shop.main, ready.run.status) == (before, "running")


def test_nothing_new_is_true_without_a_merge(ready: Ready) -> None:
    before = ready.shop.main
    ready.intend(replace(ready.intent, from_hash=ready.intent.expected_main))

    commit = ready.publish()

    assert (commit, ready.shop.main) == (None, before)
    assert ready.run.status == "success"


def test_an_open_publication_is_listed_until_it_is_closed(ready: Ready) -> None:
    ready.intend()
    ready.publish()

    listed = []
    for _ in range(2):
        with ready.shop.whole.metadata.transaction() as tx:
            listed.append(len(publications.open_intents(tx)))
            publications.close(tx, ready.intent.hold.run_id)

    assert listed == [1, 0]
    assert ready.state == PublicationState.CLOSED


def test_what_is_published_can_not_be_undone(ready: Ready) -> None:
    ready.intend()
    ready.publish()

    with ready.shop.whole.metadata.transaction() as tx:
        publications.undo(tx, ready.intent.hold.run_id)

    assert ready.state == PublicationState.PUBLISHED
