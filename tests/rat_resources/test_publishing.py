"""Publishing: an intent, a merge, and everything that is true from then on, all or nothing."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from rat_assets import actions
from rat_resources import faults, leases, publications, publishing
from rat_resources.errors import (
    CancelledError,
    LeaseLostError,
    LostAnswerError,
    MergeConflictError,
    NotFoundError,
)
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.lake.refs import MAIN
from rat_resources.metadata.pipelines import PipelineVersion
from rat_resources.metadata.runs import PublicationState, Run
from rat_resources.publishing import Served
from rat_resources.reconciliation import reconcile
from rat_resources.tasks import Claim
from tests.rat_resources.ready import FACTS, Ready, make_ready, put_table
from tests.servers.nessie import Nessie


@pytest.fixture(params=["embedded", "nessie"])
def ready(request: pytest.FixtureRequest) -> Ready:
    """A run with a branch that holds a table of its own, over either keeper."""
    if request.param == "nessie":
        request.getfixturevalue("nessie")
    return make_ready(request.getfixturevalue("shop"))


def test_a_publication_is_merged_and_true_at_once(ready: Ready) -> None:
    ready.intend()

    commit = ready.publish()

    assert ready.shop.main == commit
    assert (ready.run.status, ready.run.commit) == ("success", commit)
    assert ready.state == PublicationState.PUBLISHED


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


def commit_elsewhere(ready: Ready) -> None:
    """Let somebody else publish a table of the same name."""
    refs = ready.shop.whole.lake.refs
    other = refs.create("other", at=MAIN)
    put_table(ready.shop, other.name)
    refs.merge(
        "other",
        from_hash=refs.head("other"),
        into=MAIN,
        expected_hash=ready.intent.expected_main,
    )


def test_a_merge_that_conflicts_makes_nothing_true(ready: Ready) -> None:
    ready.intend()
    commit_elsewhere(ready)
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


# What a server may do to a merge.


@pytest.fixture
def served(
    nessie: Nessie, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Ready:
    """A run that publishes by a server, where nothing that was sent is ever under way for long."""
    del nessie  # it set the environment that the shop reads
    monkeypatch.setattr(NessieRefs, "latest_merge", timedelta(0))
    return make_ready(request.getfixturevalue("shop"))


def go_wrong(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Let this process meet a fault, from now on."""
    faults.come_to.clear()
    monkeypatch.setenv(faults.VARIABLE, fault)


@pytest.mark.parametrize("action", ["drop", "error"])
def test_a_merge_whose_answer_was_lost_is_found_in_the_log(
    served: Ready, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    served.intend()
    go_wrong(monkeypatch, f"merge_answered:{action}")

    commit = served.publish()

    assert (served.shop.main, served.run.commit) == (commit, commit)
    assert served.state == PublicationState.PUBLISHED


def test_a_merge_that_never_arrived_is_undone_and_not_sent_again(
    served: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served.shop.main
    served.intend()
    go_wrong(monkeypatch, "merge_sent:drop")

    with pytest.raises(LostAnswerError, match="it was not done"):
        served.publish()

    assert (served.shop.main, served.state) == (before, PublicationState.UNDONE)
    assert served.shop.branches == []
    assert served.run.status == "running"  # its own process ends it


def test_a_merge_that_arrives_while_it_is_undone_is_published_all_the_same(
    served: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.intend()
    served.begin()
    refs = served.shop.whole.lake.refs
    merged = []

    def merge_late(name: str, **named: Any) -> object:  # noqa: ANN401
        merged.append(publishing.merge(refs, served.publication).hash)
        return delete(name, **named)

    delete = refs.delete
    monkeypatch.setattr(refs, "delete", merge_late)
    state = served.settle()

    assert state == served.state == PublicationState.PUBLISHED
    assert merged == [served.run.commit]


def test_what_may_be_merged_yet_is_not_undone_before_its_time(
    served: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NessieRefs, "latest_merge", timedelta(minutes=1))
    served.intend()
    served.begin()

    first = served.settle(patience=timedelta(0))
    cut_off_at = served.publication.cut_off_at
    second = served.settle(patience=timedelta(0))

    assert (first, second) == (PublicationState.UNDOING, PublicationState.UNDOING)
    assert served.publication.cut_off_at == cut_off_at is not None
    assert served.shop.branches == []


def test_a_publisher_that_wakes_after_it_was_undone_merges_nothing(
    served: Ready,
) -> None:
    before = served.shop.main
    served.intend()
    asleep = served.begin()
    served.settle()

    with pytest.raises(NotFoundError):
        asleep.send(served.publication)
    with pytest.raises(LeaseLostError):
        asleep.learn()

    assert (served.shop.main, served.state) == (before, PublicationState.UNDONE)


def test_a_publisher_that_wakes_after_its_merge_was_found_has_published(
    served: Ready,
) -> None:
    served.intend()
    asleep = served.begin()
    commit = asleep.send(served.publication)
    state = served.settle()

    said = asleep.state(commit)

    assert (said, state) == (commit, PublicationState.PUBLISHED)
    assert served.run.commit == commit


def test_a_merge_that_the_server_refuses_can_be_undone_at_once(
    served: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.intend()
    monkeypatch.setattr(Served, "rehearse", lambda *_asked, **_named: None)
    commit_elsewhere(served)

    with pytest.raises(MergeConflictError):
        served.publish()

    assert (served.state, served.publication.sent_at) == ("intended", None)


def test_a_rollback_leaves_what_may_be_merged_already(served: Ready) -> None:
    launch_with_newest(served)
    served.intend()
    asleep = served.begin()
    commit = asleep.send(served.publication)

    actions.roll_back(served.shop.whole, 1)
    state = served.settle()

    assert (state, served.run.commit) == (PublicationState.PUBLISHED, commit)


def test_facts_are_stated_though_the_task_is_anothers_by_then(served: Ready) -> None:
    claim = Claim(uuid.uuid4(), 1, uuid.uuid4()).to_json()
    facts = {**FACTS, "partitions": None, "inputs": {}, "cursors": []}
    served.intend(
        replace(served.intent, facts=facts | {"task": claim, "begins_anew": False})
    )
    metadata = served.shop.whole.metadata
    commit = publishing.merge(served.shop.whole.lake.refs, served.publication).hash

    publishing.make_true(metadata, served.intent.hold.run_id, commit=commit)

    assert served.state == PublicationState.PUBLISHED


def test_the_claims_of_a_dead_run_stay_until_its_merge_is_found_out(
    served: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NessieRefs, "latest_merge", timedelta(minutes=1))
    served.intend()
    served.begin()
    with served.shop.whole.metadata.transaction() as tx:
        leases.revoke(tx, served.intent.hold.pipeline_id)

    said = reconcile(served.shop.whole, served.shop.instance)
    waiting = served.run.status
    monkeypatch.setattr(NessieRefs, "latest_merge", timedelta(0))
    reconcile(served.shop.whole, served.shop.instance)

    assert "may have merged" in said[0]
    assert (waiting, served.run.status) == ("running", "failed")
    assert served.state == PublicationState.UNDONE
