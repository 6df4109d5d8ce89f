"""A merge marks rows where they stand, and every reader finds what the strategy promises."""

from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog

from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.positions import MOST_DELETES
from rat_resources.lake.reading import row_count
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

FIRST = [(n, n % 3, f"v{n}") for n in range(12)]
COLUMNS = "id, part, v"


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def deletes_of(catalog: Catalog) -> list[int]:
    """How many positions each delete file of the table holds."""
    files = {
        file.file_path: file.record_count
        for task in load(catalog).scan().plan_files()
        for file in task.delete_files
    }
    return sorted(files.values())


@in_a_folder
@pytest.mark.parametrize("partition_by", [[], [PartitionField("part")]])
@pytest.mark.parametrize(
    ("strategy", "batch", "rows"),
    [
        ("incremental", [(1, 1, "new"), (99, 1, "more")], 13),
        ("incremental", [(1, 2, "moved"), (None, None, "no key")], 13),
        ("delete_insert", [(1, 1, "a"), (1, 1, "b")], 13),
    ],
)
def test_marked_rows_are_gone_for_every_reader(  # noqa: PLR0917 - pytest names them
    connection: DuckDBPyConnection,
    catalog: Catalog,
    strategy: str,
    batch: list[tuple[Any, ...]],
    rows: int,
    partition_by: list[PartitionField],
) -> None:
    config = make_config(
        strategy,
        unique_key=["id"],
        write_mode="merge_on_read",
        partition_by=partition_by,
    )
    write(connection, catalog, values(FIRST, COLUMNS), config=config)

    written = write(connection, catalog, values(batch, COLUMNS), config=config)

    table = load(catalog)
    keys = {row[0] for row in batch}
    expected = [row for row in FIRST if row[0] not in keys] + batch
    assert read(connection, catalog, "count(*)") == [(rows,)]
    assert by_pyiceberg(table) == by_duckdb(table) == sorted(expected, key=repr)
    assert deletes_of(catalog) == [1]
    assert written.files_removed == 0
    assert row_count(table) == written.rows_total == rows


@in_a_folder
def test_delete_files_do_not_pile_up(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"], write_mode="merge_on_read")
    write(
        connection,
        catalog,
        "SELECT range AS id, 0 AS part, 'old' AS v FROM range(100)",
        config=config,
    )

    for n in range(2 * MOST_DELETES):
        write(connection, catalog, values([(n, 1, "new")], COLUMNS), config=config)

    table = load(catalog)
    found = deletes_of(catalog)
    summary = table.current_snapshot().summary  # type: ignore[union-attr]
    assert len(found) <= MOST_DELETES
    assert sum(found) == 2 * MOST_DELETES
    assert summary["total-position-deletes"] == str(sum(found))  # type: ignore[index]
    assert summary["total-delete-files"] == str(len(found))  # type: ignore[index]
    assert len(by_duckdb(table)) == row_count(table) == 100


@in_a_folder
def test_the_same_batch_marks_nothing(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"], write_mode="merge_on_read")
    write(connection, catalog, values(FIRST, COLUMNS), config=config)
    write(connection, catalog, values([(1, 1, "new")], COLUMNS), config=config)

    again = write(connection, catalog, values([(1, 1, "new")], COLUMNS), config=config)

    assert not again.changed
