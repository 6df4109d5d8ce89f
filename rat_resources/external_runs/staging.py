"""Staging of external runs: the copies that a process reads from, in a folder of its own.

The folder says whose it is, so that what a killed process left can be removed.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rat_resources.workers import is_dead, this_worker

FOLDER = "external_runs"
PARTS = 3  # of the name of a process
# A process is named with a slash; no host's name has an @.
SLASH, IN_A_NAME = "/", "@"


@contextmanager
def staged(staging: Path) -> Iterator[Path]:
    """A folder of this process that is gone afterwards."""
    ours = staging / FOLDER / this_worker().replace(SLASH, IN_A_NAME)
    folder = ours / uuid.uuid4().hex
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another thread reads, or nothing was staged
            ours.rmdir()


def remove_left(staging: Path) -> Iterator[str]:
    """Remove the folders of processes that are gone; a line each."""
    for folder in left(staging):
        shutil.rmtree(folder, ignore_errors=True)
        yield f"staging of external runs, left by {owner(folder)}: removed"


def left(staging: Path) -> Iterator[Path]:
    """The folders of processes that are gone."""
    for folder in sorted((staging / FOLDER).glob("*")):
        worker = owner(folder)
        if len(worker.rsplit(":", PARTS - 1)) == PARTS and is_dead(worker):
            yield folder


def owner(folder: Path) -> str:
    """The process that a folder is of."""
    return folder.name.replace(IN_A_NAME, SLASH)
