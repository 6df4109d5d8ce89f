"""Targets: the table that one write changes, its columns and partitions already as they will be.

Everything staged here becomes visible in one commit, or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSortOrderUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)

from rat_resources.errors import StoreError
from rat_resources.lake.committing import commit_files
from rat_resources.lake.partitioning import PartitionField, partition_spec
from rat_resources.lake.planning import plan
from rat_resources.lake.reading import Tasks, row_count, select_rows
from rat_resources.lake.sorting import SortField, sort_order
from rat_resources.lake.writing import FORMAT, TABLE_PROPERTIES, TARGET_SIZE
from rat_resources.names import TableName

# Type checkers know pydantic's models by their aliases only, which are no Python names.
_ADD_SCHEMA: Callable[..., TableUpdate] = AddSchemaUpdate
_SET_SCHEMA: Callable[..., TableUpdate] = SetCurrentSchemaUpdate
_ADD_ORDER: Callable[..., TableUpdate] = AddSortOrderUpdate
_SET_ORDER: Callable[..., TableUpdate] = SetDefaultSortOrderUpdate
_ADD_SPEC: Callable[..., TableUpdate] = AddPartitionSpecUpdate
_SET_SPEC: Callable[..., TableUpdate] = SetDefaultSpecUpdate
_UPGRADE: Callable[..., TableUpdate] = UpgradeFormatVersionUpdate
_AT_SCHEMA: Callable[..., TableRequirement] = AssertCurrentSchemaId
_AT_SPEC: Callable[..., TableRequirement] = AssertDefaultSpecId
_LAYOUT = (
    AddSortOrderUpdate,
    SetDefaultSortOrderUpdate,
    SetPropertiesUpdate,
    UpgradeFormatVersionUpdate,
)


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
        return dict(enumerate(plan(self.metadata, io=self.io, where=condition)))

    def rows(
        self,
        connection: DuckDBPyConnection,
        tasks: Tasks,
        *,
        columns: Sequence[str] | None = None,
    ) -> str:
        """A query for the rows of *tasks*, or some columns of them, each with its FILE and POSITION."""
        schema = self.schema
        return select_rows(
            connection,
            tasks,
            schema=schema if columns is None else schema.select(*columns),
            metadata=self.metadata,
            io=self.io,
            positions=True,
        )

    def commit(
        self,
        *,
        added: Sequence[DataFile],
        removed: Sequence[DataFile],
        deletes: Sequence[DataFile] = (),
        rows: int | None = None,
        operation: Operation | None = None,
        places: Mapping[str, Sequence[DataFile]] | None = None,
    ) -> Table | None:
        """Make everything visible at once; the table, or None when there was nothing to do.

        *rows* are those that the table then has. They must be told where rows are deleted, or files
        go from a table with deletes, unless the rows stay the same (a *replace* operation). Added
        files in *places* are as old as the removed file of that path.
        """
        if added or removed or deletes:
            if rows is None:
                rows = self._rows_then(
                    added=added, removed=removed, deletes=deletes, operation=operation
                )
            commit_files(
                self.transaction,
                io=self.io,
                added=added,
                removed=removed,
                deletes=deletes,
                rows=rows,
                operation=operation,
                places=places,
            )
        # How files are laid out matters to those that are written, and is told with them.
        if self.table is not None and all(
            isinstance(update, _LAYOUT)
            for update in self.transaction._updates  # noqa: SLF001 - the only place that knows
        ):
            return None
        return self.transaction.commit_transaction()

    def _rows_then(
        self,
        *,
        added: Sequence[DataFile],
        removed: Sequence[DataFile],
        deletes: Sequence[DataFile],
        operation: Operation | None,
    ) -> int:
        before = 0 if self.table is None else row_count(self.table)
        if operation is Operation.REPLACE:
            return before
        tasks = self.plan().values() if removed else ()
        if deletes or any(task.delete_files for task in tasks):
            message = "say how many rows the table then has"
            raise ValueError(message)
        after = before + sum(file.record_count for file in added)
        return after - sum(file.record_count for file in removed)


def create_target(
    catalog: Catalog,
    table_name: TableName,
    *,
    schema: Schema,
    partition_by: Sequence[PartitionField],
    sort_by: Sequence[SortField] = (),
    file_size: int | None = None,
) -> Target:
    """A table that does not exist yet, with the namespaces that it needs."""
    catalog.create_namespace_if_not_exists(table_name.key[:1])
    catalog.create_namespace_if_not_exists(table_name.key[:2])
    transaction = catalog.create_table_transaction(
        table_name.key,
        schema,
        partition_spec=partition_spec(partition_by, schema=schema),
        sort_order=sort_order(sort_by, schema=schema),
        properties=TABLE_PROPERTIES | _size_property(file_size),
    )
    return Target(transaction, None)


def open_target(table: Table) -> Target:
    """The table with the columns and partitions that it has."""
    return Target(_begin(table), table)


def change_target(
    table: Table,
    *,
    schema: Schema,
    partition_by: Sequence[PartitionField],
    sort_by: Sequence[SortField] = (),
    file_size: int | None = None,
) -> Target:
    """The table with the columns of *schema*, its new rows divided and sorted by these columns."""
    metadata = table.metadata
    spec = partition_spec(partition_by, schema=schema, metadata=metadata)
    order = sort_order(sort_by, schema=schema, metadata=metadata)
    updates = (
        *_schema_updates(metadata, schema),
        *_spec_updates(metadata, spec),
        *_order_updates(metadata, order),
        *_size_updates(metadata, file_size),
    )
    transaction = _begin(table)
    if updates:
        # Staged together: a spec may name a column that only this schema has. UpdateSchema and
        # UpdateSpec cannot replace a column by one of the same name.
        transaction._stage(  # noqa: SLF001
            updates,
            (
                _AT_SCHEMA(current_schema_id=metadata.current_schema_id),
                _AT_SPEC(default_spec_id=metadata.default_spec_id),
            ),
        )
    return Target(transaction, table)


def _begin(table: Table) -> Transaction:
    """A transaction on the table, which has the format then that is written here.

    StoreError if another engine gave it a later one: what that means nobody here can write.
    """
    version = table.metadata.format_version
    if version > FORMAT:
        message = (
            f"{'.'.join(table.name())} has Iceberg's format {version}, "
            f"and only format {FORMAT} is written here"
        )
        fix = (
            "let the engine write it that made it so, or bring its rows into a table "
            "of another name (Spark: CREATE TABLE … AS SELECT)"
        )
        raise StoreError(message, fix=fix)
    transaction = _Transaction(table)
    if version < FORMAT:
        # Nothing is written anew, and without it no delete files could be.
        transaction._stage((_UPGRADE(format_version=FORMAT),))  # noqa: SLF001
    return transaction


class _Transaction(Transaction):
    """A transaction that works its metadata out once for each change, not at each look.

    PyIceberg copies every snapshot of the table at every look, which it takes twenty times a commit.
    """

    _known: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table as it will be."""
        base, updates = self._table.metadata, self._updates
        known = self._known
        if known is None or known[0] is not base or known[1] is not updates:
            known = self._known = (base, updates, super().table_metadata)
        return known[2]


