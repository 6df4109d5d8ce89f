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
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DateType,
    IcebergType,
    NestedField,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from rat_resources.errors import SchemaChangeError
from rat_resources.lake.sql import quote
from rat_resources.lake.types import sql_type, type_words

FIRST_FIELD_ID = 1000

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
    if isinstance(transform, IdentityTransform):
        return stored_value(quote(column), column_type=column_type)
    function = f"rat_partition_{uuid4().hex}"
    result_type = transform.result_type(column_type)
    # Iceberg keeps the days of the day transform as a number.
    result = "INTEGER" if isinstance(result_type, DateType) else sql_type(result_type)
    connection.create_function(
        function,
        _over_arrow(transform, column_type=column_type),
        [sql_type(column_type)],
        result,
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )
    return f"{function}({quote(column)})"


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


def partition_record(values: Sequence[object]) -> Record:
    """The values of one partition in the order of the spec's fields."""
    return Record(*(v.bytes if isinstance(v, UUID) else v for v in values))
