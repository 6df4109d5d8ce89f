"""Readers of what alerts say field by field: numbers, tables, spans of time, secrets.

They go by the rules of `rat_resources.values`; what they return is JSON. A value that may be a secret
is never repeated in what is said against it.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from rat_resources import row_filters
from rat_resources.errors import FilterError, Problem
from rat_resources.names import TableName
from rat_resources.values import (
    Located,
    Reader,
    UnfitError,
    filled_text,
    is_mapping,
    one_of,
    shown,
    unique_entries,
)

LONGEST_TEXT = 2_000
LONGEST_WORD = 255
MOST_VALUES = 1_000
MOST_NAMES = 32
DEEPEST = 8
SHOWN = 60  # characters of a value that a problem repeats
SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,254}")
SPAN = re.compile(r"(\d{1,6})\s*([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
# Half a character is none, and no UTF-8.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def words(longest: int = LONGEST_TEXT) -> Reader:
    """A reader of a text that people read: not empty, not long, nothing unprintable in it."""

    def read(located: Located, namespace: str) -> str:
        if isinstance(located.value, str) and len(located.value) > longest:
            what = f"it has {len(located.value):,} characters, more than {longest:,}"
            raise UnfitError(what, "say it in fewer")
        value = filled_text(located, namespace)
        if found := UNPRINTABLE.search(value):
            what = f"it holds the character U+{ord(found[0]):04X}"
            raise UnfitError(what, "remove it")
        return value

    return read


word = words(LONGEST_WORD)


def number(located: Located, namespace: str = "") -> int | float:
    """A number that JSON can hold."""
    del namespace
    value = located.value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        what = f"{brief(located)} is no number"
        raise UnfitError(what, "write a number such as 3 or 0.5")
    return number_of(value)


def number_of(value: float) -> int | float:
    """A number that Postgres' JSON takes and gives back as it was."""
    if isinstance(value, int) and abs(value) >= 2**63:
        what = "the number has too many digits"
        raise UnfitError(what, "put quotes around it")
    return value


def positive(located: Located, namespace: str = "") -> int | float:
    """A number above zero."""
    value = number(located, namespace)
    if value <= 0:
        what = f"{value} is not above zero"
        raise UnfitError(what, "write a number such as 3 or 0.5")
    return value


def whole(most: int) -> Reader:
    """A reader of a whole number from 1 to *most*."""

    def read(located: Located, namespace: str) -> int:
        value = number(located, namespace)
        if isinstance(value, float) or not 1 <= value <= most:
            what = f"{brief(located)} is no whole number from 1 to {most:,}"
            raise UnfitError(what, "write one, such as 3")
        return value

    return read


def scalar(located: Located, namespace: str = "") -> str | int | float | bool:
    """What a column's value can be compared with."""
    value = located.value
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return number(located, namespace)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str):
        said: str = words(LONGEST_TEXT)(located, namespace)
        return said
    if value is None:
        what = "null is compared with nothing, since NULL never matches"
        raise UnfitError(what, "write a value")
    what = f"{shown(located)} is no value"
    raise UnfitError(what, "write one number, text, date, true or false")


def listed(
    read: Reader, *, most: int = MOST_NAMES, alone: bool = True
) -> Callable[[Located, str], list[Any]]:
    """A reader of a list, none of it twice; one by itself may stand without brackets."""

    def read_all(located: Located, namespace: str) -> list[Any]:
        if not isinstance(located.value, tuple):
            if not alone or is_mapping(located):
                raise UnfitError("this is no list", "write [a, b]")
            return [read(located, namespace)]
        if not located.value:
            raise UnfitError("the list is empty", "name one, or remove the line")
        if len(located.value) > most:
            what = f"there are {len(located.value):,}, more than {most:,}"
            raise UnfitError(what, "write fewer")
        values = [read(each, namespace) for each in located.value]
        twice = next((each for each in values if values.count(each) > 1), None)
        if twice is not None and most <= MOST_NAMES:
            raise UnfitError(f"{twice} stands here twice", "name it once")
        return values

    return read_all


names = listed(word)


def table(located: Located, namespace: str) -> str:
    """The full name of a table; `layer.name` is one of the same namespace."""
    value = word(located, namespace)
    try:
        return str(TableName.parse(value, namespace=namespace))
    except ValueError as error:
        what = f"{brief(located)} is no table name"
        fix = "write layer.name or namespace.layer.name"
        raise UnfitError(what, fix) from error


def span(located: Located, namespace: str = "") -> str:
    """A span of time, as it is written."""
    del namespace
    written = located.written.strip() or str(located.value)
    found = SPAN.fullmatch(written)
    if found is None or int(found[1]) == 0:
        what = f"{brief(located)} is no span of time"
        raise UnfitError(what, "write 30s, 5m, 2h, 7d or 1w")
    return written


