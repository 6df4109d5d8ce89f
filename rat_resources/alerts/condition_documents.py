"""Condition documents: of what somebody wants to hear, kind by kind and field by field.

    threshold      dataset, column, op, value            rows whose value is so
    in             dataset, column, values               rows whose value is one of these
    aggregate      dataset, fn, column, op, value,       a figure of the rows, or of each group
                   group_by, window_minutes, time_column
    zscore         dataset, column, k, baseline_rows,    rows far from the mean of those before
                   time_column
    sql            query, dataset                        rows that a query returns
    quality        dataset, test, status, times          a test that failed or warned, n times in a row
    schema_change  dataset, columns, kinds               columns that came, went, or changed
    volume         dataset, last_runs, k or low / high   rows outside what the last runs had
    freshness      dataset, max_age_minutes or rhythm    a table that was not published in time
    run_status     pipelines, statuses                   runs that ended so
    udf            entrypoint, sha256, dataset           what a Python function finds
    system                                               RAT's own troubles

The first four take `where`, a row filter; those about rows `per: row` with `key`, an event for each row.
What a document asks of a table's columns is `conditions`; reading fields is `readers`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rat_resources.alerts.readers import (
    MOST_VALUES,
    brief,
    choice,
    entries_of,
    listed,
    merged,
    names,
    number,
    positive,
    row_filter,
    scalar,
    table,
    whole,
    word,
    words,
)
from rat_resources.names import LAYERS, PATTERN
from rat_resources.statements import read_query
from rat_resources.values import (
    Located,
    MappingReader,
    Reader,
    UnfitError,
    is_mapping,
)

OPERATORS = ("gt", "gte", "lt", "lte", "eq", "ne")
FUNCTIONS = (
    "count",
    "count_distinct",
    "sum",
    "avg",
    "stddev",
    "min",
    "max",
    "median",
)
RUN_STATUSES = ("failed", "cancelled", "success", "missing")
TEST_STATUSES = ("failed", "warned")
CHANGES = ("added", "dropped", "renamed", "widened", "replaced", "nullability")
A_YEAR = 366 * 24 * 60  # minutes
MOST_RUNS = 1_000
MOST_ROWS = 1_000_000
LONGEST_QUERY = 20_000
SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
ENTRYPOINT = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
)
PIPELINES = re.compile(r"[a-z0-9_*?-]+(\.[a-z0-9_*?-]+){0,2}")


@dataclass(frozen=True)
class Kind:
    """The fields that a kind of condition has."""

    readers: Mapping[str, Reader]
    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()  # of each group exactly one is given
    together: tuple[tuple[str, str], ...] = ()  # the first makes no sense without


def read_condition(located: Located, namespace: str = "") -> dict[str, Any]:
    """A condition as it is kept, `kind` first; UnfitError names every field that is wrong."""
    if not is_mapping(located):
        what = "this is no condition"
        raise UnfitError(what, "write {kind: threshold, …}", line=located.line)
    entries = entries_of(located)
    if "kind" not in entries:
        what, fix = "kind is missing", f"add kind: {', '.join(KINDS)}"
        raise UnfitError(what, fix, line=located.line)
    try:
        word = str(choice(KINDS)(entries["kind"], namespace))
    except UnfitError as unfit:
        raise unfit.under("kind", line=entries["kind"].line) from unfit
    kind = KINDS[word]
    readers = {"kind": choice(KINDS), **kind.readers}
    read = MappingReader(readers, whole_condition, kind.required, f"{{kind: {word}}}")
    said: dict[str, Any] = read(located, namespace)
    return said


def whole_condition(values: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The condition, where its fields go together."""
    kind = KINDS[values["kind"]]
    for group in kind.one_of:
        given = [name for name in group if name in values]
        if not given:
            raise UnfitError(f"none of {', '.join(group)} is given", "add one of them")
        if len(given) > 1:
            raise UnfitError(f"{given[0]} and {given[1]} are given", "keep one of them")
    for name, other in kind.together:
        if name in values and other not in values:
            raise UnfitError(f"{name} says nothing without {other}", f"add {other}: …")
    CHECKS.get(values["kind"], unchecked)(values)
    if values["kind"] == "run_status":
        values.setdefault("pipelines", [f"{namespace}.*"] if namespace else ["*"])
    return {"kind": values["kind"]} | values


def unchecked(values: dict[str, Any]) -> None:
    """Nothing more to see to."""


def check_aggregate(values: dict[str, Any]) -> None:
    """Only a count needs no column, and a time column is one of a window."""
    if values["fn"] != "count" and "column" not in values:
        raise UnfitError(f"{values['fn']} needs a column", "add column: …")


def check_volume(values: dict[str, Any]) -> None:
    """A range by deviations or by factors."""
    low, high = values.get("low"), values.get("high")
    if "k" in values and (low is not None or high is not None):
        raise UnfitError("k and factors are given", "keep k, or low and high")
    if low is not None and high is not None and low >= high:
        raise UnfitError(f"low is {low}, which is not below high", "swap them")


CHECKS = {"aggregate": check_aggregate, "volume": check_volume}


# Fields.


