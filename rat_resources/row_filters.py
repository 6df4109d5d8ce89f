"""Row filters: which rows of a table are meant, as a JSON document that is safe to put into SQL.

A document is an object of columns. What stands for a column is a value (equal), a list (one of), or
an object of `eq`, `gt`, `gte`, `lt`, `lte` and `in`; all of it must hold. NULL never matches, and
`{}` is every row. Types are DuckDB's words, as `rat.iceberg_columns` and `lake.types.sql_type` have
them; a document that asks what cannot be compared is refused by name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from rat_resources.errors import FilterError
from rat_resources.lake.sql import literal, quote
from rat_resources.metadata.zeros import SIGN, ZERO
from rat_resources.names import nearest

Value = bool | int | float | Decimal | str | date | datetime | time | UUID

OPERATORS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
WORDS = (*OPERATORS, "in")
INTEGERS = {"tinyint": 8, "smallint": 16, "integer": 32, "bigint": 64, "hugeint": 128}
MISSING = "null"  # what the partition of the rows without a value is called
CUT = "…sha256:"  # what stands in the name of a partition that was too long
ALL = "all"  # the partition of a table that has no others
LISTED = 1_000  # values that SQL lists one by one
SHOWN = 60  # characters of a value that a message shows


@dataclass(frozen=True)
class Condition:
    """What one operator asks of one column."""

    column: str
    type: str  # DuckDB's word
    operator: str
    values: tuple[Value, ...]  # one, but for `in`

    def sql(self, column: str) -> str:
        """The condition on what SQL calls *column*; NULL where its value is."""
        if self.operator != "in":
            (value,) = self.values
            return f"{column} {OPERATORS[self.operator]} {self.written(value)}"
        if not self.values:
            return "false"
        if len(self.values) <= LISTED:
            return f"{column} IN ({', '.join(map(self.written, self.values))})"
        # A list of casts that long takes DuckDB longer to parse than to answer.
        texts = ", ".join(as_text(value) for value in self.values)
        return f"{column} IN (SELECT unnest(CAST([{texts}] AS {self.type}[])))"

    @property
    def ends(self) -> tuple[str | None, str | None]:
        """The least and the greatest value for which it may hold, as SQL; None: there is no such one."""
        if not self.values:
            return None, None
        low, high = (self.written(end(self.values)) for end in (min, max))
        return (
            None if self.operator in ("lt", "lte") else low,
            None if self.operator in ("gt", "gte") else high,
        )

    def written(self, value: Value) -> str:
        """A value as SQL of the column's type."""
        return f"CAST({as_text(value)} AS {self.type})"

    def to_json(self) -> Any:  # noqa: ANN401 - whatever JSON the operator takes
        """What stands for the operator in a document."""
        values = [as_json(value) for value in self.values]
        return values if self.operator == "in" else values[0]


