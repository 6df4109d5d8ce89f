"""Evolution: how a table's columns follow the columns of a query.

The conversion of a single type is in `types`; the rows follow in `strategies`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    UUIDType,
)

from rat_resources.errors import SchemaChangeError
from rat_resources.lake.types import Column, sql_type, type_words

OnSchemaChange = Literal["evolve", "fail", "ignore"]
ChangeKind = Literal[
    "added", "dropped", "renamed", "widened", "replaced", "nullability"
]
MAX_PRECISION = 38


@dataclass(frozen=True)
class SchemaChange:
    """One column that comes, goes, or is another one from now on."""

    kind: ChangeKind
    column: str  # as it was called before
    before: str | None  # its type; of a renamed column its name
    after: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.column} ({self.figures})"

    @property
    def figures(self) -> str:
        """What it was before, and is after."""
        return " → ".join(words for words in (self.before, self.after) if words)


@dataclass(frozen=True)
class Evolution:
    """The columns that a table gets, and how they differ from those that it has."""

    schema: Schema
    changes: tuple[SchemaChange, ...] = ()

    @classmethod
    def of(cls, current: Schema, fields: Sequence[NestedField]) -> "Evolution":
        """The evolution of the columns of *current* into *fields*."""
        schema = Schema(*fields)
        return cls(schema, compare(current, schema))


class _ImpossibleError(Exception):
    """No type holds the values of both."""


def first_schema(columns: Sequence[Column]) -> Evolution:
    """The columns of a table that does not exist yet."""
    ids = count(1)
    fields = [_new_field(column, ids=ids) for column in columns]
    return Evolution.of(Schema(), fields)


def evolve(
    current: Schema,
    columns: Sequence[Column],
    *,
    last_column_id: int,
    policy: OnSchemaChange,
    is_all_null: Callable[[str], bool],
) -> Evolution:
    """The columns of a table that keeps its rows and takes those of a query with *columns*.

    New columns are added and types widen; a column that the query does not return stays.
    """
    ids = count(last_column_id + 1)
    found = {column.name: column for column in columns}
    fields = [
        _followed(field, found.pop(field.name), is_all_null=is_all_null, ids=ids)
        if field.name in found
        else field
        for field in current.fields
    ]
    if policy == "ignore":
        return Evolution(current)
    fields += [_new_field(column, ids=ids) for column in found.values()]
    evolved = Evolution.of(current, fields)
    if policy == "fail":
        _refuse(current, columns, evolved.changes)
    return evolved


def replace_columns(
    current: Schema, columns: Sequence[Column], *, last_column_id: int
) -> Evolution:
    """The columns of a table that loses its rows: those of the query, in the query's order.

    A column whose name stays and whose type can follow keeps its field id.
    """
    ids = count(last_column_id + 1)
    existing = {field.name: field for field in current.fields}
    fields: list[NestedField] = []
    for column in columns:
        field = existing.get(column.name)
        try:
            fields.append(
                _new_field(column, ids=ids)
                if field is None
                else _with_type(field, merged(field.field_type, column.type, ids=ids))
            )
        except _ImpossibleError:
            fields.append(_new_field(column, ids=ids))
    return Evolution.of(current, fields)


def compare(before: Schema, after: Schema) -> tuple[SchemaChange, ...]:
    """How the columns of a table differ from those that it had, by field id."""
    had = {field.field_id: field for field in before.fields}
    has = {field.field_id: field for field in after.fields}
    gone = {field.name: field for key, field in had.items() if key not in has}
    new = {field.name: field for key, field in has.items() if key not in had}
    kept = [(had[key], field) for key, field in has.items() if key in had]
    return (
        *(_change("dropped", gone[name], None) for name in gone if name not in new),
        *(_change("replaced", gone[name], new[name]) for name in gone if name in new),
        *(
            SchemaChange("renamed", old.name, old.name, field.name)
            for old, field in kept
            if old.name != field.name
        ),
        *(
            _change("widened", old, field)
            for old, field in kept
            if old.field_type != field.field_type
        ),
        *(
            SchemaChange("nullability", old.name, _nulls(old), _nulls(field))
            for old, field in kept
            if old.required != field.required
        ),
        *(_added(new[name]) for name in new if name not in gone),
    )


def merged(
    table: IcebergType, batch: IcebergType, *, ids: Iterator[int]
) -> IcebergType:
    """The type that the table's column gets so that it holds its values and the batch's."""
    match table, batch:
        case StructType(), StructType():
            return _merged_struct(table, batch, ids=ids)
        case ListType(), ListType():
            element = merged(table.element_type, batch.element_type, ids=ids)
            return ListType(table.element_id, element, table.element_required)
        case MapType(), MapType():
            return MapType(
                table.key_id,
                merged(table.key_type, batch.key_type, ids=ids),
                table.value_id,
                merged(table.value_type, batch.value_type, ids=ids),
                table.value_required,
            )
        case DecimalType(), DecimalType():
            return _merged_decimal(table, batch)
    if table == batch or _is_narrower(batch, than=table):
        return table
    if (type(table), type(batch)) in _WIDENINGS:
        return batch
    raise _ImpossibleError


_WIDENINGS = {(IntegerType, LongType), (FloatType, DoubleType)}

_NARROWER: dict[type[IcebergType], tuple[type[IcebergType], ...]] = {
    LongType: (IntegerType,),
    FloatType: (IntegerType, LongType),
    DoubleType: (IntegerType, LongType, FloatType, DecimalType),
    DecimalType: (IntegerType, LongType),
    TimestampType: (DateType,),
    BinaryType: (FixedType,),
    StringType: (UUIDType,),
}


def _is_narrower(batch: IcebergType, *, than: IcebergType) -> bool:
    return type(batch) in _NARROWER.get(type(than), ())


def _merged_decimal(table: DecimalType, batch: DecimalType) -> DecimalType:
    digits = batch.precision - batch.scale + table.scale
    if batch.scale > table.scale or digits > MAX_PRECISION:
        raise _ImpossibleError
    return DecimalType(max(table.precision, digits), table.scale)


def _merged_struct(
    table: StructType, batch: StructType, *, ids: Iterator[int]
) -> StructType:
    found = {field.name: field for field in batch.fields}
    fields = [
        _with_type(
            field, merged(field.field_type, found.pop(field.name).field_type, ids=ids)
        )
        if field.name in found
        else field
        for field in table.fields
    ]
    fields += [
        _new_field(Column(field.name, field.field_type), ids=ids)
        for field in found.values()
    ]
    return StructType(*fields)


def _followed(
    field: NestedField,
    column: Column,
    *,
    is_all_null: Callable[[str], bool],
    ids: Iterator[int],
) -> NestedField:
    try:
        return _with_type(field, merged(field.field_type, column.type, ids=ids))
    except _ImpossibleError:
        # A column of nothing but NULL has no type of its own and fits every other.
        if is_all_null(column.name):
            return field
        wanted, given = type_words(field.field_type), type_words(column.type)
        raise SchemaChangeError(
            f"column {field.name!r} is {wanted} in the table and {given} in the query",
            fix=f"cast it to {sql_type(field.field_type)} in the query, "
            "or run once with --full-refresh to rebuild the table",
        ) from None


def _with_type(field: NestedField, field_type: IcebergType) -> NestedField:
    return field.model_copy(update={"field_type": field_type})


def _new_field(column: Column, *, ids: Iterator[int]) -> NestedField:
    field_id = next(ids)
    # It takes a type as well as a schema, and gives back the same.
    fresh: Any = assign_fresh_schema_ids(column.type, lambda: next(ids))
    return NestedField(field_id, column.name, fresh, required=False)


def _change(
    kind: ChangeKind, field: NestedField, after: NestedField | None
) -> SchemaChange:
    return SchemaChange(
        kind,
        field.name,
        type_words(field.field_type),
        None if after is None else type_words(after.field_type),
    )


def _added(field: NestedField) -> SchemaChange:
    return SchemaChange("added", field.name, None, type_words(field.field_type))


def _nulls(field: NestedField) -> str:
    return "NOT NULL" if field.required else "NULL"


def _refuse(
    current: Schema, columns: Sequence[Column], changes: Sequence[SchemaChange]
) -> None:
    returned = {column.name for column in columns}
    found = [str(change) for change in changes]
    found += [
        f"missing {field.name}"
        for field in current.fields
        if field.name not in returned
    ]
    if found:
        raise SchemaChangeError(
            f"the query's columns differ from the table's: {', '.join(found)}",
            fix="let the query return the table's columns, set on_schema_change: evolve, "
            "or run once with --full-refresh",
        )
