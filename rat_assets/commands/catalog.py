"""The published tables, as a list."""

from dataclasses import dataclass
from datetime import datetime

import click

from rat_assets.commands.display import count, moment, print_json, print_table, size
from rat_assets.commands.opening import open_platform
from rat_resources.lake.reading import row_count
from rat_resources.metadata.catalog import IcebergTable
from rat_resources.names import TableName
from rat_resources.platform import Platform


@dataclass(frozen=True)
class PublishedTable:
    """A table as it stands on main."""

    table: TableName
    rows: int
    snapshot_id: int | None
    columns: int
    size_bytes: int | None
    updated_at: datetime | None
    metadata_location: str

    @property
    def as_object(self) -> dict[str, object]:
        """The table as JSON has it; a snapshot is too long a number for most readers."""
        snapshot = None if self.snapshot_id is None else str(self.snapshot_id)
        return vars(self) | {"table": str(self.table), "snapshot_id": snapshot}


def tables(*, as_json: bool) -> None:
    """Print every published table."""
    found = published(open_platform())
    if as_json:
        print_json([each.as_object for each in found])
        return
    if not found:
        click.echo("no table is published yet; `rat run` makes some")
        return
    print_table(
        ("table", "rows", "columns", "size", "updated", "snapshot", "metadata.json"),
        [
            (
                str(each.table),
                count(each.rows),
                each.columns,
                size(each.size_bytes),
                moment(each.updated_at),
                str(each.snapshot_id or ""),
                each.metadata_location.removeprefix("file://"),
            )
            for each in found
        ],
    )


def published(whole: Platform) -> list[PublishedTable]:
    """Every table on main, by name; what only Postgres knows beside it."""
    loaded = whole.lake.tables(whole.lake.published())
    with whole.metadata.transaction() as tx:
        known = {name: tx.get(IcebergTable, name.key) for name in loaded}
    found = []
    for name, table in sorted(loaded.items()):
        snapshot = table.current_snapshot()
        row = known[name]
        found.append(
            PublishedTable(
                table=name,
                rows=row_count(table),
                snapshot_id=snapshot.snapshot_id if snapshot else None,
                columns=len(table.schema().fields),
                size_bytes=row.size_bytes if row else None,
                updated_at=row.updated_at if row else None,
                metadata_location=table.metadata_location,
            )
        )
    return found
