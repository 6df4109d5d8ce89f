"""Rebasing: an append that lost a race is put on top of what others have published meanwhile.

Only where nothing but rows was added on both sides, which is seen from the metadata of the three tables:
as both began, as we wrote it, as it stands on main. The very same data files are appended once more;
no row is written anew. Anything else is computed again, or is a conflict that people are shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

from rat_resources.lake.committing import SAME_ROWS
from rat_resources.lake.reading import row_count
from rat_resources.lake.target import open_target

PLAIN = (Operation.APPEND, Operation.REPLACE)


@dataclass(frozen=True)
class Sides:
    """One table thrice: as both sides found it, as we wrote it, as others published it."""

    base: Table
    ours: Table
    theirs: Table

    @property
    def refusal(self) -> str | None:
        """Why our rows cannot just be added to theirs; None: they can."""
        for whose, table in (("we", self.ours), ("they", self.theirs)):
            if shape(table) != shape(self.base):
                return f"{whose} changed its columns or its partitions"
            snapshots = since(table, base=self.base)
            if snapshots is None:
                return f"nobody can tell what {whose} did to its rows"
            if not all(map(is_plain, snapshots)):
                return f"{whose} did not only add rows"
        return None

    def reapply(self, onto: Table) -> Table:
        """Append the files that we wrote to *onto*, which is theirs on a branch of our own."""
        files = added_files(self.ours, base=self.base)
        committed = open_target(onto).commit(added=files, removed=())
        return committed if committed is not None else onto


def shape(table: Table) -> tuple[object, ...]:
    """What makes a data file of one table a data file of another."""
    metadata = table.metadata
    fields = [
        (f.field_id, f.name, f.field_type, f.required) for f in table.schema().fields
    ]
    specs = {spec_id: spec.fields for spec_id, spec in metadata.specs().items()}
    return (
        metadata.table_uuid,
        fields,
        metadata.last_column_id,
        specs,
        metadata.default_spec_id,
    )


def since(table: Table, *, base: Table) -> list[Snapshot] | None:
    """The snapshots from *base* to *table*, the newest first; None where one of them is unknown.

    Other writers cut the list of snapshots, and then a parent is missing, or the count is wrong.
    """
    first, current = base.current_snapshot(), table.current_snapshot()
    found = []
    while current is not None and (
        first is None or current.snapshot_id != first.snapshot_id
    ):
        found.append(current)
        parent = current.parent_snapshot_id
        current = None if parent is None else table.snapshot_by_id(parent)
    is_whole = (current is None) == (first is None)
    made = table.last_sequence_number - base.last_sequence_number
    return found if is_whole and made == len(found) else None


def is_plain(snapshot: Snapshot) -> bool:
    """Whether a snapshot only added rows, or wrote the same rows to other files."""
    summary = snapshot.summary
    if summary is None or summary.operation not in PLAIN:
        return False
    if summary.operation == Operation.REPLACE:
        return summary[SAME_ROWS] is not None or keeps_number(summary)
    changing = (summary["deleted-data-files"], summary["added-delete-files"])
    return all((number or "0") == "0" for number in changing)


def keeps_number(summary: Summary) -> bool:
    """Whether a snapshot added as many rows as it removed, those left out that were dead before."""
    added, removed, dead, died = (
        int(summary[each] or "0")
        for each in (
            "added-records",
            "deleted-records",
            "removed-position-deletes",
            "added-position-deletes",
        )
    )
    by_value = summary["removed-equality-deletes"] or "0"
    return by_value == "0" and added - died == removed - dead


def added_files(table: Table, *, base: Table) -> list[DataFile]:
    """The data files that *table* has more than *base*, by appends alone."""
    return [
        entry.data_file
        for snapshot in since(table, base=base) or ()
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.status == ManifestEntryStatus.ADDED
        and entry.snapshot_id == snapshot.snapshot_id
    ]


# Shown to people.


def describe(table: Table | None, *, base: Table | None) -> str:
    """What one side made of the table that both found: its rows, its snapshots, its columns."""
    if table is None:
        return "dropped it" if base is not None else "nothing"
    if base is None:
        return f"made it, with {row_count(table):,} rows"
    return "; ".join(
        [*describe_rows(table, base=base), *describe_columns(table, base=base)]
    )


def describe_rows(table: Table, *, base: Table) -> Iterator[str]:
    """The snapshots that a side made, and the rows before and after."""
    snapshots = since(table, base=base)
    rows = f"{row_count(base):,} → {row_count(table):,} rows"
    if snapshots is None:
        yield f"{rows} by snapshots that nobody knows any more"
        return
    operations = [
        each.summary.operation.value if each.summary else "unknown"
        for each in reversed(snapshots)
    ]
    yield f"{rows} by {', '.join(operations) or 'no snapshot'}"


def describe_columns(table: Table, *, base: Table) -> Iterator[str]:
    """The columns that a side added, dropped or changed."""
    now = {f.name: f for f in table.schema().fields}
    then = {f.name: f for f in base.schema().fields}
    for name in sorted(now.keys() - then.keys()):
        yield f"added column {name} {now[name].field_type}"
    for name in sorted(then.keys() - now.keys()):
        yield f"dropped column {name}"
    for name in sorted(now.keys() & then.keys()):
        if now[name] != then[name]:
            yield f"changed column {name} from {then[name]} to {now[name]}"
    if table.metadata.table_uuid != base.metadata.table_uuid:
        yield "made it anew"
