"""Hooks: what a test does in the middle of a run, at the very moment that it names."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from rat_assets import journal
from rat_assets.journal import Progress
from tests.factories import Shop


@contextmanager
def when(
    phase: str, do: Callable[[], object], *, state: str = "begun", says: str = ""
) -> Iterator[list[Progress]]:
    """Do something the first time that a run comes to *phase*; what was heard, all of it."""
    heard: list[Progress] = []
    done: list[Progress] = []

    def listen(progress: Progress) -> None:
        heard.append(progress)
        is_it = (progress.phase, progress.state) == (phase, state)
        if is_it and says in progress.message and not done:
            done.append(progress)
            do()

    journal.listeners.append(listen)
    try:
        yield heard
    finally:
        journal.listeners.remove(listen)


def cancel(shop: Shop) -> None:
    """Ask for the newest Dagster run to stop, as Dagster's terminate does."""
    (run,) = shop.instance.get_runs(limit=1)
    shop.instance.report_run_canceling(run)


def dagster_status(shop: Shop, dagster_run_id: str) -> dg.DagsterRunStatus:
    """How far Dagster says that a run came."""
    run = shop.instance.get_run_by_id(dagster_run_id)
    assert run is not None
    return run.status


def settle(path: Path) -> None:
    """Let a file look as if nobody had written to it for a while."""
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))
