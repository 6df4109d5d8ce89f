"""The parts of a table: their names, their sizes, and which of them a write touched."""

from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog

from rat_resources.lake import partitions
from rat_resources.lake.partitioning import PartitionField
from rat_resources.lake.partitions import Parts, find_parts
from rat_resources.lake.target import find_table
from rat_resources.places import Place
from tests.rat_resources.lake.tables import (
    NAME,
    in_a_folder,
    load,
    make_catalog,
    make_config,
    make_connection,
    mark,
    values,
    write,
)

BY_DAY = {"partition_by": [PartitionField("day")]}
KINDS: list[dict[str, Any]] = [{"partition_column": "day"}, BY_DAY]


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def touch(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    rows: list[tuple[Any, ...]],
    *,
    strategy: str,
    **settings: Any,  # noqa: ANN401
) -> Parts:
    """Write a batch of (id, day); what it did to the parts."""
    config = make_config(strategy, **settings)
    before = find_table(catalog, NAME)
    query = values(rows, "id, day") if rows else "SELECT 1 AS id, 'x' AS day LIMIT 0"
    written = write(connection, catalog, query, config=config)
    return find_parts(
        connection,
        load(catalog),
        before=before,
        config=config,
        is_anew=written.is_anew,
    )


def sizes(parts: Parts) -> dict[str, int]:
    return {key: part.rows for key, part in parts.sizes.items()}


FIRST = [(1, "mon"), (2, "mon"), (3, "tue")]


def test_a_table_that_is_not_divided_is_one_part(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    parts = touch(connection, catalog, FIRST, strategy="append_only")

    assert sizes(parts) == {"all": 3}
    assert parts.sizes["all"].bytes
    assert parts.is_whole


@in_a_folder
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("strategy", "second", "touched", "rows"),
    [
        ("full_refresh", [(4, "wed")], {"wed"}, {"wed": 1}),
        ("append_only", [(4, "wed")], {"wed"}, {"mon": 2, "tue": 1, "wed": 1}),
        ("append_only", [(4, "tue")], {"tue"}, {"mon": 2, "tue": 2}),
        ("incremental", [(3, "tue"), (4, "tue")], {"tue"}, {"mon": 2, "tue": 2}),
        ("incremental", [(3, "wed")], {"tue", "wed"}, {"mon": 2, "wed": 1}),
        ("delete_insert", [(1, "tue")], {"mon", "tue"}, {"mon": 1, "tue": 2}),
        ("scd2", [(3, "wed")], {"tue", "wed"}, {"mon": 2, "tue": 1, "wed": 1}),
        ("append_only", [(4, None)], {"null"}, {"mon": 2, "tue": 1, "null": 1}),
    ],
)
def test_only_parts_that_a_write_changed_are_touched(  # noqa: PLR0917 - pytest names them
    connection: DuckDBPyConnection,
    catalog: Catalog,
    kind: dict[str, Any],
    strategy: str,
    second: list[tuple[Any, ...]],
    touched: set[str],
    rows: dict[str, int],
) -> None:
    settings = kind | {"unique_key": ["id"]}
    touch(connection, catalog, FIRST, strategy=strategy, **settings)

    parts = touch(connection, catalog, second, strategy=strategy, **settings)

    assert (set(parts.touched), sizes(parts)) == (touched, rows)


