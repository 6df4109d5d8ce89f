"""SQL statements as DuckDB's own parser sees them: is it one query, and which tables it names.

Nothing is executed here. Jinja is `rat_resources.templates`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import duckdb

from rat_resources.sql_syntax import Mistake, explain
from rat_resources.sql_tokens import tokens

# A text that reads like a file: DuckDB scans it, so it names no table.
FILE = re.compile(
    r"[/\\*]|\.(csv|tsv|txt|json|jsonl|ndjson|parquet|xlsx)(\.(gz|zst))?$",
    re.IGNORECASE,
)
NOWHERE = 2**63


@dataclass(frozen=True)
class Mention:
    """A name in a query and the 0-based line that it stands on."""

    name: str
    line: int
    qualified: bool = False  # written as schema.table: never a view that RAT registered


@dataclass(frozen=True)
class Query:
    """What a query mentions."""

    tables: tuple[Mention, ...] = ()  # tables that the query does not define itself
    functions: tuple[Mention, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


def strip_comments(template: str) -> str:
    """*template* without its SQL comments; every line stays where it is.

    Jinja inside a comment goes with it: a `ref()` that is commented out is no dependency.
    """
    return "".join(
        "\n" * token.count("\n") if kind == "comment" else token
        for kind, token in tokens(template)
    )


def strip_end(sql: str) -> str:
    """*sql* without the semicolons and blanks at its end, fit to be a sub-query."""
    return re.sub(r"[;\s]+\Z", "", sql)


def read_query(sql: str) -> Query:
    """Parse *sql*, which must be exactly one query."""
    answer = serialize(sql)
    if answer.get("error_type") == "parser":
        return Query(mistakes=(explain(sql, answer),))
    statements = duckdb.extract_statements(sql)
    if not statements:
        return Query(
            mistakes=(Mistake(0, "there is no query in this file", "write a SELECT"),)
        )
    if len(statements) > 1:
        return Query(mistakes=(several_statements(sql, statements),))
    is_query = statements[0].type == duckdb.StatementType.SELECT
    # DuckDB makes a SELECT of a PRAGMA, and a PRAGMA is nothing to write a table from.
    if not is_query or first_word(sql) == "PRAGMA":
        kind, line = first_word(sql), first_line(sql)
        what = f"this is no query but {kind}"
        return Query(
            mistakes=(Mistake(line, what, "write one SELECT; RAT writes the table"),)
        )
    if answer[
        "error"
    ]:  # a query that DuckDB cannot take apart for us; running it is fine
        return Query()
    lines = LineFinder(sql)
    tree = answer["statements"][0]["node"]
    return Query(
        tables=tuple(
            lines.mention(*each) for each in find_tables(tree, defined=frozenset())
        ),
        functions=tuple(lines.mention(*each) for each in find_functions(tree)),
    )


@cache
def parser() -> tuple[duckdb.DuckDBPyConnection, Lock]:
    """A connection that only ever parses."""
    return duckdb.connect(":memory:", config={"threads": 1}), Lock()


def serialize(sql: str) -> dict[str, Any]:
    """DuckDB's syntax tree of *sql*."""
    connection, lock = parser()
    with lock:
        rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    answer: dict[str, Any] = json.loads(rows[0][0])
    return answer


def several_statements(sql: str, statements: list[Any]) -> Mistake:
    """The mistake of a file with more than one statement."""
    if any(
        each.type != duckdb.StatementType.SELECT for each in statements[:-1]
    ) and re.match(r"\s*(from\b.*\b)?pivot\b", sql, re.IGNORECASE | re.DOTALL):
        return Mistake(
            first_line(sql),
            "a PIVOT without its values has columns that nobody knows before it runs",
            "name the values: PIVOT … ON column IN (…)",
        )
    first = statements[0].query
    return Mistake(
        first_line(sql) + first.strip().count("\n"),
        f"there are {len(statements)} statements where one query is expected",
        "keep one SELECT; use WITH for the steps before it",
    )


def first_word(sql: str) -> str:
    """The word that says what a statement does, as its author wrote it."""
    found = re.match(r"\s*(\w+)", strip_comments(sql))
    return found[1].upper() if found else "something else"


def first_line(sql: str) -> int:
    """The 0-based line of the first word."""
    return sql[: len(sql) - len(sql.lstrip())].count("\n")


class LineFinder:
    """Turns DuckDB's byte positions into 0-based lines."""

    def __init__(self, sql: str) -> None:
        self.content = sql.encode()

    def line(self, position: int) -> int:
        """The line of a byte position; the first one where there is no position."""
        return 0 if position >= NOWHERE else self.content[:position].count(b"\n")

    def mention(self, parts: tuple[str, ...], position: int) -> Mention:
        """A mention of the name of *parts* at a byte position."""
        return Mention(".".join(parts), self.line(position), qualified=len(parts) > 1)


def find_tables(
    node: Any,  # noqa: ANN401 - JSON
    *,
    defined: frozenset[str],
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every table that *node* reads and that no WITH around it defines."""
    if isinstance(node, list):
        for each in node:
            yield from find_tables(each, defined=defined)
    if not isinstance(node, dict):
        return
    inner = defined | cte_names(node)
    if node.get("type") == "BASE_TABLE" and (table := table_name(node, defined=inner)):
        yield table, node["query_location"]
    for each in node.values():
        yield from find_tables(each, defined=inner)


def cte_names(node: dict[str, Any]) -> frozenset[str]:
    """The names that the WITH of *node* defines, folded as DuckDB compares them."""
    names = {each["key"].lower() for each in (node.get("cte_map") or {}).get("map", [])}
    if node.get("type") in ("RECURSIVE_CTE_NODE", "CTE_NODE"):
        names.add(str(node.get("cte_name") or node.get("ctename") or "").lower())
    return frozenset(names)


def table_name(node: dict[str, Any], *, defined: frozenset[str]) -> tuple[str, ...]:
    """The table that a BASE_TABLE node names, unless it is a WITH name or a file."""
    name = node["table_name"]
    qualified = [part for part in (node["catalog_name"], node["schema_name"]) if part]
    if not qualified and (name.lower() in defined or FILE.search(name)):
        return ()
    return (*qualified, name)


def find_functions(node: Any) -> Iterator[tuple[tuple[str, ...], int]]:  # noqa: ANN401 - JSON
    """Every function that *node* calls."""
    if isinstance(node, list):
        for each in node:
            yield from find_functions(each)
    if not isinstance(node, dict):
        return
    if node.get("class") == "FUNCTION":
        yield (node["function_name"],), node["query_location"]
    for each in node.values():
        yield from find_functions(each)
