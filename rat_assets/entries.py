"""Metadata entries: values as Dagster shows them, each within bounds.

What is shown is decided in `rat_assets.showing` and `rat_assets.quality`; here is only how. Metadata
is stored twice in Postgres and crosses gRPC, so nothing here grows with the data.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.metadata import normalize_metadata
from dagster._serdes import serialize_value

from rat_resources.specs import truncate

SQL_BYTES = 12_000
TABLE_ROWS = 20
TABLE_COLUMNS = 14
CELL_LENGTH = 80
# Beyond it a browser, which has only doubles, shows another number.
LARGEST_NUMBER = 2**53

Entries = Mapping[str, Any]
Objects = Sequence[Mapping[str, Any]]
Cell = str | int | float | bool


def as_sql(sql: str, *, limit: int = SQL_BYTES) -> dg.MarkdownMetadataValue:
    """A query as Dagster shows it: short ones at once, long ones behind a click."""
    return as_code(sql, language="sql", limit=limit)


def as_code(
    text: str, *, language: str, limit: int | None = None
) -> dg.MarkdownMetadataValue:
    """Code as Markdown, whatever backticks are in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    body = text.strip() if limit is None else truncate(text.strip(), limit)
    return dg.MetadataValue.md(f"{fence}{language}\n{body}\n{fence}")


def as_table(rows: Objects, *, limit: int = TABLE_ROWS) -> dg.TableMetadataValue:
    """Rows as a table that Dagster shows inline; what has no room is counted."""
    columns = list(rows[0])
    shown, hidden = columns[:TABLE_COLUMNS], columns[TABLE_COLUMNS:]
    records: list[dict[str, Cell]] = [
        {name: cell(row[name]) for name in shown}
        | ({"…": f"{len(hidden)} more columns"} if hidden else {})
        for row in rows[:limit]
    ]
    if len(rows) > limit:
        more = f"… and {len(rows) - limit:,} more"
        blank: dict[str, Cell] = dict.fromkeys(records[0], "")
        records.append(blank | {shown[0]: more})
    return dg.MetadataValue.table([dg.TableRecord(record) for record in records])


def cell(value: object) -> Cell:
    """A JSON value as a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        return str(value)
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_LENGTH else f"{text[: CELL_LENGTH - 1]}…"


def fit(groups: Iterable[Entries], *, limit: int) -> dict[str, Any]:
    """All entries in order, within *limit* bytes; one that has no room is named instead."""
    shown: dict[str, Any] = {}
    left_out: list[str] = []
    room = limit
    for name, value in (entry for group in groups for entry in group.items()):
        size = size_of({name: value})
        if size > room:
            left_out.append(name)
            continue
        room -= size
        shown[name] = value
    if left_out:
        shown["left_out"] = dg.MetadataValue.text(
            f"{', '.join(left_out)[:CELL_LENGTH]}: too large to show"
        )
    return shown


def size_of(entries: Entries) -> int:
    """How many bytes *entries* take in Dagster's event log."""
    values: Mapping[str, Any] = normalize_metadata(entries)
    return sum(
        len(name) + len(serialize_value(value).encode())
        for name, value in values.items()
    )
