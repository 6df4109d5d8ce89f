"""Outside commits: what other engines did to tables on main.

A commit that bears no id of ours is somebody else's. Rows that it only added, or wrote to other files,
make nothing wrong that was right before; of all others the readers are told, once for each snapshot,
as of a correction. Which rows those are is told by the partitions of the files, else it is all.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from sqlalchemy import text

from rat_resources import invalidations, propagation, row_filters
from rat_resources.errors import NotFoundError
from rat_resources.lake import rebasing
from rat_resources.lake.differing import Difference
from rat_resources.lake.partitions import part_name
from rat_resources.lake.refs import MAIN, Commit, IcebergTable, Key, Put
from rat_resources.lake.types import sql_type
from rat_resources.maintenance.records import MAINTENANCE
from rat_resources.names import LAYERS, TableName
from rat_resources.platform import Platform
from rat_resources.publishing import RUN_ID
from rat_resources.row_filters import WHOLE, RowFilter
from rat_resources.runs import Pin

OURS = {RUN_ID, MAINTENANCE}  # what tells a commit of RAT's own
MOST_VALUES = 1_000  # of a partition's column
NAMESPACE = uuid.UUID("5a5f2b57-3d5c-5b0e-9a51-0d2b6f1c9b33")


@dataclass(frozen=True)
class Change:
    """A table that somebody else put another version of on main."""

    table: TableName
    commit: str
    before: IcebergTable
    after: IcebergTable


def look(whole: Platform, *, since: str | None) -> tuple[str, list[TableName]]:
    """Where main is, and the tables that were found to have other rows by somebody else's hand.

    Everything after the commit *since* is looked at; without one, whatever is not as it was published.
    Looking twice finds the same, once.
    """
    head = whole.lake.refs.head(MAIN)
    if head == since:
        return head, []
    changes = (
        unpublished(whole, head) if since is None else committed(whole, head, since)
    )
    return head, [each.table for each in changes if tell(whole, each)]


def committed(whole: Platform, head: str, since: str) -> Iterator[Change]:
    """What commits that are no run's put on main, the oldest first."""
    history = whole.lake.refs.history(f"@{head}", until=since)
    # However long nobody looked: of runs' commits nothing is kept.
    others = [each for each in history if not OURS & each.properties.keys()]
    for commit in reversed(others):
        if commit.parents:
            yield from changes_of(whole, commit)


def changes_of(whole: Platform, commit: Commit) -> Iterator[Change]:
    """The tables that a commit put another version of."""
    put = {
        each.key: each.content
        for each in commit.operations
        if isinstance(each, Put) and isinstance(each.content, IcebergTable)
    }
    before = whole.lake.refs.contents(put, at=f"@{commit.parents[0]}")
    for key, after in put.items():
        was = before.get(key)
        if is_table(key) and isinstance(was, IcebergTable) and was != after:
            yield Change(TableName(*key), commit.hash, was, after)


def is_table(key: Key) -> bool:
    """Whether a key is that of a table of ours."""
    return len(key) == len(TableName.__dataclass_fields__) and key[1] in LAYERS


def unpublished(whole: Platform, head: str) -> Iterator[Change]:
    """The tables that are not as their last publication left them, unless one is under way."""
    with whole.metadata.transaction() as tx:
        known = tx.execute(PUBLISHED).all()
    keys = {(row.namespace, row.layer, row.name): row for row in known}
    now = whole.lake.refs.contents(keys, at=f"@{head}")
    for key, row in keys.items():
        after = now.get(key)
        if (
            isinstance(after, IcebergTable)
            and after.metadata_location != row.metadata_location
        ):
            before = IcebergTable(row.metadata_location, row.snapshot_id or -1)
            yield Change(TableName(*key), head, before, after)


PUBLISHED = text("""
    SELECT known.*
    FROM rat.iceberg_tables AS known
    WHERE NOT EXISTS (
        SELECT FROM rat.publications AS publication
        JOIN rat.pipelines AS pipeline ON pipeline.id = publication.pipeline_id
        WHERE publication.state IN ('intended', 'merging', 'undoing')
            AND (pipeline.namespace, pipeline.layer, pipeline.name)
                = (known.namespace, known.layer, known.name)
    )
""")


def tell(whole: Platform, change: Change) -> bool:
    """Invalidate what a change made other rows of; whether it is news."""
    catalog = whole.lake.catalog(MAIN)
    key = change.table.key
    after = catalog.load_table_at(key, change.after)
    try:
        before = catalog.load_table_at(key, change.before)
        snapshots = rebasing.since(after, base=before)
        rows = changed_rows(before, after)
    except OSError:  # its files were removed since
        snapshots, rows = None, WHOLE
    if snapshots is not None and all(map(rebasing.is_plain, snapshots)):
        return False
    was = Pin(change.table, change.before.metadata_location, change.before.snapshot_id)
    new_id = uuid.uuid5(
        NAMESPACE, f"{after.metadata.table_uuid}/{change.after.metadata_location}"
    )
    with whole.metadata.transaction() as tx:
        try:
            made = invalidations.invalidate(
                tx,
                change.table,
                reason="correction",
                rows=rows,
                source_event={
                    "commit": change.commit,
                    "snapshot_before": invalidations.pin_json(was),
                    "snapshot_after": change.after.snapshot_id,
                },
                new_id=new_id,
            )
        except NotFoundError:
            return False  # nothing of ours reads what nothing of ours writes
        if made is not None:
            propagation.route(tx, ids=[made])
    return made is not None


def changed_rows(before: Table, after: Table) -> RowFilter:
    """Rows among which are all that differ, by the partitions of the files that do."""
    if before.metadata.table_uuid != after.metadata.table_uuid:
        return WHOLE
    difference = Difference(before, after)
    words = [words_of(file, after) for file in difference.here]
    words += [words_of(task.file, before) for task in difference.gone.values()]
    shared = set.intersection(*map(set, words)) if words else set()
    columns = {f.name: sql_type(f.field_type) for f in after.schema().fields}
    asked = {}
    for column in sorted(shared):
        values = [
            row_filters.of_partition(word, parts=(column,), columns=columns)
            for word in {each[column] for each in words}
        ]
        if len(values) <= MOST_VALUES and not any(each.is_whole for each in values):
            asked[column] = [each.to_json()[column] for each in values]
    return row_filters.parse(asked, columns=columns)


def words_of(file: DataFile, table: Table) -> dict[str, str]:
    """The values of the columns by which a file's rows are divided as they are."""
    spec = table.metadata.specs()[file.spec_id]
    columns = {field.field_id: field for field in table.schema().fields}
    return {
        columns[field.source_id].name: part_name(
            [file.partition[position]], [columns[field.source_id]]
        )
        for position, field in enumerate(spec.fields)
        if isinstance(field.transform, IdentityTransform) and field.source_id in columns
    }
