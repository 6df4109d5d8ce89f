"""Reconciling: whatever a killed process left, one look later everything agrees."""

import os
import subprocess
import sys
import uuid
from datetime import timedelta
from signal import SIGKILL
from time import monotonic

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)
from sqlalchemy import func, select, update

from rat_resources import audit, leases, runs, tasks
from rat_resources.lake.refs import MAIN
from rat_resources.leftovers import left_open, taken_slots
from rat_resources.metadata.landing import ClaimState, LandingClaim
from rat_resources.metadata.runs import (
    Lease,
    Publication,
    PublicationState,
    Run,
    RunStatus,
)
from rat_resources.mirror import log
from rat_resources.names import TableName
from rat_resources.publications import close
from rat_resources.reconciliation import reconcile
from tests.factories import Shop
from tests.hooks import dagster_status, settle
from tests.places import BOTH_ENDS, EVERYWHERE
from tests.rat_resources.rows import allow_anything

ORDERS = {
    "shop/pipelines/bronze/orders/pipeline.sql": """
-- @merge_strategy: append_only
FROM read_csv('{{ landing_zone('orders', new=true) }}/*.csv')
""",
    "shop/pipelines/bronze/orders/tests/quality/has_id.sql": """
-- @severity: warn
FROM {{ this }} WHERE id < 2
""",
}
# Runs everything, and kills itself at the first news of the kind that it is told.
KILLED = """
import os, signal, sys
import dagster as dg
from rat_assets import journal, runner
from rat_resources.platform import platform

def die(progress):
    if [progress.phase, progress.state] == sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGKILL)

journal.listeners.append(die)
ask = runner.RunAsk(everything=True)
runner.run(platform(), ask, instance=dg.DagsterInstance.get())
"""
# Runs everything, and kills itself where Dagster has the materialization and is to hear of the checks.
KILLED_BEFORE_CHECKS = """
import os, signal
import dagster as dg
from rat_assets import quality, runner
from rat_resources.platform import platform

def die(*args, **said):
    os.kill(os.getpid(), signal.SIGKILL)

quality.TestResult.to_check = die
ask = runner.RunAsk(everything=True)
runner.run(platform(), ask, instance=dg.DagsterInstance.get())
"""


def run_and_kill(shop: Shop, phase: str, *, state: str) -> None:
    """Run all pipelines in a process that is killed at one moment."""
    die_in(shop, KILLED, phase, state)


def die_in(shop: Shop, script: str, *words: str) -> None:
    """Run a script that kills itself."""
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=os.environ | shop.whole.settings.environ,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -SIGKILL, done.stderr.decode()


def claims(shop: Shop) -> list[str]:
    """What runs claim of the landing files."""
    with shop.whole.metadata.transaction() as tx:
        return list(tx.scalars(select(LandingClaim.state)))


def publications(shop: Shop) -> list[str]:
    """How far publications came."""
    with shop.whole.metadata.transaction() as tx:
        return list(tx.scalars(select(Publication.state)))


def staged(shop: Shop) -> list[str]:
    """The folders of staged files."""
    folder = shop.whole.staging
    return sorted(each.name for each in folder.glob("*"))


@pytest.mark.parametrize("phase", ["branch", "compile", "write", "test"])
def test_what_a_killed_run_left_is_undone(shop: Shop, phase: str) -> None:
    undo_killed_run(shop, phase)


@EVERYWHERE
def test_what_a_run_left_that_was_about_to_publish_is_undone(shop: Shop) -> None:
    undo_killed_run(shop, "publish")


def undo_killed_run(shop: Shop, phase: str) -> None:
    """Kill a run when it comes to *phase*; nothing of it is left."""
    shop.publish(ORDERS)
    shop.land("a.csv", "id\n1\n")
    before = shop.main
    run_and_kill(shop, phase, state="begun")

    done = reconcile(shop.whole, shop.instance)
    again = reconcile(shop.whole, shop.instance)

    (run,) = shop.runs()
    assert (run.status, run.error) == ("failed", "the process that ran it died")
    assert (shop.main, shop.branches, claims(shop), staged(shop)) == (
        before,
        [],
        [],
        [],
    )
    failed = dg.DagsterRunStatus.FAILURE
    assert dagster_status(shop, run.dagster_run_id or "") == failed
    assert shop.materializations("shop.bronze.orders") == []
    assert done
    assert again == []


def test_checks_that_dagster_did_not_hear_of_are_told_once(shop: Shop) -> None:
    shop.publish(ORDERS)
    settle(shop.land("a.csv", "id\n1\n"))
    die_in(shop, KILLED_BEFORE_CHECKS)
    key = dg.AssetCheckKey(dg.AssetKey(["shop", "bronze", "orders"]), "has_id")
    before = evaluations(shop, key)

    reconcile(shop.whole, shop.instance)
    again = reconcile(shop.whole, shop.instance)

    log.catch_up(shop.whole.metadata)
    (record,) = shop.materializations("shop.bronze.orders")
    (told,) = evaluations(shop, key)
    assert (before, again) == ([], [])
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert told.metadata["offending_rows"].value == 1
    assert told.target_materialization_data is not None
    assert told.target_materialization_data.storage_id == record.storage_id
    assert publications(shop) == [PublicationState.CLOSED]
    assert list(audit.audit(shop.whole).lines) == []


