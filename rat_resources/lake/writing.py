"""Writing: rows from DuckDB become Parquet files of a table, in its types, order and partitions.

Files that no commit has named are orphans and harm nobody. Which rows are written is `strategies`,
how DuckDB writes a file is `copying`, what manifests say of it `data_files`, and how files become a
snapshot `committing`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from duckdb import DuckDBPyConnection
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from rat_resources import faults
from rat_resources.lake.copying import Shape, copy_partitions, copy_rows, copy_to_one
from rat_resources.lake.data_files import describe_file
from rat_resources.lake.evolution import SchemaChange
from rat_resources.lake.partition_values import PartitionKeys
from rat_resources.lake.partitioning import partition_columns
from rat_resources.lake.sorting import SortField, is_told, sorted_by
from rat_resources.lake.sql import quote
from rat_resources.lake.types import sql_type

FORMAT = 2  # of Iceberg
TABLE_PROPERTIES = {
    "format-version": str(FORMAT),
    "commit.manifest-merge.enabled": "true",
    # Files that a table gives up may still be read on another branch.
    "gc.enabled": "false",
    "write.parquet.compression-codec": "zstd",
}
FILE_SIZE = 256 * 1024 * 1024
TARGET_SIZE = "write.target-file-size-bytes"  # Iceberg's own name for it
PARTITION = "__rat_partition"


@dataclass(frozen=True)
class Written:
    """What one write did to its table."""

    changed: bool
    metadata_location: str
    snapshot_id: int | None
    rows_total: int
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    rows_before: int | None = None  # None: there was no table
    # Of the deleted rows, those in whose place their key has one again, and the same one again.
    rows_replaced: int = 0
    rows_kept: int = 0
    is_anew: bool = False  # all rows made way, and nobody knows which of them changed
    # Where the rows that changed are known: the values that a few columns have among them.
    changed_values: Mapping[str, Sequence[str]] | None = None
    files_added: int = 0
    files_removed: int = 0
    bytes_written: int = 0
    schema_changes: tuple[SchemaChange, ...] = ()

    @property
    def rows_written(self) -> int:
        """The rows that are new or different because of this write."""
        return self.rows_inserted + self.rows_updated


def write_files(
    connection: DuckDBPyConnection,
    query: str,
    *,
    metadata: TableMetadata,
    io: FileIO,
    order_by: Sequence[SortField] | None = None,
    file_size: int | None = None,
) -> list[DataFile]:
    """Write the rows of *query* to new files of the table, without telling anybody about them.

    The query returns the table's columns by name; each is cast to the table's type. The rows are
    sorted and the files sized as the table's metadata says, unless it is said here.
    """
    faults.point("write")
    folder = data_folder(metadata)
    order = sorted_by(metadata) if order_by is None else tuple(order_by)
    shape = Shape(file_size or target_size(metadata), _options(metadata))
    rows = cast_rows(query, schema=metadata.schema())
    if metadata.spec().is_unpartitioned():
        ordered = f"{rows}{_order_by([field.sql for field in order])}"
        files = copy_rows(connection, ordered, folder=folder, shape=shape)
        written = [(file.location, Record()) for file in files]
        in_order = {file.location for file in files if file.is_in_order}
    else:
        written = _copy_partitioned(
            connection, rows, folder=folder, metadata=metadata, order=order, shape=shape
        )
        in_order = set()
    told = metadata.default_sort_order_id if is_told(metadata, order) else None
    return [
        describe_file(
            path,
            partition=partition,
            metadata=metadata,
            io=io,
            # Of several files row groups may have traded places.
            sort_order_id=told if path in in_order else None,
        )
        for path, partition in written
    ]


def write_partition(
    connection: DuckDBPyConnection,
    query: str,
    *,
    partition: Record,
    metadata: TableMetadata,
    io: FileIO,
    order_by: Sequence[SortField],
) -> list[DataFile]:
    """Write the rows of *query*, all of one partition, to one file in the order that they have.

    That order is the one of *order_by*, as the file then says. Nobody is told about the file.
    """
    faults.point("write")
    files = copy_to_one(
        connection,
        cast_rows(query, schema=metadata.schema()),
        folder=data_folder(metadata),
        shape=Shape(target_size(metadata), _options(metadata)),
    )
    told = metadata.default_sort_order_id if is_told(metadata, order_by) else None
    return [
        describe_file(
            file.location,
            partition=partition,
            metadata=metadata,
            io=io,
            sort_order_id=told,
        )
        for file in files
    ]


def target_size(metadata: TableMetadata) -> int:
    """Near which size, in bytes, the table's files end."""
    said = metadata.properties.get(TARGET_SIZE, "")
    return int(said) if said.isdecimal() and int(said) else FILE_SIZE


def _options(metadata: TableMetadata) -> str:
    ids = _field_ids(metadata.schema().fields)
    return f", COMPRESSION zstd, FIELD_IDS {ids}"


def _order_by(terms: Sequence[str]) -> str:
    return f" ORDER BY {', '.join(terms)}" if terms else ""


def data_folder(metadata: TableMetadata) -> str:
    """Where the files of a table are."""
    root = metadata.properties.get("write.data.path", f"{metadata.location}/data")
    return root.rstrip("/")


def cast_rows(query: str, *, schema: Schema) -> str:
    """A query for the rows of *query* in the columns and types of *schema*."""
    columns = (
        f"CAST({quote(f.name)} AS {sql_type(f.field_type)}) AS {quote(f.name)}"
        for f in schema.fields
    )
    return f"SELECT {', '.join(columns)} FROM ({query}\n) AS rows"


def _field_ids(fields: Iterable[NestedField]) -> str:
    entries = (f"{quote(f.name)}: {_ids_of(f.field_id, f.field_type)}" for f in fields)
    return f"{{{', '.join(entries)}}}"


def _ids_of(field_id: int, field_type: IcebergType) -> str:
    match field_type:
        case StructType():
            children = [(f.name, f.field_id, f.field_type) for f in field_type.fields]
        case ListType():
            children = [("element", field_type.element_id, field_type.element_type)]
        case MapType():
            children = [
                ("key", field_type.key_id, field_type.key_type),
                ("value", field_type.value_id, field_type.value_type),
            ]
        case _:
            return str(field_id)
    entries = (f"{quote(name)}: {_ids_of(i, kind)}" for name, i, kind in children)
    return f"{{__duckdb_field_id: {field_id}, {', '.join(entries)}}}"


def _copy_partitioned(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    folder: str,
    metadata: TableMetadata,
    order: Sequence[SortField],
    shape: Shape,
) -> list[tuple[str, Record]]:
    """Copy each partition's rows to files of its own; each file's location and partition."""
    schema, spec = metadata.schema(), metadata.spec()
    values = partition_columns(connection, spec, schema=schema)
    names = [f"{PARTITION}_{number}" for number in range(len(values))]
    named = "".join(f", {v} AS {name}" for v, name in zip(values, names, strict=True))
    # Sorted, a partition is written from its first row to its last with few others open; else each
    # would get a file or a row group of every thread, again and again.
    sort = _order_by([*names, *(field.sql for field in order)])
    keys = PartitionKeys.of(spec, schema=schema)
    files = copy_partitions(
        connection,
        f"SELECT * EXCLUDE ({', '.join(names)}), "
        f"{keys.sql(connection, names)} AS {PARTITION} "
        f"FROM (SELECT *{named} FROM ({rows})){sort}",
        key=PARTITION,
        folder=f"{folder}/{uuid4().hex}",
        shape=shape,
    )
    return [(file.location, keys.record(file.key)) for file in files]
