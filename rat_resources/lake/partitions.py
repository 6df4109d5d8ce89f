"""Partitions: the parts of a table that a write touched, and how large each part is now.

A part is named by the value of `partition_column`, else by the identity columns of `partition_by`;
a table that has neither is one part, and so is one of too many parts. Where Iceberg keeps every part
in files of its own, its manifests tell all of it; else the column is read and counted. How rows are
divided is `partitioning`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import NestedField

from rat_resources.hashes import hash_of
from rat_resources.lake.dead_rows import dead_rows
from rat_resources.lake.differing import Difference
from rat_resources.lake.partitioning import stored_value
from rat_resources.lake.planning import plan
from rat_resources.lake.reading import placed, row_count, select_rows
from rat_resources.lake.sql import quote
from rat_resources.lake.strategies import WriteConfig
from rat_resources.metadata.zeros import as_text

ALL = "all"  # the name of the one part
MOST = 10_000  # parts that are told apart; a table of more is one part
LONGEST = 300  # characters of a name, which Postgres keeps in an index

_IDENTITY = IdentityTransform[Any]()


@dataclass(frozen=True)
class Part:
    """How large a part is; its bytes are unknown where files hold rows of several."""

    rows: int
    bytes: int | None


@dataclass(frozen=True)
class Parts:
    """All parts of a table, and the names of those that one write touched."""

    sizes: Mapping[str, Part]
    touched: frozenset[str]
    is_whole: bool  # whether all of them are new: nothing of before is left


def find_parts(
    connection: DuckDBPyConnection,
    table: Table,
    *,
    before: Table | None,
    config: WriteConfig,
    is_anew: bool,
) -> Parts:
    """The parts of *table*, and which of them a write to the table *before* touched.

    A part that was only copied, for its file also held rows of another, was not touched.
    """
    columns = part_columns(table, config)
    if not columns:
        return as_one(table)
    counted = _count_files(connection, table, columns) or _count_rows(
        connection, table, columns
    )
    if counted is None or len(counted.sizes) > MOST:
        return as_one(table)
    if not counted.sizes:
        return as_one(table)
    if before is None or is_anew:
        return Parts(counted.sizes, frozenset(counted.sizes), is_whole=True)
    difference = Difference(before, table)
    gone = [task.file for task in difference.gone.values()]
    touched = (
        frozenset(_key(file, table, columns) for file in (*difference.here, *gone))
        if counted.is_by_file and _is_divided(gone, before, columns)
        else _changed_keys(connection, difference, columns)
    )
    return Parts(counted.sizes, touched, is_whole=False)


def part_columns(table: Table, config: WriteConfig) -> tuple[NestedField, ...]:
    """The columns that name the parts of *table*; none where it is one part."""
    names = (
        [config.partition_column]
        if config.partition_column
        else [
            each.column for each in config.partition_by if each.transform == "identity"
        ]
    )
    schema = table.schema()
    known = {field.name.casefold(): field for field in schema.fields}
    # Iceberg may have lost the column that a configuration still names.
    found = [known.get(name.casefold()) for name in names]
    return tuple(field for field in found if field is not None)


def as_one(table: Table) -> Parts:
    """The table as a single part, all of which is new."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    size = int((summary and summary["total-files-size"]) or 0)
    return Parts({ALL: Part(row_count(table), size)}, frozenset({ALL}), is_whole=True)


# How large they are.


@dataclass(frozen=True)
class _Counted:
    sizes: Mapping[str, Part]
    is_by_file: bool  # whether every file holds rows of one part alone


def _count_files(
    connection: DuckDBPyConnection, table: Table, columns: Sequence[NestedField]
) -> _Counted | None:
    """The sizes by the manifests; None where files hold rows of several parts, or lost some unseen."""
    tasks = dict(enumerate(plan(table.metadata, io=table.io)))
    if not _is_divided((task.file for task in tasks.values()), table, columns):
        return None
    known = placed(connection, tasks, metadata=table.metadata, io=table.io)
    if any(task.delete_files and n not in known for n, task in tasks.items()):
        return None
    dead = dead_rows(connection, known)
    rows: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for number, task in tasks.items():
        key = _key(task.file, table, columns)
        rows[key] += task.file.record_count
        rows[key] -= dead[number].rows if number in dead else 0
        size[key] += task.file.file_size_in_bytes
    sizes = {key: Part(rows[key], size[key]) for key in rows if rows[key]}
    return _Counted(sizes, is_by_file=True)


