"""Guards: how much a run may change of what stands on main, as config.yaml says it.

What a run changed is `rat_assets.changes`; comparing the two is `rat_assets.guards`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rat_resources.values import Located, MappingReader, UnfitError, one_of, shown

SHARE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*%")
ROWS = re.compile(r"\d{1,15}")
# What rows a strategy changes; the others write all rows anew, or only add some.
KNOW_CHANGED = ("incremental", "delete_insert", "snapshot", "scd2")


@dataclass(frozen=True)
class Limit:
    """A number of rows, or a share in percent of those that the table had."""

    amount: float
    is_share: bool = False

    def allows(self, rows: int, *, before: int) -> bool:
        """Whether that many rows are within the limit; of no rows nothing is a share."""
        if self.is_share:
            return not before or rows * 100 <= self.amount * before
        return rows <= self.amount

    def __str__(self) -> str:
        return f"{self.amount:g} %" if self.is_share else f"{self.amount:,.0f}"


@dataclass(frozen=True)
class Guard:
    """What a run may change without being stopped."""

    max_added: Limit | None = None
    max_removed: Limit | None = None
    max_changed: Limit | None = None
    columns: str = ""  # no_drop or no_change

    @property
    def limits(self) -> Iterator[tuple[str, Limit]]:
        """The limits on rows, each with the word for what it limits."""
        for word in ("added", "removed", "changed"):
            if limit := getattr(self, f"max_{word}"):
                yield word, limit

    @property
    def checks(self) -> Iterator[tuple[str, str]]:
        """The checks that it makes, each with what it says about a run."""
        for word, limit in self.limits:
            yield f"max_{word}", f"A run has {word} at most {of_rows(limit)}"
        if self.columns == "no_drop":
            yield "columns", "A run drops no column, nor replaces one by another type"
        elif self.columns:
            yield "columns", "A run changes no column"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Guard":
        """The guard that `dataclasses.asdict` once wrote."""
        limits = {
            key: Limit(**value)
            for key, value in document.items()
            if isinstance(value, dict)
        }
        return cls(columns=document.get("columns", ""), **limits)


def of_rows(limit: Limit) -> str:
    """A limit in words."""
    return f"{limit} of the rows" if limit.is_share else f"{limit} rows"


def limit(located: Located, namespace: str) -> Limit:
    """A limit: `5%`, or a number of rows."""
    del namespace
    written = located.written.strip()
    if share := SHARE.fullmatch(written):
        return Limit(float(share[1]), is_share=True)
    if isinstance(located.value, bool) or not ROWS.fullmatch(written):
        what = f"{shown(located)} is neither a share nor a number of rows"
        raise UnfitError(what, "write 5% or 1000")
    return Limit(int(written))


def make_guard(values: dict[str, Any], namespace: str) -> Guard:
    """A guard that guards something."""
    del namespace
    if not values:
        raise UnfitError("it says nothing", "write {max_removed: 5%}")
    return Guard(**values)


read_guard = MappingReader(
    {
        "max_added": limit,
        "max_removed": limit,
        "max_changed": limit,
        "columns": one_of("no_drop", "no_change"),
    },
    make_guard,
    form="{max_removed: 5%}",
)
