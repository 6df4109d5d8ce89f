"""Each strategy does to a table what it says, for every odd batch."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog

from rat_resources.errors import QueryError, SchemaChangeError
from rat_resources.lake.strategies import WriteConfig
from rat_resources.places import Place
from tests.rat_resources.lake.tables import (
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

Row = tuple[Any, ...]
KEYED: dict[str, dict[str, Any]] = {
    "incremental": {"unique_key": ["id"]},
    "delete_insert": {"unique_key": ["id"]},
    "snapshot": {"partition_column": "id"},
    "scd2": {"unique_key": ["id"]},
}
ALL = ["full_refresh", "append_only", *KEYED]


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return make_catalog(place)


@pytest.fixture
def connection() -> DuckDBPyConnection:
    return make_connection()


def config_of(strategy: str, **settings: Any) -> WriteConfig:  # noqa: ANN401
    return make_config(strategy, **{**KEYED.get(strategy, {}), **settings})


def rows_of(connection: DuckDBPyConnection, catalog: Catalog) -> list[Row]:
    return read(connection, catalog, "id, v")


AB = [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("strategy", "batches", "expected"),
    [
        ("full_refresh", [AB, [(3, "c")]], [(3, "c")]),
        ("full_refresh", [[(1, "a"), (1, "a")]], [(1, "a"), (1, "a")]),
        ("append_only", [AB, [(1, "c")]], [(1, "a"), (1, "c"), (2, "b")]),
        ("append_only", [AB, AB], [(1, "a"), (1, "a"), (2, "b"), (2, "b")]),
        ("incremental", [AB, [(2, "c"), (3, "d")]], [(1, "a"), (2, "c"), (3, "d")]),
        ("incremental", [AB, AB], AB),
        ("incremental", [[(1, "a"), (1, "b")]], [(1, "b")]),
        ("incremental", [AB, [(1, "x"), (1, "y")]], [(1, "y"), (2, "b")]),
        ("incremental", [[(None, "a")], [(None, "b")]], [(None, "b")]),
        ("incremental", [[(None, "a"), (1, "b")], [(1, "c")]], [(1, "c"), (None, "a")]),
        ("incremental", [AB, [(1, None)]], [(1, None), (2, "b")]),
        (
            "delete_insert",
            [AB, [(1, "x"), (1, "y")]],
            [(1, "x"), (1, "y"), (2, "b")],
        ),
        ("delete_insert", [[(1, "a"), (1, "a")], [(1, "z")]], [(1, "z")]),
        ("delete_insert", [[(None, "a")], [(None, "b")]], [(None, "b")]),
        ("delete_insert", [AB, AB], AB),
        ("snapshot", [AB, [(2, "x"), (2, "y")]], [(1, "a"), (2, "x"), (2, "y")]),
        ("snapshot", [[(None, "a"), (1, "b")], [(None, "c")]], [(1, "b"), (None, "c")]),
        ("snapshot", [AB, AB], AB),
        ("scd2", [AB, [(2, "c")]], [(1, "a"), (2, "b"), (2, "c")]),
        ("scd2", [[(None, "a")], [(None, "b")]], [(None, "a"), (None, "b")]),
        ("scd2", [[(1, "a"), (1, "b")]], [(1, "b")]),
        ("scd2", [AB, AB], AB),
    ],
)
def test_a_strategy_leaves_the_rows_that_it_promises(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    strategy: str,
    batches: Sequence[list[Row]],
    expected: list[Row],
) -> None:
    for batch in batches:
        write(connection, catalog, values(batch, "id, v"), config=config_of(strategy))

    assert rows_of(connection, catalog) == expected


@pytest.mark.parametrize("strategy", KEYED)
def test_the_same_batch_again_changes_nothing(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str
) -> None:
    query = values([(1, "a"), (None, None), (3, "c")], "id, v")
    first = write(connection, catalog, query, config=config_of(strategy))

    again = write(connection, catalog, query, config=config_of(strategy))

    assert not again.changed
    assert again.rows_written == 0
    assert again.metadata_location == first.metadata_location


@in_a_folder
@pytest.mark.parametrize("strategy", ALL)
def test_an_empty_first_batch_makes_the_table_with_its_columns(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str
) -> None:
    written = write(
        connection,
        catalog,
        "SELECT 1 AS id, 'a' AS v WHERE false",
        config=config_of(strategy),
    )

    assert written.changed
    assert rows_of(connection, catalog) == []
    assert written.rows_total == 0


@in_a_folder
@pytest.mark.parametrize(
    ("strategy", "left"), [(s, [] if s == "full_refresh" else AB) for s in ALL]
)
def test_an_empty_batch_empties_only_a_full_refresh(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str, left: list[Row]
) -> None:
    config = config_of(strategy)
    write(connection, catalog, values(AB, "id, v"), config=config)

    written = write(
        connection, catalog, "SELECT 1 AS id, 'a' AS v WHERE false", config=config
    )

    assert rows_of(connection, catalog) == left
    assert written.changed == (strategy == "full_refresh")


def test_an_empty_batch_can_be_kept_out_or_fail(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values(AB, "id, v"))
    nothing = "SELECT 1 AS id, 'a' AS v WHERE false"

    kept = write(connection, catalog, nothing, config=make_config(on_empty="keep"))

    assert not kept.changed
    assert rows_of(connection, catalog) == AB
    with pytest.raises(QueryError, match="no rows"):
        write(connection, catalog, nothing, config=make_config(on_empty="fail"))


@pytest.mark.parametrize("strategy", ["incremental", "delete_insert"])
def test_composite_keys_with_null_parts_are_keys(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str
) -> None:
    config = make_config(strategy, unique_key=["order", "the group"])
    columns = '"order", "the group", v'
    write(
        connection,
        catalog,
        values([(1, None, "a"), (1, "x", "b"), (None, None, "c")], columns),
        config=config,
    )

    write(
        connection,
        catalog,
        values([(1, None, "A"), (None, None, "C"), (2, "x", "d")], columns),
        config=config,
    )

    assert read(connection, catalog) == [
        (1, "x", "b"),
        (1, None, "A"),
        (2, "x", "d"),
        (None, None, "C"),
    ]


@pytest.mark.parametrize("strategy", ["incremental", "scd2"])
def test_the_greatest_watermark_wins_among_duplicates(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str
) -> None:
    config = config_of(strategy, watermark_column="seen")
    batch = [(1, "new", 9), (1, "old", 3), (1, "unknown", None)]

    write(connection, catalog, values(batch, "id, v, seen"), config=config)

    assert rows_of(connection, catalog) == [(1, "new")]


def test_rows_that_share_a_key_in_the_table_become_one(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values([(1, "a"), (1, "a"), (2, "b")], "id, v"))

    written = write(
        connection,
        catalog,
        values([(1, "a")], "id, v"),
        config=config_of("incremental"),
    )

    assert rows_of(connection, catalog) == AB
    assert (written.rows_updated, written.rows_deleted) == (1, 1)


def test_what_was_written_is_counted(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("incremental")
    first = write(connection, catalog, values(AB, "id, v"), config=config)

    second = write(
        connection,
        catalog,
        values([(1, "a"), (2, "c"), (3, "d")], "id, v"),
        config=config,
    )

    assert (first.rows_written, first.rows_inserted, first.rows_total) == (2, 2, 2)
    assert (second.rows_inserted, second.rows_updated, second.rows_total) == (1, 1, 3)
    assert second.rows_written == 2
    assert second.files_added == 1
    assert second.bytes_written > 0
    assert second.snapshot_id == load(catalog).metadata.current_snapshot_id


def test_a_write_is_one_snapshot_and_one_metadata_file(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("incremental")
    write(connection, catalog, values(AB, "id, v"), config=config)

    write(connection, catalog, values([(1, "z", 1.5)], "id, v, extra"), config=config)

    table = load(catalog)
    assert len(table.metadata.snapshots) == 2
    assert len(table.metadata.metadata_log) == 1


def test_only_files_with_affected_rows_are_rewritten(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("incremental")
    for start in (0, 100, 200):
        write(
            connection,
            catalog,
            f"SELECT {start} + i AS id, 'a' AS v FROM range(10) t(i)",
            config=config,
        )
    before = {task.file.file_path for task in load(catalog).scan().plan_files()}

    write(connection, catalog, values([(105, "b")], "id, v"), config=config)

    after = {task.file.file_path for task in load(catalog).scan().plan_files()}
    assert len(before & after) == 2
    assert len(rows_of(connection, catalog)) == 30


def test_a_changed_row_closes_its_version_and_opens_the_next_at_one_time(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("scd2")
    later = NOON + timedelta(hours=1)
    write(connection, catalog, values(AB, "id, v"), config=config)

    written = write(
        connection,
        catalog,
        values([(2, "c"), (1, "a")], "id, v"),
        config=config,
        at=later,
    )

    micros = (
        "id, v, epoch_us(valid_from) // 3600000000, epoch_us(valid_to) // 3600000000"
    )
    noon = int(NOON.timestamp()) // 3600
    assert read(connection, catalog, micros) == [
        (1, "a", noon, None),
        (2, "b", noon, noon + 1),
        (2, "c", noon + 1, None),
    ]
    assert (written.rows_inserted, written.rows_updated) == (0, 1)


def test_versions_never_open_before_the_ones_they_follow(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("scd2", scd_valid_from="since", scd_valid_to="until")
    write(connection, catalog, values([(1, "a")], "id, v"), config=config)

    write(
        connection,
        catalog,
        values([(1, "b")], "id, v"),
        config=config,
        at=NOON - timedelta(days=1),
    )

    ordered = "v, until IS NULL, since > TIMESTAMPTZ '2026-01-01 12:00:00+00'"
    assert read(connection, catalog, ordered) == [
        ("a", False, False),
        ("b", True, True),
    ]


def test_absent_keys_are_closed_when_asked_for(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("scd2", scd_close_missing=True)
    write(connection, catalog, values([*AB, (None, "n")], "id, v"), config=config)

    written = write(
        connection,
        catalog,
        values([(1, "a")], "id, v"),
        config=config,
        at=NOON + timedelta(hours=1),
    )

    assert read(connection, catalog, "id, valid_to IS NULL") == [
        (1, True),
        (2, False),
        (None, False),
    ]
    assert (written.rows_inserted, written.rows_updated) == (0, 2)


def test_a_full_refresh_rebuilds_history_in_one_snapshot(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("scd2")
    write(connection, catalog, values(AB, "id, v"), config=config)
    write(connection, catalog, values([(1, "z")], "id, v"), config=config)
    uuid = load(catalog).metadata.table_uuid

    write(
        connection,
        catalog,
        values([(7, "x"), (7, "y")], "id, v"),
        config=config,
        full_refresh=True,
    )

    assert rows_of(connection, catalog) == [(7, "y")]
    assert load(catalog).metadata.table_uuid == uuid
    assert len(load(catalog).metadata.snapshots) == 3


@in_a_folder
@pytest.mark.parametrize("strategy", ALL)
def test_new_columns_are_added_and_absent_ones_stay_empty(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str
) -> None:
    config = config_of(strategy)
    write(connection, catalog, values([(1, "a", 5)], "id, v, old"), config=config)

    written = write(
        connection, catalog, values([(2, "b", 1.5)], "id, v, new"), config=config
    )

    assert "added new (decimal(2,1))" in map(str, written.schema_changes)
    names = [field.name for field in load(catalog).schema().fields]
    if strategy == "full_refresh":
        assert names == ["id", "v", "new"]
        assert read(connection, catalog, "id") == [(2,)]
    else:
        rows = read(connection, catalog, "id, old, new::DOUBLE")
        assert rows == [(1, 5, None), (2, None, 1.5)]


def test_schema_changes_can_be_refused_or_ignored(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values(AB, "id, v"))
    query = values([(3, "c", 1)], "id, v, extra")

    with pytest.raises(SchemaChangeError, match="extra"):
        write(
            connection,
            catalog,
            query,
            config=make_config("append_only", on_schema_change="fail"),
        )
    write(
        connection,
        catalog,
        query,
        config=make_config("append_only", on_schema_change="ignore"),
    )

    assert read(connection, catalog) == [*AB, (3, "c")]


def test_a_type_that_cannot_follow_fails_with_advice(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values(AB, "id, v"))

    with pytest.raises(
        SchemaChangeError, match=r"'id' is integer .* cast it to INTEGER"
    ):
        write(
            connection,
            catalog,
            values([("one", "c")], "id, v"),
            config=make_config("append_only"),
        )

    assert rows_of(connection, catalog) == AB


def test_widening_the_key_keeps_finding_old_rows(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("incremental")
    write(connection, catalog, values(AB, "id, v"), config=config)

    written = write(
        connection,
        catalog,
        "SELECT * FROM (VALUES (2::BIGINT, 'c'), (9999999999, 'd')) AS t(id, v)",
        config=config,
    )
    write(connection, catalog, values([(1, "e")], "id, v"), config=config)

    assert rows_of(connection, catalog) == [(1, "e"), (2, "c"), (9999999999, "d")]
    assert [change.kind for change in written.schema_changes] == ["widened"]


def test_a_column_spelled_in_another_case_is_the_same_column(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values(AB, "Id, V"))

    write(
        connection,
        catalog,
        values([(2, "c")], "id, v"),
        config=config_of("incremental"),
    )

    assert read(connection, catalog) == [(1, "a"), (2, "c")]


def test_structs_grow_and_widen_inside(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    config = config_of("incremental")
    first = "SELECT 1 AS id, {'a': 1, 'b': 'x'} AS s, [1] AS l"
    second = "SELECT 2 AS id, {'c': 1.5, 'a': 3000000000} AS s, [3000000000] AS l"
    write(connection, catalog, first, config=config)

    write(connection, catalog, second, config=config)

    assert read(connection, catalog, "id, s.a, s.b, s.c::DOUBLE, l[1]") == [
        (1, 1, "x", None, 1),
        (2, 3000000000, None, 1.5, 3000000000),
    ]
    rows = load(catalog).scan().to_arrow().sort_by("id").column("s").to_pylist()
    assert [row["a"] for row in rows] == [1, 3000000000]


def test_a_column_of_nothing_but_null_fits_every_type(
    connection: DuckDBPyConnection, catalog: Catalog
) -> None:
    write(connection, catalog, values(AB, "id, v"))

    write(
        connection,
        catalog,
        "SELECT 3 AS id, NULL AS v",
        config=make_config("append_only"),
    )

    assert rows_of(connection, catalog) == [*AB, (3, None)]


@in_a_folder
@pytest.mark.parametrize(
    ("query", "config", "message"),
    [
        ("SELECT 1 AS a, 2 AS A", make_config(), "2 times"),
        ("SELECT 1 AS a; SELECT 2 AS b", make_config(), "exactly one SELECT"),
        ("CREATE TABLE x AS SELECT 1 AS a", make_config(), "exactly one SELECT"),
        ("SELECT INTERVAL 1 DAY AS age", make_config(), "'age'.*BIGINT seconds"),
        ("SELECT {'d': INTERVAL 1 DAY} AS s", make_config(), r"'s\.d'"),
        ("SELECT 1 AS __rat_row", make_config(), "keeps for itself"),
        ("SELECT nope", make_config(), "nope"),
        ("SELECT 'x'::INTEGER AS a", make_config(), "Could not convert"),
        ("SELECT 1 AS id", make_config("incremental"), "needs unique_key"),
        ("SELECT 1 AS id", make_config("snapshot"), "needs partition_column"),
        (
            "SELECT 1 AS ids",
            make_config("incremental", unique_key=["id"]),
            "did you mean 'ids'",
        ),
        (
            "SELECT 1 AS id, 2 AS valid_to",
            make_config("scd2", unique_key=["id"]),
            "writes itself",
        ),
    ],
)
def test_a_query_that_cannot_be_written_says_why(
    connection: DuckDBPyConnection,
    catalog: Catalog,
    query: str,
    config: WriteConfig,
    message: str,
) -> None:
    with pytest.raises((QueryError, SchemaChangeError), match=message):
        write(connection, catalog, query, config=config)


def model(strategy: str, table: list[Row], batch: list[Row]) -> list[Row]:
    """What the table's rows of (id, v) become, in plain Python."""
    last: dict[Any, Any] = dict(batch)
    keys = set(last)
    if strategy == "incremental":
        return [row for row in table if row[0] not in keys] + list(last.items())
    return [row for row in table if row[0] not in keys] + batch


