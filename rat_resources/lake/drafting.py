"""Drafting: a write that nobody else ever sees.

The tables are those of one commit; what is written goes into a folder of the caller's, and the
catalog forgets it with itself. So a draft is written like a run, by `strategies`, and can be tested.
"""

from pathlib import Path

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties

from rat_resources.lake.catalog import (
    RefCatalog,
    file_properties,
    table_key,
    table_response,
)
from rat_resources.lake.refs import Key, Refs

# They would lead out of the draft's own folder.
PLACES = ("write.data.path", "write.metadata.path")


class DraftCatalog(RefCatalog):
    """The tables at the place *at*, on which what is written lies in *folder* and nowhere else.

    What is there already lies in the *warehouse*.
    """

    def __init__(self, refs: Refs, *, at: str, folder: Path, warehouse: str) -> None:
        super().__init__(refs, ref=at, warehouse=folder, io=file_properties(warehouse))
        self.written: dict[Key, Table] = {}

    def load_table(self, identifier: str | Identifier) -> Table:
        """The table as it was drafted, else as it is there; its new files go into the folder."""
        key = table_key(identifier, NoSuchTableError)
        if key in self.written:
            return self.written[key]
        table = super().load_table(identifier)
        metadata = self.moved(key, table.metadata)
        return Table(key, metadata, table.metadata_location, table.io, self)

    def moved(self, key: Key, metadata: TableMetadata) -> TableMetadata:
        """*metadata* of a table that grows in the folder; the files that it has stay where they are."""
        database, name = self.identifier_to_database_and_table(key)
        kept = {
            name: value
            for name, value in metadata.properties.items()
            if name not in PLACES
        }
        location = self._resolve_table_location(None, database, name)
        return metadata.model_copy(update={"location": location, "properties": kept})

    def create_namespace_if_not_exists(
        self, namespace: str | Identifier, properties: Properties = EMPTY_DICT
    ) -> None:
        """Nothing: a draft lies where it pleases."""

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Apply *updates* to the draft."""
        key = table_key(table.name(), NoSuchTableError)
        try:
            current = self.load_table(key)
        except NoSuchTableError:
            current = None
        staged = self._update_and_stage_table(current, key, requirements, updates)
        self.written[key] = Table(
            key, staged.metadata, staged.metadata_location, staged.io, self
        )
        return table_response(staged)
