"""Wording: queries as sqlglot writes them, so that DuckDB reads what their authors wrote.

Which functions and types can be relied upon is here too.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

import duckdb
from sqlglot import exp

from rat_resources.lake.lineage import WORDS
from rat_resources.lake.namings import (
    CALLED,
)

SAME = {
    "list": "array_agg",
    "string_agg": "listagg",
    "group_concat": "listagg",
    "max_by": "arg_max",
    "min_by": "arg_min",
}
UNIT = re.compile(rf"'({'|'.join(WORDS)})'")
INEXACT = ("FLOAT", "DOUBLE", "STRUCT", "MAP", "UNION", "INTERVAL", "BIT", "VARIANT")


class WideError(Exception):
    """No part of the table can be told from the rest; says why."""


def spoken(query: exp.Expr) -> exp.Expr:
    """A query whose words DuckDB plans as it plans the author's."""

    def spoken_node(node: exp.Expr) -> exp.Expr:
        is_null = node.this if isinstance(node, exp.Not) else None
        if isinstance(is_null, exp.Is) and isinstance(is_null.expression, exp.Null):
            return exp.Is(this=is_null.this, expression=exp.Not(this=exp.null()))
        return node

    return query.transform(spoken_node)


def canonical(plan: str) -> str:
    """A plan, with functions of two names called by one, and units of time in small letters."""
    plan = UNIT.sub(lambda found: found[0].lower(), plan)
    return CALLED.sub(lambda found: f"{SAME.get(found[1], found[1])}(", plan)


@cache
def functions(condition: str) -> frozenset[str]:
    """DuckDB's functions of which its list says this."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            f"WHERE {condition}"
        ).fetchall()
    return frozenset(name for (name,) in rows)


def versioned(node: exp.Expr, version: Mapping[str, str]) -> exp.Expr:
    """A part of a query that reads other versions of what it reads."""
    if not version:
        return node
    node = node.copy()
    for table in node.find_all(exp.Table):
        old = version.get(table.name.casefold())
        if old is not None and isinstance(table.this, exp.Identifier):
            if not table.alias:
                table.set("alias", table_alias(table.name))
            table.set("this", exp.to_identifier(old, quoted=True))
    return node


def refuse_totals(select: exp.Select) -> None:
    """WideError where rows are in several groups, up to that of all rows."""
    group = select.args.get("group")
    several = (exp.Rollup, exp.Cube, exp.GroupingSets)
    if group is None:
        return
    others = [key for key, each in group.args.items() if each]
    if group.find(*several) or not set(others) <= {"expressions", "all"}:
        raise WideError("a total over all rows is among its groups")


def table_alias(name: str) -> exp.TableAlias:
    """The name of what stands after FROM."""
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def tables_of(place: exp.Expr) -> set[str]:
    """The tables whose columns an expression names."""
    return {each.table for each in place.find_all(exp.Column)}


def is_exact(kind: str) -> bool:
    """Whether values of a type are equal only where they are the same."""
    return not kind.upper().startswith(INEXACT) and "[" not in kind


def words(nodes: Iterable[exp.Expr]) -> str:
    """Expressions as a person would say them."""
    names = (
        each.name if isinstance(each, exp.Column) else each.sql(dialect="duckdb")
        for each in nodes
    )
    return ", ".join(names)
