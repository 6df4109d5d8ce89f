"""The demo's landing files: the real data, month by month, always the same bytes."""

from pathlib import Path

import duckdb
import pytest

from rat_assets.demo import (
    BATCHES,
    MONTHS,
    LandingFile,
    broken_file,
    land,
    month_files,
    reference_files,
    write_broken,
    write_month,
    write_references,
)


def rows(content: bytes) -> int:
    return content.count(b"\n") - 1


def values(file: LandingFile, *, column: bytes) -> list[bytes]:
    header, *lines = file.content.splitlines()
    position = header.split(b",").index(column)
    return [line.split(b",")[position] for line in lines]


def test_the_months_together_hold_every_flight_and_every_reading_of_the_year() -> None:
    months = [month_files(month) for month in MONTHS]

    totals = [
        sum(rows(file.content) for file in zone) for zone in zip(*months, strict=True)
    ]

    assert totals == [336_776, 26_115]


@pytest.mark.parametrize("month", [1, 12])
def test_a_months_files_hold_that_month_only(month: int) -> None:
    files = month_files(month)

    months = {value for file in files for value in values(file, column=b"month")}

    assert months == {str(month).encode()}
    assert [file.name for file in files] == [
        f"flights_2013-{month:02}.csv",
        f"weather_2013-{month:02}.csv",
    ]


def test_the_lists_are_whole() -> None:
    files = reference_files()

    sizes = {file.zone: rows(file.content) for file in files}

    assert sizes == {"airlines": 16, "airports": 1458, "planes": 3322}


def test_a_missing_value_is_an_empty_field() -> None:
    files = [*month_files(2), *reference_files()]

    fields = {
        field
        for file in files
        for line in file.content.splitlines()
        for field in line.split(b",")
    }

    assert b"NA" not in fields
    assert b"" in fields


def test_landing_the_same_files_again_touches_nothing(tmp_path: Path) -> None:
    first = [*write_month(tmp_path, month=6), *write_references(tmp_path)]
    times = [path.stat().st_mtime_ns for path in first]

    again = [*write_month(tmp_path, month=6), *write_references(tmp_path)]

    assert len(first) == 5
    assert again == []
    assert [path.stat().st_mtime_ns for path in first] == times


def test_a_changed_file_is_put_right_and_nothing_unfinished_stays(
    tmp_path: Path,
) -> None:
    file = LandingFile("airlines", "airlines_2013.csv", b"carrier,name\nAA,American\n")
    land([file], folder=tmp_path)
    (tmp_path / "airlines" / file.name).write_bytes(b"half of")

    changed = land([file], folder=tmp_path)

    assert changed == [tmp_path / "airlines" / file.name]
    assert changed[0].read_bytes() == file.content
    assert list((tmp_path / "airlines").iterdir()) == changed


def test_the_broken_file_has_the_right_types_and_three_impossible_flights(
    tmp_path: Path,
) -> None:
    sound = land(month_files(1)[:1], folder=tmp_path / "sound")
    broken = write_broken(tmp_path / "broken")

    described = [
        duckdb.sql(f"DESCRIBE FROM read_csv('{path}')").fetchall()
        for path in (*sound, *broken)
    ]

    assert described[0] == described[1]
    file = broken_file()
    assert rows(file.content) == 20
    assert values(file, column=b"origin").count(b"XXX") == 1
    assert values(file, column=b"month").count(b"13") == 1
    assert values(file, column=b"distance").count(b"-1400") == 1


def test_the_batches_land_every_month_once() -> None:
    landed = [month for batch in BATCHES for month in batch]

    assert landed == list(MONTHS)
