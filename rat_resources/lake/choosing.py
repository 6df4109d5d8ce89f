"""Choosing: whether the rows of a data file die where they stand, or the file is written anew.

Marking rows costs what they are, and every reader a little until the table is compacted; writing a
file anew costs what the file is, once. Nothing is read or written here: `dying` measures the files and
does what is chosen, docs/pipelines.md tells it to authors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

WriteMode = Literal["auto", "merge_on_read", "copy_on_write"]

SMALL = (
    1_000_000  # bytes of data files that are written anew as fast as they are marked
)


class Fate(StrEnum):
    """What becomes of a data file some of whose rows die."""

    REMOVED = "removed"  # nothing of it is left
    REWRITTEN = "rewritten"  # its other rows go to a new file
    MARKED = "marked"  # a delete file names the rows


@dataclass(frozen=True)
class Wounded:
    """A data file some of whose rows die."""

    rows: int  # dead ones and dying ones among them
    bytes: int
    dying: int
    dead: int  # as far as they have places
    is_placed: bool  # whether its rows can be named by their places

    @property
    def is_empty(self) -> bool:
        """Whether no row is left."""
        return self.dead + self.dying >= self.rows

    @property
    def is_mostly_dead(self) -> bool:
        """Whether half of its rows, or more, are gone."""
        return 2 * (self.dead + self.dying) >= self.rows


def choose(files: Mapping[int, Wounded], *, mode: WriteMode) -> dict[int, Fate]:
    """What becomes of each of *files*.

    A file of which nothing is left goes. One whose rows have no places that another engine would
    understand is always written anew. Else it is as *mode* says; `auto` writes anew what is mostly
    dead, and the smallest of the others as long as they are SMALL together.
    """
    fates: dict[int, Fate] = {}
    spent = 0
    for number, file in sorted(files.items(), key=lambda each: each[1].bytes):
        if file.is_empty:
            fates[number] = Fate.REMOVED
        elif not file.is_placed or mode == "copy_on_write":
            fates[number] = Fate.REWRITTEN
        elif mode == "merge_on_read":
            fates[number] = Fate.MARKED
        elif file.is_mostly_dead:
            fates[number] = Fate.REWRITTEN
        else:
            spent += file.bytes
            fates[number] = Fate.REWRITTEN if spent <= SMALL else Fate.MARKED
    return fates
