"""Pruning: which files of a table may hold rows whose values lie within bounds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from duckdb import DuckDBPyConnection
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    IsNull,
    LessThanOrEqual,
    Or,
)
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from rat_resources.lake.partitioning import stored_value

# Type checkers take PyIceberg's predicates for pydantic models without a constructor.
_IS_NULL: Callable[..., BooleanExpression] = IsNull
_AT_LEAST: Callable[..., BooleanExpression] = GreaterThanOrEqual
_AT_MOST: Callable[..., BooleanExpression] = LessThanOrEqual
_ORDERED = (
    IntegerType,
    LongType,
    DecimalType,
    StringType,
    DateType,
    TimeType,
    TimestampType,
    TimestamptzType,
)


@dataclass(frozen=True)
class Range:
    """What the values of one column lie between, each end as SQL of the column's type."""

    column: str
    low: str | None = None
    high: str | None = None
    nulls: bool = False  # or are missing

    def renamed(self, names: Mapping[str, str]) -> "Range":
        """The same of a column of another name."""
        return replace(self, column=names.get(self.column, self.column))


Box = Sequence[Range]  # all of which must hold


def is_ordered(column_type: IcebergType) -> bool:
    """Whether a range of a type's values leaves none out; one of floating point numbers does NaN."""
    return isinstance(column_type, _ORDERED)


def between(
    name: str,
    *,
    low: Any = None,  # noqa: ANN401 - whatever Iceberg stores
    high: Any = None,  # noqa: ANN401
    nulls: bool,
) -> BooleanExpression:
    """What must hold for a column of a row to lie there; without any end it is missing."""
    if low is None and high is None:
        return _IS_NULL(name)
    within: BooleanExpression = AlwaysTrue()
    if low is not None:
        within = And(within, _AT_LEAST(name, low))
    if high is not None:
        within = And(within, _AT_MOST(name, high))
    return Or(within, _IS_NULL(name)) if nulls else within


def any_box(
    connection: DuckDBPyConnection, boxes: Iterable[Box], *, schema: Schema
) -> BooleanExpression:
    """What must hold for a row of a table to lie in one of the boxes."""
    condition: BooleanExpression = AlwaysFalse()
    for box in boxes:
        within: BooleanExpression = AlwaysTrue()
        for each in box:
            within = And(within, _within(connection, each, schema=schema))
        condition = Or(condition, within)
    return condition


def _within(
    connection: DuckDBPyConnection, found: Range, *, schema: Schema
) -> BooleanExpression:
    field = schema.find_field(found.column, case_sensitive=False)
    if not is_ordered(field.field_type):
        return AlwaysTrue()
    ends = ", ".join(
        stored_value(end or "NULL", column_type=field.field_type) if end else "NULL"
        for end in (found.low, found.high)
    )
    ((low, high),) = connection.execute(f"SELECT {ends}").fetchall()
    return between(field.name, low=low, high=high, nulls=found.nulls)
