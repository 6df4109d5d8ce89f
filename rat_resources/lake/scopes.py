"""Scopes: what a name in a query means, by DuckDB's rules.

A relation is a row of columns, each with the columns of the inputs that it takes its values from.
A scope is what the expressions of one SELECT can name. Reading queries is `lineage`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from rat_resources.names import ColumnName

Sources = frozenset[ColumnName]
NOTHING: Sources = frozenset()


@dataclass(frozen=True)
class Column:
    """A column of a relation: its name and its sources, None where one is not known."""

    name: str | None
    sources: Sources | None
    is_gap: bool = False  # not one column: any number of them, of any name

    def is_called(self, name: str) -> bool:
        """Whether the column surely has this name, as DuckDB compares them."""
        return self.name is not None and self.name.casefold() == name.casefold()


Columns = tuple[Column, ...]
GAP = Column(None, None, is_gap=True)
UNKNOWN: Columns = (GAP,)
ABSENT = Column(None, NOTHING)


def merge(sources: Iterable[Sources | None]) -> Sources | None:
    """All of them together; None when one is not known."""
    merged = NOTHING
    for each in sources:
        if each is None:
            return None
        merged |= each
    return merged


def find(columns: Columns, name: str) -> Column:
    """The column of this name, ABSENT when there is surely none; its sources None when unsure."""
    unsure = False
    for column in columns:
        if column.is_called(name):
            return Column(name, None) if unsure else column
        unsure = unsure or column.is_gap
    unnamed = any(column.name is None for column in columns)
    return Column(name, None) if unnamed else ABSENT


def named(columns: Columns, names: Sequence[str]) -> Columns:
    """The columns with the first ones renamed, as in `t(a, b)`."""
    if any(column.is_gap for column in columns[: len(names)]):
        return (*(Column(name, None) for name in names), GAP)
    if len(names) > len(columns):
        return UNKNOWN
    first = [replace(c, name=n) for c, n in zip(columns, names, strict=False)]
    return (*first, *columns[len(names) :])


def told_apart(columns: Columns) -> Columns:
    """The columns as a sub-query has them: of two with one name DuckDB renames the second."""
    counted = Counter(column.name.casefold() for column in columns if column.name)
    twice = {name for name, count in counted.items() if count > 1}
    if not twice:
        return columns
    return tuple(unnamed_again(columns, twice=twice))


def unnamed_again(columns: Columns, *, twice: set[str]) -> Iterator[Column]:
    """The columns without the names that DuckDB may have changed."""
    renamed = re.compile(rf"({'|'.join(map(re.escape, twice))})_\d+")
    seen: set[str] = set()
    for column in columns:
        name = (column.name or "").casefold()
        unsure = (name in twice and name in seen) or renamed.match(name)
        seen.add(name)
        yield replace(column, name=None) if unsure else column


# Scopes.


@dataclass
class Scope:
    """What the expressions of one SELECT can name; *outer* is that of the SELECT around it."""

    ctes: Mapping[str, Columns]
    outer: "Scope | None"
    tables: dict[str, Columns] = field(default_factory=dict)  # by folded alias
    columns: Columns = ()  # what `*` stands for
    aliases: dict[str, Sources | None] = field(default_factory=dict)
    windows: Mapping[str, exp.Window] = field(default_factory=dict)
    repeated: Column | None = None  # what COLUMNS(…) stands for just now

    def find(self, parts: Sequence[str]) -> Column:
        """What a name means: a column, one of a table, a field of a struct, or a whole row."""
        column = self.find_here(parts)
        if column is not ABSENT:
            return column
        return self.outer.find(parts) if self.outer is not None else ABSENT

    def find_here(self, parts: Sequence[str]) -> Column:
        """What a name means in this SELECT alone."""
        head, *rest = (part.casefold() for part in parts)
        table = self.tables.get(head)
        if rest and table is not None:
            column = find(table, rest[0])
            if column is not ABSENT:
                return column
        column = find(self.columns, head)
        if column is not ABSENT:
            return column
        if head in self.aliases:
            return Column(parts[0], self.aliases[head])
        if table is not None and not rest:
            return Column(parts[0], merge(each.sources for each in table))
        return ABSENT

    def table(self, name: str) -> Columns | None:
        """The columns of a table that can be named here or around."""
        found = self.tables.get(name.casefold())
        if found is None and self.outer is not None:
            return self.outer.table(name)
        return found

    def add(self, name: str | None, columns: Columns) -> None:
        """Let a table be named."""
        if name is not None:
            self.tables[name.casefold()] = columns

    def join(self, other: "Scope", join: exp.Join) -> None:
        """Bring in the other side of a join."""
        if join.kind in ("SEMI", "ANTI"):
            return
        self.tables |= other.tables
        if join.method == "NATURAL":
            self.columns = natural(self.columns, other.columns)
        else:
            using = [each.name for each in join.args.get("using") or ()]
            self.columns = joined(self.columns, other.columns, using=using)


def joined(left: Columns, right: Columns, *, using: Sequence[str]) -> Columns:
    """The columns of a join; those of USING once, from both sides."""
    merged = list(left)
    for name in using:
        places = [n for n, column in enumerate(merged) if column.is_called(name)]
        other = find(right, name)
        if not places or other.name is None:
            return UNKNOWN
        mine = find(tuple(merged), name)
        merged[places[0]] = Column(mine.name, merge([mine.sources, other.sources]))
    rest = [c for c in right if not any(c.is_called(name) for name in using)]
    return (*merged, *rest)


def natural(left: Columns, right: Columns) -> Columns:
    """The columns of a natural join."""
    if any(column.name is None for column in (*left, *right)):
        return UNKNOWN
    shared = [c.name for c in left if c.name and find(right, c.name) is not ABSENT]
    return joined(left, right, using=shared)