def test_a_snapshot_touches_the_values_that_it_brings(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    settings = {"strategy": "snapshot", "partition_column": "day"}
    first = touch(connection, catalog, FIRST, **settings)

    parts = touch(connection, catalog, [(9, "tue"), (8, "tue")], **settings)

    assert first.touched == {"mon", "tue"}
    assert (set(parts.touched), sizes(parts)) == ({"tue"}, {"mon": 2, "tue": 2})
    assert parts.sizes["tue"].bytes is None  # its file holds rows of Monday too


def test_parts_of_several_columns_are_joined_and_told_apart(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config(
        partition_by=[
            PartitionField("at"),
            PartitionField("day"),
            PartitionField("id", "bucket", 4),
        ]
    )
    query = (
        "SELECT 1 AS id, 'a/b' AS day, DATE '2026-02-01' AS at "
        "UNION ALL SELECT 2, NULL, DATE '2026-02-01'"
    )
    write(connection, catalog, query, config=config)

    parts = find_parts(
        connection, load(catalog), before=None, config=config, is_anew=False
    )

    assert sizes(parts) == {"2026-02-01/a%2Fb": 1, "2026-02-01/null": 1}
    assert all(part.bytes for part in parts.sizes.values())


@in_a_folder
def test_a_value_has_one_name_however_it_was_counted(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    columns = {
        "whole": "7::BIGINT",
        "exact": "1.50::DECIMAL(9, 2)",
        "yes": "true",
        "day": "DATE '2026-02-01'",
        "at": "TIMESTAMPTZ '2026-02-01 10:00:00+02'",
        "key": "'e45a4fd0-e513-4f16-a6f0-357d6499a7ca'::UUID",
        "text": "'a b'",
    }
    query = f"SELECT {', '.join(f'{sql} AS {name}' for name, sql in columns.items())}"
    names: dict[str, set[str]] = {}
    for name in columns:
        for settings in (
            {"partition_column": name},
            {"partition_by": [PartitionField(name)]},
        ):
            config = make_config(**settings)
            write(connection, catalog, query, config=config)
            parts = find_parts(
                connection, load(catalog), before=None, config=config, is_anew=True
            )
            names.setdefault(name, set()).update(parts.sizes)

    assert names == {
        "whole": {"7"},
        "exact": {"1.50"},
        "yes": {"true"},
        "day": {"2026-02-01"},
        "at": {"2026-02-01T08:00:00+00:00"},
        "key": {"e45a4fd0-e513-4f16-a6f0-357d6499a7ca"},
        "text": {"a b"},
    }


@in_a_folder
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_too_many_parts_is_one(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    kind: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "MOST", 1)

    parts = touch(connection, catalog, FIRST, strategy="full_refresh", **kind)

    assert sizes(parts) == {"all": 3}


def test_an_empty_table_is_one_part_without_rows(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    touch(connection, catalog, FIRST, strategy="full_refresh", **BY_DAY)

    parts = touch(connection, catalog, [], strategy="full_refresh", **BY_DAY)

    assert sizes(parts) == {"all": 0}
    assert parts.is_whole


def test_a_name_fits_into_an_index_and_is_a_text_of_postgres(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = make_config(partition_column="day")
    query = (
        "SELECT 1 AS id, repeat('ä', 5000) || 'x' AS day"
        " UNION ALL SELECT 2, repeat('ä', 5000) || 'y'"
        " UNION ALL SELECT 3, 'a' || chr(0)"
    )
    write(connection, catalog, query, config=config)

    parts = find_parts(
        connection, load(catalog), before=None, config=config, is_anew=False
    )

    assert len(parts.sizes) == 3
    assert "a␀" in parts.sizes
    assert max(len(name.encode()) for name in parts.sizes) < 1000


@in_a_folder
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_which_a_row_died_in_its_file_was_touched(
    connection: DuckDBPyConnection, catalog: Catalog, kind: dict[str, Any]
) -> None:
    rows = [*FIRST, (4, "tue"), (5, "wed")]
    touch(connection, catalog, rows, strategy="append_only", **kind)
    before = load(catalog)
    mark(connection, load(catalog), where="id = 4")

    parts = find_parts(
        connection,
        load(catalog),
        before=before,
        config=make_config("append_only", **kind),
        is_anew=False,
    )

    assert sizes(parts) == {"mon": 2, "tue": 1, "wed": 1}
    assert parts.touched == {"tue"}
    assert not parts.is_whole


@in_a_folder
def test_a_part_whose_last_row_died_is_no_part_any_more(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    touch(connection, catalog, FIRST, strategy="append_only", **BY_DAY)
    before = load(catalog)
    mark(connection, load(catalog), where="day = 'tue'")

    parts = find_parts(
        connection,
        load(catalog),
        before=before,
        config=make_config("append_only", **BY_DAY),
        is_anew=False,
    )

    assert sizes(parts) == {"mon": 2}
    assert parts.touched == {"tue"}
