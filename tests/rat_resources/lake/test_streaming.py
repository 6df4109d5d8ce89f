"""A refresh and an append keep their rows nowhere; what goes wrong is told as if they had been kept."""

from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection
from pyarrow.parquet import read_metadata
from pyiceberg.catalog import Catalog

from rat_resources.errors import ExhaustedError, QueryError, SchemaChangeError
from rat_resources.places import Place
from tests.rat_resources.lake.tables import (
    in_a_folder,
    load,
    make_catalog,
    make_config,
    make_connection,
    read,
    write,
)

pytestmark = in_a_folder

APPEND = make_config("append_only")
# More than memory holds, unless it streams.
MANY = "SELECT i AS id, md5(i::VARCHAR) AS word FROM range(700000) AS t(i)"
WIDE_ROWS = 30_000
WIDE = (
    "SELECT i AS id, repeat(md5(i::VARCHAR), 128) AS word "
    f"FROM range({WIDE_ROWS}) AS t(i)"
)


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection(tmp_path: Path) -> DuckDBPyConnection:
    connection = make_connection()
    # What spills fails: nothing of it may be kept.
    connection.execute(f"SET temp_directory = '{tmp_path}/spill'")
    connection.execute("SET max_temp_directory_size = '0B'")
    return connection


def parquet_files(place: Path) -> list[Path]:
    return list(place.rglob("*.parquet"))


def test_more_rows_than_memory_holds_are_written(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    connection.execute("SET memory_limit = '40MB'")

    first = write(connection, catalog, MANY)
    second = write(connection, catalog, MANY, config=APPEND)

    assert (first.rows_inserted, second.rows_total) == (700_000, 1_400_000)


def test_rows_too_wide_for_memory_come_in_smaller_row_groups(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    connection.execute("SET memory_limit = '80MB'")

    written = write(connection, catalog, WIDE)

    (task,) = load(catalog).scan().plan_files()
    footer = read_metadata(task.file.file_path.removeprefix("file://"))
    groups = [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
    assert written.rows_inserted == WIDE_ROWS
    assert max(groups[:-1]) < 8_000


def test_rows_that_memory_must_hold_fail_and_leave_nothing(
    connection: DuckDBPyConnection, catalog: Catalog, place: Path
) -> None:
    write(connection, catalog, "SELECT 1 AS id, 'a' AS word")
    before = parquet_files(place)
    connection.execute("SET memory_limit = '40MB'")

    with pytest.raises(ExhaustedError, match="out of"):
        write(connection, catalog, f"{MANY} ORDER BY word")

    assert read(connection, catalog) == [(1, "a")]
    assert parquet_files(place) == before


def test_a_value_that_fails_late_leaves_no_half_of_a_file(
    connection: DuckDBPyConnection, catalog: Catalog, place: Path
) -> None:
    late = (
        "SELECT CASE WHEN i = 900000 THEN error('no such ' || i) ELSE i END AS id "
        "FROM range(1000000) AS t(i)"
    )

    with pytest.raises(QueryError, match="no such 900000"):
        write(connection, catalog, late)

    assert parquet_files(place) == []


def test_a_query_that_ends_in_a_comment_is_a_query(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, "SELECT 1 AS id -- the first")
    write(connection, catalog, "SELECT 2 AS id; -- the second", config=APPEND)

    assert read(connection, catalog) == [(1,), (2,)]


def test_columns_that_an_append_lacks_are_null(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, "SELECT 1 AS id, 'a' AS word")

    write(connection, catalog, "SELECT 2 AS ID", config=APPEND)

    assert read(connection, catalog) == [(1, "a"), (2, None)]


def test_nulls_without_a_type_are_looked_at_before_they_are_written(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, "SELECT 'a' AS word")

    write(connection, catalog, "SELECT NULL AS word", config=APPEND)

    assert read(connection, catalog) == [("a",), (None,)]


def test_no_rows_are_kept_failed_or_published_as_configured(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, "SELECT 1 AS id")
    nothing = "SELECT 2 AS id WHERE false"

    kept = write(connection, catalog, nothing, config=make_config(on_empty="keep"))
    with pytest.raises(QueryError, match="on_empty is fail"):
        write(connection, catalog, nothing, config=make_config(on_empty="fail"))
    rows_after_both = read(connection, catalog)
    write(connection, catalog, nothing)

    assert not kept.changed
    assert rows_after_both == [(1,)]
    assert read(connection, catalog) == []


def test_what_does_not_fit_is_no_matter_where_nothing_comes_and_the_table_is_kept(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("append_only", on_empty="keep", on_schema_change="fail")
    write(connection, catalog, "SELECT 1 AS id")

    kept = write(connection, catalog, "SELECT 2 AS other WHERE false", config=config)

    assert not kept.changed
    with pytest.raises(SchemaChangeError):
        write(connection, catalog, "SELECT 2 AS other", config=config)


def test_the_first_run_of_an_upsert_streams_one_row_a_key(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"], watermark_column="since")

    write(
        connection,
        catalog,
        "SELECT * FROM (VALUES (1, 5, 'new'), (1, 3, 'old'), (2, NULL, 'a'), (2, NULL, 'b')) "
        "AS t(id, since, word)",
        config=config,
    )

    assert read(connection, catalog) == [(1, 5, "new"), (2, None, "b")]


def test_what_becomes_much_larger_than_a_file_is_split(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config(file_size=2_000_000)

    write(connection, catalog, MANY, config=config)

    sizes = [t.file.file_size_in_bytes for t in load(catalog).scan().plan_files()]
    assert len(sizes) > 2
    # A file ends with a row group, which alone may be larger.
    assert max(sizes) < 8_000_000
