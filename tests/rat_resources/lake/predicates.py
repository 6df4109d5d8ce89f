"""Predicates made at random: each as SQL, as PyIceberg's expression and as a function of a row.

Of comparisons only those that mean the same to everybody: NaN is greater than all numbers to DuckDB,
and to nobody else.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from pyiceberg.expressions import (
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    IsNull,
    LessThan,
    LessThanOrEqual,
    NotNull,
    Or,
)

from rat_resources.lake.sql import quote
from tests.rat_resources.lake.model import TIMES, Row
from tests.rat_resources.lake.stories import POOLS, as_sql

Test = Callable[[Row], bool]
Compare = Callable[..., BooleanExpression]
COMPARISONS: dict[str, tuple[Callable[[Any, Any], bool], Compare]] = {
    "=": (operator.eq, EqualTo),
    "<": (operator.lt, LessThan),
    "<=": (operator.le, LessThanOrEqual),
    ">": (operator.gt, GreaterThan),
    ">=": (operator.ge, GreaterThanOrEqual),
}
ANY = tuple(COMPARISONS)
SIGNS: dict[str, Sequence[str]] = {
    "FLOAT": ("=", "<", "<="),
    "DOUBLE": ("=", "<", "<="),
    "BOOLEAN": ("=",),
    "INTEGER": ANY,
    "BIGINT": ANY,
    "DECIMAL(9,2)": ANY,
    "DECIMAL(14,2)": ANY,
    "VARCHAR": ANY,
    "DATE": ANY,
    "TIMESTAMP": ANY,
    TIMES: ANY,
}


@dataclass(frozen=True)
class Predicate:
    """What may hold for a row, said in three ways."""

    sql: str
    expression: BooleanExpression
    holds: Test


@st.composite
def predicates(draw: DrawFn, columns: Mapping[str, str]) -> Predicate:
    """One or two things that may hold for a row of these columns."""
    first = draw(terms(columns))
    join = draw(st.sampled_from(["", "AND", "OR"]))
    if not join:
        return first
    second = draw(terms(columns))
    both = all if join == "AND" else any
    connect: Compare = And if join == "AND" else Or
    return Predicate(
        f"({first.sql}) {join} ({second.sql})",
        connect(first.expression, second.expression),
        lambda row: both((first.holds(row), second.holds(row))),
    )


@st.composite
def terms(draw: DrawFn, columns: Mapping[str, str]) -> Predicate:
    """One thing that may hold for a row."""
    names = [name for name, kind in columns.items() if kind in SIGNS]
    name = draw(st.sampled_from(names))
    kind = columns[name]
    sign = draw(st.sampled_from([*SIGNS[kind], "IS NULL", "IS NOT NULL"]))
    if sign not in COMPARISONS:
        return missing(name, is_null=sign == "IS NULL")
    # To PyIceberg no FLOAT is infinite, and nothing equals NaN.
    values = [
        value
        for value in POOLS[kind]
        if not isinstance(value, float) or math.isfinite(value)
    ]
    value = draw(st.sampled_from(values))
    return compare(name, sign, value, kind=kind)


def missing(name: str, *, is_null: bool) -> Predicate:
    """Whether there is no value, or one."""
    make: Compare = IsNull if is_null else NotNull
    return Predicate(
        f"{quote(name)} IS {'' if is_null else 'NOT '}NULL",
        make(name),
        lambda row: (row[name] is None) == is_null,
    )


def compare(name: str, sign: str, value: Any, *, kind: str) -> Predicate:  # noqa: ANN401
    """Whether there is a value, which compares so."""
    test, make = COMPARISONS[sign]
    stored = value.isoformat() if hasattr(value, "isoformat") else value

    def holds(row: Row) -> bool:
        found = row[name]
        is_nan = isinstance(found, float) and math.isnan(found)
        return found is not None and not is_nan and test(found, value)

    return Predicate(
        f"{quote(name)} {sign} CAST({as_sql(value)} AS {kind})",
        make(name, stored),
        holds,
    )
