"""Reaping: a task that lost its worker is tried again, by whichever run comes next."""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from signal import SIGKILL
from typing import Any

import pytest
from sqlalchemy import text

from rat_resources import reaping, runs, tasks
from rat_resources.errors import CancelledError
from rat_resources.metadata.runs import RunStatus
from rat_resources.reconciliation import reconcile
from rat_sensors.wishes import ask_for_due
from tests.factories import Shop
from tests.hooks import dagster_status
from tests.rat_resources.test_reconciliation import KILLED
from tests.rat_resources.test_tasks import ask, change, claim, task

FOLDER = "shop/pipelines/bronze/numbers"
NUMBERS = {
    f"{FOLDER}/pipeline.sql": "FROM range(3)",
    f"{FOLDER}/config.yaml": "max_retries: 1\nretry_delay_seconds: 0\n",
}
ONCE = NUMBERS | {f"{FOLDER}/config.yaml": "max_retries: 0\n"}
LAPSED = "clock_timestamp() - interval '1 second'"


def reap(shop: Shop) -> list[str]:
    """Reap once."""
    return list(reaping.reap(shop.whole.metadata))


def end_runs(shop: Shop) -> None:
    """Let every run have ended, and its task not know."""
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.runs SET status = 'failed', finished_at = now()"))


def wishes(shop: Shop) -> list[tuple[Any, ...]]:
    """The labels and reasons of all wishes."""
    with shop.whole.metadata.transaction() as tx:
        found = tx.execute(text("SELECT label, reason FROM rat.wishes ORDER BY 2"))
        return [tuple(each) for each in found]


def lapse(shop: Shop, files: dict[str, str]) -> uuid.UUID:
    """A task whose lease lapsed, and whose run is over; the run."""
    shop.publish(files)
    run_id = ask(shop)
    claim(shop, run_id)
    change(shop, lease_expires_at=LAPSED)
    end_runs(shop)
    return run_id


def test_a_lapsed_task_is_queued_again_and_its_pipeline_wished_to_run(
    shop: Shop,
) -> None:
    lapse(shop, NUMBERS)

    done = reap(shop)

    found = task(shop)
    assert (found.status, found.attempt, found.attempts) == ("Queued", 2, 1)
    assert wishes(shop) == [("manual", f"task:{found.id}:2")]
    assert len(done) == 2  # it failed, and was queued


def test_a_lapsed_task_without_attempts_left_has_failed_for_good(shop: Shop) -> None:
    lapse(shop, ONCE)

    reap(shop)

    found = task(shop)
    assert (found.status, found.error_message) == ("Failed", reaping.DIED)
    assert (found.next_retry_at, found.worker_id, wishes(shop)) == (None, None, [])


def test_two_reapers_reap_a_task_once(shop: Shop) -> None:
    lapse(shop, NUMBERS)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: reap(shop), range(2)))

    assert len([line for lines in said for line in lines if reaping.DIED in line]) == 1
    assert len([line for lines in said for line in lines if "queued" in line]) == 1
    assert (task(shop).attempt, len(wishes(shop))) == (2, 1)


def test_more_tasks_than_a_batch_are_all_reaped(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "AT_ONCE", 2)
    shop.publish(ONCE)
    for number in range(5):
        claim(shop, ask(shop, dagster_run=f"d{number}"))
    change(shop, lease_expires_at=LAPSED)
    end_runs(shop)

    assert len(reap(shop)) == 5


def test_a_living_lease_and_a_pause_that_lasts_are_left_alone(shop: Shop) -> None:
    shop.publish(NUMBERS)
    claim(shop, ask(shop))
    running = reap(shop)
    fail_for_now(shop, next_retry_at="clock_timestamp() + interval '1 hour'")

    assert (running, reap(shop)) == ([], [])


def fail_for_now(shop: Shop, *, next_retry_at: str) -> None:
    """Let the task have failed in a process that tries it again."""
    free = dict.fromkeys(("lease_token", "lease_expires_at"), "NULL")
    change(shop, status="'Failed'", next_retry_at=next_retry_at, **free)


