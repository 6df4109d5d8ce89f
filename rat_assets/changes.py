"""Changes: what a run makes different from what stands on main, before it is merged.

Taken from what the write itself knows; no table is ever compared with another one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rat_resources.lake.evolution import SchemaChange
from rat_resources.lake.writing import Written

WORDS = {
    "added": "added",
    "dropped": "dropped",
    "renamed": "renamed",
    "widened": "retyped",
    "replaced": "replaced by another type",
    "nullability": "of other nullability",
}


@dataclass(frozen=True)
class Changes:
    """The rows and columns that a run adds, removes and changes."""

    is_first: bool
    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int | None  # None: all rows were written anew, so nobody knows
    columns: tuple[SchemaChange, ...] = ()
    accepted_by: str = ""  # who let more of them pass than the guard allows

    @classmethod
    def of(cls, written: Written) -> "Changes | None":
        """What a write changed; None when it changed nothing."""
        if not written.changed:
            return None
        before, after = written.rows_before or 0, written.rows_total
        if written.is_anew:
            removed, changed = max(0, before - after), None
        else:
            removed = written.rows_deleted - written.rows_replaced
            changed = written.rows_updated + written.rows_replaced - written.rows_kept
        return cls(
            is_first=written.rows_before is None,
            rows_before=before,
            rows_after=after,
            added=after - before + removed,
            removed=removed,
            changed=changed,
            columns=written.schema_changes,
        )

    def to_json(self) -> dict[str, Any]:
        """A document that `from_json` reads back."""
        return asdict(self) | {"columns": [asdict(each) for each in self.columns]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Changes":
        """The changes that `to_json` wrote."""
        columns = tuple(SchemaChange(**each) for each in document["columns"])
        return cls(**{**document, "columns": columns})

    def share(self, rows: int) -> str:
        """*rows* as a share of those before, in words; of none nothing is a share."""
        return f"{100 * rows / self.rows_before:.1f} %" if self.rows_before else ""

    @property
    def lines(self) -> Iterator[dict[str, str]]:
        """The changes as the lines of a table: what, how much, which share of the rows before."""
        yield line(
            "rows before", "no table" if self.is_first else f"{self.rows_before:,}"
        )
        yield line("rows after", f"{self.rows_after:,}")
        for word in ("added", "removed", "changed"):
            rows = getattr(self, word)
            if rows is None:
                yield line("rows changed", "not known: all rows were written anew")
            else:
                yield line(f"rows {word}", f"{rows:,}", self.share(rows))
        for each in self.columns:
            yield line(f"column {WORDS[each.kind]}", f"{each.column} ({each.figures})")
        if self.accepted_by:
            yield line("accepted by", self.accepted_by)

    @property
    def summary(self) -> str:
        """The rows in a few letters: `+5 -3 ~2`."""
        figures = (("+", self.added), ("-", self.removed), ("~", self.changed or 0))
        return " ".join(f"{sign}{rows:,}" for sign, rows in figures if rows)


def line(what: str, figure: str, share: str = "") -> dict[str, str]:
    """One line of the table."""
    return {"what": what, "figure": figure, "share": share}
