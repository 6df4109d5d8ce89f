"""Partitioning: how a table's rows are divided, and which partition a row belongs to.

`strategies.WriteConfig` asks for it, `writing` divides the rows by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
from duckdb import DuckDBPyConnection
from duckdb.func import FunctionNullHandling, PythonUDFType
from pyiceberg.partitioning import PartitionField as IcebergPartitionField
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.types import (
    BinaryType,
    DateType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from rat_resources.errors import SchemaChangeError
from rat_resources.lake.sql import quote
from rat_resources.lake.types import sql_type, type_words

FIRST_FIELD_ID = 1000
MICROS_PER_HOUR = 3_600_000_000

AnyTransform = Transform[Any, Any]


@dataclass(frozen=True)
class PartitionField:
    """One line of `partition_by`: rows with one value of the transformed column lie together."""

    column: str
    transform: str = "identity"
    width: int | None = None

    @property
    def iceberg_transform(self) -> AnyTransform:
        """The transform as Iceberg knows it."""
        match self.transform:
            case "bucket":
                return BucketTransform(self._needed_width)
            case "truncate":
                return TruncateTransform(self._needed_width)
            case name if name in _PLAIN:
                return _PLAIN[name]
        raise SchemaChangeError(
            f"partition_by on {self.column!r}: no transform is called {self.transform!r}",
            fix=f"use one of {', '.join([*_PLAIN, 'bucket', 'truncate'])}",
        )

    @property
    def _needed_width(self) -> int:
        if not self.width or self.width < 1:
            raise SchemaChangeError(
                f"partition_by on {self.column!r}: {self.transform} needs a width",
                fix="add `width: 16`, for example",
            )
        return self.width

    @property
    def name(self) -> str:
        """What the partition is called: the column itself, or the column and what is done to it."""
        match self.transform:
            case "identity":
                return self.column
            case "bucket" | "truncate":
                short = self.transform.removesuffix("ate")
                return f"{self.column}_{short}_{self.width}"
        return f"{self.column}_{self.transform}"


_PLAIN: dict[str, AnyTransform] = {
    "identity": IdentityTransform(),
    "year": YearTransform(),
    "month": MonthTransform(),
    "day": DayTransform(),
    "hour": HourTransform(),
}


def partition_spec(
    fields: Sequence[PartitionField],
    *,
    schema: Schema,
    metadata: TableMetadata | None = None,
) -> PartitionSpec:
    """The spec that divides a table of *schema* by *fields*, in ids that *metadata* has not spent."""
    known = _known_fields(metadata)
    last_id = FIRST_FIELD_ID - 1
    if metadata is not None and metadata.last_partition_id is not None:
        last_id = max(last_id, metadata.last_partition_id)
    parts: list[IcebergPartitionField] = []
    for field in fields:
        source = _source(field, schema=schema)
        transform = field.iceberg_transform
        found = known.get((source.field_id, str(transform)))
        if found is None:
            last_id += 1
            found = (
                last_id,
                _free_name(field, schema=schema, parts=parts, known=known),
            )
        parts.append(
            IcebergPartitionField(source.field_id, found[0], transform, found[1])
        )
    return PartitionSpec(*parts, spec_id=_spec_id(parts, metadata))


def _known_fields(
    metadata: TableMetadata | None,
) -> dict[tuple[int, str], tuple[int, str]]:
    if metadata is None:
        return {}
    return {
        (field.source_id, str(field.transform)): (field.field_id, field.name)
        for spec in metadata.partition_specs
        for field in spec.fields
    }


def _source(field: PartitionField, *, schema: Schema) -> NestedField:
    for column in schema.fields:
        if column.name == field.column:
            if field.iceberg_transform.can_transform(column.field_type):
                return column
            raise SchemaChangeError(
                f"partition_by: {field.transform} cannot divide {field.column!r}, "
                f"which is {type_words(column.field_type)}",
                fix="choose another transform or another column",
            )
    raise SchemaChangeError(
        f"partition_by names {field.column!r}, which is no column of the result",
        fix=f"use one of {', '.join(column.name for column in schema.fields)}",
    )


def _free_name(
    field: PartitionField,
    *,
    schema: Schema,
    parts: Sequence[IcebergPartitionField],
    known: dict[tuple[int, str], tuple[int, str]],
) -> str:
    """The field's name, unless a column or another partition field already has it."""
    if field.transform == "identity":
        return field.column
    taken = {column.name for column in schema.fields}
    taken |= {part.name for part in parts} | {name for _, name in known.values()}
    name = field.name
    while name in taken:
        name += "_"
    return name


