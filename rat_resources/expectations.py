"""What a zone expects of its files: columns and their types, checked on each file before it is read.

The columns are DuckDB's words, from `expected_schema`. A text format fits a type when every value
of the column can be read as it; Parquet fits when its type widens to the expected one.
"""

from collections.abc import Mapping
from pathlib import Path

import duckdb

READERS = {
    "csv": "read_csv(?, header=true, sample_size=-1)",
    "tsv": "read_csv(?, header=true, sample_size=-1)",
    "json": "read_json(?)",
    "jsonl": "read_json(?)",
    "ndjson": "read_json(?)",
    "parquet": "read_parquet(?)",
}
TEXTS = {
    "csv": "read_csv(?, header=true, all_varchar=true)",
    "tsv": "read_csv(?, header=true, all_varchar=true)",
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
    cursor = connection.cursor()
    file = escape(path)
    try:
        found = columns_of(cursor, READERS[suffix], file=file)
        problems = [
            *(
                f"column {column} is missing"
                for column in expected
                if column not in found
            ),
            *(
                f"column {column} is not expected"
                for column in found
                if column not in expected
            ),
            *(
                f"column {column} is {found[column]}, expected {expected[column]}"
                for column in expected
                if column in found
                and not fits(
                    cursor,
                    suffix,
                    file=file,
                    column=column,
                    found=found[column],
                    expected=expected[column],
                )
            ),
        ]
    except duckdb.Error as error:
        return f"{name}: it cannot be read as {suffix}: {str(error).splitlines()[0]}"
    finally:
        cursor.close()
    return f"{name}: {', '.join(problems)}" if problems else None


def columns_of(
    cursor: duckdb.DuckDBPyConnection, reader: str, *, file: str
) -> dict[str, str]:
    """The columns of a file and the types that DuckDB finds in it."""
    described = cursor.execute(f"DESCRIBE SELECT * FROM {reader}", [file]).fetchall()
    return {row[0]: row[1] for row in described}


def fits(  # noqa: PLR0913 - one question about one column of one file
    cursor: duckdb.DuckDBPyConnection,
    suffix: str,
    *,
    file: str,
    column: str,
    found: str,
    expected: str,
) -> bool:
    """Whether a column can be taken for the type that is expected."""
    wanted, text = canonical(cursor, expected), found == "VARCHAR"
    if found == wanted:
        return True
    if suffix == "parquet":
        return wanted != "VARCHAR" and can_widen(cursor, found, wanted=wanted)
    if wanted == "VARCHAR":
        return suffix in TEXTS or text
    is_integer = wanted.endswith("INT") or wanted == "INTEGER"
    # DuckDB would round.
    if is_integer and found.startswith(("DOUBLE", "FLOAT", "DECIMAL")):
        return False
    quoted = '"' + column.replace('"', '""') + '"'
    query = (
        f"SELECT count(*) FROM {TEXTS.get(suffix, READERS[suffix])} "  # noqa: S608 - quoted
        f"WHERE {quoted} IS NOT NULL AND TRY_CAST({quoted} AS {wanted}) IS NULL"
    )
    return bool(cursor.execute(query, [file]).fetchall()[0][0] == 0)


def canonical(cursor: duckdb.DuckDBPyConnection, type_: str) -> str:
    """A type as DuckDB itself writes it."""
    (row,) = cursor.execute(f"SELECT typeof(NULL::{type_})").fetchall()  # noqa: S608 - a type
    (described,) = cursor.execute(f"DESCRIBE SELECT NULL::{type_} AS x").fetchall()
    return str(described[1] if row[0] == "NULL" else row[0]).strip('"')


def can_widen(cursor: duckdb.DuckDBPyConnection, found: str, *, wanted: str) -> bool:
    """Whether every value of one type is also one of another."""
    query = f"SELECT can_cast_implicitly(NULL::{found}, NULL::{wanted})"  # noqa: S608 - types
    return bool(cursor.execute(query).fetchall()[0][0])


def escape(path: Path) -> str:
    """A path that DuckDB does not take for a pattern."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path))
