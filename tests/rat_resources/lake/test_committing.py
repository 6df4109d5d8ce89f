"""A snapshot adds and removes data files and delete files, and every reader finds the same rows."""

from collections.abc import Sequence

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from rat_resources.lake import committing
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.positions import write_deletes
from rat_resources.lake.reading import FILE, POSITION, Tasks, row_count
from rat_resources.lake.target import open_target
from rat_resources.lake.writing import write_files
from rat_resources.places import Place
from tests.rat_resources.lake.readers import by_duckdb, by_pyiceberg
from tests.rat_resources.lake.tables import (
    in_a_folder,
    load,
    make_catalog,
    make_config,
    make_connection,
    read,
    values,
    write,
)

APPEND = make_config("append_only", partition_by=[PartitionField("part")])
PLAIN = make_config("append_only")


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def tasks_of(table: Table) -> Tasks:
    return dict(enumerate(table.scan().plan_files()))


def mark(
    connection: DuckDBPyConnection, table: Table, places: Sequence[tuple[int, int]]
) -> list[DataFile]:
    """Delete files for rows of the table, each told by its task and its place in it."""
    tasks = tasks_of(table)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE dying AS {values(list(places), f'{FILE}, {POSITION}')}"
    )
    marks = write_deletes(
        connection,
        "dying",
        tasks={number: tasks[number] for number, _ in places},
        target=open_target(table),
    )
    return list(marks.added)


def current(table: Table) -> Snapshot:
    found = table.current_snapshot()
    assert found is not None
    return found


def summary_of(table: Table, *names: str) -> dict[str, str | None]:
    summary = current(table).summary
    assert summary is not None
    return {name: summary[name] for name in names}


def delete_manifests(table: Table) -> int:
    manifests = current(table).manifests(table.io)
    return sum(each.content is ManifestContent.DELETES for each in manifests)


@in_a_folder
def test_rows_die_and_others_come_in_one_snapshot(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1, "a"), (2, "b"), (3, "c")], "id, v"))
    table = load(catalog)
    deletes = mark(connection, table, [(0, 1)])
    added = write_files(
        connection, "SELECT 2 AS id, 'B' AS v", metadata=table.metadata, io=table.io
    )

    open_target(table).commit(added=added, removed=(), deletes=deletes, rows=3)

    expected = [(1, "a"), (2, "B"), (3, "c")]
    table = load(catalog)
    assert read(connection, catalog) == expected
    assert by_pyiceberg(table) == by_duckdb(table) == expected
    assert row_count(table) == 3
    assert summary_of(
        table,
        "total-records",
        "total-delete-files",
        "total-position-deletes",
        "total-data-files",
        "rat.rows",
    ) == {
        "total-records": "4",
        "total-delete-files": "1",
        "total-position-deletes": "1",
        "total-data-files": "2",
        "rat.rows": "3",
    }
    assert current(table).summary["operation"] == Operation.OVERWRITE  # type: ignore[index]


