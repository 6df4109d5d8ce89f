"""Planning: which files of a snapshot may hold rows that are asked for, and which files delete rows there.

PyIceberg's own planning refuses equality deletes, drops delete files by bounds that are not theirs,
cannot compare with a partition that is NULL, and reads every manifest anew. How the files are read is
`reading`.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from threading import Lock
from typing import Any, TypeVar

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import FileScanTask, ManifestGroupPlanner
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.utils.concurrent import ExecutorFactory

CACHE_SIZE = 8 * 1024 * 1024  # bytes of manifests, which are ten times that in memory

_PATH_ID = (
    2147483546  # what Iceberg calls the column of a delete file that names data files
)
_T = TypeVar("_T")
PartitionKey = tuple[int, str]


def plan(
    metadata: TableMetadata,
    *,
    io: FileIO,
    snapshot_id: int | None = None,
    where: BooleanExpression | None = None,
    without: Collection[str] = (),
) -> list[FileScanTask]:
    """The files of the snapshot, or of the current one, that may hold rows for which *where* holds.

    What was written first comes first. Where nothing else says which of two rows is the later one
    (an upsert without a watermark), it is the one that was written later. Manifests *without* which
    it is planned are left out.
    """
    snapshot = (
        metadata.current_snapshot()
        if snapshot_id is None
        else metadata.snapshot_by_id(snapshot_id)
    )
    if snapshot is None:
        return []
    # PyIceberg lists the newest manifest first.
    manifests = [
        each
        for each in reversed(snapshot.manifests(io))
        if each.manifest_path not in without
    ]
    pruning = None if where in (None, AlwaysTrue()) else _Pruning(metadata, io, where)
    if pruning:
        manifests = [each for each in manifests if pruning.keeps_manifest(each)]
    data, deleting = (
        [
            entry
            for entries in _read_all(
                [each for each in manifests if each.content == content], io=io
            )
            for entry in entries
        ]
        for content in (ManifestContent.DATA, ManifestContent.DELETES)
    )
    if pruning:
        data = [entry for entry in data if pruning.keeps_file(entry.data_file)]
    data.sort(key=_sequence)
    deletes = Deletes(metadata.specs(), deleting)
    return [FileScanTask(each.data_file, deletes.of(each)) for each in data]


def _sequence(entry: ManifestEntry) -> int:
    return entry.sequence_number or 0


class _Pruning:
    """Tells of manifests and files whether they may hold rows for which a condition holds."""

    def __init__(
        self, metadata: TableMetadata, io: FileIO, where: BooleanExpression
    ) -> None:
        self._planner = ManifestGroupPlanner(metadata, io, where)
        self._metrics = _or_maybe(self._planner._build_metrics_evaluator())  # noqa: SLF001
        self._manifests: dict[int, Callable[[ManifestFile], bool]] = {}
        self._partitions: dict[int, Callable[[DataFile], bool]] = {}

    def keeps_manifest(self, manifest: ManifestFile) -> bool:
        """Whether the manifest may name such a file."""
        spec = manifest.partition_spec_id
        if spec not in self._manifests:
            build = self._planner._build_manifest_evaluator  # noqa: SLF001
            self._manifests[spec] = _or_maybe(_built(build, spec))
        return self._manifests[spec](manifest)

    def keeps_file(self, file: DataFile) -> bool:
        """Whether the file may hold such rows."""
        spec = file.spec_id
        if spec not in self._partitions:
            build = self._planner._build_partition_evaluator  # noqa: SLF001
            self._partitions[spec] = _or_maybe(_built(build, spec))
        return self._partitions[spec](file) and self._metrics(file)


def _built(
    build: Callable[[int], Callable[[_T], bool]], spec_id: int
) -> Callable[[_T], bool]:
    """What tells by the partitions of a spec; where PyIceberg 0.12 cannot, nothing is told.

    It cannot look for the year, month or day before the first date or after the last one.
    """
    try:
        return build(spec_id)
    except OverflowError:
        return lambda _: True


def _or_maybe(evaluate: Callable[[_T], bool]) -> Callable[[_T], bool]:
    """The same, but where PyIceberg 0.12 fails: it cannot compare with a partition that is NULL."""

    def evaluate_or_keep(subject: _T) -> bool:
        try:
            return evaluate(subject)
        except TypeError:
            return True

    return evaluate_or_keep


class Deletes:
    """Tells of a data file which delete files speak of it."""

    def __init__(
        self, specs: Mapping[int, PartitionSpec], entries: Iterable[ManifestEntry]
    ) -> None:
        self._whole = {
            spec_id for spec_id, spec in specs.items() if spec.is_unpartitioned()
        }
        self._by_path: dict[bytes, list[ManifestEntry]] = defaultdict(list)
        self._by_partition: dict[PartitionKey, list[ManifestEntry]] = defaultdict(list)
        self._of_all: list[ManifestEntry] = []
        for entry in entries:
            self._add(entry)

    def _add(self, entry: ManifestEntry) -> None:
        file = entry.data_file
        low, high = _bounds(file)
        if file.content == DataFileContent.EQUALITY_DELETES:
            if file.spec_id in self._whole:
                self._of_all.append(entry)
                return
        elif low is not None and low == high:
            self._by_path[low].append(entry)
            return
        self._by_partition[partition_key(file)].append(entry)

    def of(self, entry: ManifestEntry) -> set[DataFile]:
        """The delete files that may say something of a data file."""
        path = entry.data_file.file_path.encode()
        found = (
            *self._by_path.get(path, ()),
            *self._by_partition.get(partition_key(entry.data_file), ()),
            *self._of_all,
        )
        return {each.data_file for each in found if _speaks_of(each, entry, path=path)}


def partition_key(file: DataFile) -> PartitionKey:
    """What tells the partition of a file from any other."""
    # By its words, for NaN does not equal itself.
    return file.spec_id, repr(file.partition)


def _bounds(file: DataFile) -> tuple[bytes | None, bytes | None]:
    """The least and the greatest path that a delete file names, as far as it says them."""
    low, high = (
        (bounds or {}).get(_PATH_ID)
        for bounds in (file.lower_bounds, file.upper_bounds)
    )
    return low, high


def _speaks_of(deletes: ManifestEntry, data: ManifestEntry, *, path: bytes) -> bool:
    if deletes.data_file.content == DataFileContent.EQUALITY_DELETES:
        return _sequence(data) < _sequence(deletes)
    low, high = _bounds(deletes.data_file)
    if low is not None and path < low:
        return False
    if high is not None and path > high and not path.startswith(high):
        return False
    return _sequence(data) <= _sequence(deletes)


# What manifests say.


class _Manifests:
    """What the last manifests said, which never change; safe for several threads."""

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self.size = size
        self.lock = Lock()
        self.held = 0
        self.seen: OrderedDict[str, tuple[int, list[ManifestEntry]]] = OrderedDict()

    def read(self, manifest: ManifestFile, *, io: FileIO) -> list[ManifestEntry]:
        """The files that a manifest names and that are still there."""
        path = manifest.manifest_path
        with self.lock:
            if path in self.seen:
                self.seen.move_to_end(path)
                return self.seen[path][1]
        entries = manifest.fetch_manifest_entry(io)
        self._keep(path, manifest.manifest_length, entries)
        return entries

    def _keep(self, path: str, size: int, entries: list[ManifestEntry]) -> None:
        with self.lock:
            if size > self.size or path in self.seen:
                return
            self.seen[path] = (size, entries)
            self.held += size
            while self.held > self.size:
                _, (gone, _) = self.seen.popitem(last=False)
                self.held -= gone


_MANIFESTS = _Manifests()


def _read_all(manifests: Iterable[ManifestFile], *, io: FileIO) -> Iterable[Any]:
    """The entries of each manifest; those in S3 are waited for together."""
    return ExecutorFactory.get_or_create().map(
        lambda manifest: _MANIFESTS.read(manifest, io=io), manifests
    )