def test_the_audit_misses_checks_that_nobody_told(shop: Shop) -> None:
    shop.publish(ORDERS)
    settle(shop.land("a.csv", "id\n1\n"))
    die_in(shop, KILLED_BEFORE_CHECKS)
    (run,) = shop.runs()
    with shop.whole.metadata.transaction() as tx:
        close(tx, run.id)
    reconcile(shop.whole, shop.instance)
    log.catch_up(shop.whole.metadata)

    (said,) = audit.audit(shop.whole).lines

    assert said.startswith(f"dagster.checks {run.id} has_id")


def evaluations(shop: Shop, key: dg.AssetCheckKey) -> list[dg.AssetCheckEvaluation]:
    """What Dagster has heard of a check."""
    history = shop.instance.event_log_storage.get_asset_check_execution_history(
        key, limit=10, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    )
    return [record.evaluation for record in history if record.evaluation]


def test_the_next_run_does_not_wait_for_a_dead_lease(shop: Shop) -> None:
    shop.publish(ORDERS)
    settle(shop.land("a.csv", "id\n1\n"))
    run_and_kill(shop, "test", state="begun")
    began = monotonic()

    report = shop.run()

    assert monotonic() - began < leases.LIFETIME.total_seconds() / 2
    assert (report.tables[0].status, report.tables[0].rows_total) == ("published", 1)
    assert shop.branches == []
    assert claims(shop) == [ClaimState.COMMITTED]


@BOTH_ENDS
def test_what_was_merged_before_the_kill_is_told_to_dagster_once(shop: Shop) -> None:
    shop.publish(ORDERS)
    shop.land("a.csv", "id\n1\n")
    run_and_kill(shop, "publish", state="ended")
    stands = shop.rows("shop.bronze.orders")
    untold = len(shop.materializations("shop.bronze.orders"))

    reconcile(shop.whole, shop.instance)
    again = reconcile(shop.whole, shop.instance)

    (run,) = shop.runs()
    assert (stands, untold, run.status) == ([(1,)], 0, "success")
    (record,) = shop.materializations("shop.bronze.orders")
    shown = record.asset_materialization
    assert shown is not None
    assert shown.tags is not None
    assert shown.tags["dagster/data_version"] == str(run.snapshot_id)
    assert shown.metadata["rat_run_id"].value == str(run.id)
    assert publications(shop) == [PublicationState.CLOSED]
    assert (shop.branches, staged(shop), claims(shop)) == ([], [], ["committed"])
    assert again == []
    failed = dg.DagsterRunStatus.FAILURE
    assert dagster_status(shop, run.dagster_run_id or "") == failed


# What a kill at another moment would leave.

NUMBERS = {"shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(3)"}


def test_what_stands_in_dagsters_log_is_not_told_again(shop: Shop) -> None:
    shop.publish(NUMBERS)
    shop.run()
    with shop.whole.metadata.transaction() as tx:
        allow_anything(tx)
        tx.execute(update(Publication).values(state=PublicationState.PUBLISHED))

    done = reconcile(shop.whole, shop.instance)

    assert done == []
    assert publications(shop) == [PublicationState.CLOSED]
    assert len(shop.materializations("shop.bronze.numbers")) == 1


def test_a_branch_of_a_run_that_never_began_is_dropped(shop: Shop) -> None:
    shop.whole.lake.refs.create(f"run-{uuid.uuid4()}-1", at=MAIN)
    shop.whole.lake.refs.create("run-of-somebody", at=MAIN)

    reconcile(shop.whole, shop.instance)

    assert shop.branches == ["run-of-somebody"]


def test_staging_that_is_not_ours_is_left_alone(shop: Shop) -> None:
    for name in ("lost+found", str(uuid.uuid4())):
        (shop.whole.staging / name).mkdir(parents=True)

    reconcile(shop.whole, shop.instance)

    assert staged(shop) == ["lost+found"]


def revive(shop: Shop, *, expires_in: timedelta) -> Run:
    """A finished run, as if this process still worked on it."""
    shop.publish(NUMBERS)
    shop.run()
    (run,) = shop.runs()
    with shop.whole.metadata.transaction() as tx:
        allow_anything(tx)
        tx.execute(
            update(Run).values(status=RunStatus.RUNNING, finished_at=None, commit=None)
        )
        until = func.clock_timestamp() + expires_in
        tx.execute(update(Lease).values(holder=run.id, expires_at=until))
    shop.whole.lake.refs.create(run.branch or "", at=MAIN)
    return run


def test_a_living_run_is_left_alone(shop: Shop) -> None:
    run = revive(shop, expires_in=timedelta(minutes=1))

    done = reconcile(shop.whole, shop.instance)

    assert done == []
    assert shop.branches == [run.branch]


