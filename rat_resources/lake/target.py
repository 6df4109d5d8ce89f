"""Targets: the table that one write changes, its columns and partitions already as they will be.

Everything staged here becomes visible in one commit, or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    SetCurrentSchemaUpdate,
    SetDefaultSpecUpdate,
    TableUpdate,
)

from rat_resources.lake.partitioning import PartitionField, partition_spec
from rat_resources.lake.reading import Tasks
from rat_resources.lake.writing import TABLE_PROPERTIES, commit_files
from rat_resources.names import TableName


def find_table(catalog: Catalog, table_name: TableName) -> Table | None:
    """The table, if the catalog has it."""
    try:
        return catalog.load_table(table_name.key)
    except NoSuchTableError:
        return None


@dataclass(frozen=True)
class Target:
    """A table in the middle of a write; nobody else sees anything of it before `commit`."""

    transaction: Transaction
    table: Table | None

    @property
    def metadata(self) -> TableMetadata:
        """The table as it will be."""
        return self.transaction.table_metadata

    @property
    def schema(self) -> Schema:
        """The columns that the table will have."""
        return self.metadata.schema()

    @property
    def io(self) -> FileIO:
        """Where its files are."""
        return self.transaction._table.io  # noqa: SLF001 - a staged table is reachable only here

    def plan(self, condition: BooleanExpression | None = None) -> Tasks:
        """The files that may hold rows for which *condition* holds, numbered."""
        if self.table is None:
            return {}
        scan = DataScan(self.metadata, self.io, condition or AlwaysTrue())
        return dict(enumerate(scan.plan_files()))

    def commit(
        self, *, added: Sequence[DataFile], removed: Sequence[DataFile]
    ) -> Table | None:
        """Make everything visible at once; the table, or None when there was nothing to do."""
        if added or removed:
            commit_files(self.transaction, io=self.io, added=added, removed=removed)
        if self.table is not None and not self.transaction._updates:  # noqa: SLF001 - the only place that knows
            return None
        return self.transaction.commit_transaction()


def create_target(
    catalog: Catalog,
    table_name: TableName,
    *,
    schema: Schema,
    partition_by: Sequence[PartitionField],
) -> Target:
    """A table that does not exist yet, with the namespaces that it needs."""
    catalog.create_namespace_if_not_exists(table_name.key[:1])
    catalog.create_namespace_if_not_exists(table_name.key[:2])
    transaction = catalog.create_table_transaction(
        table_name.key,
        schema,
        partition_spec=partition_spec(partition_by, schema=schema),
        properties=dict(TABLE_PROPERTIES),
    )
    return Target(transaction, None)


def change_target(
    table: Table, *, schema: Schema, partition_by: Sequence[PartitionField]
) -> Target:
    """The table with the columns of *schema*, its new rows divided by *partition_by*."""
    transaction = table.transaction()
    _stage_schema(transaction, schema)
    spec = partition_spec(partition_by, schema=schema, metadata=table.metadata)
    _stage_spec(transaction, spec)
    return Target(transaction, table)


def _stage_schema(transaction: Transaction, schema: Schema) -> None:
    metadata = transaction.table_metadata
    if schema.fields == metadata.schema().fields:
        return
    same = [s.schema_id for s in metadata.schemas if s.fields == schema.fields]
    new_id = 1 + max(s.schema_id for s in metadata.schemas)
    updates: tuple[TableUpdate, ...] = (
        (SetCurrentSchemaUpdate(schema_id=same[0]),)
        if same
        else (
            AddSchemaUpdate(schema=Schema(*schema.fields, schema_id=new_id)),
            SetCurrentSchemaUpdate(schema_id=-1),
        )
    )
    # UpdateSchema has no way to replace a column by one of the same name.
    transaction._stage(  # noqa: SLF001
        updates, (AssertCurrentSchemaId(current_schema_id=metadata.current_schema_id),)
    )


def _stage_spec(transaction: Transaction, spec: PartitionSpec) -> None:
    metadata = transaction.table_metadata
    if spec.fields == metadata.spec().fields:
        return
    updates: tuple[TableUpdate, ...] = (
        (SetDefaultSpecUpdate(spec_id=spec.spec_id),)
        if spec.spec_id in metadata.specs()
        else (AddPartitionSpecUpdate(spec=spec), SetDefaultSpecUpdate(spec_id=-1))
    )
    transaction._stage(  # noqa: SLF001 - UpdateSpec refuses some changes of order and name
        updates, (AssertDefaultSpecId(default_spec_id=metadata.default_spec_id),)
    )
