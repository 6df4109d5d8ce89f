"""Data files: what a manifest says of a file that was written, by its footer.

Readers leave a file out by what is said here, so a bound that is not surely one is not told.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pyarrow.parquet import FileMetaData
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DoubleType,
    FloatType,
    IcebergType,
    ListType,
    MapType,
    StructType,
)

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
    told = statistics.to_serialized_dict()
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
        **told | _of_floats(told, schema=metadata.schema()),
    )


def _of_floats(told: Mapping[str, Any], *, schema: Schema) -> dict[str, Any]:
    """The bounds with both zeros where one is an end, and no NaN where there are bounds.

    To DuckDB the zeros are one value, of which it tells any; to Spark's readers -0.0 is less.
    """
    bounds: dict[str, dict[int, bytes]] = {
        name: dict(told[name] or {}) for name in ("lower_bounds", "upper_bounds")
    }
    without_nan = {}
    for name, zero in (("lower_bounds", -0.0), ("upper_bounds", 0.0)):
        for field_id, bound in bounds[name].items():
            kind = schema.find_type(field_id)
            if isinstance(kind, FloatType | DoubleType):
                without_nan[field_id] = 0
                value: Any = from_bytes(kind, bound)
                if value == 0:
                    bounds[name][field_id] = to_bytes(kind, zero)
    return {**bounds, "nan_value_counts": without_nan}


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
