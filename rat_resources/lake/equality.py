"""Equality deletes: rows that other engines deleted by the values of some columns, not by their places.

They are joined away, file by file, which is slow and right; merging such a table writes its files anew.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from rat_resources.errors import StoreError
from rat_resources.lake.locations import duckdb_path
from rat_resources.lake.sql import literal, quote
from rat_resources.lake.types import sql_type


def equality_deletes(task: FileScanTask) -> list[DataFile]:
    """The delete files of a task that delete by value."""
    return [
        file
        for file in task.delete_files
        if file.content == DataFileContent.EQUALITY_DELETES
    ]


def without_them(task: FileScanTask) -> FileScanTask:
    """The task with the delete files alone that delete by place."""
    return FileScanTask(task.file, task.delete_files - set(equality_deletes(task)))


def wide_enough(
    schema: Schema, deletes: Iterable[DataFile], *, metadata: TableMetadata
) -> Schema:
    """*schema* with the columns that *deletes* look at, dropped ones too."""
    known = {field.field_id for field in schema.fields}
    past = {field.field_id: field for each in metadata.schemas for field in each.fields}
    wanted = {number for file in deletes for number in file.equality_ids or ()}
    if wanted - past.keys():
        raise refusal("rows are deleted by the values of parts of columns")
    extra = [
        NestedField(number, f"__rat_equal_{number}", past[number].field_type)
        for number in sorted(wanted - known)
    ]
    return Schema(*schema.fields, *extra)


def is_deleted(deletes: Iterable[DataFile], *, schema: Schema) -> str:
    """The condition that a row of the relation `kept`, in the columns of *schema*, is deleted."""
    fields = {field.field_id: field for field in schema.fields}
    by_columns: dict[tuple[int, ...], list[DataFile]] = defaultdict(list)
    for file in deletes:
        if file.file_format != FileFormat.PARQUET or not file.equality_ids:
            raise refusal(f"{file.file_path} is no Parquet file, or names no column")
        by_columns[tuple(sorted(file.equality_ids))].append(file)
    return " OR ".join(
        f"EXISTS ({_equal_row(files, [fields[number] for number in numbers])})"
        for numbers, files in by_columns.items()
    )


def _equal_row(deletes: Iterable[DataFile], columns: Iterable[NestedField]) -> str:
    """A query for the deleted values that the row of `kept` has."""
    paths = ", ".join(literal(duckdb_path(file.file_path)) for file in deletes)
    names: Mapping[int, str] = {c.field_id: f"e{c.field_id}" for c in columns}
    schema = ", ".join(
        f"{c.field_id}: {{name: {literal(names[c.field_id])}, "
        f"type: {literal(sql_type(c.field_type))}, default_value: NULL}}"
        for c in columns
    )
    same = " AND ".join(
        f"kept.{quote(c.name)} IS NOT DISTINCT FROM gone.{names[c.field_id]}"
        for c in columns
    )
    return (
        f"SELECT 1 FROM read_parquet([{paths}], schema = MAP {{{schema}}}, "
        f"hive_partitioning = false) AS gone WHERE {same}"
    )


def refusal(why: str) -> StoreError:
    """The error that says why deleted rows cannot be left out."""
    message = f"the table cannot be read here: {why}"
    fix = "let the engine that wrote it rewrite its data files (Spark: rewrite_data_files)"
    return StoreError(message, fix=fix)
