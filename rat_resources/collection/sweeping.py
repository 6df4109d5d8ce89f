"""Sweeping: a warehouse's folders one after the other, what of their files is needed, and what goes.

In each folder metadata goes before data, and what names files before what is named: whoever finds half of
a dead table left finds no table.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rat_resources.collection import notes
from rat_resources.collection.finding import Finder
from rat_resources.collection.report import Collected, Folder
from rat_resources.errors import StoreError
from rat_resources.lake.storage import AT_ONCE, File, files_of, in_chunks
from rat_resources.metadata import Metadata

OURS = {
    # Statistics belong to snapshots that no list names: they go with their table.
    "metadata": re.compile(r".+\.(metadata\.json(\.gz)?|avro)"),
    "data": re.compile(r".+\.(parquet|orc|avro|puffin)"),
}
STATISTICS = re.compile(r".+\.(stats|puffin)")
# From what names files to what is named.
ORDER = (r".+\.metadata\.json(\.gz)?", r"snap-.+\.avro", r".+\.avro", r".+")


@dataclass(frozen=True)
class Sweep:
    """One round through the folders of a warehouse."""

    metadata: Metadata
    finder: Finder
    collected: Collected

    def go_through(self, folders: Mapping[str, str]) -> None:
        """Look at every file of these folders, and remove what may go."""
        if not self.collected.is_dry:
            with self.metadata.transaction() as tx:
                notes.know_folders(tx, folders, now=self.finder.limits.now)
        for location, table in folders.items():
            folder = Folder(table, location)
            folder.kept_because = self.finder.why_kept(location, table)
            self.collected.folders.append(folder)
            try:
                self.sweep(folder)
            except (StoreError, OSError) as error:
                self.collected.problems.append(f"{table}: {error}")

    def sweep(self, folder: Folder) -> None:
        """Look at every file of a folder."""
        for part in OURS:
            due: list[File] = []
            for chunk in in_chunks(self.candidates(folder, part)):
                due += self.unneeded_for_long(folder, chunk)
                if part == "data":
                    self.remove(folder, due)
                    due = []
            self.remove(folder, sorted(due, key=rank))
        if not self.collected.is_dry:
            with self.metadata.transaction() as tx:
                notes.forget_unseen(tx, folder.location, now=self.finder.limits.now)

    def candidates(self, folder: Folder, part: str) -> Iterator[File]:
        """The files that nothing needs, and that nobody is about to commit; all are counted."""
        live, limits = self.finder.live, self.finder.limits
        is_table = folder.location in self.finder.tables
        for file in files_of(folder.location).list(f"{folder.location}/{part}"):
            name = file.location.rpartition("/")[2]
            if file.location in live:
                fate = "needed"
            elif not looks_ours(name, part, is_table=is_table):
                fate = "strange"
            elif folder.kept_because:
                fate = "kept"
            elif file.modified_at > limits.young:
                fate = "young"
            else:
                yield file
                continue
            folder.amounts[fate].add(file.size)

    def unneeded_for_long(
        self, folder: Folder, chunk: Sequence[File]
    ) -> Iterator[File]:
        """Those of these files that were noted long enough ago; the others are noted, and counted."""
        limits, locations = self.finder.limits, [file.location for file in chunk]
        with self.metadata.transaction() as tx:
            if self.collected.is_dry:
                noted = notes.look_up(tx, locations)
            else:
                noted = notes.note(
                    tx, locations, folder=folder.location, now=limits.now
                )
        for file in chunk:
            since = noted.get(file.location, limits.now)
            if since <= limits.noted:
                yield file
            else:
                fate = "noted" if since == limits.now else "waiting"
                folder.amounts[fate].add(file.size)

    def remove(self, folder: Folder, due: Sequence[File]) -> None:
        """Remove files, unless somebody needs them by now, and count them."""
        if not due:
            return
        self.finder.catch_up()
        gone = []
        for file in due:
            if file.location in self.finder.live:
                folder.amounts["needed"].add(file.size)
            else:
                gone.append(file)
        for start in range(0, len(gone), AT_ONCE):
            self.remove_some(folder, gone[start : start + AT_ONCE])

    def remove_some(self, folder: Folder, files: Sequence[File]) -> None:
        """Remove files together; of what another collector removes nothing is counted."""
        if self.collected.is_dry:
            for file in files:
                folder.amounts["removed"].add(file.size)
            return
        by_location = {file.location: file for file in files}
        limits = self.finder.limits
        with self.metadata.transaction() as tx:
            taken = notes.take(tx, by_location)
            mine = [location for location in by_location if location in taken]
            failed = files_of(folder.location).remove(mine)
            if failed:
                # It was noted long ago, and is tried again by the next round.
                notes.note(
                    tx,
                    list(failed),
                    folder=folder.location,
                    now=limits.now,
                    since=limits.noted,
                )
        for location in mine:
            fate = "stuck" if location in failed else "removed"
            folder.amounts[fate].add(by_location[location].size)
        for location, why in failed.items():
            self.collected.problems.append(f"{location} could not be removed: {why}")


def looks_ours(name: str, part: str, *, is_table: bool) -> bool:
    """Whether a file is named as engines name those of a table."""
    if OURS[part].fullmatch(name):
        return True
    return not is_table and STATISTICS.fullmatch(name) is not None


def rank(file: File) -> int:
    """The place of a file in the order in which files go."""
    name = file.location.rpartition("/")[2]
    return next(i for i, kind in enumerate(ORDER) if re.fullmatch(kind, name))
