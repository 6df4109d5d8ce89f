"""Rows that another engine deleted by value are not seen, and a merge into their table is right."""

from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from rat_resources.errors import StoreError
from rat_resources.lake.target import open_target
from tests.rat_resources.lake.tables import (
    load,
    make_catalog,
    make_config,
    make_connection,
    read,
    values,
    write,
)

APPEND = make_config("append_only")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_catalog(tmp_path)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def delete_by_value(
    catalog: Catalog, folder: Path, columns: dict[str, pa.Array], *, ids: list[int]
) -> None:
    """Delete the rows of the table that have these values, as Flink does."""
    path = folder / f"{uuid4()}.parquet"
    fields = [
        pa.field(name, values.type, metadata={"PARQUET:field_id": str(number)})
        for (name, values), number in zip(columns.items(), ids, strict=True)
    ]
    table = pa.table(list(columns.values()), schema=pa.schema(fields))
    pq.write_table(table, path)
    file = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES,
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=table.num_rows,
        file_size_in_bytes=path.stat().st_size,
        equality_ids=ids,
        sort_order_id=None,
        key_metadata=None,
    )
    file.spec_id = 0
    target = open_target(load(catalog))
    target.commit(added=(), removed=(), deletes=[file], rows=0)


def test_rows_with_deleted_values_are_gone_but_not_later_ones(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    rows = [(1, "a"), (2, "b"), (3, None), (4, "b")]
    write(connection, catalog, values(rows, "id, v"), config=APPEND)
    gone = {"v": pa.array(["b", None], pa.string())}
    delete_by_value(catalog, tmp_path, gone, ids=[2])

    write(connection, catalog, values([(5, "b")], "id, v"), config=APPEND)

    assert read(connection, catalog) == [(1, "a"), (5, "b")]


def test_values_of_a_column_that_was_dropped_still_delete(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    write(connection, catalog, values([(1, "a", 7), (2, "b", 8)], "id, v, w"))
    gone = {"w": pa.array([7], pa.int32()), "id": pa.array([1], pa.int32())}
    delete_by_value(catalog, tmp_path, gone, ids=[3, 1])

    with load(catalog).update_schema() as change:
        change.delete_column("w")

    assert read(connection, catalog) == [(2, "b")]


def test_a_merge_writes_such_files_anew(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    config = make_config("incremental", unique_key=["id"])
    rows = [(1, "a"), (2, "b"), (3, "c")]
    write(connection, catalog, values(rows, "id, v"), config=config)
    delete_by_value(catalog, tmp_path, {"id": pa.array([2], pa.int32())}, ids=[1])

    write(connection, catalog, values([(3, "C")], "id, v"), config=config)

    assert read(connection, catalog) == [(1, "a"), (3, "C")]


def test_what_cannot_be_read_is_refused(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    write(connection, catalog, "SELECT {'x': 1} AS s")
    delete_by_value(catalog, tmp_path, {"x": pa.array([1], pa.int32())}, ids=[2])

    with pytest.raises(StoreError, match="parts of columns"):
        read(connection, catalog)
