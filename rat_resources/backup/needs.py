"""What a backup needs of the lake's files: the tables on its branches, which the collector then spares.

It is written down before the backup bears its name; a restore of an earlier one forgets it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, text

from rat_resources.lake.refs import IcebergTable, Reference, Refs
from rat_resources.metadata import Metadata
from rat_resources.metadata.base import Json
from rat_resources.metadata.collection import Backup

HEADS = text("SELECT DISTINCT hash FROM lake.refs ORDER BY hash")


def heads_of(
    connection: Connection, references: Sequence[Reference] | None
) -> list[str]:
    """The commits that the branches of a backup point to, a server's or those in its tables."""
    if references is None:
        return list(connection.scalars(HEADS))
    return sorted({each.hash for each in references})


def tables_at(refs: Refs, heads: Sequence[str]) -> Iterator[Json]:
    """Every state of a table at these commits, once."""
    seen: set[str] = set()
    for head in heads:
        for entry in refs.entries(at=f"@{head}"):
            content = entry.content
            if not isinstance(content, IcebergTable):
                continue
            if content.metadata_location not in seen:
                seen.add(content.metadata_location)
                yield {
                    "table": ".".join(entry.key),
                    "metadata_location": content.metadata_location,
                    "snapshot_id": content.snapshot_id,
                }


def record(
    metadata: Metadata, path: Path, *, made_at: datetime, tables: Sequence[Json]
) -> None:
    """Let the collector spare what a backup needs."""
    with metadata.transaction() as tx:
        where = str(path.absolute())
        tx.add(Backup(made_at=made_at, path=where, tables=list(tables)))
