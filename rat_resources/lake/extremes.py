"""Extremes: the greatest value of a column, of which manifests tell most."""

from duckdb import DuckDBPyConnection
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from rat_resources.lake.bounds import bounds_of
from rat_resources.lake.planning import plan
from rat_resources.lake.reading import select_rows
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
    known = [
        (ends.high, ends.sql[1])
        for number, task in tasks.items()
        if (ends := told[number]) and not task.delete_files
    ]
    most = max(known, default=None)
    unknown = {
        number: task
        for number, task in tasks.items()
        if (
            not _is_empty(task.file, field)
            if (ends := told[number]) is None
            else task.delete_files and (most is None or ends.high > most[0])
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


def _is_empty(file: DataFile, field: NestedField) -> bool:
    """Whether the column has no value in a file."""
    values = (file.value_counts or {}).get(field.field_id)
    nulls = (file.null_value_counts or {}).get(field.field_id)
    return values is not None and values == nulls == file.record_count
