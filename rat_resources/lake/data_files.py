"""Data files: what a manifest says of a file that was written, by its footer.

Readers leave a file out by what is said here, so a bound that is not surely one is not told.
"""

from collections.abc import Iterator
from typing import Any

from pyarrow.parquet import FileMetaData
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from rat_resources.lake.locations import read_footer


def describe_file(
    location: str,
    *,
    partition: Record,
    metadata: TableMetadata,
    io: FileIO,
    sort_order_id: int | None = None,
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
        sort_order_id=sort_order_id,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _leaf_ids(schema: Schema) -> list[int]:
    """The field ids of the columns of a Parquet file, in the order of its footer."""
    return [leaf for f in schema.fields for leaf in leaves(f.field_id, f.field_type)]


def leaves(field_id: int, field_type: IcebergType) -> Iterator[int]:
    """The field ids of the columns of a Parquet file that a column is kept in."""
    match field_type:
        case StructType():
            for field in field_type.fields:
                yield from leaves(field.field_id, field.field_type)
        case ListType():
            yield from leaves(field_type.element_id, field_type.element_type)
        case MapType():
            yield from leaves(field_type.key_id, field_type.key_type)
            yield from leaves(field_type.value_id, field_type.value_type)
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