def test_a_run_whose_lease_lapsed_while_postgres_was_gone_is_left_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = revive(shop, expires_in=-timedelta(minutes=1))
    monkeypatch.setattr(leases, "COME_BACK", timedelta(days=1))
    monkeypatch.setattr(tasks, "COME_BACK", timedelta(days=1))
    with shop.whole.metadata.transaction() as tx:
        before = leases.began() - timedelta(seconds=1)
        tx.execute(update(Lease).values(heartbeat_at=before))

    done = reconcile(shop.whole, shop.instance)

    assert done == []
    assert left_open(shop.whole, shop.instance) == []
    assert shop.branches == [run.branch]


def test_a_run_whose_lease_lapsed_is_undone(shop: Shop) -> None:
    run = revive(shop, expires_in=-timedelta(minutes=1))

    done = reconcile(shop.whole, shop.instance)

    assert len(done) == 2
    assert shop.branches == []
    assert [each.status for each in shop.runs()] == ["failed"]
    with shop.whole.metadata.transaction() as tx:
        lease = tx.scalars(select(Lease)).one()
        assert (lease.holder, lease.fence) == (None, (run.fence or 0) + 1)


def test_a_launched_dagster_run_ends_with_the_process_that_worked_on_it(
    shop: Shop,
) -> None:
    shop.publish(NUMBERS)
    shop.run()
    started = shop.instance.create_run_for_job(
        dg.GraphDefinition(name="launched", node_defs=[]).to_job(),
        status=dg.DagsterRunStatus.STARTED,
    )
    machine = (shop.runs()[0].worker or "").rsplit(":", 2)[0]
    with shop.whole.metadata.transaction() as tx:
        dead = {"worker": f"{machine}:1:1", "dagster_run_id": started.run_id}
        allow_anything(tx)
        tx.execute(update(Run).values(**dead))

    reconcile(shop.whole, shop.instance)

    failed = dg.DagsterRunStatus.FAILURE
    assert dagster_status(shop, started.run_id) == failed


@pytest.mark.parametrize(
    ("said", "status"),
    [(timedelta(seconds=-1), "failed"), (timedelta(minutes=1), "pending")],
)
def test_a_run_that_waits_on_another_machine_is_believed_for_a_while(
    shop: Shop, said: timedelta, status: str
) -> None:
    shop.publish(NUMBERS)
    shop.run()
    (earlier,) = shop.runs()
    waiting = uuid.uuid4()
    with shop.whole.metadata.transaction() as tx:
        runs.ask(tx, waiting, pipeline_id=earlier.pipeline_id, trigger="manual")
        until = runs.database_time(tx) + said
        elsewhere = {"worker": "pod-1/0123abcd.1:7:1", "waits_until": until}
        tx.execute(update(Run).where(Run.id == waiting).values(**elsewhere))

    reconcile(shop.whole, shop.instance)

    assert {each.id: each.status for each in shop.runs()}[waiting] == status


def test_all_tables_stay_as_they_are(shop: Shop) -> None:
    shop.publish(NUMBERS)
    shop.run()
    before = shop.main

    reconcile(shop.whole, shop.instance)

    assert shop.main == before
    assert shop.whole.lake.published() == [TableName("shop", "bronze", "numbers")]


# What is scarce.


def test_a_lease_that_a_run_did_not_come_to_give_back_is_freed(shop: Shop) -> None:
    shop.publish(NUMBERS)
    shop.run()
    (run,) = shop.runs()
    with shop.whole.metadata.transaction() as tx:
        gone = func.clock_timestamp() - timedelta(minutes=1)
        tx.execute(update(Lease).values(holder=run.id, expires_at=gone))

    (said,) = reconcile(shop.whole, shop.instance)

    assert said == f"lease of shop.bronze.numbers: run {run.id} has ended; freed"
    assert shop.holders == 0


def test_slots_of_a_pool_are_freed_that_a_dead_run_holds_or_waits_for(
    shop: Shop,
) -> None:
    storage = shop.instance.event_log_storage
    storage.set_concurrency_slots("disk", 1)
    job = dg.GraphDefinition(name="pooled", node_defs=[]).to_job()
    dead, living, waiting = (
        shop.instance.create_run_for_job(job, status=status).run_id
        for status in (
            dg.DagsterRunStatus.FAILURE,
            dg.DagsterRunStatus.STARTED,
            dg.DagsterRunStatus.CANCELED,
        )
    )
    for run_id in (dead, living, waiting):
        storage.claim_concurrency_slot("disk", run_id, "step")

    open_before = left_open(shop.whole, shop.instance)
    done = reconcile(shop.whole, shop.instance)

    left = {run_id for _pool, run_id in taken_slots(shop.instance)}
    assert len(open_before) == 2
    assert sorted(done) == sorted(
        f"pool disk: the slots of Dagster run {run_id} are free again"
        for run_id in (dead, waiting)
    )
    assert left == {living}
    assert left_open(shop.whole, shop.instance) == []
