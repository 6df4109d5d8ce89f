"""Committing: data files and delete files become one snapshot of a table.

What the files hold is `writing` and `positions`; whether anybody sees the snapshot is for the catalog
to say.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from pyiceberg.exceptions import CommitFailedException, ValidationError
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    Summary,
    UpdateMetrics,
    update_snapshot_summaries,
)
from pyiceberg.table.update import RemoveSchemasUpdate, TableUpdate
from pyiceberg.table.update.snapshot import (
    ExpireSnapshots,
    _ManifestMergeManager,
    _OverwriteFiles,
)
from pyiceberg.typedef import EMPTY_DICT

from rat_resources.lake.planning import Deletes

SNAPSHOTS_KEPT = 50
MANIFEST_SIZE = 8 * 1024 * 1024
MANIFESTS_UNMERGED = 100
ROWS = (
    "rat.rows"  # how many rows a snapshot of ours has, those that are deleted left out
)
SAME_ROWS = "rat.same-rows-as"  # the snapshot that one of the same rows replaced

# Type checkers know pydantic's models by their aliases only, which are no Python names.
_REMOVE_SCHEMAS: Callable[..., TableUpdate] = RemoveSchemasUpdate
_KINDS = {True: ManifestContent.DATA, False: ManifestContent.DELETES}


def commit_files(
    transaction: Transaction,
    *,
    io: FileIO,
    added: Sequence[DataFile],
    removed: Sequence[DataFile],
    deletes: Sequence[DataFile] = (),
    rows: int | None = None,
    operation: Operation | None = None,
    places: Mapping[str, Sequence[DataFile]] | None = None,
) -> None:
    """Stage one snapshot that adds and removes these files, and let go of the oldest snapshots.

    *deletes* are the delete files that are added; *removed* may hold both kinds. Delete files that
    speak of removed data files alone go with them. *rows* are those that the table then has.
    Added files are what was written last, but for those in *places*: they are as old as the removed
    file of that path.
    """
    usual = Operation.OVERWRITE if removed or deletes else Operation.APPEND
    properties = {} if rows is None else {ROWS: str(rows)}
    if operation is Operation.REPLACE:
        properties[SAME_ROWS] = str(original_snapshot(transaction.table_metadata))
    producer = _Replace(
        operation or usual, transaction, io, snapshot_properties=properties
    )
    producer.places = places or {}
    for file in added:
        file.spec_id = transaction.table_metadata.default_spec_id
    for file in (*added, *deletes):
        producer.append_data_file(file)
    for file in removed:
        producer.delete_data_file(file)
    producer.commit()
    _let_go_of_snapshots(transaction)
    _let_go_of_schemas(transaction)


def original_snapshot(metadata: TableMetadata) -> int | None:
    """The current snapshot, or the one with the same rows that it replaced at last."""
    snapshot = metadata.current_snapshot()
    if snapshot is None:
        return None
    same = snapshot.summary[SAME_ROWS] if snapshot.summary else None
    return int(same) if same else snapshot.snapshot_id


def _let_go_of_snapshots(transaction: Transaction) -> None:
    # The cost of a commit follows the number of snapshots; a commit of its own for this would
    # conflict with every open run.
    metadata = transaction.table_metadata
    protected = {ref.snapshot_id for ref in metadata.refs.values()}
    old = sorted(metadata.snapshots, key=lambda s: s.sequence_number or 0)
    gone = [
        snapshot.snapshot_id
        for snapshot in old[: max(0, len(old) - SNAPSHOTS_KEPT)]
        if snapshot.snapshot_id not in protected
    ]
    if gone:
        ExpireSnapshots(transaction).by_ids(gone).commit()


def _let_go_of_schemas(transaction: Transaction) -> None:
    """Forget the sets of columns that no snapshot has; the newest one, so that no id comes twice."""
    metadata = transaction.table_metadata
    if any(map(_has_equality_deletes, metadata.snapshots)):
        return  # they may speak of columns that only an old schema knows
    used = {snapshot.schema_id for snapshot in metadata.snapshots}
    used |= {metadata.current_schema_id, max(s.schema_id for s in metadata.schemas)}
    gone = [s.schema_id for s in metadata.schemas if s.schema_id not in used]
    if gone:
        transaction._apply((_REMOVE_SCHEMAS(schema_ids=gone),))  # noqa: SLF001 - it has no other


def _has_equality_deletes(snapshot: Snapshot) -> bool:
    summary = snapshot.summary
    return summary is None or summary["total-equality-deletes"] != "0"


class _Replace(_OverwriteFiles):
    """PyIceberg's overwrite, made to write deletes, to merge manifests, and never to be repeated.

    It leans on private names of PyIceberg 0.12; the tests of `commit_files` notice when they move.
    """

    places: Mapping[str, Sequence[DataFile]] = MappingProxyType({})

    def _validate_concurrency(self) -> None:
        # What we write was computed from the base, so nobody may have moved it meanwhile.
        if self._commit_window is not None and not self._commit_window.is_empty():
            message = "the table has changed since it was read"
            raise CommitFailedException(message)

    def _build_delete_files_partition_predicate(self) -> None:
        """Nothing: the files to delete are known by name (and NaN has no predicate)."""

    def _manifests(self) -> list[ManifestFile]:
        known = self._known_manifests()
        kept: list[ManifestFile] = []
        leaving: list[ManifestEntry] = []
        for manifest, entries in self._leaving(known):
            leaving += entries
            kept += self._without(manifest, entries) if entries else [manifest]
        self._validate_required_deletes(leaving)
        placed = self._placed(leaving)
        added = [
            self._added_entry(each)
            for each in self._added_data_files
            if each not in placed
        ]
        # A spec whose column is gone cannot be written any more.
        gone = [
            self._deleted_entry(entry)
            for entry in leaving
            if self._is_writable(entry.data_file.spec_id)
        ]
        written = [
            self._write_manifest(entries, spec_id=spec_id, content=content)
            for each in (added, gone)
            for (content, spec_id), entries in _by_manifest(each).items()
        ]
        self._deleted_data_files |= {entry.data_file for entry in leaving}
        return self._merged([*written, *kept])

    def _known_manifests(self) -> list[ManifestFile]:
        """The manifests of the base that still name a file."""
        metadata = self._transaction.table_metadata
        if self._parent_snapshot_id is None:
            return []
        snapshot = metadata.snapshot_by_id(self._parent_snapshot_id)
        return [
            manifest
            for manifest in (snapshot.manifests(self._io) if snapshot else ())
            if manifest.has_added_files() or manifest.has_existing_files()
        ]

    def _leaving(
        self, known: Sequence[ManifestFile]
    ) -> Iterator[tuple[ManifestFile, list[ManifestEntry]]]:
        """Each manifest of the base, with those of its files that leave the table.

        Nothing is read of manifests that can hold none of them.
        """
        gone = self._deleted_data_files
        has_data = any(map(_is_data, gone))
        read = {
            manifest.manifest_path: self.fetch_manifest_entry(manifest)
            for manifest in known
            if gone and (has_data or manifest.content == ManifestContent.DELETES)
        }
        entries = [entry for each in read.values() for entry in each]
        deletes = Deletes(
            self._transaction.table_metadata.specs(),
            [entry for entry in entries if not _is_data(entry.data_file)],
        )
        needed = {
            file
            for entry in entries
            if _is_data(entry.data_file) and entry.data_file not in gone
            for file in deletes.of(entry)
        }
        for manifest in known:
            yield (
                manifest,
                [
                    entry
                    for entry in read.get(manifest.manifest_path, ())
                    if entry.data_file in gone
                    or (
                        has_data
                        and not _is_data(entry.data_file)
                        and entry.data_file not in needed
                    )
                ],
            )

    def _without(
        self, manifest: ManifestFile, leaving: Sequence[ManifestEntry]
    ) -> list[ManifestFile]:
        """The manifest written anew for the files that stay; none where none does."""
        gone = {entry.data_file for entry in leaving}
        placed = self._placed(leaving)
        staying: list[ManifestEntry] = []
        for entry in self.fetch_manifest_entry(manifest):
            if entry.data_file not in gone:
                existing = ManifestEntryStatus.EXISTING
                snapshot = entry.snapshot_id
                staying.append(_entry_as(existing, entry, snapshot=snapshot))
            elif placed:
                files = self.places.get(entry.data_file.file_path, ())
                staying += [
                    self._added_entry(each, sequence=entry.sequence_number)
                    for each in files
                    if each in placed
                ]
        if not staying:
            return []
        spec_id = manifest.partition_spec_id
        return [
            self._write_manifest(staying, spec_id=spec_id, content=manifest.content)
        ]

    def _placed(self, leaving: Iterable[ManifestEntry]) -> set[DataFile]:
        """The added files that stand where those that leave stood; a manifest is of one spec."""
        return {
            file
            for entry in leaving
            for file in self.places.get(entry.data_file.file_path, ())
            if file.spec_id == entry.data_file.spec_id
        }

    def _is_writable(self, spec_id: int) -> bool:
        columns = {field.field_id for field in self.schema().fields}
        return {field.source_id for field in self.spec(spec_id).fields} <= columns

    def _added_entry(
        self, file: DataFile, *, sequence: int | None = None
    ) -> ManifestEntry:
        return ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED,
            snapshot_id=self._snapshot_id,
            sequence_number=sequence,
            file_sequence_number=None,
            data_file=file,
        )

    def _deleted_entry(self, entry: ManifestEntry) -> ManifestEntry:
        return _entry_as(ManifestEntryStatus.DELETED, entry, snapshot=self._snapshot_id)

    def _write_manifest(
        self,
        entries: Iterable[ManifestEntry],
        *,
        spec_id: int,
        content: ManifestContent,
    ) -> ManifestFile:
        spec = self.spec(spec_id)
        with self._manifest_writer(spec=spec, content=content) as writer:
            for entry in entries:
                writer.add_entry(entry)
        return writer.to_manifest_file()

    def _manifest_writer(
        self, spec: PartitionSpec, *, content: ManifestContent
    ) -> ManifestWriter:
        # The manifests of format 1 say it by a number.
        if content == ManifestContent.DATA:
            return self.new_manifest_writer(spec)
        if self._transaction.table_metadata.format_version != 2:  # noqa: PLR2004
            message = "deletes can be written to tables of format version 2 only"
            raise ValidationError(message)
        return _DeletesWriter(
            spec,
            self.schema(),
            self.new_manifest_output(),
            self._snapshot_id,
            self._compression,
        )

    def _merged(self, manifests: Sequence[ManifestFile]) -> list[ManifestFile]:
        """The manifests, many small ones put together; PyIceberg would leave those of deletes."""
        merged = []
        for content in (ManifestContent.DATA, ManifestContent.DELETES):
            side: Any = _Side(self, content)
            merger: _ManifestMergeManager[_OverwriteFiles] = _ManifestMergeManager(
                target_size_bytes=MANIFEST_SIZE,
                min_count_to_merge=MANIFESTS_UNMERGED,
                merge_enabled=True,
                snapshot_producer=side,
            )
            merged += merger.merge_manifests(
                [m for m in manifests if m.content == content]
            )
        return merged

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        # PyIceberg's takes every added file for one of the newest spec, and knows no `replace`.
        metrics = UpdateMetrics()
        for file in self._added_data_files:
            metrics.add_file(file)
        for file in self._deleted_data_files:
            metrics.remove_file(file)
        touched = {
            (file.spec_id, file.partition)
            for file in (*self._added_data_files, *self._deleted_data_files)
            if len(file.partition)
        }
        partitions = {"changed-partition-count": str(len(touched))} if touched else {}
        metadata = self._transaction.table_metadata
        parent = self._parent_snapshot_id
        previous = None if parent is None else metadata.snapshot_by_id(parent)
        summary = update_snapshot_summaries(
            Summary(
                Operation.OVERWRITE,
                **metrics.to_dict(),
                **partitions,
                **snapshot_properties,
            ),
            previous_summary=previous.summary if previous else None,
        )
        return Summary(self._operation, **summary.additional_properties)


class _Side:
    """What PyIceberg's merging of manifests asks of a snapshot, for manifests of one content."""

    def __init__(self, producer: _Replace, content: ManifestContent) -> None:
        self.new_manifest_writer: Callable[..., ManifestWriter] = partial(
            producer._manifest_writer,  # noqa: SLF001 - ours
            content=content,
        )
        self.spec = producer.spec
        self.fetch_manifest_entry = producer.fetch_manifest_entry
        self.snapshot_id = producer.snapshot_id


class _DeletesWriter(ManifestWriterV2):
    """A manifest of delete files; PyIceberg's says of itself that its files hold data."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def _is_data(file: DataFile) -> bool:
    return file.content == DataFileContent.DATA


def _by_manifest(
    entries: Iterable[ManifestEntry],
) -> Mapping[tuple[ManifestContent, int], list[ManifestEntry]]:
    """The entries as they go into manifests: each has one content and one spec."""
    groups: dict[tuple[ManifestContent, int], list[ManifestEntry]] = defaultdict(list)
    for entry in entries:
        file = entry.data_file
        groups[_KINDS[_is_data(file)], file.spec_id].append(entry)
    return groups


def _entry_as(
    status: ManifestEntryStatus, entry: ManifestEntry, *, snapshot: int | None
) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=status,
        snapshot_id=snapshot,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=entry.data_file,
    )
