"""Partition values in SQL are those that PyIceberg computes, for any value."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DateType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from rat_resources.lake.partition_values import LONGEST
from rat_resources.lake.partitioning import (
    PartitionField,
    partition_columns,
    partition_spec,
)
from rat_resources.lake.types import sql_type
from rat_resources.places import Place
from tests.rat_resources.lake.tables import (
    in_a_folder,
    load,
    make_catalog,
    make_config,
    make_connection,
    write,
)

CHANCE = random.Random(8)  # noqa: S311 - no secret
LETTERS = "aé😀\u0308漢 \n'\"/%"


def some_ints(bits: int) -> list[int]:
    edge = 2 ** (bits - 1) - 200
    wide = [CHANCE.randint(-edge, edge) for _ in range(200)]
    return [*range(-20, 21), *wide]


def some_days() -> list[date]:
    start = date(1970, 1, 1)
    near = [start + timedelta(days=n) for n in range(-400, 400, 13)]
    far = [date(CHANCE.randint(1, 9999), CHANCE.randint(1, 12), 1) for _ in range(100)]
    return [start, start - timedelta(days=1), *near, *far]


def some_moments() -> list[datetime]:
    start = datetime(1970, 1, 1)  # noqa: DTZ001 - a timestamp without a zone
    spans = [
        timedelta(microseconds=n) for n in (-1, 0, 1, -3_600_000_001, -86_400_000_000)
    ]
    wide = [
        timedelta(
            seconds=CHANCE.randint(-60_000_000_000, 200_000_000_000), microseconds=n
        )
        for n in range(100)
    ]
    return [start + span for span in (*spans, *wide)]


def some_words() -> list[str]:
    return ["", *("".join(CHANCE.choices(LETTERS, k=n % 9)) for n in range(100))]


def with_zone() -> list[datetime]:
    return [moment.replace(tzinfo=UTC) for moment in some_moments()]


VALUES: list[tuple[IcebergType, Callable[[], list[Any]], list[str]]] = [
    (IntegerType(), lambda: some_ints(32), ["identity", "truncate", "bucket"]),
    (LongType(), lambda: some_ints(63), ["identity", "truncate", "bucket"]),
    (StringType(), some_words, ["identity", "truncate", "bucket"]),
    (BinaryType(), lambda: [w.encode() for w in some_words()], ["truncate", "bucket"]),
    (DateType(), some_days, ["year", "month", "day", "bucket"]),
    (TimestampType(), some_moments, ["year", "month", "day", "hour"]),
    (TimestamptzType(), with_zone, ["year", "month", "day", "hour"]),
]


def cases() -> Iterator[tuple[IcebergType, Callable[[], list[Any]], str]]:
    for kind, some, transforms in VALUES:
        for transform in transforms:
            yield kind, some, transform


@pytest.mark.parametrize("width", [1, 3, 10])
@pytest.mark.parametrize(("kind", "some", "transform"), [*cases()])
def test_a_transform_in_sql_is_the_transform_of_iceberg(
    kind: IcebergType, some: Callable[[], list[Any]], transform: str, width: int
) -> None:
    has_width = transform in ("bucket", "truncate")
    if not has_width and width > 1:
        return
    field = PartitionField("v", transform, width if has_width else None)
    schema = Schema(NestedField(1, "v", kind))
    connection = make_connection()
    connection.execute(f"CREATE TABLE rows (n INTEGER, v {sql_type(kind)})")
    values = [*some(), None]
    connection.executemany("INSERT INTO rows VALUES (?, ?)", [*enumerate(values)])
    spec = partition_spec([field], schema=schema)
    (sql,) = partition_columns(connection, spec, schema=schema)

    found = connection.execute(f"SELECT {sql} FROM rows ORDER BY n").fetchall()

    as_iceberg = field.iceberg_transform.transform(kind)
    assert [value for (value,) in found] == [as_iceberg(stored(v)) for v in values]


def stored(value: Any) -> Any:  # noqa: ANN401 - of any type
    """A date or time as the number that Iceberg keeps."""
    match value:
        case datetime():
            start = datetime(1970, 1, 1, tzinfo=value.tzinfo)
            return (value - start) // timedelta(microseconds=1)
        case date():
            return (value - date(1970, 1, 1)).days
    return value


@in_a_folder
def test_values_too_long_for_the_name_of_a_folder_are_partitions_too(
    place: Place,
) -> None:
    catalog, connection = make_catalog(place), make_connection()
    config = make_config(partition_by=[PartitionField("word")])
    letters = "(VALUES ('a'), ('é'), ('a'), (NULL)) AS t(letter)"
    rows = f"SELECT repeat(letter, {3 * LONGEST}) AS word FROM {letters}"

    write(connection, catalog, rows, config=config)

    found = {
        task.file.partition[0]: task.file.record_count
        for task in load(catalog).scan().plan_files()
    }
    assert found == {"a" * 3 * LONGEST: 2, "é" * 3 * LONGEST: 1, None: 1}


@in_a_folder
def test_a_partition_is_one_file_however_many_there_are(place: Place) -> None:
    catalog, connection = make_catalog(place), make_connection()
    config = make_config(partition_by=[PartitionField("part")])

    write(
        connection,
        catalog,
        "SELECT i % 150 AS part, i FROM range(300000) AS t(i)",
        config=config,
    )

    files = [task.file for task in load(catalog).scan().plan_files()]
    assert sorted(file.partition[0] for file in files) == list(range(150))
    assert sum(file.record_count for file in files) == 300_000
