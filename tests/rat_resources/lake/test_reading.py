"""A view shows exactly one snapshot's rows, whatever happened to the columns."""

from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType

from rat_resources.lake.reading import register_table, row_count, select_rows
from rat_resources.places import Place
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
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def test_columns_are_found_by_id_after_rename_drop_add_and_reorder(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1, "a", 10)], "id, name, gone"))
    with load(catalog).update_schema() as change:
        change.rename_column("name", "title")
        change.delete_column("gone")
    with load(catalog).update_schema() as change:
        change.add_column("name", IntegerType())
        change.add_column("gone", IntegerType())
        change.move_first("title")

    assert read(connection, catalog) == [("a", 1, None, None)]


def test_a_view_stays_at_its_snapshot(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    first = write(connection, catalog, values([(1, "a")], "id, v"))
    write(connection, catalog, values([(2, "b", 3)], "id, v, w"), config=APPEND)

    register_table(
        connection, load(catalog), view="earlier", snapshot_id=first.snapshot_id
    )

    assert connection.execute("FROM earlier").fetchall() == [(1, "a")]
    assert row_count(load(catalog), snapshot_id=first.snapshot_id) == 1
    assert row_count(load(catalog)) == 2


def test_a_table_without_files_has_its_columns_and_types(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(
        connection,
        catalog,
        "SELECT 1::BIGINT AS id, [1.5] AS \"l\", {'a b': 'x'} AS s WHERE false",
    )

    register_table(connection, load(catalog), view="a.b.c")

    described = connection.execute('DESCRIBE "a.b.c"').fetchall()
    assert [row[:2] for row in described] == [
        ("id", "BIGINT"),
        ("l", "DECIMAL(2,1)[]"),
        ("s", 'STRUCT("a b" VARCHAR)'),
    ]
    assert connection.execute('FROM "a.b.c"').fetchall() == []


def test_columns_may_have_the_names_of_virtual_ones(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["file_row_number"])
    names = 'file_row_number, filename, file_index, "it\'s ""so"", ok."'
    write(
        connection,
        catalog,
        values([(7, "f", 3, 1), (8, "g", 4, 2)], names),
        config=config,
    )

    write(connection, catalog, values([(7, "h", 5, 3)], names), config=config)

    assert read(connection, catalog) == [(7, "h", 5, 3), (8, "g", 4, 2)]


def test_a_folder_that_looks_like_a_partition_says_nothing(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    write(connection, catalog, values([("007", 1)], "code, id"))
    table = load(catalog)
    with table.transaction() as change:
        change.set_properties({"write.data.path": f"{tmp_path}/code=8"})

    write(connection, catalog, values([("009", 2)], "code, id"), config=APPEND)

    assert read(connection, catalog) == [("007", 1), ("009", 2)]


def test_files_without_field_ids_are_read_through_their_names(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    config = make_config("incremental", unique_key=["id"])
    write(connection, catalog, values([(1, "a")], "id, v"), config=config)
    path = str(tmp_path / "foreign.parquet")
    foreign = pa.table({"v": ["b", "c"], "id": pa.array([2, 3], pa.int32())})
    pq.write_table(foreign, path)
    load(catalog).add_files([path])

    before = read(connection, catalog)
    write(connection, catalog, values([(2, "B")], "id, v"), config=config)

    assert before == [(1, "a"), (2, "b"), (3, "c")]
    assert read(connection, catalog) == [(1, "a"), (2, "B"), (3, "c")]


def test_rows_named_by_a_delete_file_are_gone(
    connection: DuckDBPyConnection, catalog: Catalog, tmp_path: Path
) -> None:
    write(connection, catalog, values([(1, "a"), (2, "b"), (3, "c")], "id, v"))
    table = load(catalog)
    (task,) = table.scan().plan_files()
    deletes = position_delete(table, task, tmp_path, position=1)

    query = select_rows(
        connection,
        {0: FileScanTask(task.file, {deletes})},
        schema=table.schema(),
        metadata=table.metadata,
        io=table.io,
    )

    assert connection.execute(query).fetchall() == [(1, "a"), (3, "c")]


def position_delete(
    table: Table, task: FileScanTask, folder: Path, *, position: int
) -> DataFile:
    """A file that says that the row at *position* is deleted."""
    path = folder / f"{uuid4()}.parquet"
    pq.write_table(
        pa.table({"file_path": [task.file.file_path], "pos": [position]}), path
    )
    return DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=path.stat().st_size,
        spec_id=table.metadata.default_spec_id,
    )