def _schema_updates(metadata: TableMetadata, schema: Schema) -> tuple[TableUpdate, ...]:
    if schema.fields == metadata.schema().fields:
        return ()
    for known in metadata.schemas:
        if known.fields == schema.fields:
            return (_SET_SCHEMA(schema_id=known.schema_id),)
    new_id = 1 + max(known.schema_id for known in metadata.schemas)
    return (
        _ADD_SCHEMA(schema=Schema(*schema.fields, schema_id=new_id)),
        _SET_SCHEMA(schema_id=-1),
    )


def _spec_updates(
    metadata: TableMetadata, spec: PartitionSpec
) -> tuple[TableUpdate, ...]:
    if spec.fields == metadata.spec().fields:
        return ()
    if spec.spec_id in metadata.specs():
        return (_SET_SPEC(spec_id=spec.spec_id),)
    return (_ADD_SPEC(spec=spec), _SET_SPEC(spec_id=-1))


def _order_updates(
    metadata: TableMetadata, order: SortOrder
) -> tuple[TableUpdate, ...]:
    if order.order_id == metadata.default_sort_order_id:
        return ()
    if metadata.sort_order_by_id(order.order_id) is not None:
        return (_SET_ORDER(sort_order_id=order.order_id),)
    return (
        _ADD_ORDER(sort_order=order),
        _SET_ORDER(sort_order_id=order.order_id),
    )


def _size_updates(
    metadata: TableMetadata, file_size: int | None
) -> tuple[TableUpdate, ...]:
    wanted = _size_property(file_size)
    if wanted.items() <= metadata.properties.items():
        return ()
    return (SetPropertiesUpdate(updates=wanted),)


def _size_property(file_size: int | None) -> dict[str, str]:
    return {} if file_size is None else {TARGET_SIZE: str(file_size)}
