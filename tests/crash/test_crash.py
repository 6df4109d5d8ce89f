"""Whatever a run dies of, and wherever: afterwards all is published completely or not at all.

RAT_CRASH_ROUNDS says how many rounds a keeper has, six kills each; before a release every table dies
at every step, in a plain run and in a full refresh (`make test-crash`).
"""

import os
import signal
from datetime import timedelta
from itertools import chain, islice
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from sqlalchemy import text

from rat_resources import faults
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.metadata.embedded import await_true
from rat_resources.reconciliation import long_enough, reconcile
from tests.crash.scene import BESIDE, PROJECT, ROUNDS, Scene, in_long, rounds, start
from tests.factories import Shop
from tests.servers.nessie import Nessie


@pytest.fixture(params=["embedded", "nessie"])
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A shop on either keeper of refs."""
    if request.param == "nessie":
        request.getfixturevalue("nessie")
        # Whoever is killed here sends nothing any more.
        monkeypatch.setattr(NessieRefs, "latest_merge", timedelta(seconds=1))
    shop: Shop = request.getfixturevalue("shop")
    return Scene.set_up(shop)


def steps_of(scene: Scene) -> list[str]:
    """The steps that a run comes to."""
    is_embedded = isinstance(scene.shop.whole.lake.refs, EmbeddedRefs)
    return [each for each in faults.STEPS if each != "dry_run" or not is_embedded]


def test_nothing_is_lost_or_doubled_wherever_runs_are_killed(scene: Scene) -> None:
    steps = steps_of(scene)
    # The most dangerous first.
    steps = [*steps[8:], *steps[:8]]

    plainly = rounds(steps, action="kill")
    anew = rounds(steps, action="kill", full_refresh=True)
    for harms in islice(chain(plainly, anew), ROUNDS):
        scene.play(harms)
    scene.finish()

    print(f"{scene.deaths} runs were killed, of {scene.files} files none was lost")  # noqa: T201


@in_long
@pytest.mark.parametrize("action", ["drop", "error"])
def test_nothing_is_lost_or_doubled_wherever_servers_fail(
    scene: Scene, action: str
) -> None:
    for harms in rounds(steps_of(scene), action=action):
        scene.play(harms)
    scene.finish()


@pytest.mark.parametrize(
    ("step", "published"),
    [("merge_sent", False), pytest.param("merge_answered", True, marks=in_long)],
)
def test_a_process_that_slept_through_its_lease_publishes_no_more_than_was_found(
    nessie: Nessie, request: pytest.FixtureRequest, *, step: str, published: bool
) -> None:
    del nessie  # it set the environment
    shop: Shop = request.getfixturevalue("shop")
    shop.publish(PROJECT)
    request.getfixturevalue("monkeypatch").setattr(
        NessieRefs, "latest_merge", timedelta(seconds=0)
    )
    asleep = start([BESIDE], fault=f"{step}:pause")
    until_stopped(asleep)
    forget_leases(shop)

    reconcile(shop.whole, shop.instance, patience=long_enough(shop.whole))
    main, (run,) = shop.main, shop.runs()
    os.kill(asleep.pid or 0, signal.SIGCONT)
    asleep.join()

    assert (run.status == "success", shop.main == run.commit) == (published, published)
    assert (shop.main, [each.status for each in shop.runs()]) == (main, [run.status])
    assert len(shop.materializations(BESIDE)) == published
    assert (shop.branches, shop.holders) == ([], 0)


def until_stopped(process: ForkServerProcess) -> None:
    """Wait until a process has been stopped."""
    assert await_true(lambda: state_of(process.pid) == "T", seconds=60)


def state_of(pid: int | None) -> str:
    """How the system calls the state of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def forget_leases(shop: Shop) -> None:
    """Let all leases have lapsed."""
    with shop.whole.metadata.transaction() as tx:
        for table, column in (
            ("rat.leases", "expires_at"),
            ("trace.tasks", "lease_expires_at"),
        ):
            tx.execute(
                text(f"UPDATE {table} SET {column} = now() - interval '1 second'")
            )


def test_two_full_refreshes_of_one_table_come_one_after_the_other(shop: Shop) -> None:
    shop.publish(PROJECT)

    both = [start([BESIDE], fault="", full_refresh=True) for _ in range(2)]
    for each in both:
        each.join()

    first, second = sorted(shop.runs(), key=lambda run: str(run.started_at))
    assert (first.status, second.status) == ("success", "success")
    assert first.finished_at is not None
    assert second.started_at is not None
    assert first.finished_at <= second.started_at
    assert second.base_commit == first.commit
    assert len(shop.rows(BESIDE)) == 1


def test_tables_that_are_made_at_once_never_conflict(
    nessie: Nessie, request: pytest.FixtureRequest
) -> None:
    del nessie  # it set the environment
    shop: Shop = request.getfixturevalue("shop")
    names = [f"shop.gold.t{number}" for number in range(4)]
    shop.publish(
        {
            f"shop/pipelines/gold/t{number}/pipeline.sql": f"SELECT {number} AS n"
            for number in range(4)
        }
    )

    running = [start([name], fault="") for name in names]
    for each in running:
        each.join()

    assert [run.status for run in shop.runs()] == ["success"] * 4
    assert [shop.rows(name) for name in names] == [[(number,)] for number in range(4)]
