"""Deciding columns: what a query chooses, joins, groups and orders its rows by.

They stand in no column of its result and still make it what it is. Finding what a name means is
`lineage`, which notes here what it comes by.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from rat_resources.lake.scopes import Sources
from rat_resources.names import ColumnName

# The order of rows matters to a limit, and to what collects them.
CLAUSES = (
    "where",
    "group",
    "having",
    "qualify",
    "distinct",
    "order",
    "limit",
    "offset",
)


@dataclass
class Deciding:
    """The columns that were noted; one that nobody can tell makes all of it unknown."""

    noted: set[ColumnName] = field(default_factory=set)
    is_told: bool = True

    def note(self, sources: Sources | None) -> None:
        """Take down columns; None: there are others, too."""
        if sources is None:
            self.is_told = False
        else:
            self.noted |= sources

    @property
    def columns(self) -> tuple[ColumnName, ...] | None:
        """All of them, None where they cannot be told."""
        return tuple(sorted(self.noted)) if self.is_told else None


def without_last_order(query: exp.Expr) -> exp.Expr:
    """The query without the order of its result, where that leaves the same rows in it."""
    if not query.args.get("limit") and not query.args.get("offset"):
        query.set("order", None)
    return query


def positions(clause: exp.Expr) -> Iterator[int]:
    """The columns of the result that GROUP BY or ORDER BY name by their number."""
    if isinstance(clause, exp.Group | exp.Order):
        for each in clause.expressions:
            inner = each.this if isinstance(each, exp.Ordered) else each
            if isinstance(inner, exp.Literal) and inner.is_int:
                yield int(inner.name)


def is_everything(clause: exp.Expr) -> bool:
    """Whether a clause means every column of the result: DISTINCT, GROUP BY ALL."""
    if isinstance(clause, exp.Distinct):
        return not clause.args.get("on")
    return isinstance(clause, exp.Group) and bool(clause.args.get("all"))
