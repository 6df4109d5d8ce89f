"""Tasks: one row a step, one worker at a time, and nothing from whoever is late."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from rat_resources import runs, tasks
from rat_resources.errors import CancelledError, LeaseLostError
from rat_resources.leases import LIFETIME
from rat_resources.metadata.runs import RunStatus
from rat_resources.tasks import Claim, Wanted
from tests.factories import Shop

NUMBERS = {
    "shop/pipelines/bronze/numbers/pipeline.sql": "FROM range(3)",
    "shop/pipelines/bronze/numbers/config.yaml": "max_retries: 1\n",
}


@pytest.fixture
def numbers(shop: Shop) -> Shop:
    """A shop whose one pipeline may be tried twice."""
    shop.publish(NUMBERS)
    return shop


def ask(shop: Shop, *, dagster_run: str = "d1", attempt: int = 1) -> uuid.UUID:
    """Ask for an attempt at the pipeline; the run."""
    run_id = uuid.uuid4()
    with shop.whole.metadata.transaction() as tx:
        newest = "SELECT pipeline_id, id FROM rat.pipeline_versions ORDER BY created_at"
        pipeline, version = tx.execute(text(f"{newest} DESC LIMIT 1")).one()
        wanted = runs.ask(
            tx,
            run_id,
            pipeline_id=pipeline,
            version_id=version,
            dagster_run_id=dagster_run,
            attempt=attempt,
        )
    assert wanted is not None
    return run_id


def wanted_by(shop: Shop, run_id: uuid.UUID) -> Wanted:
    """The task that waits for a run."""
    with shop.whole.metadata.transaction() as tx:
        wanted = tasks.want(tx, run_id)
    assert wanted is not None
    return wanted


def claim(shop: Shop, run_id: uuid.UUID) -> Claim:
    """Claim the task of a run."""
    wanted = wanted_by(shop, run_id)
    with shop.whole.metadata.transaction() as tx:
        return tasks.claim(tx, wanted, run_id=run_id)


def complete(shop: Shop, mine: Claim) -> None:
    """Complete a task."""
    with shop.whole.metadata.transaction() as tx:
        tasks.complete(
            tx, mine, outputs={"rows": 1}, partitions=["all"], input_versions={}
        )


def change(shop: Shop, **values: str) -> None:
    """Change columns of the only task, by SQL."""
    settings = ", ".join(f"{column} = {sql}" for column, sql in values.items())
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text(f"UPDATE trace.tasks SET {settings}"))


def task(shop: Shop) -> Any:  # noqa: ANN401 - a row
    """The only task."""
    with shop.whole.metadata.transaction() as tx:
        return tx.execute(text("SELECT * FROM trace.tasks")).one()


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 600), (7, 600), (5000, 600)],
)
def test_the_pause_doubles_up_to_ten_minutes(failures: int, seconds: int) -> None:
    assert tasks.pause_after(failures) == timedelta(seconds=seconds)


def test_chance_makes_a_pause_longer_or_shorter_unless_it_is_configured() -> None:
    pauses = [tasks.pause(1, configured=None) for _ in range(200)]

    assert tasks.pause(9, configured=7) == timedelta(seconds=7)
    assert timedelta(seconds=15) <= min(pauses) < max(pauses) <= timedelta(seconds=45)


def test_asking_twice_for_a_run_wants_its_task_once(numbers: Shop) -> None:
    run_id = ask(numbers)

    again = wanted_by(numbers, run_id)

    found = task(numbers)
    assert (found.status, found.attempt, found.attempts) == ("Queued", 1, 0)
    assert again == Wanted(found.id, 1)


def test_of_two_that_claim_at_once_exactly_one_has_it(numbers: Shop) -> None:
    run_id = ask(numbers)
    wanted = wanted_by(numbers, run_id)
    ready = threading.Barrier(2)

    def try_it(worker: str) -> Claim | str:
        with numbers.whole.metadata.transaction() as tx:
            # Two processes would have two names.
            tx.execute(text("SELECT 1"))
            ready.wait()
            try:
                return tasks.claim(tx, wanted, run_id=run_id, worker=worker)
            except CancelledError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(try_it, ["a:1:1", "b:1:1"])

    claims = [each for each in (one, other) if isinstance(each, Claim)]
    refusals = [each for each in (one, other) if isinstance(each, str)]
    assert [each.token for each in claims] == [task(numbers).lease_token]
    assert "AlreadyRunning" in refusals[0]


def test_a_claimed_task_runs_under_a_lease_of_the_databases_clock(
    numbers: Shop,
) -> None:
    mine = claim(numbers, ask(numbers))

    found = task(numbers)
    assert (found.status, found.attempts, found.lease_token) == (
        "Running",
        1,
        mine.token,
    )
    assert found.worker_id
    second = timedelta(seconds=1)
    left = found.lease_expires_at - found.started_at
    assert LIFETIME - second < left < LIFETIME + second


@pytest.mark.parametrize("status", ["Canceled", "Completed"])
def test_what_has_ended_cannot_be_claimed(numbers: Shop, status: str) -> None:
    run_id = ask(numbers)
    wanted = wanted_by(numbers, run_id)
    if status == "Completed":
        complete(numbers, claim(numbers, run_id))
    else:
        change(numbers, status="'Canceled'", completed_at="now()")

    with (
        numbers.whole.metadata.transaction() as tx,
        pytest.raises(CancelledError, match=status),
    ):
        tasks.claim(tx, wanted, run_id=run_id)


def test_a_heartbeat_prolongs_a_lease(numbers: Shop) -> None:
    mine = claim(numbers, ask(numbers))
    change(numbers, lease_expires_at="clock_timestamp() + interval '1 second'")
    short = task(numbers).lease_expires_at

    with numbers.whole.metadata.transaction() as tx:
        tasks.beat(tx, mine)

    assert task(numbers).lease_expires_at > short + timedelta(seconds=20)


LATE: list[Callable[[Claim], Claim]] = [
    lambda mine: Claim(mine.id, mine.attempt, uuid.uuid4()),
    lambda mine: Claim(mine.id, mine.attempt + 1, mine.token),
    lambda mine: Claim(uuid.uuid4(), mine.attempt, mine.token),
]


@pytest.mark.parametrize("other", LATE)
def test_who_does_not_hold_the_lease_changes_nothing(
    numbers: Shop, other: Callable[[Claim], Claim]
) -> None:
    mine = claim(numbers, ask(numbers))
    before = task(numbers)

    with pytest.raises(LeaseLostError):
        complete(numbers, other(mine))
    with (
        numbers.whole.metadata.transaction() as tx,
        pytest.raises(LeaseLostError),
    ):
        tasks.beat(tx, other(mine))

    assert task(numbers) == before


def test_a_lease_that_lapsed_is_prolonged_while_nobody_has_touched_it(
    numbers: Shop,
) -> None:
    mine = claim(numbers, ask(numbers))
    change(numbers, lease_expires_at="clock_timestamp() - interval '1 hour'")

    with numbers.whole.metadata.transaction() as tx:
        tasks.beat(tx, mine)
        now = runs.database_time(tx)

    assert task(numbers).lease_expires_at > now


def test_a_failure_is_tried_again_in_the_same_row_under_a_new_fence(
    numbers: Shop,
) -> None:
    first = ask(numbers)
    late = claim(numbers, first)
    fail(numbers, first, again_in=timedelta(seconds=30))
    failed = task(numbers)

    second = ask(numbers, attempt=2)
    mine = claim(numbers, second)

    found = task(numbers)
    assert (failed.status, failed.error_message) == ("Failed", "it broke")
    assert failed.next_retry_at - failed.completed_at == timedelta(seconds=30)
    assert (found.status, found.attempt, found.attempts) == ("Running", 2, 2)
    assert (found.id, found.run_id) == (failed.id, second)
    assert (found.error_message, found.next_retry_at) == (None, None)
    with pytest.raises(LeaseLostError):
        complete(numbers, late)
    complete(numbers, mine)


def fail(shop: Shop, run_id: uuid.UUID, *, again_in: timedelta | None) -> None:
    """Let an attempt fail."""
    with shop.whole.metadata.transaction() as tx:
        runs.end(tx, run_id, RunStatus.FAILED, error="it broke")
        tasks.fail(tx, run_id, error="it broke", again_in=again_in)


def test_what_has_failed_for_good_is_only_tried_again_by_dagster_itself(
    numbers: Shop,
) -> None:
    first = ask(numbers)
    claim(numbers, first)
    fail(numbers, first, again_in=None)

    with pytest.raises(CancelledError, match="Failed"):
        ask(numbers, attempt=2)
    ask(numbers, attempt=tasks.AGAIN + 1)

    assert (task(numbers).status, task(numbers).attempt) == ("Queued", 2)


def test_a_conflict_goes_on_with_the_same_attempt(numbers: Shop) -> None:
    first = ask(numbers)
    mine = claim(numbers, first)
    with numbers.whole.metadata.transaction() as tx:
        runs.end(tx, first, RunStatus.FAILED, error="main moved")

    second = ask(numbers, attempt=2)
    again = claim(numbers, second)

    assert again == mine
    assert (task(numbers).attempt, task(numbers).run_id) == (1, second)


def test_what_met_a_conflict_may_wait_longer_than_its_lease_lasts(
    numbers: Shop,
) -> None:
    first = ask(numbers)
    mine = claim(numbers, first)
    with numbers.whole.metadata.transaction() as tx:
        runs.end(tx, first, RunStatus.FAILED, error="main moved")
    second = ask(numbers, attempt=2)
    change(numbers, lease_expires_at="clock_timestamp() - interval '1 second'")

    again = claim(numbers, second)

    assert again == mine
    complete(numbers, again)
