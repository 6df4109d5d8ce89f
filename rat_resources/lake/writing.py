"""Writing: rows from DuckDB become Parquet files of a table.

Files that no commit has named are orphans and harm nobody. Which rows are written is `strategies`,
how files become a snapshot is `committing`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from duckdb import DuckDBPyConnection
from pyarrow.parquet import FileMetaData
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
)
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
)
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from rat_resources import faults
from rat_resources.errors import StoreError
from rat_resources.lake.evolution import SchemaChange
from rat_resources.lake.locations import read_footer, remove_files, writable
from rat_resources.lake.partitioning import partition_columns, partition_record
from rat_resources.lake.sql import literal, quote, same_keys
from rat_resources.lake.types import sql_type

TABLE_PROPERTIES = {
    "format-version": "2",
    "commit.manifest-merge.enabled": "true",
    # Files that a table gives up may still be read on another branch.
    "gc.enabled": "false",
    "write.parquet.compression-codec": "zstd",
}
FILE_SIZE = 256 * 1024 * 1024
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
    connection: DuckDBPyConnection, query: str, *, metadata: TableMetadata, io: FileIO
) -> list[DataFile]:
    """Write the rows of *query* to new files of the table, without telling anybody about them.

    The query returns the table's columns by name; each is cast to the table's type.
    """
    faults.point("write")
    folder = data_folder(metadata)
    if metadata.spec().is_unpartitioned():
        rows = _cast_rows(query, schema=metadata.schema())
        files = _copy(connection, rows, folder=folder, metadata=metadata)
        written = [(path, Record()) for path, _ in files]
    else:
        written = _copy_partitioned(connection, query, folder=folder, metadata=metadata)
    return [
        _data_file(path, partition=partition, metadata=metadata, io=io)
        for path, partition in written
    ]


def data_folder(metadata: TableMetadata) -> str:
    """Where the files of a table are."""
    root = metadata.properties.get("write.data.path", f"{metadata.location}/data")
    return root.rstrip("/")


def _cast_rows(query: str, *, schema: Schema, extra: str = "") -> str:
    columns = (
        f"CAST({quote(f.name)} AS {sql_type(f.field_type)}) AS {quote(f.name)}"
        for f in schema.fields
    )
    return f"SELECT {', '.join(columns)}{extra} FROM ({query}) AS rows"


def _copy(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    folder: str,
    metadata: TableMetadata,
    options: str = "",
) -> list[tuple[str, dict[str, str] | None]]:
    """Copy *rows* to files of their own under *folder*; each one's location and partition key."""
    name = f"{uuid4().hex}-{{uuid}}"
    split = options or f", FILE_SIZE_BYTES {FILE_SIZE}"
    try:
        with writable(connection, folder) as target:
            written = connection.execute(
                f"COPY ({rows}) TO {literal(target)} (FORMAT parquet, COMPRESSION zstd, "
                f"FIELD_IDS {_field_ids(metadata.schema().fields)}, APPEND, "
                f"FILENAME_PATTERN {literal(name)}, RETURN_STATS{split})"
            ).fetchall()
    except BaseException:
        # On a full disk the half of a file would be what fills it.
        with suppress(StoreError):  # where the storage is gone it harms nobody
            remove_files(folder, start=name.partition("{")[0])
        raise
    return [
        (folder + row[0].removeprefix(target), row[-1]) for row in written if row[1]
    ]


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
    connection: DuckDBPyConnection, query: str, *, folder: str, metadata: TableMetadata
) -> list[tuple[str, Record]]:
    """Copy each partition's rows to files of its own; each file's location and partition."""
    schema = metadata.schema()
    columns = partition_columns(connection, metadata.spec(), schema=schema)
    keys = [f"{PARTITION}_{number}" for number in range(len(columns))]
    named = "".join(f", {sql} AS {key}" for sql, key in zip(columns, keys, strict=True))
    rows = f"SELECT *{named} FROM ({_cast_rows(query, schema=schema)})"
    partitions = f"rat_partitions_{uuid4().hex}"
    connection.execute(
        f"CREATE TEMP TABLE {partitions} AS "
        f"SELECT row_number() OVER () AS {PARTITION}, * "
        f"FROM (SELECT DISTINCT {', '.join(keys)} FROM ({rows}))"
    )
    try:
        # Folders are numbered: a value may be longer than a file name, or look like another one.
        files = _copy(
            connection,
            f"SELECT rows.* EXCLUDE ({', '.join(keys)}), {partitions}.{PARTITION} "
            f"FROM ({rows}) AS rows JOIN {partitions} "
            f"ON {same_keys('rows', partitions, names=keys)}",
            folder=f"{folder}/{uuid4().hex}",
            metadata=metadata,
            options=f", PARTITION_BY ({PARTITION})",
        )
        records = {
            row[0]: partition_record(row[1:])
            for row in connection.execute(f"FROM {partitions}").fetchall()
        }
    finally:
        connection.execute(f"DROP TABLE {partitions}")
    return [(path, records[int((key or {})[PARTITION])]) for path, key in files]


def _data_file(
    location: str, *, partition: Record, metadata: TableMetadata, io: FileIO
) -> DataFile:
    """The file at *location* as a manifest describes it."""
    footer, size = read_footer(location, io=io)
    ids = _leaf_ids(metadata.schema())
    paths = [footer.schema.column(n).path for n in range(footer.num_columns)]
    statistics = data_file_statistics_from_parquet_metadata(
        footer,
        compute_statistics_plan(metadata.schema(), metadata.properties),
        dict(zip(paths, ids, strict=True)),
    )
    for position in _unbounded_columns(footer):
        statistics.column_aggregates.pop(ids[position], None)
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=size,
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _leaf_ids(schema: Schema) -> list[int]:
    """The field ids of the columns of a Parquet file, in the order of its footer."""
    return [leaf for f in schema.fields for leaf in _leaves(f.field_id, f.field_type)]


def _leaves(field_id: int, field_type: IcebergType) -> Iterator[int]:
    match field_type:
        case StructType():
            for field in field_type.fields:
                yield from _leaves(field.field_id, field.field_type)
        case ListType():
            yield from _leaves(field_type.element_id, field_type.element_type)
        case MapType():
            yield from _leaves(field_type.key_id, field_type.key_type)
            yield from _leaves(field_type.value_id, field_type.value_type)
        case _:
            yield field_id


def _unbounded_columns(footer: FileMetaData) -> Iterator[int]:
    """The positions of the columns of which a row group with values tells no least and greatest.

    DuckDB writes none for a row group with a NaN; the bounds of the other row groups would then
    hide the rows of this one.
    """
    for position in range(footer.num_columns):
        chunks = (
            footer.row_group(group).column(position)
            for group in range(footer.num_row_groups)
        )
        if any(_hides_values(chunk) for chunk in chunks):
            yield position


def _hides_values(chunk: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    statistics = chunk.statistics
    if statistics is None:
        return bool(chunk.num_values)
    empty = statistics.has_null_count and statistics.null_count == chunk.num_values
    return not statistics.has_min_max and not empty