def _spec_id(
    parts: Sequence[IcebergPartitionField], metadata: TableMetadata | None
) -> int:
    if metadata is None:
        return 0
    for spec in metadata.partition_specs:
        if spec.fields == tuple(parts):
            return spec.spec_id
    return 1 + max(spec.spec_id for spec in metadata.partition_specs)


def partition_columns(
    connection: DuckDBPyConnection, spec: PartitionSpec, *, schema: Schema
) -> list[str]:
    """For each field of *spec* the SQL of a row's partition value, as Iceberg stores it."""
    return [
        _partition_sql(
            connection,
            transform=field.transform,
            column=schema.find_field(field.source_id).name,
            column_type=schema.find_type(field.source_id),
        )
        for field in spec.fields
    ]


def _partition_sql(
    connection: DuckDBPyConnection,
    *,
    transform: AnyTransform,
    column: str,
    column_type: IcebergType,
) -> str:
    native = _native_sql(transform, quote(column), column_type=column_type)
    if native is not None:
        return native
    function = f"rat_partition_{uuid4().hex}"
    connection.create_function(
        function,
        _over_arrow(transform, column_type=column_type),
        [sql_type(column_type)],
        sql_type(transform.result_type(column_type)),
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )
    return f"{function}({quote(column)})"


def _native_sql(  # noqa: PLR0911 - a line a transform
    transform: AnyTransform, value: str, *, column_type: IcebergType
) -> str | None:
    """The transform of *value* in SQL, exactly as Iceberg defines it; None where SQL has none."""
    # The zone of the session, whatever it is, is none of Iceberg's business.
    moment = (
        f"timezone('UTC', {value})"
        if isinstance(column_type, TimestamptzType)
        else value
    )
    match transform:
        case IdentityTransform():
            return stored_value(value, column_type=column_type)
        case YearTransform():
            return f"(year({moment}) - 1970)::INTEGER"
        case MonthTransform():
            return f"((year({moment}) - 1970) * 12 + month({moment}) - 1)::INTEGER"
        case DayTransform():
            return f"({moment}::DATE - DATE '1970-01-01')::INTEGER"
        case HourTransform():
            return f"{_floor(f'epoch_us({moment})', MICROS_PER_HOUR, divide=True)}::INTEGER"
        case TruncateTransform():
            return _truncated(value, transform.width, column_type=column_type)
    return None


def _truncated(value: str, width: int, *, column_type: IcebergType) -> str | None:
    match column_type:
        case IntegerType() | LongType():
            return f"{_floor(value, width)}::{sql_type(column_type)}"
        case StringType():
            return f"left({value}, {width})"
        case BinaryType():
            return f"({value})[1:{width}]"
    return None


def _floor(value: str, width: int, *, divide: bool = False) -> str:
    """The greatest multiple of *width* that is not above *value*; or which one it is."""
    # Of a negative number SQL's remainder is negative.
    low = f"({value} - (({value} % {width}) + {width}) % {width})"
    return f"({low} // {width})" if divide else low


def _over_arrow(
    transform: AnyTransform, *, column_type: IcebergType
) -> Callable[[pa.Array], pa.Array]:
    apply = transform.pyarrow_transform(column_type)

    def over(values: pa.Array) -> pa.Array:
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(column_type, UUIDType):
            values = _uuid_bytes(values)
        return apply(values)

    return over


def _uuid_bytes(values: pa.Array) -> pa.Array:
    """The 16 bytes of each UUID, which DuckDB hands to Arrow as text."""
    return pa.array(
        [None if text is None else UUID(text).bytes for text in values.to_pylist()],
        type=pa.binary(16),
    )


def stored_value(expression: str, *, column_type: IcebergType) -> str:
    """*expression* as the number that Iceberg stores for it, where it stores a number."""
    match column_type:
        case DateType():
            return f"({expression} - DATE '1970-01-01')"
        case TimestampType() | TimestamptzType() | TimeType():
            return f"epoch_us({expression})"
    return expression