def seconds_of(written: str) -> int:
    """The length of a span that `span` has read."""
    found = SPAN.fullmatch(written)
    if found is None:
        raise ValueError(written)
    return int(found[1]) * SECONDS[found[2]]


def secret(located: Located, namespace: str = "") -> str:
    """The name of the environment variable that holds a secret; never the secret itself."""
    del namespace
    value = located.value
    if isinstance(value, str) and SECRET.fullmatch(value.strip()):
        return value.strip()
    is_named = isinstance(value, str) and value.strip().lower().startswith("env:")
    what = (
        "this is no name of an environment variable"
        if is_named
        else "a secret must not stand here"
    )
    fix = "write env:NAME, and set the variable NAME where alerts are sent"
    raise UnfitError(what, fix)


def open_or_secret(read: Reader) -> Reader:
    """A reader of what *read* takes, or of the variable that holds it."""

    def either(located: Located, namespace: str) -> Any:  # noqa: ANN401 - what *read* reads
        value = located.value
        if isinstance(value, str) and value.strip().lower().startswith("env:"):
            return secret(located, namespace)
        return read(located, namespace)

    return either


def row_filter(located: Located, namespace: str = "") -> dict[str, Any]:
    """A row filter that is well formed, whatever the columns are."""
    document = plain(located)
    if not isinstance(document, dict):
        what = f"{brief(located)} is no row filter"
        raise UnfitError(what, "write {column: value}, or {column: {gte: 3}}")
    for column, asked in document.items():
        word(Located(column, 0, column), namespace)
        try:
            for operator, value in row_filters.operators_of(column, asked):
                check_operand(column, operator, value)
        except FilterError as error:
            raise UnfitError(error.message, error.fix) from error
    return document


def check_operand(column: str, operator: str, value: object) -> None:
    """UnfitError for what no value of a column is."""
    values = value if operator == "in" and isinstance(value, list) else [value]
    if len(values) > MOST_VALUES:
        what = (
            f"{column} is asked for {len(values):,} values, more than {MOST_VALUES:,}"
        )
        raise UnfitError(what, "ask for a range")
    for each in values:
        if each is None:
            what = f"{column} is asked for null, which never matches"
            raise UnfitError(what, "ask for a value, or leave the column out")
        if isinstance(each, dict | list):
            what = f"{column} is asked with {operator} for what is no value"
            raise UnfitError(what, "write one number, text, date, true or false")


def mapping(
    key: Reader, value: Reader, *, form: str, most: int = MOST_NAMES
) -> Callable[[Located, str], dict[str, Any]]:
    """A reader of a mapping whose keys are free."""

    def read(located: Located, namespace: str) -> dict[str, Any]:
        if not is_mapping(located):
            raise UnfitError("this is no mapping", f"write {form}")
        if len(located.value) > most:
            what = f"there are {len(located.value):,} entries, more than {most:,}"
            raise UnfitError(what, "write fewer")
        values = {}
        for name, each in entries_of(located).items():
            try:
                read_name = key(Located(name, each.line, name), namespace)
                values[read_name] = value(each, namespace)
            except UnfitError as unfit:
                raise unfit.under(name[:SHOWN], line=each.line) from unfit
        return values

    return read


def entries_of(located: Located) -> dict[str, Located]:
    """The entries of a mapping; UnfitError for a key that stands there twice."""
    doubled: list[Problem] = []
    entries = dict(unique_entries(located, problems=doubled, path=""))
    for problem in doubled:
        raise UnfitError(problem.what, problem.fix, line=problem.line)
    return entries


def label(located: Located, namespace: str) -> str:
    """The value of a label: a text, as it is written."""
    value = located.value
    if isinstance(value, int | float | bool | date) and located.written:
        return located.written
    return str(word(located, namespace))


labels = mapping(word, label, form="{team: payments}")


def choice(known: Iterable[str]) -> Reader:
    """A reader of one of the words that are known."""
    read = one_of(*known)

    def read_brief(located: Located, namespace: str) -> object:
        word(located, namespace)
        return read(located, namespace)

    return read_brief


def plain(located: Located, *, deep: int = 0) -> Any:  # noqa: ANN401 - JSON
    """A value as JSON has it; UnfitError for what JSON cannot hold."""
    if deep > DEEPEST:
        raise UnfitError("this is nested too deeply", "write it flat")
    if is_mapping(located) and isinstance(located.value, list):
        return {
            key: plain(each, deep=deep + 1) for key, each in entries_of(located).items()
        }
    if isinstance(located.value, tuple):
        return [plain(each, deep=deep + 1) for each in located.value]
    return None if located.value is None else scalar(located)


def brief(located: Located) -> str:
    """A value as a problem repeats it, however long it is."""
    text = shown(located)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def merged(*readers: Mapping[str, Reader]) -> dict[str, Reader]:
    """The readers of several groups of fields."""
    return {key: read for each in readers for key, read in each.items()}