@in_a_folder
def test_delete_files_go_with_the_last_data_file_that_they_speak_of(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    for part in "ab":
        rows = [(n, part) for n in range(3)]
        write(connection, catalog, values(rows, "id, part"), config=APPEND)
    table = load(catalog)
    deletes = mark(connection, table, [(0, 0), (1, 2)])
    open_target(table).commit(added=(), removed=(), deletes=deletes, rows=4)
    table = load(catalog)
    gone = next(task.file for task in tasks_of(table).values())

    open_target(table).commit(added=(), removed=[gone], rows=2)

    table = load(catalog)
    assert summary_of(
        table, "total-delete-files", "total-position-deletes", "removed-delete-files"
    ) == {
        "total-delete-files": "1",
        "total-position-deletes": "1",
        "removed-delete-files": "1",
    }
    assert len(read(connection, catalog)) == len(by_duckdb(table)) == 2
    assert by_pyiceberg(table) == by_duckdb(table)


@in_a_folder
def test_a_delete_file_stays_while_it_speaks_of_another_data_file(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    for start in (0, 3):
        rows = [(n,) for n in range(start, start + 3)]
        write(connection, catalog, values(rows, "id"), config=PLAIN)
    table = load(catalog)
    deletes = mark(connection, table, [(0, 0), (1, 0)])
    open_target(table).commit(added=(), removed=(), deletes=deletes, rows=4)
    table = load(catalog)
    first, second = (task.file for task in tasks_of(table).values())

    open_target(table).commit(added=(), removed=[first], rows=2)
    then = load(catalog)
    open_target(load(catalog)).commit(added=(), removed=[second], rows=0)

    assert delete_manifests(then) == 1
    assert len(by_pyiceberg(then)) == len(by_duckdb(then)) == 2
    assert summary_of(load(catalog), "total-delete-files", "total-records") == {
        "total-delete-files": "0",
        "total-records": "0",
    }


@in_a_folder
def test_delete_files_can_be_put_in_place_of_others(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(n,) for n in range(4)], "id"))
    table = load(catalog)
    first = mark(connection, table, [(0, 0)])
    open_target(table).commit(added=(), removed=(), deletes=first, rows=3)
    table = load(catalog)

    both = mark(connection, table, [(0, 0), (0, 3)])
    open_target(table).commit(added=(), removed=first, deletes=both, rows=2)

    table = load(catalog)
    assert by_pyiceberg(table) == by_duckdb(table) == [(1,), (2,)]
    assert summary_of(table, "total-delete-files", "total-position-deletes") == {
        "total-delete-files": "1",
        "total-position-deletes": "2",
    }


@in_a_folder
def test_manifests_of_delete_files_are_merged(
    connection: DuckDBPyConnection, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "MANIFESTS_UNMERGED", 3)
    write(connection, catalog, values([(n,) for n in range(9)], "id"))

    for place in range(5):
        table = load(catalog)
        deletes = mark(connection, table, [(0, place)])
        rows = row_count(table) - 1
        open_target(table).commit(added=(), removed=(), deletes=deletes, rows=rows)

    table = load(catalog)
    assert delete_manifests(table) <= 3
    assert by_pyiceberg(table) == by_duckdb(table) == [(5,), (6,), (7,), (8,)]


@in_a_folder
def test_a_compaction_keeps_the_number_of_rows(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    for n in range(2):
        write(connection, catalog, values([(n,)], "id"), config=PLAIN)
    table = load(catalog)
    old = [task.file for task in tasks_of(table).values()]
    new = write_files(
        connection,
        "SELECT unnest([0, 1]) AS id",
        metadata=table.metadata,
        io=table.io,
    )

    open_target(table).commit(added=new, removed=old, operation=Operation.REPLACE)

    table = load(catalog)
    assert current(table).summary["operation"] == Operation.REPLACE  # type: ignore[index]
    assert row_count(table) == 2
    assert by_duckdb(table) == [(0,), (1,)]


@in_a_folder
def test_nobody_may_forget_how_many_rows_are_left(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1,), (2,)], "id"))
    table = load(catalog)
    deletes = mark(connection, table, [(0, 0)])

    with pytest.raises(ValueError, match="how many rows"):
        open_target(table).commit(added=(), removed=(), deletes=deletes)


@in_a_folder
def test_sets_of_columns_that_no_snapshot_has_are_forgotten(
    connection: DuckDBPyConnection, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "SNAPSHOTS_KEPT", 3)

    for number in range(8):
        write(connection, catalog, f"SELECT {number} AS id, 1 AS c{number}")

    table = load(catalog)
    kept = {snapshot.schema_id for snapshot in table.metadata.snapshots}
    assert {schema.schema_id for schema in table.metadata.schemas} == kept
    assert len(kept) == 3
    assert by_pyiceberg(table) == by_duckdb(table) == [(7, 1)]
