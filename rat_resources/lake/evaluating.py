"""Evaluating: parts of a query over the inputs as they are and as they were, on DuckDB."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import uuid4

from duckdb import DuckDBPyConnection
from sqlglot import exp

from rat_resources.lake.atoms import (
    KEY,
    Atom,
    of_values,
)
from rat_resources.lake.namings import (
    Named,
)
from rat_resources.lake.pruning import Box, Range
from rat_resources.lake.relations import Relation
from rat_resources.lake.wording import WideError, functions, versioned

LEVELS = ("rows", "keys", "groups", "table")
MOST_VERSIONS = 8
FEW = 1_000_000  # rows that are sooner read than chosen from
MANY = 2**63


@dataclass(frozen=True)
class Invalidated:
    """An input of which some rows are not what they were."""

    name: str  # as the query says it
    condition: str  # which rows, on its columns by themselves
    columns: tuple[str, ...]  # that the condition names
    olds: tuple[str, ...] = ()  # relations that show it as it was
    within: tuple[Range, ...] = ()  # where all of them lie
    # A relation with the rows in boxes, and maybe others, of one of these; None: it has no less.
    prune: Callable[[str, Sequence[Box]], str | None] | None = None
    # Makes one of *olds* be there, which none is before it is asked for: it may have many files.
    show: Callable[[str], None] = lambda _old: None


@dataclass
class Evaluation:
    """What is known of a query and its inputs, and what DuckDB says of them."""

    connection: DuckDBPyConnection
    invalidated: Sequence[Invalidated]
    passing: Sequence[str] = ()
    reads: int = MANY  # rows of its inputs together
    holds: int = MANY  # rows of its result before
    ctes: dict[str, exp.CTE] = field(default_factory=dict)
    known: dict[str, Relation] = field(default_factory=dict)
    level: str = "rows"
    why: list[str] = field(default_factory=list)
    # Relations of fewer rows: of which input, and of its older versions.
    pruned: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)  # older versions that are there
    visited: int = 0  # mentions of what has changed that have been understood

    @cached_property
    def changed(self) -> dict[str, list[Invalidated]]:
        """What has changed, by its name."""
        found: dict[str, list[Invalidated]] = {}
        for each in self.invalidated:
            found.setdefault(each.name.casefold(), []).append(each)
        return found

    @property
    def aggregates(self) -> frozenset[str]:
        """The functions that make one value of many rows."""
        return functions("function_type = 'aggregate'")

    def reach(self, level: str, why: str) -> None:
        """Note that rows alone do not do."""
        self.level = max(self.level, level, key=LEVELS.index)
        self.why.append(why)

    def describe(self, node: exp.Expr) -> list[Named]:
        """The columns of a query or of what stands after FROM."""
        body = node.sql(dialect="duckdb")
        if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
            body = f"({body}) AS rat_described"
        found = self.connection.sql(f"{self.prefix({})}SELECT * FROM {body}")
        return [
            Named(name, str(kind))
            for name, kind in zip(found.columns, found.types, strict=True)
        ]

    def values(
        self,
        query: exp.Query,
        columns: Sequence[str],
        *,
        moved_only: bool = False,
        bounded: bool = True,
    ) -> list[Atom]:
        """The atom of what *query* finds in the old inputs and in the new ones; none where nothing.

        *moved_only*: of what it finds in one of two versions and not in the other. *bounded*: what
        is compared with the values has their type.
        """
        table = f"rat_scope_{uuid4().hex}"
        keys = ", ".join(f"{KEY}{number}" for number in range(len(columns)))
        new = f"SELECT * FROM ({self.sql(query, version={})}) AS found({keys})"
        parts = [] if moved_only else [new]
        for version in self.versions:
            old = f"SELECT * FROM ({self.sql(query, version=version)}) AS found({keys})"
            parts += (
                [f"(({old}) EXCEPT ({new}))", f"(({new}) EXCEPT ({old}))"]
                if moved_only
                else [old]
            )
        self.connection.execute(
            f"CREATE TEMP TABLE {table} AS SELECT DISTINCT * FROM ({' UNION ALL '.join(parts)})"
        )
        atom = of_values(self.connection, table, columns, bounded=bounded)
        return [] if atom is None else [atom]

    @cached_property
    def versions(self) -> list[dict[str, str]]:
        """The old versions of the inputs together, each by what takes whose place."""
        found: list[dict[str, str]] = [{}]
        for name, each in self.changed.items():
            olds = list(dict.fromkeys(old for one in each for old in one.olds))
            found = [
                {**version, name: old} for version in found for old in olds or [name]
            ]
        if len(found) > MOST_VERSIONS:
            raise WideError("there are too many old versions of what it reads")
        return [version for version in found if any(k != v for k, v in version.items())]

    def sql(self, query: exp.Expr, *, version: Mapping[str, str]) -> str:
        """A query over one version of the inputs, with the CTEs that it may name."""
        places = self.places(version)
        text = f"{self.prefix(places)}{versioned(query, places).sql(dialect='duckdb')}"
        for each in self.invalidated:
            for old in each.olds:
                if old in text and old not in self.shown:
                    each.show(old)
                    self.shown.add(old)
        return text

    def places(self, version: Mapping[str, str]) -> Mapping[str, str]:
        """What takes whose place in a version, of inputs and of those with fewer rows."""
        return {
            **version,
            **{
                pruned: olds[version[name]]
                for pruned, (name, olds) in self.pruned.items()
                if name in version and version[name] in olds
            },
        }

    def prune(self, name: str, boxes: Sequence[Box]) -> str | None:
        """An input with the rows that lie in *boxes*, and maybe others; None: it has no less."""
        changed = self.changed[name]
        prune = changed[0].prune
        found = prune(name, boxes) if prune is not None else None
        if prune is None or found is None:
            return None
        olds = {old: prune(old, boxes) or old for each in changed for old in each.olds}
        self.pruned[found] = name, olds
        return found

    def prefix(self, version: Mapping[str, str]) -> str:
        """The WITH of a query over one version of the inputs."""
        if not self.ctes:
            return ""
        bodies = (versioned(each, version) for each in self.ctes.values())
        return f"WITH {', '.join(each.sql(dialect='duckdb') for each in bodies)} "

    def relation(self, query: exp.Expr) -> Relation:
        """What is affected of a query's result."""
        raise NotImplementedError

    def reads_changed(self, node: exp.Expr) -> bool:
        """Whether a part reads what has changed."""
        raise NotImplementedError