def model_history(table: list[Row], batch: list[Row], now: int) -> list[Row]:
    """What the rows of (id, v, from, to) become under scd2."""
    last: dict[Any, Any] = dict(batch)
    current = {row[0]: row[1] for row in table if row[3] is None}
    new = {k: v for k, v in last.items() if k not in current or current[k] != v}
    closed = [
        (*row[:3], now) if row[3] is None and row[0] in new else row for row in table
    ]
    return closed + [(k, v, now, None) for k, v in new.items()]


def random_batch(rng: random.Random) -> list[Row]:
    keys = [None, *range(8)]
    size = rng.randint(1, 6)
    return [(rng.choice(keys), rng.choice([None, "a", "b"])) for _ in range(size)]


@in_a_folder
@pytest.mark.parametrize("strategy", ["incremental", "delete_insert", "snapshot"])
@pytest.mark.parametrize("seed", range(4))
def test_random_batches_agree_with_a_model(
    connection: DuckDBPyConnection, catalog: Catalog, strategy: str, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311
    expected: list[Row] = []

    for _ in range(8):
        batch = random_batch(rng)
        query = values([(0, ""), *batch], "id, v") + " OFFSET 1"
        written = write(connection, catalog, query, config=config_of(strategy))
        expected = model(strategy, expected, batch)

        assert Counter(rows_of(connection, catalog)) == Counter(expected)
        assert written.rows_total == len(expected)


@in_a_folder
@pytest.mark.parametrize("seed", range(4))
def test_random_history_agrees_with_a_model(
    connection: DuckDBPyConnection, catalog: Catalog, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311
    expected: list[Row] = []
    start = datetime(2026, 1, 1, tzinfo=UTC)

    for hour in range(8):
        batch = random_batch(rng)
        query = values([(0, ""), *batch], "id, v") + " OFFSET 1"
        write(
            connection,
            catalog,
            query,
            config=config_of("scd2"),
            at=start + timedelta(hours=hour),
        )
        expected = model_history(expected, batch, hour)

        hours = "date_diff('hour', TIMESTAMPTZ '2026-01-01 00:00:00+00', {})"
        times = f"{hours.format('valid_from')}, {hours.format('valid_to')}"
        found = read(connection, catalog, f"id, v, {times}")
        assert Counter(found) == Counter(expected)