def query(located: Located, namespace: str) -> str:
    """One SELECT; its Jinja is read when it runs."""
    value: str = words(LONGEST_QUERY)(located, namespace)
    if "{{" in value or "{%" in value:
        return value
    for mistake in read_query(value).mistakes:
        line = located.line + mistake.line if located.line else None
        raise UnfitError(mistake.what, mistake.fix, line=line)
    return value


def entrypoint(located: Located, namespace: str) -> str:
    """A function that Python can import: package.module:function."""
    value: str = word(located, namespace)
    if not ENTRYPOINT.fullmatch(value):
        what = f"{brief(located)} names no function"
        raise UnfitError(what, "write package.module:function")
    return value


def sha256(located: Located, namespace: str) -> str:
    """The hash of the file that holds the function."""
    value: str = word(located, namespace)
    found = SHA256.fullmatch(value.lower())
    if found is None:
        what = f"{brief(located)} is no SHA-256"
        fix = "write 64 hexadecimal digits, as sha256sum FILE prints them"
        raise UnfitError(what, fix)
    return found[1]


def pipelines(located: Located, namespace: str) -> str:
    """A pattern of pipelines: nyc.*, nyc.gold.*, silver.flights."""
    value: str = word(located, namespace)
    if not PIPELINES.fullmatch(value):
        what = f"{brief(located)} is no pattern of pipelines"
        raise UnfitError(what, "write namespace.layer.name, with * for any")
    first = value.partition(".")[0]
    return f"{namespace}.{value}" if namespace and first in LAYERS else value


def test_name(located: Located, namespace: str) -> str:
    """The name of a quality test, or * for each."""
    value: str = word(located, namespace)
    if value != "*" and not PATTERN.fullmatch(value):
        what = f"{brief(located)} is no name of a test"
        raise UnfitError(what, "write its name, or '*' for every test of the table")
    return value


def rhythm(located: Located, namespace: str) -> dict[str, Any]:
    """How much later than usual is late."""
    read = MappingReader(
        {"factor": positive}, lambda values, _: values, ("factor",), "{factor: 2}"
    )
    value: dict[str, Any] = read(located, namespace)
    if value["factor"] <= 1:
        raise UnfitError(f"factor: {value['factor']} is not above 1", "write 2")
    return value


def factor(located: Located, namespace: str) -> int | float:
    """A share of the usual: 0.5 is half."""
    value = number(located, namespace)
    if value < 0:
        raise UnfitError(f"{value} is below zero", "write a factor such as 0.5")
    return value


DATASET: dict[str, Reader] = {"dataset": table}
WHERE: dict[str, Reader] = {"where": row_filter}
ROWS: dict[str, Reader] = {"per": choice(("row", "table")), "key": names}
ROWS_TOGETHER = (("key", "per"), ("per", "key"))

KINDS: Mapping[str, Kind] = {
    "threshold": Kind(
        merged(
            DATASET,
            {"column": word, "op": choice(OPERATORS), "value": scalar},
            WHERE,
            ROWS,
        ),
        ("dataset", "column", "op", "value"),
        together=ROWS_TOGETHER,
    ),
    "in": Kind(
        merged(
            DATASET,
            {
                "column": word,
                "values": listed(scalar, most=MOST_VALUES, alone=False),
            },
            WHERE,
            ROWS,
        ),
        ("dataset", "column", "values"),
        together=ROWS_TOGETHER,
    ),
    "aggregate": Kind(
        merged(
            DATASET,
            {
                "fn": choice(FUNCTIONS),
                "column": word,
                "op": choice(OPERATORS),
                "value": scalar,
                "group_by": names,
                "window_minutes": whole(A_YEAR),
                "time_column": word,
            },
            WHERE,
        ),
        ("dataset", "fn", "op", "value"),
        together=(("time_column", "window_minutes"),),
    ),
    "zscore": Kind(
        merged(
            DATASET,
            {
                "column": word,
                "k": positive,
                "baseline_rows": whole(MOST_ROWS),
                "time_column": word,
            },
            WHERE,
            ROWS,
        ),
        ("dataset", "column"),
        together=ROWS_TOGETHER,
    ),
    "sql": Kind(
        merged(DATASET, {"query": query}, ROWS),
        ("query",),
        together=ROWS_TOGETHER,
    ),
    "quality": Kind(
        merged(
            DATASET,
            {
                "test": test_name,
                "status": choice(TEST_STATUSES),
                "times": whole(MOST_RUNS),
            },
        ),
        ("dataset",),
    ),
    "schema_change": Kind(
        merged(
            DATASET,
            {"columns": names, "kinds": listed(choice(CHANGES))},
        ),
        ("dataset",),
    ),
    "volume": Kind(
        merged(
            DATASET,
            {
                "last_runs": whole(MOST_RUNS),
                "k": positive,
                "low": factor,
                "high": factor,
            },
        ),
        ("dataset",),
    ),
    "freshness": Kind(
        merged(DATASET, {"max_age_minutes": whole(A_YEAR), "rhythm": rhythm}),
        ("dataset",),
        one_of=(("max_age_minutes", "rhythm"),),
    ),
    "run_status": Kind(
        {
            "pipelines": listed(pipelines),
            "statuses": listed(choice(RUN_STATUSES)),
        },
        ("statuses",),
    ),
    "udf": Kind(
        merged(DATASET, {"entrypoint": entrypoint, "sha256": sha256}),
        ("entrypoint", "sha256"),
    ),
    "system": Kind({}),
}
