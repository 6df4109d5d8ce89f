"""Bounds: what a manifest says that a column's values in a data file lie between."""

from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.types import (
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    TimestampType,
    TimestamptzType,
)

# Types whose bounds are values of the column, and not cut short or without NaN.
_EXACT = (
    IntegerType,
    LongType,
    DecimalType,
    DateType,
    TimestampType,
    TimestamptzType,
)
# Days or microseconds, beyond which DuckDB has no dates, or next to it.
_LATEST = {
    DateType(): 2_000_000_000,
    TimestampType(): 9 * 10**18,
    TimestamptzType(): 9 * 10**18,
}


def has_exact_bounds(column_type: IcebergType) -> bool:
    """Whether the bounds of a column of that type are values that a row has."""
    return isinstance(column_type, _EXACT)


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value of a column in a file, as Iceberg stores them."""

    type: IcebergType
    low: Any
    high: Any

    @property
    def sql(self) -> tuple[str, str]:
        """Both as SQL of the column's type."""
        return _sql(self.low, self.type), _sql(self.high, self.type)


def bounds_of(file: DataFile, field: NestedField) -> Bounds | None:
    """The bounds of a column in a file; None where nobody says them, or they are no values."""
    low = (file.lower_bounds or {}).get(field.field_id)
    high = (file.upper_bounds or {}).get(field.field_id)
    kind = field.field_type
    if low is None or high is None or not isinstance(kind, _EXACT):
        return None
    try:
        ends: tuple[Any, Any] = from_bytes(kind, low), from_bytes(kind, high)
    except (StructError, ValueError):
        return None  # the column was of another type then
    if kind in _LATEST and max(map(abs, ends)) > _LATEST[kind]:
        return None  # no date, but the infinity before or after all
    return Bounds(kind, *ends)


def _sql(value: Any, column_type: IcebergType) -> str:  # noqa: ANN401 - of any type
    match column_type:
        case DateType():
            return f"(DATE '1970-01-01' + {value})"
        case TimestampType():
            return f"make_timestamp({value})"
        case TimestamptzType():
            return f"make_timestamptz({value})"
        case DecimalType():
            return f"'{value:f}'::DECIMAL({column_type.precision}, {column_type.scale})"
    return f"{value}::BIGINT"
