"""What a zone expects of its files: columns and their types, checked on each file before it is read.

The columns are DuckDB's words, from `expected_schema`. A text format fits a type when every value
of the column can be read as it; Parquet fits when its type widens to the expected one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from rat_resources.diagnosis import diagnose, look_into

READERS = {
    # As text: whether a value fits its type is asked of every value, in one pass.
    "csv": "read_csv(?, header=true, all_varchar=true)",
    "tsv": "read_csv(?, header=true, all_varchar=true)",
    "json": "read_json(?)",
    "jsonl": "read_json(?)",
    "ndjson": "read_json(?)",
    "parquet": "read_parquet(?)",
}


def check_expected(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    *,
    name: str,
    expected: Mapping[str, str],
) -> str | None:
    """What is wrong with the columns of a file; None when they are as expected."""
    suffix = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    suffix = suffix.rpartition(".")[2]
    if suffix not in READERS:
        return f"{name}: columns can be checked in csv, json and parquet files only"
    if path.stat().st_size == 0:
        return f"{name}: it is empty"
    cursor = connection.cursor()
    try:
        problems = list(
            find_problems(cursor, suffix, file=escape(path), expected=expected)
        )
    except duckdb.Error as error:
        return f"{name}: {diagnose(path, str(error))}"
    finally:
        cursor.close()
    if len([each for each in problems if each.endswith("is missing")]) == len(expected):
        # DuckDB found no columns where there are some: it took the file for something else.
        problems = [look_into(path) or ", ".join(problems)]
    return f"{name}: {', '.join(problems)}" if problems else None


def find_problems(
    cursor: duckdb.DuckDBPyConnection,
    suffix: str,
    *,
    file: str,
    expected: Mapping[str, str],
) -> Iterator[str]:
    """Everything that is wrong with the columns of a file."""
    found = columns_of(cursor, READERS[suffix], file=file)
    for column in expected:
        if column not in found:
            yield f"column {column} is missing"
    for column in found:
        if column not in expected:
            yield f"column {column} is not expected"
    wanted = {
        column: canonical(cursor, each)
        for column, each in expected.items()
        if column in found
    }
    differing = {
        column: each for column, each in wanted.items() if found[column] != each
    }
    if suffix == "parquet":
        unfit = {
            column: found[column]
            for column, each in differing.items()
            if each == "VARCHAR" or not can_widen(cursor, found[column], wanted=each)
        }
    else:
        unfit = find_unfit(
            cursor, READERS[suffix], file=file, found=found, wanted=differing
        )
    for column, what in unfit.items():
        yield f"column {column} is {what}, expected {expected[column]}"


def find_unfit(
    cursor: duckdb.DuckDBPyConnection,
    reader: str,
    *,
    file: str,
    found: Mapping[str, str],
    wanted: Mapping[str, str],
) -> dict[str, str]:
    """The columns with a value that cannot be read as its type, and what they hold instead.

    All of them in one pass over the file.
    """
    typed = {column: each for column, each in wanted.items() if each != "VARCHAR"}
    # A number is no text in JSON, where somebody wrote it as one or the other.
    unfit = {
        column: found[column]
        for column in wanted.keys() - typed.keys()
        if reader == READERS["json"]
    }
    if not typed:
        return unfit
    offenders = ", ".join(offender(column, each) for column, each in typed.items())
    query = f"SELECT {offenders} FROM {reader}"
    (row,) = cursor.execute(query, [file]).fetchall()
    for column, value in zip(typed, row, strict=True):
        if value is not None:
            text = found[column] == "VARCHAR"
            unfit[column] = (
                describe(cursor, value) if text else f"{found[column]} ({value})"
            )
    return unfit


def offender(column: str, wanted: str) -> str:
    """The expression for one value of *column* that is no *wanted*."""
    quoted = '"' + column.replace('"', '""') + '"'
    cast = f"TRY_CAST({quoted} AS {wanted})"
    unfit = f"{cast} IS NULL"
    if wanted.endswith("INT") or wanted == "INTEGER":
        # DuckDB would round.
        unfit += f" OR (contains({quoted}::VARCHAR, '.') AND TRY_CAST({quoted} AS DOUBLE) <> {cast})"
    return f"any_value({quoted}) FILTER ({quoted} IS NOT NULL AND ({unfit}))"


def describe(cursor: duckdb.DuckDBPyConnection, value: object) -> str:
    """The narrowest type that a text could be read as, with the text."""
    for each in ("BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP"):
        (row,) = cursor.execute(
            f"SELECT TRY_CAST(? AS {each}) IS NOT NULL", [value]
        ).fetchall()
        is_rounded = each == "BIGINT" and not str(value).lstrip("+-").isdigit()
        if row[0] and not is_rounded:
            return f"{each} ({value})"
    return f"VARCHAR ({value})"


def columns_of(
    cursor: duckdb.DuckDBPyConnection, reader: str, *, file: str
) -> dict[str, str]:
    """The columns of a file and the types that DuckDB finds in it."""
    described = cursor.execute(f"DESCRIBE SELECT * FROM {reader}", [file]).fetchall()
    return {row[0]: row[1] for row in described}


def canonical(cursor: duckdb.DuckDBPyConnection, type_: str) -> str:
    """A type as DuckDB itself writes it."""
    (row,) = cursor.execute(f"SELECT typeof(NULL::{type_})").fetchall()
    (described,) = cursor.execute(f"DESCRIBE SELECT NULL::{type_} AS x").fetchall()
    return str(described[1] if row[0] == "NULL" else row[0]).strip('"')


def can_widen(cursor: duckdb.DuckDBPyConnection, found: str, *, wanted: str) -> bool:
    """Whether every value of one type is also one of another."""
    query = f"SELECT can_cast_implicitly(NULL::{found}, NULL::{wanted})"
    return bool(cursor.execute(query).fetchall()[0][0])


def escape(path: Path) -> str:
    """A path that DuckDB does not take for a pattern."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path))
