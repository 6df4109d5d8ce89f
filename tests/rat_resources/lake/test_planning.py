"""The plan of a snapshot names every file that may hold a row, and every delete file that may hit it."""

from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.expressions.parser import parse
from pyiceberg.table import FileScanTask, Table

from rat_resources.lake import planning
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.planning import plan
from rat_resources.lake.reading import POSITION, row_count
from rat_resources.lake.target import open_target
from tests.rat_resources.lake.tables import (
    load,
    make_catalog,
    make_config,
    make_connection,
    mark,
    read,
    values,
    write,
)

FIRST = f"{POSITION} = 0"
APPEND = make_config("append_only")
BY_PART = make_config("append_only", partition_by=[PartitionField("part")])


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_catalog(tmp_path)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def tasks_of(table: Table) -> list[FileScanTask]:
    return plan(table.metadata, io=table.io)


def test_files_come_in_the_order_of_writing(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    for number in range(4):
        write(connection, catalog, values([(number,)], "id"), config=APPEND)

    tasks = tasks_of(load(catalog))

    lows = [int.from_bytes(task.file.lower_bounds[1], "little") for task in tasks]
    assert lows == [0, 1, 2, 3]


def test_a_file_knows_the_delete_files_of_its_own_partition(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    rows = [(1, "a"), (2, "a"), (3, None), (4, None)]
    write(connection, catalog, values(rows, "id, part"), config=BY_PART)

    mark(connection, load(catalog), where="id = 3")

    deleted = {
        t.file.partition[0]: len(t.delete_files) for t in tasks_of(load(catalog))
    }
    assert deleted == {"a": 0, None: 1}
    assert read(connection, catalog, "id") == [(1,), (2,), (4,)]


def test_rows_of_a_partition_that_is_no_number_can_be_deleted(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    query = "SELECT id, 'nan'::DOUBLE AS part FROM range(3) AS t(id)"
    write(connection, catalog, query, config=BY_PART)

    mark(connection, load(catalog), where=FIRST)

    assert read(connection, catalog, "id") == [(1,), (2,)]


def test_a_file_that_came_after_a_delete_file_is_not_spoken_of(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1,), (2,)], "id"), config=APPEND)
    mark(connection, load(catalog), where=FIRST)
    table = load(catalog)
    (task,) = tasks_of(table)
    open_target(table).commit(added=(), removed=[task.file], rows=0)

    open_target(load(catalog)).commit(added=[task.file], removed=(), rows=2)

    assert read(connection, catalog) == [(1,), (2,)]


def test_a_snapshot_of_before_has_its_rows_still(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1,), (2,)], "id"), config=APPEND)
    before = load(catalog).current_snapshot()
    assert before is not None

    mark(connection, load(catalog), where=FIRST)

    table = load(catalog)
    old = plan(table.metadata, io=table.io, snapshot_id=before.snapshot_id)
    assert [len(task.delete_files) for task in old] == [0]
    assert row_count(table, snapshot_id=before.snapshot_id) == 2
    assert row_count(table) == 1


def test_a_missing_partition_is_planned_with_any_other(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    rows = [(1, 7), (2, None), (3, 8)]
    write(connection, catalog, values(rows, "id, part"), config=BY_PART)
    table = load(catalog)

    tasks = plan(table.metadata, io=table.io, where=parse("part = 7"))

    assert {task.file.partition[0] for task in tasks} >= {7}
    assert 8 not in {task.file.partition[0] for task in tasks}


def test_manifests_are_read_once_and_forgotten_when_there_are_many(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(connection, catalog, values([(1,)], "id"), config=APPEND)
    write(connection, catalog, values([(2,)], "id"), config=APPEND)
    snapshot = load(catalog).current_snapshot()
    assert snapshot is not None
    first, second = snapshot.manifests(load(catalog).io)
    size = max(first.manifest_length, second.manifest_length)
    manifests = planning._Manifests(size)
    monkeypatch.setattr(planning, "_MANIFESTS", manifests)

    tasks_of(load(catalog))
    tasks_of(load(catalog))

    assert len(manifests.seen) == 1
    assert manifests.held <= size
