"""Columns: what config.yaml says about each of a table's columns, and the tests that it asks for.

A test of a column becomes a quality test like those in files: its query is written here, how it is
read and run is `rat_resources.specs` and `rat_assets.quality`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rat_resources.errors import NotFoundError, Problem
from rat_resources.lake.sql import literal, quote
from rat_resources.names import TableName, nearest
from rat_resources.values import (
    Located,
    MappingReader,
    Reader,
    UnfitError,
    filled_text,
    flag,
    is_mapping,
    one_of,
    shown,
    text,
    unique_entries,
)

SEVERITIES = {"error": "error", "warn": "warn", "warning": "warn"}
FORM = "NAME: {description: …, tests: [not_null]}"
FORMS = {
    "not_null": "not_null",
    "unique": "unique",
    "accepted_values": "accepted_values: [a, b]",
    "relationships": "relationships: layer.name.column",
}


@dataclass(frozen=True)
class ColumnTest:
    """A test of one column, as config.yaml asks for it."""

    kind: str
    values: tuple[str, ...] = ()  # accepted_values: as they are written
    to: str = ""  # relationships: the table that holds every value
    to_column: str = ""
    name: str = ""
    where: str = ""
    description: str = ""
    severity: str = ""  # "": the column's
    remediation: str = ""
    line: int = 1  # of config.yaml


@dataclass(frozen=True)
class Column:
    """What config.yaml says about a column."""

    name: str
    description: str = ""
    pii: bool = False
    severity: str = "error"  # of its tests, where they don't say another
    tests: tuple[ColumnTest, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Column":
        """The column that `dataclasses.asdict` once wrote."""
        tests = (
            ColumnTest(**{**each, "values": tuple(each["values"])})
            for each in document["tests"]
        )
        return cls(**{**document, "tests": tuple(tests)})


def find_column(columns: Sequence[Column], name: str) -> Column | None:
    """What is said about the column *name*; DuckDB tells no upper from lower case."""
    wanted = name.casefold()
    return next((each for each in columns if each.name.casefold() == wanted), None)


def personal_names(columns: Iterable[Column]) -> frozenset[str]:
    """The names of the columns with personal data, casefolded: no sample shows what is in them."""
    return frozenset(each.name.casefold() for each in columns if each.pii)


def refuse_unknown(name: str, *, table: TableName, names: Sequence[str]) -> None:
    """NotFoundError when *table*, with the columns *names*, has no column *name*."""
    if name.casefold() in map(str.casefold, names):
        return
    guess = nearest(name, names) or nearest(name.casefold(), names)
    fix = f"did you mean {guess!r}?" if guess else f"it has {', '.join(names)}"
    message = f"{table} has no column {name!r}"
    raise NotFoundError(message, fix=fix)


# The queries.


def name_of_test(column: str, test: ColumnTest) -> str:
    """What a test is called, unless it has a name of its own."""
    return test.name or f"{test.kind}_{re.sub(r'[^a-z0-9]+', '_', column.lower())}"


def line_of_test(columns: Iterable[Column], name: str) -> int:
    """The line of config.yaml that asks for the test *name*."""
    return next(
        (
            test.line
            for column in columns
            for test in column.tests
            if name_of_test(column.name, test) == name
        ),
        1,
    )


def describe_test(column: str, test: ColumnTest) -> str:
    """What a test makes sure of, in words."""
    if test.description:
        return test.description
    match test.kind:
        case "not_null":
            return f"{column} is never NULL"
        case "unique":
            return f"No two rows have the same {column}"
        case "accepted_values":
            return f"{column} is one of {', '.join(test.values)}"
    return f"Every {column} is a {test.to_column} of {test.to}"


def offenders_query(column: str, test: ColumnTest) -> str:
    """The query for the rows that a test is about, as a template; NULL offends only not_null."""
    name = as_template(quote(column))
    # On a line of its own, a comment at its end comments nothing else out.
    only = f"\n  AND (\n    {test.where}\n  )" if test.where else ""
    if test.kind == "not_null":
        condition = f"{name} IS NULL"
    elif test.kind == "unique":
        filtered = f"\n  WHERE true{only}" if only else ""
        condition = (
            f"{name} IN (\n  SELECT {name} FROM {{{{ this }}}}{filtered}\n"
            f"  GROUP BY {name} HAVING count(*) > 1\n)"
        )
    elif test.kind == "accepted_values":
        # Text fits a column of any type: DuckDB takes it for a value of that type.
        values = ", ".join(as_template(literal(value)) for value in test.values)
        condition = f"{name} NOT IN ({values})"
    else:
        other = as_template(quote(test.to_column))
        condition = (
            f"{name} IS NOT NULL AND {name} NOT IN (\n"
            # Without its table's name, a column that this lacks would be that of the outer one.
            f"  SELECT other.{other} FROM {{{{ ref('{test.to}') }}}} AS other\n"
            f"  WHERE other.{other} IS NOT NULL\n)"
        )
    order = f"\nORDER BY {name}" if test.kind == "unique" else ""
    return f"SELECT *\nFROM {{{{ this }}}}\nWHERE {condition}{only}{order}\n"


def as_template(sql: str) -> str:
    """*sql* as a template that renders to it, whatever braces it holds."""
    return sql.replace("{", "{{ '{' }}")


# Reading.


def read_columns(located: Located, namespace: str) -> tuple[Column, ...]:
    """The columns of `columns: {id: {description, pii, severity, tests}}`."""
    if not is_mapping(located) or not located.value:
        raise UnfitError(f"{shown(located)} is no mapping", f"write {FORM}")
    doubled: list[Problem] = []
    entries = list(unique_entries(located, problems=doubled, path=""))
    found = [UnfitError(each.what, each.fix, line=each.line) for each in doubled]
    columns: dict[str, Column] = {}
    for name, value in entries:
        try:
            column = read_column(name, value, namespace)
        except UnfitError as unfit:
            found.append(unfit.under(name, line=value.line))
            continue
        other = columns.setdefault(name.casefold(), column)
        if other is not column:
            what = f"{name} and {other.name} are one column"
            found.append(UnfitError(what, "keep one of the two", line=value.line))
    if found:
        raise UnfitError.of(found)
    return tuple(columns.values())


def read_column(name: str, located: Located, namespace: str) -> Column:
    """One column; nothing said about it is a column too."""
    if located.value is None:
        return Column(name)
    read = MappingReader(
        {
            "description": text,
            "pii": flag,
            "severity": severity,
            "tests": column_tests,
        },
        lambda values, _: Column(name, **values),
        form="{description: …, tests: [not_null]}",
    )
    column: Column = read(located, namespace)
    tests = (
        replace(each, severity=each.severity or column.severity)
        for each in column.tests
    )
    return replace(column, tests=tuple(tests))


def severity(located: Located, namespace: str) -> str:
    """How grave offenders are."""
    return SEVERITIES[one_of(*SEVERITIES)(located, namespace)]


def column_tests(located: Located, namespace: str) -> tuple[ColumnTest, ...]:
    """A list of tests, each its name alone or with what it needs."""
    if not isinstance(located.value, tuple):
        raise UnfitError(f"{shown(located)} is no list", "write [not_null, unique]")
    tests: list[ColumnTest] = []
    found: list[UnfitError] = []
    for each in located.value:
        try:
            tests.append(column_test(each, namespace))
        except UnfitError as unfit:
            found.append(unfit.at(each.line))
    if found:
        raise UnfitError.of(found)
    return tuple(tests)


def column_test(located: Located, namespace: str) -> ColumnTest:
    """One test: `unique`, `{unique: {severity: warn}}`, `{accepted_values: [a, b]}`."""
    if is_mapping(located):
        return read_wordy_test(located, namespace)
    kind = one_of(*FORMS)(located, namespace)
    if FORMS[kind] != kind:
        raise UnfitError(f"{kind} does not say of what", f"write {FORMS[kind]}")
    return ColumnTest(kind, line=located.line)


def read_wordy_test(located: Located, namespace: str) -> ColumnTest:
    """A test that says more than its kind."""
    if len(located.value) != 1:
        names = ", ".join(str(each.key.written) for each in located.value)
        what = f"an item is one test, and this one is {names or 'none'}"
        raise UnfitError(what, "write {not_null: {severity: warn}}")
    ((key, value),) = ((each.key, each.value) for each in located.value)
    kind = one_of(*FORMS)(key, namespace)
    try:
        said = read_words(kind, value, namespace)
    except UnfitError as unfit:
        raise unfit.under(kind, line=value.line) from unfit
    return ColumnTest(kind, **said, line=located.line)


def read_words(kind: str, located: Located, namespace: str) -> dict[str, Any]:
    """What is said about a test of *kind*; the short form names only what it needs."""
    needed = NEEDED.get(kind)
    if is_mapping(located):
        more = dict([needed] if needed else [])
        read_all = MappingReader(
            {**OPTIONS, **more}, lambda values, _: values, required=list(more)
        )
        values: dict[str, Any] = read_all(located, namespace)
    elif needed:
        key, read = needed
        values = {key: read(located, namespace)}
    elif located.value is None:
        return {}
    else:
        raise UnfitError(f"{shown(located)} is no mapping", "write {severity: warn}")
    to = values.pop("to", None)
    return values | ({"to": str(to[0]), "to_column": to[1]} if to else {})


def accepted(located: Located, namespace: str) -> tuple[str, ...]:
    """The values that a column may have, each as it is written."""
    del namespace
    if not isinstance(located.value, tuple) or not located.value:
        raise UnfitError(f"{shown(located)} is no list of values", "write [a, b]")
    for each in located.value:
        if each.value is None:
            raise UnfitError("NULL is always accepted", "leave it out", line=each.line)
        if isinstance(each.value, list | tuple):
            what = f"{shown(each)} is no value"
            raise UnfitError(what, "write [a, b]", line=each.line)
    return tuple(dict.fromkeys(each.written for each in located.value))


def other_column(located: Located, namespace: str) -> tuple[TableName, str]:
    """A column of another table, `layer.name.column` or `namespace.layer.name.column`."""
    value = filled_text(located, namespace)
    table, _, column = value.rpartition(".")
    try:
        return TableName.parse(table, namespace=namespace), column
    except ValueError as error:
        what = f"{value!r} names no column of a table"
        fix = "write layer.name.column or namespace.layer.name.column"
        raise UnfitError(what, fix) from error


OPTIONS: Mapping[str, Reader] = {
    "name": filled_text,
    "where": filled_text,
    "description": filled_text,
    "severity": severity,
    "remediation": filled_text,
}
NEEDED: Mapping[str, tuple[str, Reader]] = {
    "accepted_values": ("values", accepted),
    "relationships": ("to", other_column),
}
