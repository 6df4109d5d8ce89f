"""Rows as people and JSON see them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Sample:
    """How many rows a query returned, and the first of them."""

    count: int
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The rows as JSON objects."""
        return list(as_objects(self.columns, self.rows))


def sample(connection: DuckDBPyConnection, query: str, *, limit: int) -> Sample:
    """Run *query* once, count its rows in constant memory and keep the first *limit*."""
    result = connection.execute(query)
    columns = tuple(each[0] for each in result.description or ())
    rows: list[tuple[Any, ...]] = []
    count = 0
    while batch := result.fetchmany(10_000):
        rows += batch[: max(0, limit - count)]
        count += len(batch)
    return Sample(count, columns, tuple(rows))


def as_objects(
    columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """Each row as a JSON object."""
    for row in rows:
        yield dict(zip(columns, map(as_json, row), strict=True))


def as_json(value: Any) -> Any:  # noqa: ANN401, PLR0911 - JSON in, JSON out, one line a type
    """*value* as JSON has it: every number a number, dates and times ISO text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return as_number(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta() | UUID():
            return str(value)
        case bytes() | bytearray():
            return value.hex()
        case dict():
            return {str(key): as_json(each) for key, each in value.items()}
        case list() | tuple():
            return [as_json(each) for each in value]
    return str(value)


def as_number(value: Decimal) -> int | float | None:
    """A decimal as the JSON number that it is."""
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() else float(value)
