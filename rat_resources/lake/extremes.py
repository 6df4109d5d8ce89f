"""Extremes: the greatest value of a column, of which manifests tell most."""

from collections.abc import Collection, Mapping
from typing import Any

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from rat_resources.lake.bounds import Bounds, bounds_of
from rat_resources.lake.dead_rows import dead_rows
from rat_resources.lake.planning import plan
from rat_resources.lake.reading import placed, select_rows
from rat_resources.lake.sql import quote


def greatest(
    connection: DuckDBPyConnection, table: Table, *, column: str
) -> str | None:
    """The greatest value of a column, as text; None where the table has none.

    Only files are read of which the manifest does not say it: those without bounds, and those with
    dead rows, one of which may have had the greatest.
    """
    field = table.schema().find_field(column)
    tasks = dict(enumerate(plan(table.metadata, io=table.io)))
    told = {number: bounds_of(task.file, field) for number, task in tasks.items()}
    whole = {number for number, task in tasks.items() if not task.delete_files}
    most = _most(told, whole)
    # A delete file may speak of any file whose path lies between those that it names.
    doubtful = {
        number: tasks[number]
        for number, ends in told.items()
        if ends and number not in whole and (most is None or ends.high > most[0])
    }
    if doubtful:
        direct = placed(connection, doubtful, metadata=table.metadata, io=table.io)
        whole |= direct.keys() - dead_rows(connection, direct).keys()
        most = _most(told, whole)
    unknown = {
        number: task
        for number, task in tasks.items()
        if (
            not _is_empty(task.file, field)
            if (ends := told[number]) is None
            else number not in whole and (most is None or ends.high > most[0])
        )
    }
    values = [most[1]] if most else []
    if unknown:
        rows = select_rows(
            connection,
            unknown,
            schema=table.schema().select(field.name),
            metadata=table.metadata,
            io=table.io,
        )
        values.append(f"(SELECT max({quote(field.name)}) FROM ({rows}))")
    if not values:
        return None
    query = f"SELECT list_max([{', '.join(values)}])::VARCHAR"
    ((value,),) = connection.execute(query).fetchall()
    return None if value is None else str(value)


def _most(
    told: Mapping[int, Bounds | None], whole: Collection[int]
) -> tuple[Any, str] | None:
    """The greatest value that the bounds of whole files tell, and the same as SQL."""
    known = [ends for number in whole if (ends := told[number])]
    return max(((ends.high, ends.sql[1]) for ends in known), default=None)


def _is_empty(file: DataFile, field: NestedField) -> bool:
    """Whether the column has no value in a file."""
    values = (file.value_counts or {}).get(field.field_id)
    nulls = (file.null_value_counts or {}).get(field.field_id)
    return values is not None and values == nulls == file.record_count
