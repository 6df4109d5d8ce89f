"""Copying: rows stream out of DuckDB into Parquet files near a size, in an amount of memory that stays.

DuckDB keeps the order of rows only where one file takes all of them, and splits files only where
it may mix row groups. So a result that looks small goes into one file, a large one into several, where
rows keep their order but for the row groups that the threads finish at one time; what became much larger
than it looked is split afterwards. Row groups have DuckDB's own size, 122,880 rows: small enough for
readers to leave most of them out, and of each a thread holds one or two, which is all the memory there is
to it. Where rows are so wide that memory does not hold these, row groups have fewer. Which rows these
are, and which partition is whose, is `writing`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from duckdb import DuckDBPyConnection, OutOfMemoryException

from rat_resources.errors import StoreError
from rat_resources.lake.incoming import ROW
from rat_resources.lake.locations import is_local, remove_files, writable
from rat_resources.lake.sql import literal

# What one file may be expected to take.
ROWS_IN_ONE = 1_000_000
# The others have one more name.
_ONE_FOR_ALL = re.compile(r"[0-9a-f]{32}\.parquet")
# A partition whose file was closed gets another one. Here an open file costs a descriptor, of which a
# process has some thousand; in S3 it costs a buffer of 80 MB, and sorted rows need few at a time.
OPEN_HERE, OPEN_AWAY = 400, 8
# A file of so many times the size that was asked for is split.
MUCH_LARGER = 1.5
# The rows of a row group: as many as DuckDB makes it, and as few as it can.
USUAL_GROUP, LEAST_GROUP = 122_880, 2_048
# A thread holds a row group as rows and as pages, and the next one's beginning.
GROUPS_A_THREAD = 4


@dataclass(frozen=True)
class Shape:
    """How files are written: their size, and what the Parquet writer must know."""

    size: int  # bytes, near which a file ends
    options: str  # further ones of COPY


@dataclass(frozen=True)
class File:
    """A file that was written, and the key of its partition."""

    location: str
    key: str | None = None

    @property
    def is_in_order(self) -> bool:
        """Whether its rows surely lie as the query returned them; only one file for all has them so."""
        return _ONE_FOR_ALL.fullmatch(self.location.rpartition("/")[2]) is not None


@dataclass(frozen=True)
class _Copied:
    """A file as DuckDB tells of it."""

    path: str
    rows: int
    bytes: int
    key: str | None


def copy_rows(
    connection: DuckDBPyConnection, rows: str, *, folder: str, shape: Shape
) -> list[File]:
    """Copy the rows of a query to files of their own under *folder*."""
    copy = partial(_copy_rows, connection, rows, folder=folder)
    return _in_memory(connection, rows, shape=shape, copy=copy)


def _copy_rows(
    connection: DuckDBPyConnection, rows: str, *, folder: str, shape: Shape
) -> list[File]:
    with _fresh_files(connection, folder) as (target, name):
        if expected_rows(connection, rows) <= ROWS_IN_ONE:
            copied = _copy(connection, rows, to=f"{target}/{name}.parquet", shape=shape)
        else:
            copied = _copy_sized(connection, rows, to=target, name=name, shape=shape)
        files = list(_split_large(connection, copied, name=name, shape=shape))
    return _located(files, folder=folder, target=target)


def copy_to_one(
    connection: DuckDBPyConnection, rows: str, *, folder: str, shape: Shape
) -> list[File]:
    """Copy the rows of a query to one file under *folder*, in their order; none for none."""
    copy = partial(_copy_to_one, connection, rows, folder=folder)
    return _in_memory(connection, rows, shape=shape, copy=copy)


def _copy_to_one(
    connection: DuckDBPyConnection, rows: str, *, folder: str, shape: Shape
) -> list[File]:
    with _fresh_files(connection, folder) as (target, name):
        copied = _copy(connection, rows, to=f"{target}/{name}.parquet", shape=shape)
    return _located(copied, folder=folder, target=target)


def copy_partitions(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    key: str,
    folder: str,
    shape: Shape,
) -> list[File]:
    """Copy rows that are sorted by the column *key* to files of its values; the column is left out."""
    copy = partial(_copy_partitions, connection, rows, key=key, folder=folder)
    return _in_memory(connection, rows, shape=shape, copy=copy)


def _copy_partitions(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    key: str,
    folder: str,
    shape: Shape,
) -> list[File]:
    with _fresh_files(connection, folder) as (target, name):
        most = OPEN_HERE if is_local(target) else OPEN_AWAY
        connection.execute(f"SET partitioned_write_max_open_files = {most}")
        copied = _copy(
            connection,
            rows,
            to=target,
            shape=shape,
            options=f", APPEND, FILENAME_PATTERN {literal(name + '-{uuid}')}, "
            f"PARTITION_BY ({key})",
            key=key,
        )
        files = list(_split_large(connection, copied, name=name, shape=shape))
    return _located(files, folder=folder, target=target)


def _in_memory(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    shape: Shape,
    copy: Callable[..., list[File]],
) -> list[File]:
    """What *copy* gives; where rows are too wide for memory, it is asked again for smaller row groups."""
    try:
        return copy(shape=shape)
    except OutOfMemoryException:
        group = fitting_group(connection, rows)
        if group >= USUAL_GROUP:
            raise  # by the query itself
    options = f"{shape.options}, ROW_GROUP_SIZE {group}"
    return copy(shape=replace(shape, options=options))


def fitting_group(connection: DuckDBPyConnection, rows: str) -> int:
    """How many rows of a query a row group may have for memory to hold one of each thread; it is run."""
    found: list[tuple[int | None, int, int]] = connection.execute(
        f"SELECT max(bytes), parse_formatted_bytes(current_setting('memory_limit')), "
        f"current_setting('threads') FROM (SELECT sum(strlen({ROW}::VARCHAR)) AS bytes "
        f"FROM (SELECT {ROW}, row_number() OVER () // {LEAST_GROUP} AS part "
        f"FROM ({rows}) AS {ROW}) GROUP BY part)"
    ).fetchall()
    ((widest, limit, threads),) = found
    fitting = limit // (GROUPS_A_THREAD * threads)
    return min(max(fitting // (widest or 1), 1) * LEAST_GROUP, USUAL_GROUP)


def expected_rows(connection: DuckDBPyConnection, query: str) -> int:
    """How many rows DuckDB expects of *query*; 0 where it has no idea."""
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {query}").fetchall()
    return _estimate(json.loads(plan))


def _estimate(nodes: Sequence[dict[str, Any]]) -> int:
    # What only passes rows on often has no estimate of its own.
    for node in nodes:
        said = node.get("extra_info", {}).get("Estimated Cardinality")
        if said and int(said):
            return int(said)
    return sum(_estimate(node.get("children", ())) for node in nodes)


@contextmanager
def _fresh_files(
    connection: DuckDBPyConnection, folder: str
) -> Iterator[tuple[str, str]]:
    """Where DuckDB can write what belongs under *folder*, and a name that only these files have."""
    name = uuid4().hex
    try:
        with writable(connection, folder) as target:
            yield target, name
    except BaseException:
        # On a full disk the half of a file would be what fills it.
        with suppress(StoreError):  # where the storage is gone it harms nobody
            remove_files(folder, start=name)
        raise


def _copy(
    connection: DuckDBPyConnection,
    rows: str,
    *,
    to: str,
    shape: Shape,
    options: str = "",
    key: str | None = None,
) -> list[_Copied]:
    # The query begins on the first line, so that an error names the line of its author.
    written = connection.execute(
        f"COPY ({rows}) TO {literal(to)} "
        f"(FORMAT parquet{shape.options}, RETURN_STATS{options})"
    ).fetchall()
    copied = [
        _Copied(row[0], row[1], row[2], (row[5] or {}).get(key)) for row in written
    ]
    for each in copied:
        if not each.rows:
            _remove(each.path)
    return [each for each in copied if each.rows]


def _copy_sized(
    connection: DuckDBPyConnection, rows: str, *, to: str, name: str, shape: Shape
) -> list[_Copied]:
    options = (
        f", APPEND, FILENAME_PATTERN {literal(name + '-{uuid}')}, "
        f"FILE_SIZE_BYTES {shape.size}"
    )
    return _copy(connection, rows, to=to, shape=shape, options=options)


def _split_large(
    connection: DuckDBPyConnection,
    copied: Sequence[_Copied],
    *,
    name: str,
    shape: Shape,
) -> Iterator[_Copied]:
    """The files, those that became much too large as several."""
    for file in copied:
        if file.bytes <= MUCH_LARGER * shape.size:
            yield file
            continue
        rows = f"FROM read_parquet({literal(file.path)}, hive_partitioning = false)"
        folder = file.path.rpartition("/")[0]
        for part in _copy_sized(connection, rows, to=folder, name=name, shape=shape):
            yield _Copied(part.path, part.rows, part.bytes, file.key)
        _remove(file.path)


def _remove(path: str) -> None:
    if is_local(path):
        Path(path).unlink(missing_ok=True)
        return
    folder, _, name = path.rpartition("/")
    remove_files(folder, start=name)


def _located(files: Sequence[_Copied], *, folder: str, target: str) -> list[File]:
    return [File(folder + each.path.removeprefix(target), each.key) for each in files]
