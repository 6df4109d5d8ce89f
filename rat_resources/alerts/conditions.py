"""Conditions: what an alert asks of the rows of a table, as SQL. NULL never matches.

The documents are those of `definitions`; what they ask of runs and of time is nothing of a table's.
Asking is `rat_assets.findings`. A condition that does not fit its table is a FilterError that names
the column, its type and what to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from rat_resources import row_filters
from rat_resources.alerts.definitions import Definition
from rat_resources.errors import FilterError
from rat_resources.lake.sql import name_list, quote

Columns = Mapping[str, str]
"""The columns of a table with their types, in DuckDB's words."""

WORDS = {"gt": ">", "gte": "≥", "lt": "<", "lte": "≤", "eq": "=", "ne": "≠"}
SIGNS = WORDS | {"gte": ">=", "lte": "<=", "ne": "<>"}
DIGITS = 38  # what the widest number of DuckDB has
NUMBERS = ("decimal", "float", "double", *row_filters.INTEGERS)
# What an aggregate computes, of a column that it may have to add up.
ADDING = {"sum": "sum", "avg": "avg", "stddev": "stddev_pop"}
ORDERING = {"min": "min", "max": "max", "median": "median"}
FUNCTIONS = ("count", "count_distinct", *ADDING, *ORDERING)
# Where a condition does not say by which column rows come one after another.
TIME_COLUMN = "event_time"
BASELINE_ROWS = 1_000
DEVIATIONS = 3.0


def find_column(name: object, columns: Columns) -> str:
    """A column as its table spells it; FilterError with the nearest."""
    try:
        return row_filters.find_column(name, columns)
    except FilterError as error:
        message = error.message.replace("the filter names", "the condition names", 1)
        raise FilterError(message, fix=error.fix) from error


@dataclass(frozen=True)
class RowTest:
    """A condition on each row."""

    sql: str
    sentence: str  # what the rows have that match
    shows: tuple[str, ...]  # the columns that it is about


@dataclass(frozen=True)
class Aggregate:
    """A condition on a figure of the rows, or of each group of them."""

    value: str  # SQL of the figure
    test: str  # SQL of what must hold of it
    rows: str  # SQL of which rows count
    group_by: tuple[str, ...]
    sentence: str
    figures: Mapping[str, Any]
    shows: tuple[str, ...]


@dataclass(frozen=True)
class Deviation:
    """A condition on how far news are from what came before."""

    column: str
    deviations: float
    baseline_rows: int
    rows: str  # SQL of which rows count
    order: str | None  # the column that tells what came before
    shows: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What a row has that is too far."""
        far = f"{self.deviations:g} standard deviations"
        return f"{self.column} more than {far} from the mean"


def row_test(definition: Definition, columns: Columns) -> RowTest:
    """What a `threshold` or an `in` asks of each row."""
    said = definition.condition
    column = find_column(said.get("column"), columns)
    if definition.kind == "in":
        values = said.get("values")
        test = one_of(column, values, columns=columns)
        sentence = f"{column} in {row_filters.shown(values)}"
    else:
        op, value = str(said.get("op")), said.get("value")
        test = comparison(column, op=op, value=value, columns=columns)
        sentence = f"{column} {WORDS[op]} {row_filters.shown(value)}"
    sql = f"({test}) AND ({row_filter(said, columns)})"
    return RowTest(sql, sentence, (column, *filtered(said, columns)))


def comparison(
    column: str, *, op: str, value: object, columns: Columns, of: str = ""
) -> str:
    """That a column, or what SQL calls *of*, compares so with a value of its type."""
    refuse_operator(op)
    name = of or quote(column)
    number = as_number(value) if is_number(columns[column]) else None
    if number is not None:
        # As numbers, also where the column could not hold this one.
        return f"{name} {SIGNS[op]} {number}"
    asked = {column: {"eq" if op == "ne" else op: value}}
    (condition,) = row_filters.parse(asked, columns=columns).conditions
    test = condition.sql(name)
    return f"NOT ({test})" if op == "ne" else test


def one_of(column: str, values: object, *, columns: Columns) -> str:
    """That a column has one of these values."""
    if is_number(columns[column]) and isinstance(values, list | tuple):
        numbers = [as_number(each) for each in values]
        if all(numbers) and numbers:
            return f"{quote(column)} IN ({', '.join(map(str, numbers))})"
    return row_filters.parse({column: {"in": values}}, columns=columns).sql()


def is_number(kind: str) -> bool:
    """Whether a type is one of numbers."""
    return kind.lower().startswith(NUMBERS)


def as_number(value: object) -> str | None:
    """A number as SQL has it; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return f"{number:f}" if number.is_finite() and number.adjusted() < DIGITS else None