def test_what_waits_in_its_own_process_is_left_to_it(shop: Shop) -> None:
    shop.publish(NUMBERS)
    claim(shop, ask(shop))
    fail_for_now(shop, next_retry_at=LAPSED)

    assert reap(shop) == []


def test_a_task_of_a_pipeline_that_was_published_anew_is_not_tried_again(
    shop: Shop,
) -> None:
    lapse(shop, NUMBERS)
    shop.publish(NUMBERS | {f"{FOLDER}/pipeline.sql": "FROM range(4)"})

    reap(shop)

    assert (task(shop).status, wishes(shop)) == ("Canceled", [])


def run_and_kill(shop: Shop) -> None:
    """Run everything in a process that is killed while it writes."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "write", "begun"],
        env=os.environ | shop.whole.settings.environ,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -SIGKILL, done.stderr.decode()


def test_another_run_goes_on_with_the_task_of_a_killed_one(shop: Shop) -> None:
    shop.publish(NUMBERS)
    run_and_kill(shop)
    killed = task(shop)

    reconcile(shop.whole, shop.instance)
    queued = task(shop)
    with shop.whole.metadata.transaction() as tx:
        waiting = tx.scalar(text("SELECT count(*) FROM rat.wishes"))
    (ask,), _ = ask_for_due(shop.whole.metadata, shop.instance)
    report = shop.run(*map(str, ask.selection))

    found = task(shop)
    assert (killed.status, queued.status, queued.attempt) == ("Running", "Queued", 2)
    assert waiting == 1
    assert report.succeeded
    assert (found.status, found.attempt, found.attempts) == ("Completed", 2, 2)
    assert (found.id, found.dagster_run_id) == (killed.id, report.dagster_run_id)
    first, second = shop.runs()
    assert (first.status, second.status) == ("failed", "success")
    assert second.settings["task"] == str(found.id)
    failure = dagster_status(shop, first.dagster_run_id or "")
    assert failure.value == "FAILURE"
    assert wishes_left(shop) == []


def wishes_left(shop: Shop) -> list[str]:
    """The states of the wishes that are not done."""
    with shop.whole.metadata.transaction() as tx:
        return list(
            tx.scalars(text("SELECT state FROM rat.wishes WHERE state <> 'done'"))
        )


def test_a_killed_full_refresh_is_tried_again_as_one(shop: Shop) -> None:
    shop.publish(NUMBERS)
    run_and_kill(shop)
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.runs SET full_refresh = true"))
    reconcile(shop.whole, shop.instance)

    shop.run()

    assert [run.full_refresh for run in shop.runs()] == [True, True]


def test_a_run_whose_worker_kept_no_lease_ends_with_its_task(shop: Shop) -> None:
    shop.publish(ONCE)
    run_and_kill(shop)
    with shop.whole.metadata.transaction() as tx:
        # Of another machine, nobody can tell that a process is gone.
        tx.execute(text("UPDATE rat.runs SET worker = 'far/away:1:1'"))
        tx.execute(text("UPDATE rat.leases SET worker = 'far/away:1:1'"))
        tx.execute(
            text(
                "UPDATE dagster.run_tags SET value = 'far/away:1:1' WHERE key = 'rat/worker'"
            )
        )
        tx.execute(
            text(
                "UPDATE dagster.runs SET run_body ="
                ' regexp_replace(run_body, \'"rat/worker": "[^"]*"\', \'"rat/worker": "far/away:1:1"\')'
            )
        )
    alive = reconcile(shop.whole, shop.instance)
    change(shop, lease_expires_at=LAPSED)

    reconcile(shop.whole, shop.instance)

    (run,) = shop.runs()
    assert alive == []
    assert (run.status, task(shop).status) == ("failed", "Failed")
    assert dagster_status(shop, run.dagster_run_id or "").value == "FAILURE"


def test_a_run_that_dies_before_its_task_is_claimed_is_tried_again(shop: Shop) -> None:
    shop.publish(NUMBERS)
    run_id = ask(shop)
    with shop.whole.metadata.transaction() as tx:
        runs.end(tx, run_id, RunStatus.FAILED, error=reaping.DIED)
        reaping.lose(tx, run_id)

    reap(shop)

    found = task(shop)
    assert (found.status, found.attempt, found.attempts) == ("Queued", 2, 1)


def test_a_task_that_was_reaped_while_it_paused_goes_on_in_its_own_process(
    shop: Shop,
) -> None:
    shop.publish(NUMBERS)
    claim(shop, ask(shop))
    fail_for_now(shop, next_retry_at="clock_timestamp() - interval '1 minute'")
    reap(shop)

    claim(shop, ask(shop, attempt=2))

    found = task(shop)
    assert (found.status, found.attempt, found.attempts) == ("Running", 2, 2)


def test_what_somebody_cancelled_while_it_paused_is_not_tried_again(
    shop: Shop,
) -> None:
    shop.publish(NUMBERS | {f"{FOLDER}/pipeline.sql": "SELECT error('no')"})
    shop.run()
    (run,) = shop.instance.get_runs()
    with shop.whole.metadata.transaction() as tx:
        # As if it had been interrupted while it waited for its next attempt.
        tx.execute(text("DELETE FROM trace.tasks"))
        tx.execute(text("DELETE FROM rat.runs WHERE attempt > 1"))
        tx.execute(text("UPDATE dagster.runs SET status = 'CANCELED'"))
        tx.execute(
            text(
                "INSERT INTO trace.tasks (job_id, run_id, dagster_run_id, status, attempts,"
                " next_retry_at, completed_at)"
                " SELECT job.id, run.id, run.dagster_run_id, 'Failed', 1, now(), now()"
                " FROM trace.jobs AS job, rat.runs AS run WHERE job.active"
            )
        )

    reap(shop)

    found = task(shop)
    assert (found.status, found.dagster_run_id) == ("Canceled", run.run_id)
    assert wishes(shop) == []


def test_a_task_is_tried_again_whatever_else_was_published_since(shop: Shop) -> None:
    lapse(shop, NUMBERS)
    shop.publish(
        NUMBERS | {"shop/pipelines/bronze/other/pipeline.sql": "SELECT 1 AS n"}
    )

    reap(shop)
    queued = task(shop)
    report = shop.run("shop.bronze.numbers")

    assert (queued.status, queued.attempt) == ("Queued", 2)
    found = task(shop)
    assert (found.id, found.status) == (queued.id, "Completed")
    assert found.dagster_run_id == report.dagster_run_id


def test_a_queued_task_whose_wish_another_run_took_is_cancelled(shop: Shop) -> None:
    lapse(shop, NUMBERS)
    reap(shop)
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.wishes SET state = 'done'"))

    said = reap(shop)

    assert task(shop).status == "Canceled"
    assert len(said) == 1


def test_a_later_attempt_goes_on_with_its_own_task(shop: Shop) -> None:
    shop.publish(NUMBERS)
    first = ask(shop, dagster_run="d2")
    with shop.whole.metadata.transaction() as tx:
        runs.end(tx, first, RunStatus.FAILED, error="it broke")
        tasks.fail(tx, first, error="it broke", again_in=timedelta())
    own = task(shop)
    other = ask(shop, dagster_run="d1")
    with shop.whole.metadata.transaction() as tx:
        runs.end(tx, other, RunStatus.FAILED, error=reaping.DIED)
        reaping.lose(tx, other)

    second = ask(shop, dagster_run="d2", attempt=2)

    with shop.whole.metadata.transaction() as tx:
        found = tx.execute(
            text("SELECT id, status FROM trace.tasks WHERE run_id = :run"),
            {"run": second},
        ).one()
    assert found == (own.id, "Queued")


def test_a_late_process_does_not_take_back_what_another_run_goes_on_with(
    shop: Shop,
) -> None:
    lapse(shop, NUMBERS)
    reap(shop)
    successor = ask(shop, dagster_run="d2")
    claim(shop, successor)

    with pytest.raises(CancelledError, match="AlreadyRunning"):
        ask(shop, dagster_run="d1", attempt=2)

    assert task(shop).run_id == successor
