"""Spilling: where a DuckDB puts what its memory does not hold, a folder for each and gone with it.

Two DuckDBs in one folder write into each other's files, and read rows that are not theirs.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

from rat_resources.errors import StoreError
from rat_resources.workers import is_dead, this_worker


@contextmanager
def spill_folder(root: Path) -> Iterator[Path]:
    """The name of a folder below *root* that nobody else has; DuckDB makes it when it spills."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{root} cannot be made: {error.strerror}"
        fix = "let RAT write there, or set RAT_HOME to another folder"
        raise StoreError(message, fix=fix) from error
    forget_dead(root)
    owner = quote(this_worker(), safe="")
    folder = root / f"{owner},{uuid4().hex}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_dead(root: Path) -> None:
    """Remove what processes that were killed have left."""
    for folder in left(root):
        shutil.rmtree(folder, ignore_errors=True)


def left(root: Path) -> Iterator[Path]:
    """The folders of processes that were killed."""
    for folder in root.glob("*%3A*%3A*,*"):
        if is_dead(unquote(folder.name.partition(",")[0])):
            yield folder
