"""New files lie in the order that was asked for, and the table's metadata says so."""

import pytest
from duckdb import DuckDBPyConnection
from pyarrow.parquet import read_table
from pyiceberg.catalog import Catalog

from rat_resources.errors import SchemaChangeError
from rat_resources.lake.sorting import SortField
from rat_resources.places import Place
from tests.rat_resources.lake.tables import (
    in_a_folder,
    load,
    make_catalog,
    make_config,
    make_connection,
    write,
)

pytestmark = in_a_folder

ROWS = "SELECT 7 * i % 10 AS id, 'row ' || i AS word, NULLIF(i, 3) AS amount FROM range(10) AS t(i)"


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def files(catalog: Catalog) -> list[list[dict[str, object]]]:
    """The rows of each file of the table, as they lie in it."""
    paths = [task.file.file_path for task in load(catalog).scan().plan_files()]
    return [
        read_table(path.removeprefix("file://"), partitioning=None).to_pylist()
        for path in paths
    ]


def order(catalog: Catalog) -> str:
    """The order as Iceberg tells it, by names."""
    table = load(catalog)
    schema = table.schema()
    return ", ".join(
        f"{schema.find_column_name(field.source_id)} {field.direction} {field.null_order}"
        for field in table.sort_order().fields
    )


def test_rows_are_sorted_as_sort_by_says(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    by = (SortField("amount", descending=True), SortField("id"))

    write(connection, catalog, ROWS, config=make_config(sort_by=by))

    ((*rows,),) = files(catalog)
    assert [row["amount"] for row in rows] == [9, 8, 7, 6, 5, 4, 2, 1, 0, None]
    assert order(catalog) == "amount DESC NULLS LAST, id ASC NULLS FIRST"
    ((task,),) = [list(load(catalog).scan().plan_files())]
    assert task.file.sort_order_id == load(catalog).sort_order().order_id


def test_without_a_word_rows_are_sorted_by_the_keys_that_they_are_found_by(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"])

    write(connection, catalog, ROWS, config=config)

    ((*rows,),) = files(catalog)
    assert [row["id"] for row in rows] == list(range(10))
    assert order(catalog) == "id ASC NULLS FIRST"


def test_rows_without_an_order_stay_as_the_query_returned_them(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, f"{ROWS} UNION ALL SELECT -1, 'last', 0")

    ((*rows,),) = files(catalog)
    assert [row["word"] for row in rows] == [*(f"row {i}" for i in range(10)), "last"]
    assert order(catalog) == ""


def test_rows_are_sorted_within_each_partition(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    from rat_resources.lake.partitioning import PartitionField  # noqa: PLC0415

    config = make_config(
        sort_by=(SortField("id"),), partition_by=[PartitionField("half")]
    )

    write(connection, catalog, f"SELECT *, id < 5 AS half FROM ({ROWS})", config=config)

    found = sorted([row["id"] for row in rows] for rows in files(catalog))
    assert found == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_changed_order_holds_for_what_is_written_from_then_on(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, ROWS, config=make_config("append_only"))

    by_id = make_config("append_only", sort_by=(SortField("id"),))
    write(connection, catalog, ROWS, config=by_id)

    ids = [[row["id"] for row in rows] for rows in files(catalog)]
    assert list(range(10)) in ids
    assert order(catalog) == "id ASC NULLS FIRST"


def test_a_changed_order_alone_is_no_change_of_the_table(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, ROWS, config=make_config("append_only"))

    by_id = make_config("append_only", sort_by=(SortField("id"),))
    written = write(connection, catalog, f"{ROWS} WHERE false", config=by_id)

    assert not written.changed


def test_a_column_that_goes_takes_its_place_in_the_order_along(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    by = (SortField("amount"), SortField("id"))
    write(connection, catalog, ROWS, config=make_config(sort_by=by))

    by_id = make_config(sort_by=(SortField("id"),))
    write(connection, catalog, f"SELECT id, word FROM ({ROWS})", config=by_id)

    assert order(catalog) == "id ASC NULLS FIRST"
    assert len(load(catalog).scan().to_arrow()) == 10


def test_a_column_that_is_none_is_refused_with_the_nearest_one(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config(sort_by=(SortField("amont"),))

    with pytest.raises(SchemaChangeError, match="did you mean 'amount'"):
        write(connection, catalog, ROWS, config=config)


def test_a_size_is_kept_on_the_table_for_everybody_who_writes(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, ROWS, config=make_config(file_size=64_000_000))

    properties = load(catalog).properties
    assert properties["write.target-file-size-bytes"] == "64000000"
