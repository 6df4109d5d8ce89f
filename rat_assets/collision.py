"""A collision: somebody else published to the run's own table first.

Rows that a run only adds go on top of what the others added, on a branch of their own, where they are
tested anew. In every other case the run is repeated, or people are shown what both sides did. What
may be added is `rat_resources.lake.rebasing`.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from pyiceberg.table import Table

from rat_assets.computation import Computation
from rat_resources.errors import MergeConflictError
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.reading import row_count
from rat_resources.lake.rebasing import Sides, describe
from rat_resources.lake.refs import MAIN
from rat_resources.lake.strategies import MergeStrategy

FIX = "run it again, or let nobody else write to it"
# What reads a table by a name that stands nowhere in the query.
INDIRECT = ("query_table", "query(")


@dataclass(frozen=True)
class Collision:
    """What a run wrote, and where main is by now."""

    work: Computation
    error: MergeConflictError
    base_commit: str
    head: str  # main's, which the others' work is read at

    @property
    def refusal(self) -> str | None:
        """Why the run's rows cannot just be added to the others'; None: they can."""
        if not adds_only(self.work):
            return "it does not only add rows"
        if reads_itself(self.work):
            return "it may have read its own table"
        if self.sides is None:
            return "the table was not there before, or is gone"
        return self.sides.refusal

    @cached_property
    def theirs(self) -> Table | None:
        """The table as the others published it."""
        name, lake = self.work.name, self.work.platform.lake
        return lake.tables([name], at=f"@{self.head}").get(name)

    @cached_property
    def sides(self) -> Sides | None:
        """The table thrice; None where it was not there before, or is gone."""
        work = self.work
        if work.own is None or work.table is None or self.theirs is None:
            return None
        return Sides(work.own, work.table, self.theirs)

    def reapply(self, catalog: RefCatalog) -> None:
        """Add the run's rows to the others', where *catalog* is a branch that has those."""
        work, sides = self.work, self.sides
        assert sides is not None  # noqa: S101 - it would have been refused
        assert work.written is not None  # noqa: S101
        work.table = sides.reapply(catalog.load_table(work.name.key))
        work.own = sides.theirs
        snapshot = work.table.current_snapshot()
        work.written = replace(
            work.written,
            metadata_location=work.table.metadata_location,
            snapshot_id=snapshot.snapshot_id if snapshot else None,
            rows_total=row_count(work.table),
            rows_before=row_count(sides.theirs),
        )

    def explain(self) -> MergeConflictError:
        """The conflict, with what both sides did to the table."""
        work = self.work
        ours = describe(work.table, base=work.own)
        theirs = describe(self.theirs, base=work.own)
        keys = "; ".join(conflict.message for conflict in self.error.conflicts)
        message = (
            f"{keys}; since {MAIN} {self.base_commit[:12]} we: {ours}; "
            f"others, until {self.head[:12]}: {theirs}"
        )
        return MergeConflictError(self.error.conflicts, message=message, fix=FIX)


def adds_only(work: Computation) -> bool:
    """Whether a run adds rows to its table, and does nothing else to it."""
    is_append = work.config.merge_strategy == MergeStrategy.APPEND_ONLY
    replaces = work.full_refresh or work.rebuild is not None
    return is_append and not replaces and not work.unchanged


def reads_itself(work: Computation) -> bool:
    """Whether what a run computed may depend on what its own table held.

    Of Python code nobody can tell. SQL reads a table by its name, whatever way it came to it.
    """
    if work.spec.type != "sql" or work.body is not None:
        return True
    if work.spec.reads_this or work.config.watermark_column:
        return True
    sql = work.sql.casefold()
    return any(each in sql for each in (str(work.name), *INDIRECT))
