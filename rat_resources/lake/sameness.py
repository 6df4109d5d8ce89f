"""Sameness: which rows of a batch a table has already, every value of them.

Values are read as late as can be: a row whose value lies outside of the bounds of the file in which its
key was found is another one, and nothing is read for it. Of the rest the smallest columns are read
first, and only at the places where the keys were found.
"""

from collections.abc import Iterator, Sequence

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.types import NestedField

from rat_resources.lake.batch import keep_rows
from rat_resources.lake.bounds import bounds_of, has_exact_bounds
from rat_resources.lake.data_files import leaves
from rat_resources.lake.incoming import ROW, Incoming
from rat_resources.lake.reading import FILE, POSITION, Tasks
from rat_resources.lake.sql import quote, same_keys
from rat_resources.lake.target import Target

MOST_BOUNDS = 8  # columns whose bounds are looked at
SMALL_SHARE = 4  # the columns that are read first are no more than this part of all


def same_rows(
    connection: DuckDBPyConnection,
    target: Target,
    incoming: Incoming,
    *,
    matches: str,
    tasks: Tasks,
) -> str:
    """A temp table of the ROW of those that are in the table already, once and unchanged.

    *matches* are the places in *tasks* where the table has their keys: ROW, FILE, POSITION.
    """
    once = (
        f"SELECT {ROW}, any_value({FILE}) AS {FILE}, any_value({POSITION}) AS {POSITION} "
        f"FROM {matches} GROUP BY {ROW} HAVING count(*) = 1"
    )
    found = keep_rows(connection, _within_bounds(target, incoming, once, tasks=tasks))
    for columns in _by_size(target, incoming.values, tasks=tasks):
        some = _files_of(connection, found, tasks=tasks)
        if not some:
            break
        wider = found
        found = keep_rows(
            connection,
            f"SELECT place.* FROM ({target.rows(connection, some, columns=columns)}) AS old "
            f"JOIN {wider} AS place USING ({FILE}, {POSITION}) "
            f"JOIN {incoming.table} AS new USING ({ROW}) "
            f"WHERE {same_keys('old', 'new', names=columns)}",
        )
        connection.execute(f"DROP TABLE {wider}")
    return found


def may_be_in(
    connection: DuckDBPyConnection,
    target: Target,
    incoming: Incoming,
    *,
    found: str,
    tasks: Tasks,
) -> str:
    """A temp table of the ROW of those that may be among the rows of the table that were found.

    *found* are the places in *tasks* where the table has their keys: FILE, and the keys.
    """
    met = (
        f"SELECT DISTINCT new.{ROW}, old.{FILE} FROM {incoming.table} AS new "
        f"JOIN (SELECT DISTINCT {FILE}, {', '.join(map(quote, incoming.keys))} FROM {found}) AS old "
        f"ON {same_keys('old', 'new', names=incoming.keys)}"
    )
    within = _within_bounds(target, incoming, met, tasks=tasks)
    return keep_rows(connection, f"SELECT DISTINCT {ROW} FROM ({within})")


def _within_bounds(
    target: Target, incoming: Incoming, places: str, *, tasks: Tasks
) -> str:
    """A query for those of *places* whose ROW has no value outside of the bounds of the FILE."""
    names = set(incoming.values)
    fields = [
        field
        for field in target.schema.fields
        if field.name in names and has_exact_bounds(field.field_type)
    ][:MOST_BOUNDS]
    if not tasks or not fields:
        return places
    rows = ", ".join(
        f"({number}, {', '.join(_ends(task.file, fields))})"
        for number, task in tasks.items()
    )
    ends = ", ".join(f"low_{n}, high_{n}" for n in range(len(fields)))
    outside = " OR ".join(
        f"new.{quote(field.name)} < low_{n} OR new.{quote(field.name)} > high_{n}"
        for n, field in enumerate(fields)
    )
    return (
        f"SELECT place.* FROM ({places}) AS place "
        f"JOIN {incoming.table} AS new USING ({ROW}) "
        f"JOIN (VALUES {rows}) AS bound({FILE}, {ends}) USING ({FILE}) "
        f"WHERE NOT coalesce({outside}, false)"
    )


def _ends(file: DataFile, fields: Sequence[NestedField]) -> Iterator[str]:
    for field in fields:
        bounds = bounds_of(file, field)
        yield from bounds.sql if bounds else ("NULL", "NULL")


def _files_of(connection: DuckDBPyConnection, places: str, *, tasks: Tasks) -> Tasks:
    found = connection.execute(f"SELECT DISTINCT {FILE} FROM {places}").fetchall()
    numbers = {number for (number,) in found}
    return {number: task for number, task in tasks.items() if number in numbers}


def _by_size(
    target: Target, names: Sequence[str], *, tasks: Tasks
) -> Iterator[list[str]]:
    """The columns in the order in which they are read: the small ones, then the others."""
    if not names:
        return
    fields = [field for field in target.schema.fields if field.name in names]
    sizes = {
        field.name: sum(
            (task.file.column_sizes or {}).get(leaf, 0)
            for task in tasks.values()
            for leaf in leaves(field.field_id, field.field_type)
        )
        for field in fields
    }
    smallest = sorted(sizes, key=lambda name: sizes[name])
    small: list[str] = []
    spent = 0
    for name in smallest:
        spent += sizes[name]
        if small and spent * SMALL_SHARE > sum(sizes.values()):
            break
        small.append(name)
    yield small
    if others := smallest[len(small) :]:
        yield others
