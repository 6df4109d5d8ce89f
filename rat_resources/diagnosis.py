"""What is wrong with a landing file, in the words of whoever put it there.

DuckDB says that it cannot read a file by a path that nobody knows; here its words and the file itself
are looked at once more, after the failure.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

SIGNATURES = {
    b"\x1f\x8b": "it is compressed by gzip, and its name does not end in .gz",
    b"PK\x03\x04": "it is a zip archive or an Excel workbook",
    b"PAR1": "it is a Parquet file",
    b"\xff\xfe": "it is UTF-16 text",
    b"\xfe\xff": "it is UTF-16 text",
}
DELIMITERS = ",;\t|"
MOST_LINES = 1_000_000

LINE = re.compile(r"CSV Error on Line: (\d+)")
VALUE = re.compile(
    r"Error when converting column \"(.*)\"\. Could not convert string \"(.*)\" to '(.*)'"
)
COUNTS = re.compile(r"contain: (\d+) columns.*found by the sniffer: (\d+)")
MISSING = re.compile(r'Column with name: "(.*)" is missing')


def blamed(message: str, paths: Iterable[Path]) -> Path | None:
    """The file that DuckDB's *message* is about, among *paths*."""
    # Of files that do not fit together, DuckDB names the one that it takes for right first.
    about = message.partition("Current file:")[2] or message
    named = [path for path in paths if str(path) in about]
    return max(named, key=lambda path: len(str(path)), default=None)


def diagnose(path: Path, message: str) -> str:
    """Why a file cannot be read: by what is in it, else by DuckDB's *message*."""
    if value := VALUE.search(message):
        column, text, kind = value.groups()
        delimiter = delimiter_of(path)
        if delimiter != "," and delimiter in text:
            return f"its values are separated by {delimiter!r}, and the query expects another sign"
        where = f"line {found[1]}: " if (found := LINE.search(message)) else ""
        return f"{where}column {column} holds {text!r}, which is no {kind}"
    if what := look_into(path):
        return what
    if missing := MISSING.findall(message):
        return f"column {', '.join(missing)} is missing, which other files have"
    if counts := COUNTS.search(message):
        return f"it has {counts[2]} columns, and the query names {counts[1]}"
    return message.splitlines()[0].replace(str(path), path.name)


def look_into(path: Path) -> str:
    """What is wrong with a file as such; empty where it is a text with as many values a line."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "it is empty"
    for signature, what in SIGNATURES.items():
        if head.startswith(signature) and not is_named_so(path, what):
            return what
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return ""
    if b"\0" in head:
        return "it is no text but binary data"
    return find_foreign(path) or find_uneven(path)


def is_named_so(path: Path, what: str) -> bool:
    """Whether the name of a file says what it is."""
    return path.suffix.lower() in (".gz", ".parquet") and "UTF" not in what


def find_foreign(path: Path) -> str:
    """The first line that is no UTF-8 text, in words."""
    with path.open("rb") as file:
        for number, line in enumerate(islice(file, MOST_LINES), start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number} is no UTF-8 text"
    return ""


def find_uneven(path: Path) -> str:
    """The first line with more or fewer values than the header, in words."""
    width = None
    try:
        for number, row in rows_of(path):
            width = width or len(row)
            if row and len(row) != width:
                values = "1 value" if len(row) == 1 else f"{len(row)} values"
                what = f"line {number} has {values}, and the header has {width} columns"
                is_cut = len(row) < width and not ends_with_a_line(path)
                return f"{what}, as in a file that is half-written" if is_cut else what
    except csv.Error as error:
        if "unexpected end" in str(error):
            return (
                "a quote is opened and never closed, as in a file that is half-written"
            )
    return ""


def ends_with_a_line(path: Path) -> bool:
    """Whether the last line of a file is a whole one."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() in (b"\n", b"\r")


def delimiter_of(path: Path) -> str:
    """The sign between the values of a CSV file, by its first line."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return max(DELIMITERS, key=file.readline().count)


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, each with the line that it starts on."""
    delimiter = delimiter_of(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        started = 1
        for row in islice(reader, MOST_LINES):
            yield started, row
            started = reader.line_num + 1