@dataclass(frozen=True)
class RowFilter:
    """Rows of one table: those for which every condition holds; without any, all of them."""

    conditions: tuple[Condition, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every row is meant."""
        return not self.conditions

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are asked for, as the table spells them."""
        return tuple(dict.fromkeys(each.column for each in self.conditions))

    def sql(self, *, of: str = "") -> str:
        """The filter as a condition of DuckDB, on the columns of the relation *of* if named.

        It is NULL for rows without a value: those it leaves are `(…) IS NOT TRUE`.
        """
        prefix = f"{quote(of)}." if of else ""
        words = [each.sql(prefix + quote(each.column)) for each in self.conditions]
        return " AND ".join(words) or "true"

    def to_json(self) -> dict[str, Any]:
        """The document that `parse` reads back."""
        document: dict[str, dict[str, Any]] = {}
        for each in self.conditions:
            document.setdefault(each.column, {})[each.operator] = each.to_json()
        return {column: shortened(asked) for column, asked in document.items()}


WHOLE = RowFilter()
MOST_TOGETHER = 100  # filters that stay apart; of more it is every row


def together(filters: Iterable[RowFilter]) -> tuple[RowFilter, ...]:
    """As few filters as can be, of which one at least matches whatever one of *filters* does."""
    each_once = dict.fromkeys(filters)
    if WHOLE in each_once:
        return (WHOLE,)
    values: dict[tuple[str, str], dict[Value, None]] = {}
    others: list[RowFilter] = []
    for each in each_once:
        first, *more = each.conditions
        if more or first.operator not in ("eq", "in"):
            others.append(each)
        else:
            listed = values.setdefault((first.column, first.type), {})
            listed.update(dict.fromkeys(first.values))
    lists = [
        RowFilter((Condition(column, kind, "in", tuple(listed)),))
        for (column, kind), listed in values.items()
    ]
    return (*lists, *others) if len(others) <= MOST_TOGETHER else (WHOLE,)


def parse(document: object, *, columns: Mapping[str, str]) -> RowFilter:
    """The filter that a document asks for, on a table of these columns and types.

    FilterError names the column and the operator that cannot be understood.
    """
    if not isinstance(document, Mapping):
        raise FilterError(
            f"a row filter is an object of columns, not {shown(document)}",
            fix='write {"column": value}, or {} for every row',
        )
    conditions: dict[tuple[str, str], Condition] = {}
    for name, asked in document.items():
        column = find_column(name, columns)
        for operator, value in operators_of(column, asked):
            if (column, operator) in conditions:
                raise FilterError(
                    f"column {column!r} is named twice with {operator}",
                    fix="name it once",
                )
            conditions[column, operator] = condition(
                column, columns[column], operator=operator, value=value
            )
    return RowFilter(tuple(conditions.values()))


def shortened(asked: dict[str, Any]) -> Any:  # noqa: ANN401 - a value, a list or an object
    """What stands for a column, as short as the grammar allows."""
    if len(asked) > 1 or not asked.keys() & {"eq", "in"}:
        return asked
    (value,) = asked.values()
    return value


def find_column(name: object, columns: Mapping[str, str]) -> str:
    """A column as its table spells it."""
    if name in columns:
        return str(name)
    alike = [each for each in columns if each.casefold() == str(name).casefold()]
    if len(alike) == 1:
        return alike[0]
    near = nearest(str(name), columns)
    known = ", ".join(list(columns)[:20])
    raise FilterError(
        f"the filter names the column {shown(name)}, which is not there",
        fix=f"did you mean {near!r}?" if near else f"use one of {known}",
    )


def operators_of(column: str, asked: object) -> Iterator[tuple[str, object]]:
    """The operators that a column is asked with, and their values."""
    if isinstance(asked, list | tuple):
        yield "in", asked
        return
    if not isinstance(asked, Mapping):
        yield "eq", asked
        return
    if not asked:
        raise FilterError(
            f"column {column!r} is asked with no operator",
            fix=f"use one of {', '.join(WORDS)}, or leave the column out",
        )
    for operator, value in asked.items():
        if operator not in WORDS:
            near = nearest(str(operator), WORDS)
            raise FilterError(
                f"column {column!r} is asked with {shown(operator)}, which is no operator",
                fix=f"did you mean {near!r}?" if near else f"use {', '.join(WORDS)}",
            )
        yield operator, value


def condition(column: str, kind: str, *, operator: str, value: object) -> Condition:
    """One condition, whose values the column's type can be compared with."""
    kind = kind.strip().lower()
    read = reader_of(column, kind)
    if kind == "boolean" and operator not in ("eq", "in"):
        raise FilterError(
            f"column {column!r} is boolean, which {operator} does not compare",
            fix="ask for true or false",
        )
    if operator == "in" and not isinstance(value, list | tuple):
        raise FilterError(
            f"column {column!r}: `in` takes a list, not {shown(value)}",
            fix=f"write [{shown(value)}]",
        )
    given = value if isinstance(value, list | tuple) and operator == "in" else [value]
    values = (read_value(column, kind, read=read, value=each) for each in given)
    # Each once, in the order given.
    return Condition(column, kind, operator, tuple(dict.fromkeys(values)))


Reader = Callable[[object], Value | None]


def read_value(column: str, kind: str, *, read: Reader, value: object) -> Value:
    """A value as the column's type has it; FilterError for any that does not compare."""
    if value is None:
        raise FilterError(
            f"column {column!r} is asked for null, which never matches",
            fix="ask for a value, or leave the column out",
        )
    try:
        found = read(value)
    except (ValueError, OverflowError, InvalidOperation):
        found = None
    if found is None:
        raise FilterError(
            f"column {column!r} is {kind}, which does not compare with {shown(value)}",
            fix=ADVICE.get(kind.partition("(")[0], "use a value of that type"),
        )
    return found


ADVICE = {
    "boolean": "use true or false",
    "date": 'write "2026-12-31"',
    "timestamp": 'write "2026-12-31T23:59:59", without a zone, as the column is',
    "timestamp with time zone": 'write "2026-12-31T23:59:59+00:00"',
    "time": 'write "23:59:59"',
    "uuid": "write a UUID in quotes",
    "varchar": "put the text in quotes",
    "decimal": "write a number of no more digits than the column has",
} | dict.fromkeys(INTEGERS, "write a whole number that the type can hold")


def reader_of(column: str, kind: str) -> Reader:
    """What reads the values of a type; FilterError where a type compares with no JSON."""
    if kind in INTEGERS:
        return integers(INTEGERS[kind])
    if kind.startswith("decimal(") and kind.endswith(")"):
        precision, _, scale = kind[len("decimal(") : -1].partition(",")
        return decimals(int(precision), int(scale))
    if kind not in READERS:
        raise FilterError(
            f"column {column!r} is {kind}, by which rows cannot be told apart",
            fix="use a column of numbers, text, dates, times, booleans or UUIDs",
        )
    return READERS[kind]


def integers(bits: int) -> Reader:
    """Reads whole numbers of that many bits, also as text: JSON's own end at 53 bits."""

    def read(value: object) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        if isinstance(value, float) and not value.is_integer():
            return None
        number = int(value)
        return number if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1) else None

    return read


