"""Complaints: what DuckDB and the disk say when something fails, as our errors with a fix.

Which file and line an error is about, whoever runs the query adds.
"""

import errno
import re

import duckdb

from rat_resources.errors import (
    ExhaustedError,
    OutageError,
    QueryError,
    RatError,
    StoreError,
)

FULL = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EFBIG: "File too large",
}
SUGGESTED = re.compile(r"(?:Did you mean|Candidate bindings:|Candidates?:) .*")
USED = re.compile(r"/([\d.]+ \w+) used\)")
SERVER_ERROR = 500
BUSY = (408, 429)
LESS_AT_ONCE = "let it keep less at once (fewer columns, aggregate before joining)"

# What DuckDB suggests there is of no use.
KNOWN = {
    "SELECT list is empty": "select at least one column",
    "Table with name": "name tables by ref(): ref('layer.name')",
}
# Of the classes that an error has, the first that is listed gives the advice.
ADVICE: dict[type[BaseException], str] = {
    duckdb.ConversionException: "use TRY_CAST, or leave such values out",
    duckdb.OutOfRangeException: "cast to a wider type first, such as HUGEINT or DOUBLE",
    duckdb.ParserException: "correct the SQL",
    duckdb.IOException: "see that it is there and can be read",
    BaseException: "correct the query",
}


def complaint(error: BaseException) -> RatError:
    """*error* as one of ours: memory or disk ran out, or the query has a mistake."""
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return out_of_memory(error)
    if is_disk_full(error):
        what = f"out of disk: {first_line(error).removeprefix('IO Error: ')}"
        return ExhaustedError(what, fix="make room there, then run it again")
    if is_outage(error):
        return OutageError(first_line(error), fix="the same again may succeed")
    if is_about_s3(error):
        return StoreError(
            first_line(error), fix="see `rat doctor`; the same again may succeed"
        )
    return QueryError(first_line(error).rstrip("!."), fix=advice(error))


def out_of_memory(error: BaseException) -> ExhaustedError:
    """What to say when memory ran out, or the disk that takes what memory does not hold."""
    limit = USED.search(str(error))
    amount = f" ({limit[1]})" if limit else ""
    if "max_temp_directory_size" in str(error):
        what = (
            f"out of disk: no room{amount} under RAT_HOME for what memory does not hold"
        )
        return ExhaustedError(what, fix=f"make room there, or {LESS_AT_ONCE}")
    what = f"out of memory: it needs more than it may use{amount}"
    return ExhaustedError(what, fix=f"{LESS_AT_ONCE}, or give it more memory")


def is_disk_full(error: BaseException) -> bool:
    """Whether *error* says, in its number or in words, that a disk takes no more."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    known = isinstance(error, OSError | duckdb.IOException)
    return known and any(words in str(error) for words in FULL.values())


def is_outage(error: BaseException) -> bool:
    """Whether *error* says that the storage is gone or overloaded, whatever was asked of it."""
    if isinstance(error, duckdb.HTTPException):
        status = getattr(error, "status_code", 0)
        return status >= SERVER_ERROR or status in BUSY
    if isinstance(error, duckdb.IOException):
        return " error for HTTP " in str(error)
    return isinstance(error, OSError) and "AWS Error NETWORK_CONNECTION" in str(error)


def is_about_s3(error: BaseException) -> bool:
    """Whether *error* is of a file in S3 that cannot be read or written."""
    if isinstance(error, duckdb.HTTPException):
        return True
    words = ("s3://", " for HTTP ")
    return isinstance(error, duckdb.IOException) and any(
        each in str(error) for each in words
    )


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return str(error).strip().partition("\n")[0]


def advice(error: BaseException) -> str:
    """What helps: known of this very error, suggested by DuckDB, or known of its class."""
    for words, helps in KNOWN.items():
        if words in str(error):
            return helps
    suggested = SUGGESTED.search(str(error))
    if suggested is not None:
        said = suggested.group().strip()
        return said[0].lower() + said[1:]
    return next(ADVICE[each] for each in type(error).__mro__ if each in ADVICE)
