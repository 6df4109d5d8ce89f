"""Live files: the names of all files that the roots need, as metadata files, lists and manifests tell.

Nothing is read twice, and of a file only the hash of its name is kept: two names with one hash keep a file
too many. What cannot be read stops everything; what is not there any more nobody can read, and only its
table is left alone.
"""

import gzip
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyiceberg.avro.file import AvroFile
from pyiceberg.avro.reader import Reader, StructReader
from pyiceberg.io import FileIO
from pyiceberg.typedef import Record
from pyiceberg.types import NestedField, StructType

from rat_resources.collection.roots import NO_SNAPSHOT, Root
from rat_resources.errors import CollectionError
from rat_resources.lake.storage import file_name

NEWEST_FORMAT = 3  # of Iceberg's formats, whose files are found as it is done here
GZIP = b"\x1f\x8b"
AT_ONCE = 256  # files that are asked for together
READERS = 8  # threads, where each file is a request
UNSORTED = 1 << 18  # names

# Field ids: of a manifest list, of a manifest, and the status of an entry that is there no more.
MANIFEST_PATH = 500
STATUS, DATA_FILE, FILE_PATH = 0, 2, 100
DELETED = 2

Picked = Mapping[int, "Picked | None"]
T = TypeVar("T")


class GoneError(Exception):
    """A file that something names is not there."""


class Names:
    """Names of files, of which only hashes are kept."""

    def __init__(self) -> None:
        self.sorted = np.empty(0, dtype=np.int64)
        self.fresh: set[int] = set()

    def add(self, hashes: Iterable[int]) -> None:
        """Know some names more."""
        self.fresh.update(hashes)
        if len(self.fresh) > UNSORTED:
            fresh = np.fromiter(self.fresh, dtype=np.int64, count=len(self.fresh))
            self.sorted, self.fresh = np.union1d(self.sorted, fresh), set()

    def __contains__(self, name: str) -> bool:
        wanted = hash(name)
        if wanted in self.fresh:
            return True
        place = int(self.sorted.searchsorted(wanted))
        return place < len(self.sorted) and int(self.sorted[place]) == wanted


def name_hashes(locations: Iterable[str]) -> Iterator[int]:
    """What is kept of the names of files."""
    return (hash(file_name(location)) for location in locations)


@dataclass(frozen=True)
class Metadata:
    """What a metadata file says of where files are."""

    location: str
    uuid: str
    lists: Mapping[int, str]  # the manifest list of each snapshot


@dataclass
class Live:
    """What is needed, as told by roots, some at a time."""

    io: FileIO
    is_local: bool = True
    names: Names = field(default_factory=Names)
    counts: Counter[str] = field(default_factory=Counter)  # roots by their kinds
    # By the folder of the metadata file too: a table that was copied has the same snapshots.
    snapshots: dict[tuple[str, int], str] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    locations: dict[str, str] = field(default_factory=dict)  # with the tables there
    uuids: set[str] = field(default_factory=set)
    # What is missing, by the name of the table and by its folder.
    broken: dict[str, str] = field(default_factory=dict)

    def __contains__(self, location: str) -> bool:
        return file_name(location) in self.names

    def add(self, roots: Iterable[Root]) -> None:
        """Need what *roots* need; CollectionError where that cannot be found out."""
        whole: dict[str, Root] = {}
        single: dict[tuple[str, int], Root] = {}
        for root in roots:
            self.counts[root.kind] += 1
            self.names.add(name_hashes([root.metadata_location]))
            if root.is_whole or root.snapshot_id == NO_SNAPSHOT:
                whole.setdefault(root.metadata_location, root)
            else:
                single.setdefault(key_of(root), root)
        lists = {**self.lists_of_all(whole), **self.lists_of_each(single)}
        self.names.add(name_hashes(lists))
        manifests: dict[str, Root] = {}
        for path, content in self.load(lists, read_list):
            self.names.add(name_hashes(content))
            manifests |= dict.fromkeys(content, lists[path])
        for _, hashes in self.load(manifests, read_manifest):
            self.names.add(hashes.tolist())

    def lists_of_all(self, whole: Mapping[str, Root]) -> dict[str, Root]:
        """The manifest lists of every snapshot of metadata files."""
        found: dict[str, Root] = {}
        for path, metadata in self.load(whole, read_metadata, as_whole=True):
            self.learn(metadata, whole[path])
            found |= dict.fromkeys(metadata.lists.values(), whole[path])
        return found

    def lists_of_each(self, single: Mapping[tuple[str, int], Root]) -> dict[str, Root]:
        """The manifest lists of single snapshots.

        A metadata file lists many of those before it: one in so many has to be read.
        """
        found: dict[str, Root] = {}
        queues: dict[str, deque[tuple[str, int]]] = {}
        for key in single:
            queues.setdefault(key[0], deque()).append(key)
        while queues:
            asked: dict[str, Root] = {}
            for queue in queues.values():
                while queue and queue[0] in self.snapshots:
                    key = queue.popleft()
                    found[self.snapshots[key]] = single[key]
                if queue:
                    asked[single[queue[0]].metadata_location] = single[queue[0]]
            for path, metadata in self.load(asked, read_metadata):
                self.learn(metadata, asked[path])
            for root in asked.values():
                if key_of(root) not in self.snapshots:
                    queues[key_of(root)[0]].popleft()
                    self.lose(root, f"a snapshot in {root.metadata_location}")
            queues = {folder: queue for folder, queue in queues.items() if queue}
        return found

    def learn(self, metadata: Metadata, root: Root) -> None:
        """Know the snapshots of a metadata file, and where its table lies."""
        folder = folder_of(root.metadata_location)
        for snapshot_id, path in metadata.lists.items():
            self.snapshots[folder, snapshot_id] = path
        self.locations.setdefault(metadata.location, root.table)
        self.uuids.add(metadata.uuid)

    def lose(self, root: Root, what: str) -> None:
        """Do without a file that is not there; its table is left alone, if it was promised."""
        if root.is_promised:
            told = f"{what} is not there, and {root.why} needs it"
            for known in (root.table, folder_of(folder_of(root.metadata_location))):
                self.broken.setdefault(known, told)

    def load(
        self,
        files: Mapping[str, Root],
        read: Callable[[FileIO, str], T],
        *,
        as_whole: bool = False,
    ) -> Iterator[tuple[str, T]]:
        """What stands in files that were not read before, some of them at a time."""
        left = iter([path for path in files if hash((path, as_whole)) not in self.read])
        while some := list(islice(left, AT_ONCE)):
            self.read.update(hash((path, as_whole)) for path in some)
            for path, content in zip(some, self.ask(some, read), strict=True):
                if isinstance(content, GoneError):
                    self.lose(files[path], path)
                elif isinstance(content, Exception):
                    raise unreadable(path, files[path], content) from content
                else:
                    yield path, content

    def ask(
        self, paths: Sequence[str], read: Callable[[FileIO, str], T]
    ) -> Iterator[T | Exception]:
        """What stands in each file, or why that cannot be told."""

        def attempt(path: str) -> T | Exception:
            try:
                return read(self.io, path)
            except FileNotFoundError:
                return GoneError(path)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is in the file is not known
                return error

        if self.is_local:
            yield from map(attempt, paths)
            return
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(attempt, paths)