def decimals(precision: int, scale: int) -> Reader:
    """Reads numbers that a decimal holds as they are, also as text: JSON's own lose digits."""

    def read(value: object) -> Decimal | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        number = Decimal(str(value))
        if not number.is_finite() or abs(number) >= 10 ** (precision - scale):
            return None
        if not number:
            return Decimal(0)  # whatever its exponent
        # `normalize` rounds to the context's 28 digits, and a decimal has up to 38.
        digits = number.as_tuple()
        lost = max(0, -int(digits.exponent) - scale)
        return None if lost and any(digits.digits[-lost:]) else number

    return read


def read_boolean(value: object) -> bool | None:
    """A boolean."""
    return value if isinstance(value, bool) else None


def read_float(value: object) -> float | None:
    """A number, or a text such as `NaN` for those that JSON has no number for."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return float(value)


def read_text(value: object) -> str | None:
    """A text."""
    if not isinstance(value, str):
        return None
    value.encode()  # half a character is none
    return value


def read_date(value: object) -> date | None:
    """A day."""
    return date.fromisoformat(value) if isinstance(value, str) else None


def read_naive(value: object) -> datetime | None:
    """A time without a zone: with one nobody knows which is meant."""
    if not isinstance(value, str):
        return None
    found = datetime.fromisoformat(value)
    return found if found.tzinfo is None else None


def read_aware(value: object) -> datetime | None:
    """A time in UTC, which it is also taken to be without a zone."""
    if not isinstance(value, str):
        return None
    found = datetime.fromisoformat(value)
    aware = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return aware.astimezone(UTC)


def read_time(value: object) -> time | None:
    """A time of day."""
    found = time.fromisoformat(value) if isinstance(value, str) else None
    return found if found is not None and found.tzinfo is None else None


def read_uuid(value: object) -> UUID | None:
    """A UUID."""
    return UUID(value) if isinstance(value, str) else None


READERS: Mapping[str, Reader] = {
    "boolean": read_boolean,
    "float": read_float,
    "double": read_float,
    "varchar": read_text,
    "date": read_date,
    "timestamp": read_naive,
    "timestamp with time zone": read_aware,
    "time": read_time,
    "uuid": read_uuid,
}


def as_text(value: Value) -> str:
    """A value as a text of SQL, in parentheses where it takes more than a literal."""
    # The text of a statement ends at U+0000.
    parts = [literal(part) for part in as_words(value).split(ZERO)]
    return parts[0] if len(parts) == 1 else f"({' || chr(0) || '.join(parts)})"


def as_words(value: Value) -> str:
    """A value as DuckDB casts it from text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def as_json(value: Value) -> bool | int | float | str:
    """A value as a document has it; what JSON has no number for is text."""
    if isinstance(value, bool | int) and abs(value) < 2**53:
        return value
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    return as_words(value)


def shown(value: object) -> str:
    """A value in a message, however long it is."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


# Partitions.


def of_partition(
    key: str, *, parts: Sequence[str], columns: Mapping[str, str]
) -> RowFilter:
    """The rows of a partition of a table that is divided by the columns *parts*.

    Every row where the name does not tell: of the rows without a value, of one that was cut, or of
    a table that was divided otherwise.
    """
    words = key.split("/") if len(parts) > 1 else [key]
    if not parts or len(words) != len(parts) or CUT in key or SIGN in key:
        return WHOLE
    if MISSING in words:
        return WHOLE  # also of those who hold the word itself
    if len(parts) > 1:
        words = [unquote(word) for word in words]
    asked = {
        part: as_value(word, columns.get(part, ""))
        for part, word in zip(parts, words, strict=True)
    }
    try:
        return parse(asked, columns=columns)
    except FilterError:
        return WHOLE


def as_value(word: str, kind: str) -> str | bool:
    """A word of a partition's name as a document has it."""
    if kind.lower() == "boolean" and word.lower() in ("true", "false"):
        return word.lower() == "true"
    return word