def refuse_operator(op: str) -> None:
    """FilterError for what is no operator."""
    if op not in WORDS:
        message = f"the condition's op is {row_filters.shown(op)}, which is no operator"
        raise FilterError(message, fix=f"use one of {', '.join(WORDS)}")


def row_filter(said: Mapping[str, Any], columns: Columns) -> str:
    """The rows that a condition is about at all, by its `where`."""
    return row_filters.parse(said.get("where") or {}, columns=columns).sql()


def filtered(said: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    """The columns that a condition's `where` names."""
    return row_filters.parse(said.get("where") or {}, columns=columns).columns


def aggregate(
    definition: Definition, columns: Columns, *, table: str, order: str | None = None
) -> Aggregate:
    """What an `aggregate` asks of the rows of *table*, a name as SQL has it.

    *order* is the column of times where the condition names none.
    """
    said = definition.condition
    fn, op, limit = str(said.get("fn")), str(said.get("op")), said.get("value")
    column = find_column(said["column"], columns) if said.get("column") else None
    group_by = tuple(
        find_column(each, columns) for each in listed(said.get("group_by"))
    )
    rows = row_filter(said, columns)
    words = f"{fn}({column or '*'})"
    if (minutes := said.get("window_minutes")) is not None:
        time = time_column(said, columns, order=order)
        rows = f"({rows}) AND {within(time, minutes, table=table)}"
        words += f" of the last {minutes:g} minutes"
    # Groups are asked for by a query of their own, all else by one with others.
    of_rows = "" if group_by else f" FILTER (WHERE {rows})"
    value = figure(fn, column, columns) + of_rows
    return Aggregate(
        value=value,
        test=figure_test(value, fn, column, op=op, limit=limit, columns=columns),
        rows=rows,
        group_by=group_by,
        sentence=f"{words} {WORDS[op]} {row_filters.shown(limit)}",
        figures={"fn": fn, "column": column, "op": op, "limit": limit},
        shows=tuple(dict.fromkeys([*group_by, *([column] if column else [])])),
    )


def listed(said: object) -> list[Any]:
    """One or several, as a list."""
    if said is None:
        return []
    return list(said) if isinstance(said, list | tuple) else [said]


def figure(fn: str, column: str | None, columns: Columns) -> str:
    """The SQL of a figure."""
    if fn == "count" and column is None:
        return "count(*)"
    if fn not in FUNCTIONS:
        message = f"the condition's fn is {row_filters.shown(fn)}, which is no function"
        raise FilterError(message, fix=f"use one of {', '.join(FUNCTIONS)}")
    if column is None:
        message = f"{fn} needs a column"
        raise FilterError(message, fix=f"name one of {', '.join(list(columns)[:20])}")
    kind = columns[column].lower()
    if (fn in ADDING or fn == "median") and not is_number(kind):
        message = f"column {column!r} is {kind}, of which there is no {fn}"
        raise FilterError(message, fix="use a column of numbers, or count")
    if fn == "count_distinct":
        return f"count(DISTINCT {quote(column)})"
    return f"{(ADDING | ORDERING).get(fn, fn)}({quote(column)})"


def figure_test(
    value: str,
    fn: str,
    column: str | None,
    *,
    op: str,
    limit: object,
    columns: Columns,
) -> str:
    """The SQL of what must hold of a figure."""
    if fn in ("min", "max") and column is not None:
        return comparison(column, op=op, value=limit, columns=columns, of=value)
    # A count, a sum: numbers, whatever was counted.
    number = f"CAST({value} AS DOUBLE)"
    return comparison(fn, op=op, value=limit, columns={fn: "double"}, of=number)


def within(time: str, minutes: Any, *, table: str) -> str:  # noqa: ANN401 - JSON
    """That a row is of the last minutes that the table knows of: no clock makes it another answer."""
    latest = f"(SELECT max({quote(time)}) FROM {table})"
    return f"{quote(time)} > {latest} - to_seconds({float(minutes) * 60:.3f})"


def time_column(said: Mapping[str, Any], columns: Columns, *, order: str | None) -> str:
    """The column of times by which a condition has a window."""
    named = said.get("time_column") or (
        TIME_COLUMN if TIME_COLUMN in columns else order
    )
    if not named:
        raise FilterError(
            "the condition has a window, and the table no column that says when",
            fix="name it: time_column",
        )
    column = find_column(named, columns)
    kind = columns[column].lower()
    if not kind.startswith(("timestamp", "date")):
        message = f"column {column!r} is {kind}, and says no time"
        raise FilterError(message, fix="name a column of times: time_column")
    return column


def deviation(
    definition: Definition, columns: Columns, *, order: str | None = None
) -> Deviation:
    """What a `zscore` asks."""
    said = definition.condition
    column = find_column(said.get("column"), columns)
    kind = columns[column].lower()
    if not is_number(kind):
        message = f"column {column!r} is {kind}, from whose mean nothing deviates"
        raise FilterError(message, fix="use a column of numbers")
    named = said.get("time_column") or (
        TIME_COLUMN if TIME_COLUMN in columns else order
    )
    ordered = find_column(named, columns) if named else None
    return Deviation(
        column=column,
        deviations=float(said.get("k") or DEVIATIONS),
        baseline_rows=int(said.get("baseline_rows") or BASELINE_ROWS),
        rows=row_filter(said, columns),
        order=ordered,
        shows=(*([ordered] if ordered else []), column),
    )


def deviating(test: Deviation, *, table: str, before: str | None) -> str:
    """The query for the rows that are too far from the mean of those that came before.

    The news are what is later than anything in *before*, the table as it was; where no column tells
    what is later, every row is compared with all of them. `z`, `mean` and `deviation` stand beside.
    """
    column, rows = quote(test.column), f"SELECT * FROM {table} WHERE ({test.rows})"
    if test.order is None:
        old, news = f"SELECT {column} AS x FROM ({rows})", rows
    elif before is None:
        return f"SELECT *, 0.0 AS z, 0.0 AS mean, 0.0 AS deviation FROM ({rows}) WHERE false"
    else:
        order = quote(test.order)
        known = f"SELECT max({order}) FROM {before}"
        old = (
            f"SELECT {column} AS x FROM ({rows}) WHERE {order} <= ({known})"
            f" ORDER BY {order} DESC LIMIT {test.baseline_rows}"
        )
        news = f"SELECT * FROM ({rows}) WHERE {order} > ({known})"
    return f"""
        WITH __base AS (SELECT avg(x) AS mean, stddev_pop(x) AS deviation FROM ({old}))
        SELECT
            __news.*,
            ({column} - mean) / deviation AS z,
            mean,
            deviation
        FROM ({news}) AS __news, __base
        WHERE deviation > 0 AND abs({column} - mean) > {test.deviations!r} * deviation
        ORDER BY abs({column} - mean) DESC
    """


def groups(test: Aggregate, *, table: str, limit: int) -> str:
    """The query for the groups that match, with `__value` and `__rows`: the worst cannot be told."""
    named = name_list(test.group_by)
    return (
        f"SELECT {named}, {test.value} AS __value, count(*) AS __rows FROM {table}"
        f" WHERE {test.rows} GROUP BY {named} HAVING {test.test}"
        f" ORDER BY {named} LIMIT {limit}"
    )


def groups_of_all(tests: Sequence[Aggregate], *, table: str, limit: int) -> str:
    """The query for the groups that match any of *tests*, all of which group the same rows alike.

    Of each test, by its turn, `__value0` and `__match0`; and `__rows` of the group.
    """
    named = name_list(tests[0].group_by)
    asked = ", ".join(
        f"{each.value} AS __value{turn}, {each.test} AS __match{turn}"
        for turn, each in enumerate(tests)
    )
    matches = " OR ".join(f"({each.test})" for each in tests)
    return (
        f"SELECT {named}, {asked}, count(*) AS __rows FROM {table}"
        f" WHERE {tests[0].rows} GROUP BY {named} HAVING {matches}"
        f" ORDER BY {named} LIMIT {limit}"
    )


def of_group(test: Aggregate, values: Mapping[str, str]) -> str:
    """That a row counts and is of the group of these values, as SQL has them."""
    same = [
        f"{quote(name)} IS NOT DISTINCT FROM {value}" for name, value in values.items()
    ]
    return " AND ".join([f"({test.rows})", *same])


def key_columns(definition: Definition, columns: Columns) -> tuple[str, ...]:
    """The columns that tell rows apart where each is an event of its own."""
    return tuple(
        find_column(each, columns) for each in listed(definition.condition.get("key"))
    )


def is_per_row(definition: Definition) -> bool:
    """Whether each row that matches is an event of its own."""
    return definition.condition.get("per") == "row"


def named_columns(definition: Definition) -> Iterator[str]:
    """The columns that a condition names, whether they are there or not."""
    said = definition.condition
    for key in ("column", "group_by", "key", "time_column", "columns"):
        yield from map(str, listed(said.get(key)))
    where = said.get("where")
    if isinstance(where, Mapping):
        yield from map(str, where)
