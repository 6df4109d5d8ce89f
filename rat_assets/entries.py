"""Metadata entries: values as Dagster shows them, each within bounds.

What is shown is decided in `rat_assets.showing` and `rat_assets.quality`; here is only how. Metadata
is stored twice in Postgres and crosses gRPC, so nothing here grows with the data.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

SQL_BYTES = 12_000


def as_sql(sql: str) -> dg.MarkdownMetadataValue:
    """A query as Dagster shows it: short ones at once, long ones behind a click."""
    return dg.MetadataValue.md(f"```sql\n{shorten(sql.strip(), SQL_BYTES)}\n```")


def shorten(text: str, limit: int) -> str:
    """*text*, or as much of it as fits into *limit* bytes and how much is missing."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    kept = encoded[:limit].decode(errors="ignore")
    return f"{kept}\n… truncated: {len(text) - len(kept):,} of {len(text):,} characters left out"


def as_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table that Dagster shows inline."""
    columns = [dg.TableColumn(name) for name in rows[0]]
    records = [
        dg.TableRecord({name: cell(value) for name, value in row.items()})
        for row in rows
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def cell(value: object) -> str | int | float | bool:
    """A JSON value as a cell of a table."""
    if value is None:
        return ""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
