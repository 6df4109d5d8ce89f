"""Files carry the types, partitions and statistics that other readers rely on."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException

from rat_resources.errors import QueryError, SchemaChangeError
from rat_resources.lake import writing
from rat_resources.lake.committing import SNAPSHOTS_KEPT, commit_files
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.writing import write_files
from rat_resources.places import Place
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

APPEND = make_config("append_only")


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


@in_a_folder
@pytest.mark.parametrize(
    ("expression", "iceberg", "value"),
    [
        ("true", "boolean", True),
        ("1::UTINYINT", "int", 1),
        ("1::USMALLINT", "int", 1),
        ("4000000000::UINTEGER", "long", 4000000000),
        ("18446744073709551615::UBIGINT", "decimal(20, 0)", Decimal(2**64 - 1)),
        ("sum(1)", "decimal(38, 0)", Decimal(1)),
        ("1.5::FLOAT", "float", 1.5),
        ("'NaN'::DOUBLE", "double", None),
        ("1.50::DECIMAL(5,2)", "decimal(5, 2)", Decimal("1.50")),
        ("1.50::DECIMAL(30,2)", "decimal(30, 2)", Decimal("1.50")),
        ("DATE '2026-01-02'", "date", date(2026, 1, 2)),
        ("TIME '12:30:00'", "time", time(12, 30)),
        ("TIMESTAMP '2026-01-02 03:04:05'", "timestamp", datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001
        ("'2026-01-02 03:04:05'::TIMESTAMP_NS", "timestamp", None),
        ("'2026-01-02 03:04:05'::TIMESTAMP_S", "timestamp", None),
        (
            "TIMESTAMPTZ '2026-01-02 03:04:05+02'",
            "timestamptz",
            datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
        ),
        ("'x'::ENUM ('x', 'y')", "string", "x"),
        ("'{\"a\": 1}'::JSON", "string", '{"a": 1}'),
        ("'12345678-1234-1234-1234-123456789012'::UUID", "uuid", None),
        ("'ab'::BLOB", "binary", b"ab"),
        ("[1, NULL]", "list<int>", [1, None]),
        ("[1, 2]::INTEGER[2]", "list<int>", [1, 2]),
        ("MAP {'a': 1}", "map<string, int>", [("a", 1)]),
        (
            "{'a': 1, 'b c': [{'d': 2.5}]}",
            "struct<3: a: optional int, 4: b c: optional list<struct<6: d: optional decimal(2, 1)>>>",
            {"a": 1, "b c": [{"d": Decimal("2.5")}]},
        ),
        ("NULL", "int", None),
    ],
)
def test_a_type_survives_for_us_and_for_pyiceberg(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    expression: str,
    iceberg: str,
    value: Any,  # noqa: ANN401
) -> None:
    write(connection, catalog, f"SELECT 1 AS n, {expression} AS x")

    table = load(catalog)
    shown = str(table.schema().find_type("x"))
    found = table.scan().to_arrow().column("x").to_pylist()
    assert shown == iceberg
    assert len(read(connection, catalog, "n")) == 1
    if value is not None:
        assert found == [value]


@in_a_folder
@pytest.mark.parametrize(
    ("field", "partitions"),
    [
        (PartitionField("id"), {(1,), (2,), (-3,), (None,)}),
        (PartitionField("name"), {("a/b=c",), ("",), ("é" * 200,), (None,)}),
        (PartitionField("day"), {(0,), (400,), (-1,), (None,)}),
        (PartitionField("ts"), {(0,), (3_600_000_000,), (-1,), (None,)}),
        (PartitionField("zoned"), {(0,), (3_600_000_000,), (-1,), (None,)}),
        (PartitionField("price"), {(Decimal("1.5"),), (Decimal("-2.5"),), (None,)}),
        (PartitionField("flag"), {(True,), (False,), (None,)}),
        (PartitionField("day", "year"), {(0,), (1,), (-1,), (None,)}),
        (PartitionField("day", "month"), {(0,), (13,), (-1,), (None,)}),
        (PartitionField("ts", "day"), {(0,), (-1,), (None,)}),
        (PartitionField("zoned", "hour"), {(0,), (1,), (-1,), (None,)}),
        (PartitionField("id", "truncate", 10), {(0,), (-10,), (None,)}),
        (PartitionField("name", "truncate", 1), {("a",), ("",), ("é",), (None,)}),
        (PartitionField("id", "bucket", 4), None),
        (PartitionField("name", "bucket", 4), None),
        (PartitionField("code", "bucket", 4), None),
        (PartitionField("code"), None),
        (PartitionField("price", "bucket", 4), None),
    ],
)
def test_rows_lie_in_the_partition_that_their_values_say(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    field: PartitionField,
    partitions: set[tuple[Any, ...]] | None,
) -> None:
    config = make_config("incremental", unique_key=["id"], partition_by=[field])
    query = f"""
        SELECT * FROM (VALUES
            (1, 'a/b=c', DATE '1970-01-01', TIMESTAMP 'epoch', 1.5, true,
             '{UUID(int=1)}'::UUID),
            (2, '', DATE '1971-02-05', TIMESTAMP '1970-01-01 01:00:00', -2.5, false,
             '{UUID(int=2)}'::UUID),
            (-3, repeat('é', 200), DATE '1969-12-31',
             TIMESTAMP '1969-12-31 23:59:59.999999', 1.5, true, '{UUID(int=3)}'::UUID),
            (NULL, NULL, NULL, NULL, NULL, NULL, NULL)
        ) AS t(id, name, day, ts, price, flag, code)
    """
    query = f"SELECT *, ts AT TIME ZONE 'UTC' AS zoned FROM ({query})"

    write(connection, catalog, query, config=config)

    files = [task.file for task in load(catalog).scan().plan_files()]
    found = {(file.partition[0],) for file in files}
    assert partitions is None or found == partitions
    assert sum(file.record_count for file in files) == 4
    assert (None,) in found
    by_pyiceberg = load(catalog).scan("id = 2").to_arrow()
    assert by_pyiceberg.column("name").to_pylist() == [""]
    again = write(connection, catalog, query, config=config)
    assert not again.changed


def test_several_partition_fields_make_one_file_each(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    fields = [PartitionField("a"), PartitionField("b", "bucket", 2)]
    config = make_config("full_refresh", partition_by=fields)

    written = write(
        connection,
        catalog,
        "SELECT i % 2 AS a, i AS b FROM range(100) t(i)",
        config=config,
    )

    assert written.files_added == 4
    assert [field.name for field in load(catalog).spec().fields] == ["a", "b_bucket_2"]


def test_new_data_follows_a_changed_partitioning(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    batch = values([(1, "a"), (2, "b")], "id, v")
    write(connection, catalog, batch)
    divided = make_config(
        "incremental", unique_key=["id"], partition_by=[PartitionField("v")]
    )

    write(connection, catalog, values([(3, "c")], "id, v"), config=divided)
    write(connection, catalog, values([(1, "z")], "id, v"), config=divided)
    write(
        connection,
        catalog,
        values([(4, "d")], "id, v"),
        config=make_config("append_only"),
    )

    assert read(connection, catalog) == [(1, "z"), (2, "b"), (3, "c"), (4, "d")]
    found = load(catalog).scan("v = 'c'").to_arrow().to_pylist()
    assert found == [{"id": 3, "v": "c"}]
    assert load(catalog).spec().is_unpartitioned()


def test_a_full_refresh_may_drop_the_column_that_divided_the_table(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config(partition_by=[PartitionField("v")])
    write(connection, catalog, values([(1, "a"), (2, "b")], "id, v"), config=config)

    write(connection, catalog, values([(1,)], "id"))
    write(connection, catalog, values([(2,)], "id"), config=APPEND)

    assert read(connection, catalog) == [(1,), (2,)]
    assert load(catalog).scan().to_arrow().num_rows == 2


@in_a_folder
@pytest.mark.parametrize(
    ("field", "message"),
    [
        (PartitionField("nope"), "no column"),
        (PartitionField("v", "day"), "cannot divide"),
        (PartitionField("v", "weekly"), "weekly"),
        (PartitionField("v", "bucket"), "needs a width"),
    ],
)
def test_a_partitioning_that_cannot_be_says_why(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    field: PartitionField,
    message: str,
) -> None:
    config = make_config(partition_by=[field])

    with pytest.raises(SchemaChangeError, match=message):
        write(connection, catalog, values([(1, "a")], "id, v"), config=config)


def test_a_nan_in_the_last_row_group_hides_no_rows(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(
        connection,
        catalog,
        "SELECT i AS id, CASE WHEN i = 299999 THEN 'NaN'::DOUBLE ELSE i END AS x "
        "FROM range(300000) t(i)",
    )

    table = load(catalog)
    (task,) = table.scan().plan_files()
    bounded = set(task.file.lower_bounds)
    assert bounded == {table.schema().find_field("id").field_id}
    assert table.scan("x > 200000.0").to_arrow().num_rows >= 99998


def test_statistics_prune_files_for_other_readers(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    for start in (0, 100, 200):
        write(
            connection,
            catalog,
            f"SELECT {start} + i AS id, 'n' || i AS name, i::DECIMAL(20,2) AS d, "
            f"TIMESTAMPTZ 'epoch' AS t, NULL::VARCHAR AS nothing FROM range(10) t(i)",
            config=APPEND,
        )

    table = load(catalog)
    tasks = list(table.scan("id = 105").plan_files())
    assert len(tasks) == 1
    assert len(tasks[0].file.lower_bounds) == 4
    assert table.inspect.files().num_rows == 3


@in_a_folder
def test_snapshots_and_manifests_stay_few(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config("incremental", unique_key=["id"])
    for n in range(SNAPSHOTS_KEPT + 5):
        write(connection, catalog, values([(n % 3, n)], "id, v"), config=config)

    table = load(catalog)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(table.metadata.snapshots) == SNAPSHOTS_KEPT
    assert len(snapshot.manifests(table.io)) <= 4
    assert len(read(connection, catalog)) == 3


def test_a_value_that_fits_no_decimal_fails_and_leaves_the_table(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, "SELECT 1 AS id, 5::HUGEINT AS big")

    with pytest.raises(QueryError, match="does not fit"):
        write(
            connection,
            catalog,
            "SELECT 2 AS id, 170141183460469231731687303715884105727::HUGEINT AS big",
            config=APPEND,
        )

    assert read(connection, catalog, "id") == [(1,)]


def test_a_concurrent_change_of_the_table_is_never_written_over(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1,)], "id"))
    stale = load(catalog)
    write(connection, catalog, values([(2,)], "id"), config=APPEND)

    transaction = stale.transaction()
    files = write_files(
        connection, "SELECT 3 AS id", metadata=stale.metadata, io=stale.io
    )
    commit_files(transaction, io=stale.io, added=files, removed=[])

    with pytest.raises(CommitFailedException):
        transaction.commit_transaction()

    assert read(connection, catalog) == [(1,), (2,)]


@in_a_folder
def test_large_results_are_split_into_files(
    connection: DuckDBPyConnection, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FILE_SIZE", 1_000_000)

    written = write(
        connection,
        catalog,
        "SELECT i AS id, hash(i)::VARCHAR AS h FROM range(1000000) t(i)",
    )

    assert written.files_added > 1
    assert written.rows_total == 1_000_000
