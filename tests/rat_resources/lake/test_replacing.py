"""Exactly the rows of a scope make way for others."""

from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog

from rat_resources.lake.pruning import Range
from rat_resources.lake.replacing import Part, Scope
from rat_resources.lake.strategies import WriteConfig, apply
from rat_resources.lake.writing import Written
from rat_resources.places import Place
from tests.rat_resources.lake.tables import (
    NAME,
    NOON,
    in_a_folder,
    load,
    make_catalog,
    make_config,
    make_connection,
    read,
    values,
    write,
)

pytestmark = in_a_folder
FIRST_DAY = Scope((Part('old."id" = 1', ("id",)),), keys=("id",))


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def rows_of(rows: list[tuple[Any, ...]]) -> str:
    return values(rows, "id, v")


def replace(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    query: str,
    *,
    scope: Scope = FIRST_DAY,
    config: WriteConfig | None = None,
) -> Written:
    return apply(
        connection,
        query=query,
        catalog=catalog,
        table_name=NAME,
        config=config or make_config(),
        attempt_time=NOON,
        scope=scope,
    )


def test_only_the_rows_in_scope_make_way(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, rows_of([(1, "a"), (1, "b"), (2, "c")]))

    written = replace(connection, catalog, rows_of([(1, "b"), (1, "d"), (1, "e")]))

    assert read(connection, catalog, "id, v") == [
        (1, "b"),
        (1, "d"),
        (1, "e"),
        (2, "c"),
    ]
    assert (written.rows_inserted, written.rows_deleted, written.rows_replaced) == (
        2,
        1,
        1,
    )
    assert written.changed_values == {"id": ["1"]}


def test_rows_that_are_no_longer_there_go(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, rows_of([(1, "a"), (2, "c")]))

    written = replace(connection, catalog, f"{rows_of([(1, 'x')])} WHERE false")

    assert read(connection, catalog, "id, v") == [(2, "c")]
    assert (written.rows_total, written.rows_deleted) == (1, 1)


def test_the_same_rows_are_no_commit(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, rows_of([(1, "a"), (1, "a"), (2, "c")]))
    before = load(catalog).metadata_location

    written = replace(connection, catalog, rows_of([(1, "a"), (1, "a")]))

    assert not written.changed
    assert load(catalog).metadata_location == before


def test_each_of_several_equal_rows_counts(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, rows_of([(1, "a"), (1, "a"), (1, "a")]))

    written = replace(connection, catalog, rows_of([(1, "a")]))

    assert read(connection, catalog, "id, v") == [(1, "a")]
    assert (written.rows_inserted, written.rows_deleted) == (0, 2)


def test_a_file_without_a_row_that_goes_stays(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("append_only")
    write(connection, catalog, rows_of([(1, "a"), (2, "b")]), config=config)
    write(connection, catalog, rows_of([(1, "c"), (3, "d")]), config=config)
    before = {task.file.file_path for task in load(catalog).scan().plan_files()}

    written = replace(connection, catalog, rows_of([(1, "a"), (1, "x")]))

    after = {task.file.file_path for task in load(catalog).scan().plan_files()}
    assert len(before & after) == 1
    assert (written.files_removed, written.files_added) == (1, 1)
    assert len(load(catalog).snapshots()) == 3


def test_one_row_a_key_is_kept_where_the_strategy_says_so(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"])
    write(connection, catalog, rows_of([(1, "a"), (2, "b")]), config=config)

    written = replace(connection, catalog, rows_of([(1, "c"), (1, "d")]), config=config)

    assert read(connection, catalog, "id, v") == [(1, "d"), (2, "b")]
    assert written.rows_replaced == 1


def test_a_new_column_comes_with_the_rows(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"])
    write(connection, catalog, rows_of([(1, "a"), (2, "b")]), config=config)

    replace(connection, catalog, "SELECT 1 AS id, 'a' AS v, 7 AS w", config=config)

    assert read(connection, catalog, "id, v, w") == [(1, "a", 7), (2, "b", None)]


def test_files_are_found_by_the_values_in_scope(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    connection.execute(
        "CREATE TEMP TABLE wanted AS SELECT 2 AS id UNION ALL SELECT NULL"
    )
    write(connection, catalog, rows_of([(1, "a"), (2, "b"), (None, "c")]))
    condition = (
        "EXISTS (SELECT 1 FROM wanted WHERE wanted.id IS NOT DISTINCT FROM old.id)"
    )
    within = Range("id", "2", "2", nulls=True)
    scope = Scope((Part(condition, ("id",), (within,)),))

    written = replace(connection, catalog, rows_of([(2, "x")]), scope=scope)

    assert read(connection, catalog, "id, v") == [(1, "a"), (2, "x")]
    assert written.changed_values == {}