def key_of(root: Root) -> tuple[str, int]:
    """What tells the snapshot of a root from all others."""
    return folder_of(root.metadata_location), root.snapshot_id


def folder_of(location: str) -> str:
    """The folder that a file or folder is in."""
    return location.rpartition("/")[0]


def unreadable(path: str, root: Root, error: Exception) -> CollectionError:
    """That nobody can tell which files are needed."""
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    message = f"{path} cannot be read, which {root.why} needs for {root.table}: {said}"
    fix = "nothing was removed; see that it can be read, or give up who needs it"
    return CollectionError(message, fix=fix)


# What stands in the files.


def read_metadata(io: FileIO, path: str) -> Metadata:
    """What a metadata file says; ValueError for one that cannot be understood."""
    with io.new_input(path).open() as file:
        content = file.read()
    said = json.loads(gzip.decompress(content) if content[:2] == GZIP else content)
    if said["format-version"] > NEWEST_FORMAT:
        message = f"it has Iceberg's format {said['format-version']}"
        raise ValueError(message)
    snapshots = said.get("snapshots") or ()
    return Metadata(
        said["location"].rstrip("/"),
        said.get("table-uuid", ""),
        {each["snapshot-id"]: each["manifest-list"] for each in snapshots},
    )


def read_list(io: FileIO, path: str) -> list[str]:
    """The manifests that a manifest list names."""
    return [row[0] for row in rows_of(io, path, {MANIFEST_PATH: None})]


def read_manifest(io: FileIO, path: str) -> NDArray[np.int64]:
    """The hashes of the names of the files that a manifest names and has not deleted."""
    rows = rows_of(io, path, {STATUS: None, DATA_FILE: {FILE_PATH: None}})
    living = (row[1][0] for row in rows if row[0] != DELETED)
    return np.fromiter(name_hashes(living), dtype=np.int64)


def rows_of(io: FileIO, path: str, picked: Picked) -> Iterator[Any]:
    """Fields of each row of an Avro file, in the order in which they are named; others are skipped."""
    with AvroFile[Record](io.new_input(path)) as file:
        file.reader = picking(file.reader, file.schema.fields, picked)
        yield from file


def picking(
    reader: Reader, fields: Sequence[NestedField], picked: Picked
) -> StructReader:
    """A reader of some fields of a struct, by their ids; ValueError where it has not all of them."""
    if not isinstance(reader, StructReader):
        raise TypeError(reader)
    places = {field_id: place for place, field_id in enumerate(picked)}
    readers: list[tuple[int | None, Reader]] = []
    for (_, inner), each in zip(reader.field_readers, fields, strict=True):
        place, within = places.pop(each.field_id, None), picked.get(each.field_id)
        if within is not None and isinstance(each.field_type, StructType):
            inner = picking(inner, each.field_type.fields, within)  # noqa: PLW2901
        readers.append((place, inner))
    if places:
        message = f"it has no fields {sorted(places)}"
        raise ValueError(message)
    return StructReader(tuple(readers), Record, reader.struct)
