"""Drafts: half of a file, under a hidden name, that a process which died has left in the store.

Whoever writes there makes such a file whole before it bears its name, and is done long before it is old.
"""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rat_resources.janitor.chores import Batch, Chore, Scene

# Of `rat upload`, and of whatever else writes into the store.
DRAFT = re.compile(r"\.upload-[0-9a-f]{32}|\..*\.[0-9a-f]{32}\.tmp")


def find(scene: Scene) -> Iterator[Batch]:
    """The drafts that nobody writes to any more."""
    cutoff = scene.cutoff("drafts")
    root = scene.whole.store.root
    # In S3 a file is whole or not there at all.
    if cutoff is None or not isinstance(root, Path):
        return
    for path in drafts(root):
        if changed_at(path) < cutoff.timestamp():
            yield Batch({"drafts": 1}, partial(path.unlink, missing_ok=True))


def drafts(root: Path) -> Iterator[Path]:
    """The drafts below a folder, in order."""
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            if DRAFT.fullmatch(name):
                yield Path(folder, name)


def changed_at(path: Path) -> float:
    """When a file was last written to; one that is gone is as new as can be."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("inf")


CHORES = (Chore("drafts in the store", ("drafts",), find),)