def _count_rows(
    connection: DuckDBPyConnection, table: Table, columns: Sequence[NestedField]
) -> _Counted | None:
    """The sizes by reading the columns; None where there are too many."""
    rows = select_rows(
        connection,
        dict(enumerate(plan(table.metadata, io=table.io))),
        schema=table.schema(),
        metadata=table.metadata,
        io=table.io,
    )
    counts: Counter[str] = Counter()
    # One more than there may be tells that there are too many.
    query = f"{_grouped(rows, columns)} LIMIT {MOST + 1}"
    for *values, number, _ in connection.execute(query).fetchall():
        counts[part_name(values, columns)] += number
    if len(counts) > MOST:
        return None
    sizes = {key: Part(number, None) for key, number in counts.items()}
    return _Counted(sizes, is_by_file=False)


def _grouped(rows: str, columns: Sequence[NestedField], *, content: str = "0") -> str:
    """A query for the number of *rows* of each part, and what *content* says of them."""
    values = ", ".join(
        stored_value(quote(each.name), column_type=each.field_type) for each in columns
    )
    places = ", ".join(str(number + 1) for number in range(len(columns)))
    return (
        f"SELECT {values}, count(*), {content} FROM ({rows}) AS part GROUP BY {places}"
    )


# Which were touched.


def _changed_keys(
    connection: DuckDBPyConnection,
    difference: Difference,
    columns: Sequence[NestedField],
) -> frozenset[str]:
    """The parts of which other rows came than went."""
    schema = difference.after.schema()
    queries = difference.rows(connection, old=schema, new=schema)
    old, new = (_contents(connection, rows, columns) for rows in queries)
    return frozenset(
        key for key in new.keys() | old.keys() if new.get(key) != old.get(key)
    )


def _contents(
    connection: DuckDBPyConnection, rows: str, columns: Sequence[NestedField]
) -> dict[str, tuple[int, int]]:
    """What tells the *rows* of each part from any others: their number and their hash."""
    query = _grouped(rows, columns, content="sum(hash(part))")
    found: dict[str, tuple[int, int]] = {}
    for *values, number, content in connection.execute(query).fetchall():
        key = part_name(values, columns)
        others = found.get(key, (0, 0))
        found[key] = (others[0] + number, others[1] + int(content))
    return found


# What they are called.


def _is_divided(
    files: Iterable[DataFile], table: Table, columns: Sequence[NestedField]
) -> bool:
    """Whether each of *files* holds rows of one part alone."""
    wanted = {each.field_id for each in columns}
    specs = table.metadata.specs()
    divided = {
        spec_id
        for spec_id, spec in specs.items()
        if wanted <= dict(_identities(spec)).keys()
    }
    return all(file.spec_id in divided for file in files)


def _identities(spec: PartitionSpec) -> Iterator[tuple[int, int]]:
    """The columns that *spec* divides by as they are, and where a file says their value."""
    for position, field in enumerate(spec.fields):
        if isinstance(field.transform, IdentityTransform):
            yield field.source_id, position


def _key(file: DataFile, table: Table, columns: Sequence[NestedField]) -> str:
    """The part that a file belongs to."""
    places = dict(_identities(table.metadata.specs()[file.spec_id]))
    return part_name(
        [file.partition[places[each.field_id]] for each in columns], columns
    )


def part_name(values: Sequence[Any], columns: Sequence[NestedField]) -> str:
    """What the part of these values is called, as Iceberg names them: a missing one is null.

    A long name is cut, and ends with the hash of all of it.
    """
    words = [
        _IDENTITY.to_human_string(
            column.field_type,
            UUID(bytes=value)
            if isinstance(value, bytes) and str(column.field_type) == "uuid"
            else value,
        )
        for value, column in zip(values, columns, strict=True)
    ]
    if len(words) > 1:
        words = [word.replace("%", "%25").replace("/", "%2F") for word in words]
    name = as_text("/".join(words))
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}…{hash_of(name)}"
