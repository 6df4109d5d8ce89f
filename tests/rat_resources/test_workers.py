"""Workers: names of processes, and whether they still live."""

import os
import subprocess
import sys

import pytest

from rat_resources.workers import is_dead, start_time, this_worker


def dead_worker() -> str:
    """The name of a process of this machine that has ended."""
    machine, _, _ = this_worker().rsplit(":", 2)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        started = start_time(ended.pid)
    return f"{machine}:{ended.pid}:{started}"


def test_this_process_lives() -> None:
    assert not is_dead(this_worker())


def test_a_process_that_ended_is_dead() -> None:
    assert is_dead(dead_worker())


def test_a_number_that_was_given_out_again_is_another_process() -> None:
    machine, _, _ = this_worker().rsplit(":", 2)

    assert is_dead(f"{machine}:{os.getpid()}:1")


@pytest.mark.parametrize(
    "worker",
    [None, "", "elsewhere/0123abcd:1:1", f"{this_worker().rpartition(':')[0]}:0"],
    ids=["nobody", "no name", "another machine", "unknown start"],
)
def test_who_is_not_surely_dead_may_live(worker: str | None) -> None:
    assert not is_dead(worker)


def test_a_process_of_another_container_may_live_under_the_same_host_name() -> None:
    code = (
        "from rat_resources.workers import this_worker; print(this_worker()); input()"
    )
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=-1, stdout=-1, stderr=subprocess.PIPE, text=True
    ) as container:
        assert container.stdout is not None
        worker = container.stdout.readline().strip()
        if not worker:
            pytest.skip("this machine lets nobody make a container")
        alive = not is_dead(worker)
        container.communicate("\n")

    assert alive
    # It counts its processes from 1, and our number 1 is somebody else.
    assert worker.split(":")[0] != this_worker().split(":")[0]


def test_a_zombie_is_dead() -> None:
    machine, _, _ = this_worker().rsplit(":", 2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as child:
        worker = f"{machine}:{child.pid}:{start_time(child.pid)}"
        alive = not is_dead(worker)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is not reaped yet

        assert alive
        assert is_dead(worker)
