"""Committing: data files become one snapshot of a table.

What the files hold is `writing`; whether anybody sees the snapshot is for the catalog to say.
"""

from collections.abc import Sequence
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestFile
from pyiceberg.table import Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import (
    ExpireSnapshots,
    _ManifestMergeManager,
    _OverwriteFiles,
)

SNAPSHOTS_KEPT = 50
MANIFEST_SIZE = 8 * 1024 * 1024
MANIFESTS_UNMERGED = 100


def commit_files(
    transaction: Transaction,
    *,
    io: FileIO,
    added: Sequence[DataFile],
    removed: Sequence[DataFile],
) -> None:
    """Stage one snapshot that adds and removes these files, and let go of the oldest snapshots."""
    producer = _Replace(
        Operation.OVERWRITE if removed else Operation.APPEND, transaction, io
    )
    for file in added:
        producer.append_data_file(file)
    for file in removed:
        producer.delete_data_file(file)
    producer.commit()
    _let_go_of_snapshots(transaction)


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


class _Replace(_OverwriteFiles):
    """PyIceberg's overwrite, made to merge manifests and never to be repeated on another base.

    It leans on private names of PyIceberg 0.12; the tests of `commit_files` notice when they move.
    """

    def _validate_concurrency(self) -> None:
        # What we write was computed from the base, so nobody may have moved it meanwhile.
        if self._commit_window is not None and not self._commit_window.is_empty():
            message = "the table has changed since it was read"
            raise CommitFailedException(message)

    def _build_delete_files_partition_predicate(self) -> None:
        """Nothing: the files to delete are known by name (and NaN has no predicate)."""

    def _build_manifest_evaluator(self, spec_id: int) -> Any:  # noqa: ANN401, ARG002
        return lambda _manifest: bool(self._deleted_data_files)

    def _deleted_entries(self) -> list[ManifestEntry]:
        columns = {field.field_id for field in self.schema().fields}
        entries = super()._deleted_entries()
        # A spec whose column is gone cannot be written any more.
        readable = {
            spec_id
            for spec_id, spec in self._transaction.table_metadata.specs().items()
            if {field.source_id for field in spec.fields} <= columns
        }
        return [entry for entry in entries if entry.data_file.spec_id in readable]

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        alive = [
            manifest
            for manifest in manifests
            if manifest.added_snapshot_id == self._snapshot_id
            or manifest.has_added_files()
            or manifest.has_existing_files()
        ]
        merger: _ManifestMergeManager[_OverwriteFiles] = _ManifestMergeManager(
            target_size_bytes=MANIFEST_SIZE,
            min_count_to_merge=MANIFESTS_UNMERGED,
            merge_enabled=True,
            snapshot_producer=self,
        )
        data = [m for m in alive if m.content.name == "DATA"]
        return merger.merge_manifests(data) + [m for m in alive if m not in data]
