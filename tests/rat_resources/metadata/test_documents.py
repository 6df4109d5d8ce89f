"""The five documents: every table, column, type and key that they name is in Postgres.

`seed_columns.json` is what the documents say, `seed_tables.json` where each of their tables stands.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from rat_resources.metadata import Metadata

HERE = Path(__file__).parent
DOCUMENTS: dict[str, dict[str, dict[str, dict[str, str]]]] = json.loads(
    (HERE / "seed_columns.json").read_text()
)
TABLES: dict[str, dict[str, str]] = json.loads((HERE / "seed_tables.json").read_text())
# What each type of the documents may be called here.
ACCEPTED = {
    "uuid": {"uuid"},
    "uuid|serial": {"uuid"},
    "text": {"text", "varchar"},
    "varchar": {"varchar", "text"},
    "string": {"text", "varchar", "_text"},
    "timestamptz": {"timestamptz"},
    "timestamp": {"timestamptz"},
    "timestamp with time zone": {"timestamptz"},
    "jsonb": {"jsonb"},
    "int": {"int4"},
    "integer": {"int4"},
    "bigint": {"int8"},
    "boolean": {"bool"},
    "numeric": {"numeric"},
    "text[]": {"_text"},
    "uuid[]": {"_uuid"},
}
COLUMNS = """
    SELECT table_schema || '.' || table_name, column_name, udt_name
    FROM information_schema.columns
"""
KEYS = """
    SELECT keys.table_schema || '.' || keys.table_name, keys.column_name
    FROM information_schema.key_column_usage AS keys
    JOIN information_schema.table_constraints
        USING (constraint_schema, constraint_name, table_name)
    WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE')
"""


def test_the_checklist_names_every_column_of_the_documents() -> None:
    columns = [
        column
        for document in DOCUMENTS.values()
        for entity in document.values()
        for column in entity
    ]

    assert len(columns) == 475


@pytest.mark.parametrize("document", sorted(DOCUMENTS))
def test_every_column_of_a_document_is_in_postgres(
    metadata: Metadata, document: str
) -> None:
    types: dict[tuple[str, str], str] = {}
    with metadata.transaction() as tx:
        for table, column, kind in tx.execute(text(COLUMNS)):
            types[table, column] = kind
        keys = {(table, column) for table, column in tx.execute(text(KEYS))}

    problems = [
        problem
        for entity, columns in DOCUMENTS[document].items()
        for column, wanted in columns.items()
        if (
            problem := misfit(
                (TABLES[document][entity], column), wanted, types=types, keys=keys
            )
        )
    ]

    assert problems == []


def misfit(
    at: tuple[str, str],
    wanted: dict[str, str],
    *,
    types: dict[tuple[str, str], str],
    keys: set[tuple[str, str]],
) -> str:
    """What is wrong with a column; empty when nothing is."""
    table, column = at
    if at not in types:
        return f"{table}.{column} is missing"
    kind = wanted["type"].lower()
    if kind != "enum" and types[at] not in ACCEPTED[kind]:
        return f"{table}.{column} is {types[at]}, and should be {wanted['type']}"
    # A view has no keys; the tables below it have.
    is_view = table.startswith("trace_by_name.")
    if wanted["key"] == "PK" and not is_view and at not in keys:
        return f"{table}.{column} is in no key"
    return ""


def test_each_table_of_a_document_can_be_read(metadata: Metadata) -> None:
    names = {table for tables in TABLES.values() for table in tables.values()}

    with metadata.transaction() as tx:
        counts: dict[str, Any] = {
            name: tx.scalar(text(f"SELECT count(*) FROM {name}"))
            for name in sorted(names)
        }

    assert None not in counts.values()
