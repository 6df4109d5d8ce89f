"""Restoring: running what is stale, and nothing else, until nothing is.

A turn is one Dagster run over tables above which nothing is stale any more; what it publishes may
make others stale, which then have theirs. What is stale and why is `rat_resources.staleness`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from rat_assets.location import find_assets
from rat_assets.runner import RunAsk
from rat_resources import graph, propagation, staleness
from rat_resources.graph import Outline
from rat_resources.invalidations import LABEL
from rat_resources.names import PLATFORM, TableName
from rat_resources.platform import Platform
from rat_resources.staleness import Stale, Why

# Rows that an old definition made are made anew only where the whole table is.
MADE_ANEW = ("incremental", "delete_insert")
# The same, and what the table keeps of the past would be lost.
KEPT = ("append_only", "snapshot", "scd2")

FULL, ORDINARY, SCOPED = "full refresh", "run", "invalidation"


@dataclass(frozen=True)
class Turn:
    """What one Dagster run does about stale tables."""

    kind: str
    stale: tuple[Stale, ...]  # in order

    @property
    def ask(self) -> RunAsk:
        """The turn as a run is asked for."""
        trigger = "manual"
        if self.kind == SCOPED:
            trigger = f"{LABEL}{self.stale[0].invalidations[0]}"
        return RunAsk(
            tuple(str(each.table) for each in self.stale),
            full_refresh=self.kind == FULL,
            trigger=trigger,
        )


@dataclass
class Restoring:
    """The work on everything that is stale, and how far it came."""

    whole: Platform
    # Each table has one turn of a kind: what is stale after it will be so after another one.
    tried: set[tuple[TableName, str]] = field(default_factory=set)
    failed: set[TableName] = field(default_factory=set)

    def turns(self) -> Iterator[Turn]:
        """What to run next, until nothing is left that a run would help."""
        runnable = {each.table for each in find_assets(self.whole.settings.project)}
        while turn := self.next_turn(written=runnable):
            self.tried |= {(each.table, turn.kind) for each in turn.stale}
            yield turn

    def next_turn(self, *, written: set[TableName]) -> Turn | None:
        """What to run next."""
        with self.whole.metadata.transaction() as tx:
            propagation.route(tx)  # of whom nobody was told yet
            stale = staleness.load(tx)
            outlines = {
                each.table: each
                for each in graph.outlines(tx)
                if not each.hand_written
                or each.table in written
                or each.table.namespace == PLATFORM
            }
        turns = plan(stale, outlines, tried=self.tried, failed=self.failed)
        return next(turns, None)

    def left(self) -> list[Stale]:
        """What is stale all the same."""
        with self.whole.metadata.transaction() as tx:
            return list(staleness.load(tx).values())


def plan(
    stale: Mapping[TableName, Stale],
    outlines: Mapping[TableName, Outline],
    *,
    tried: Collection[tuple[TableName, str]] = (),
    failed: Collection[TableName] = (),
) -> Iterator[Turn]:
    """The turns of what is stale now, each after those of the tables above."""
    reads = {table: each.refs for table, each in outlines.items()}
    due = {
        table: kind
        for table, each in stale.items()
        if table in outlines
        and (kind := kind_of(each, outlines[table].strategy))
        and (table, kind) not in tried
    }
    in_order = graph.in_order(reads)
    while due:
        barred = {*due, *failed}
        ready = []
        for table in in_order:
            if not barred.isdisjoint(reads[table]):
                barred.add(table)
            elif table in due:
                ready.append(table)
        if not ready:
            return  # only what failed stands above them
        kind = due[ready[0]]
        # What was invalidated is made good table by table: the label says which.
        chosen = ready[:1] if kind == SCOPED else [t for t in ready if due[t] == kind]
        yield Turn(kind, tuple(stale[table] for table in chosen))
        for table in chosen:
            del due[table]


def kind_of(stale: Stale, strategy: str) -> str:
    """What is to be done about a table."""
    is_old = stale.made_at is not None and stale.has(Why.DEFINITION)
    if is_old and strategy in MADE_ANEW:
        return FULL
    only_wrong = all(each.why is Why.INVALIDATION for each in stale.causes)
    # Whatever makes the whole table anew makes good what was wrong of it, too.
    if stale.invalidations and (only_wrong or strategy != "full_refresh"):
        return SCOPED
    return ORDINARY


def followers(
    stale: Mapping[TableName, Stale], outlines: Mapping[TableName, Outline]
) -> list[TableName]:
    """What reads stale tables, and is not stale itself before they have other rows."""
    reads = {table: each.refs for table, each in outlines.items()}
    below = graph.downstream(reads, of=stale) - stale.keys()
    return [
        table
        for table in graph.in_order(reads)
        if table in below and not outlines[table].is_view
    ]
