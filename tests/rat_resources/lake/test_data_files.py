"""What a manifest says of a file: all that lets a reader leave it out, and nothing that is not so."""

from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile

from rat_resources.places import Place
from tests.rat_resources.lake.stories import NESTED, POOLS, as_sql
from tests.rat_resources.lake.tables import (
    in_a_folder,
    load,
    make_catalog,
    make_config,
    write,
)
from tests.rat_resources.lake.witnesses import connect, read_rows, readers_of

pytestmark = in_a_folder

APPEND = make_config("append_only")
KINDS = POOLS | NESTED


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return connect()


def write_values(
    connection: DuckDBPyConnection, catalog: Catalog, *values: str
) -> DataFile:
    """The file that a table with a column of these values is written to."""
    rows = ", ".join(f"({value})" for value in values)
    write(connection, catalog, f"SELECT v FROM (VALUES {rows}) AS t(v)")
    (task,) = load(catalog).scan().plan_files()
    return task.file


def bounds(catalog: Catalog, file: DataFile) -> tuple[Any, Any]:
    (field,) = load(catalog).schema().fields
    low = (file.lower_bounds or {})[field.field_id]
    high = (file.upper_bounds or {})[field.field_id]
    kind: Any = field.field_type
    return from_bytes(kind, low), from_bytes(kind, high)


@pytest.mark.parametrize("zeros", [("-0.0", "0.0"), ("0.0", "-0.0"), ("-0.0",)])
@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_bounds_at_zero_hold_both_zeros(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    kind: str,
    zeros: tuple[str, ...],
) -> None:
    file = write_values(connection, catalog, *(f"{z}::{kind}" for z in zeros))

    assert list(map(str, bounds(catalog, file))) == ["-0.0", "0.0"]


def test_no_nan_is_said_only_where_there_is_none(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    without = write_values(connection, catalog, "1.5::DOUBLE", "NULL")
    one = write_values(connection, catalog, "1.5::DOUBLE", "'nan'")

    assert without.nan_value_counts == {1: 0}
    assert (one.nan_value_counts, one.lower_bounds, one.upper_bounds) == ({}, {}, {})


def test_long_words_have_a_bound_above_them(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    file = write_values(connection, catalog, "repeat('é', 30)", "repeat('é', 40)")

    low, high = bounds(catalog, file)

    assert low <= "é" * 30 < "é" * 40 < high


def test_every_column_of_every_type_is_counted(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    columns = ", ".join(f"NULL::{kind} AS c{n}" for n, kind in enumerate(KINDS))

    write(connection, catalog, f"SELECT {columns} FROM range(3)")

    schema = load(catalog).schema()
    (task,) = load(catalog).scan().plan_files()
    leaves = {
        field_id
        for field_id in schema.field_ids
        if schema.find_type(field_id).is_primitive
    }
    assert task.file.value_counts == dict.fromkeys(leaves, 3)
    assert task.file.null_value_counts == dict.fromkeys(leaves, 3)
    assert set(task.file.column_sizes or ()) == leaves
    assert len(task.file.split_offsets or ()) == 1


def test_bounds_hide_no_row_from_any_reader(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    pools = {
        f"c{number}": [f"CAST({as_sql(value)} AS {kind})" for value in POOLS[kind]]
        for number, kind in enumerate(POOLS)
    }
    rows = [
        {name: pool[number % len(pool)] for name, pool in pools.items()}
        for number in range(4)
    ]
    for row in rows:
        columns = ", ".join(f"{value} AS {name}" for name, value in row.items())
        write(connection, catalog, f"SELECT {columns}", config=APPEND)
    table = load(catalog)

    for name in pools:
        where = f"{name} = {rows[3][name]}"
        found = {
            reader: len(read_rows(connection, table, by=reader, where=where))
            for reader in readers_of(table)
        }

        same = [f"({rows[3][name]} = {row[name]})::INTEGER" for row in rows]
        ((alone,),) = connection.execute(f"SELECT {' + '.join(same)}").fetchall()
        assert found == dict.fromkeys(readers_of(table), alone), name
