"""Display: tables, numbers and JSON as a terminal or a pipe takes them."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

Row = Sequence[Any]

KILO = 1000
SECOND = 1000  # milliseconds


def print_json(value: Any) -> None:  # noqa: ANN401 - JSON
    """Print *value* as JSON."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """*value* as JSON has it."""
    # Most commands print what is plain already, and the lake takes a second to load.
    from rat_resources.lake.rows import as_json

    return as_json(value)


def print_table(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Print rows under their columns, numbers to the right."""
    for line in table_lines(columns, list(rows)):
        click.echo(line)


def table_lines(columns: Sequence[str], rows: Sequence[Row]) -> Iterable[str]:
    """A table, line by line."""
    cells = [[text_of(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        bool(rows) and all(is_number(row[index]) for row in rows)
        for index in range(len(columns))
    ]
    yield line_of(columns, widths=widths, numeric=numeric)
    yield "  ".join("─" * width for width in widths)
    for row in cells:
        yield line_of(row, widths=widths, numeric=numeric)


def line_of(
    row: Sequence[str], *, widths: Sequence[int], numeric: Sequence[bool]
) -> str:
    """One row, padded."""
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(row, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip()


def text_of(value: Any) -> str:  # noqa: ANN401 - whatever a table holds
    """A value as a cell: on one line, whatever is in it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(plain(value), ensure_ascii=False)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def is_number(value: Any) -> bool:  # noqa: ANN401 - whatever a table holds
    """Whether a value goes to the right."""
    if isinstance(value, str):
        return value == "" or value.replace(",", "").lstrip("+").isdecimal()
    return value is None or not isinstance(value, (bool, dict, list, tuple, datetime))


def count(number: int | None) -> str:
    """A count with its thousands set apart."""
    return "" if number is None else f"{number:,}"


def size(number: int | None) -> str:
    """Bytes as people say them."""
    if number is None:
        return ""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < KILO:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= KILO
    return f"{amount:.1f} TB"


def duration(ms: int | None) -> str:
    """Milliseconds as people say them."""
    if ms is None:
        return ""
    return f"{ms} ms" if ms < SECOND else f"{ms / SECOND:.1f} s"


def moment(time: datetime | None) -> str:
    """A time, to the second."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def plural(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
