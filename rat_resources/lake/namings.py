"""Namings: what the names and stars of one SELECT stand for, where that is beyond doubt.

DuckDB decides: a name is a column of what stands after FROM before it is an alias of the SELECT
list, upper and lower case are the same. What is in doubt is None and never guessed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from rat_resources.lake.atoms import column
from rat_resources.lake.lineage import WORDS, is_table_star

UNREAD = (
    exp.Query,
    exp.Lambda,
    exp.Star,
    exp.Comprehension,
    exp.Columns,
    exp.Placeholder,
    exp.Parameter,
    exp.Explode,
    exp.Unnest,
)
DEEPEST = 20  # aliases that stand for aliases
CALLED = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)\s*\(")


@dataclass(frozen=True)
class Named:
    """A column of a relation: its name, DuckDB's type, and whether rows alone decide its value.

    Those of an aggregate, a window, the time of the run or the like are not pure: computed
    again they may be others, so no condition is made of them.
    """

    name: str
    type: str
    pure: bool = True


@dataclass
class Naming:
    """What can be named in one SELECT."""

    tables: dict[str, Sequence[Named]] = field(default_factory=dict)  # by alias
    merged: dict[str, exp.Expr | None] = field(default_factory=dict)  # by USING
    hidden: set[tuple[str, str]] = field(default_factory=set)  # from `*`, by USING
    aliases: Mapping[str, exp.Expr] = field(default_factory=dict)

    def place(self, node: exp.Column, *, depth: int = 0) -> exp.Expr | None:
        """What a name stands for."""
        if isinstance(node.this, exp.Star):
            return None
        parts = [part.name for part in node.parts]
        if len(parts) == 1:
            return self.column(parts[0], depth=depth)
        return self.column_of(*parts) if len(parts) == 2 else None  # noqa: PLR2004

    def column(self, name: str, *, depth: int = 0) -> exp.Expr | None:
        """What a name by itself stands for: a column, or else an alias of the SELECT list."""
        name = name.casefold()
        if name in self.merged:
            return self.merged[name]
        found = [
            column(table, each.name)
            for table, columns in self.tables.items()
            for each in columns
            if each.name.casefold() == name
        ]
        if found:
            return found[0] if len(found) == 1 else None
        alias = self.aliases.get(name)
        if alias is None or depth > DEEPEST or name in map(str.casefold, self.tables):
            return None
        return self.resolve(alias, depth=depth + 1)

    def column_of(self, table: str, name: str) -> exp.Expr | None:
        """A column that is named with its table."""
        for alias, columns in self.tables.items():
            if alias.casefold() == table.casefold():
                for each in columns:
                    if each.name.casefold() == name.casefold():
                        return column(alias, each.name)
        return None

    def resolve(self, node: exp.Expr, *, depth: int = 0) -> exp.Expr | None:
        """The expression with every name said in full; None where one is in doubt."""
        if node.find(*UNREAD) or not all(map(is_read, node.walk())):
            return None
        if isinstance(node, exp.Column):
            return self.place(node, depth=depth)
        full = node.copy()
        for each in list(full.find_all(exp.Column)):
            place = self.place(each, depth=depth)
            if place is None:
                return None
            simple = isinstance(place, exp.Column | exp.Literal | exp.Func)
            each.replace(place.copy() if simple else exp.paren(place.copy()))
        return full

    def named(self, place: exp.Column) -> Named:
        """The column that a resolved name is."""
        return next(c for c in self.tables[place.table] if c.name == place.name)

    def star(self, node: exp.Expr) -> Iterator[tuple[str, exp.Expr | None]]:
        """The columns that `*` or `t.*` stands for, by name, as far as a list can say it."""
        star = node.this if isinstance(node, exp.Column) else node
        of = node.table.casefold() if isinstance(node, exp.Column) else None
        gone = {each.name.casefold() for each in star.args.get("except_") or ()}
        new = {
            each.alias.casefold(): each.this for each in star.args.get("replace") or ()
        }
        renamed = {
            each.this.name.casefold(): each.alias
            for each in star.args.get("rename") or ()
        }
        for table, columns in self.tables.items():
            for each in columns if of in (None, table.casefold()) else ():
                name = each.name.casefold()
                if name in gone or (of is None and (table, name) in self.hidden):
                    continue
                place: exp.Expr | None = column(table, each.name)
                if of is None and name in self.merged:
                    place = self.merged[name]
                if name in new:
                    place = self.resolve(new[name])
                yield renamed.get(name, each.name), place


def is_read(node: exp.Expr) -> bool:
    """Whether a node of an expression says what it seems to; sqlglot leaves some names as they are."""
    if isinstance(node, exp.Var):
        return node.name.upper() in WORDS
    if isinstance(node, exp.Identifier):
        return isinstance(node.parent, exp.Column | exp.DataType | exp.ColumnDef)
    return not isinstance(node, exp.Dot | exp.Command | exp.PositionalColumn)


def is_star(node: exp.Expr) -> bool:
    """Whether an item of a SELECT list is `*` or `t.*`."""
    return isinstance(node, exp.Star) or is_table_star(node)


def calls(node: exp.Expr, names: frozenset[str]) -> bool:
    """Whether an expression may call one of these functions."""
    text = node.sql(dialect="duckdb")
    return any(called.lower() in names for called in CALLED.findall(text))


def own_nodes(node: exp.Expr) -> Iterator[exp.Expr]:
    """The nodes of an expression without those of the queries in it."""
    yield from node.walk(prune=lambda n: n is not node and isinstance(n, exp.Query))


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """The conditions that AND joins."""
    if node is None:
        return []
    inner = node.unnest()
    if isinstance(inner, exp.And):
        return [*conjuncts(inner.left), *conjuncts(inner.right)]
    return [node]
