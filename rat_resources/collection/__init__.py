"""The collector: files of the lake that nothing needs any more go; nothing else of RAT's deletes one.

What needs files is `roots`, which files these are is `live`, since when nothing has needed one is `notes`,
how long that must have been so `limits`; `sweeping` goes through the folders of the warehouse. Whose that
is says its marker (`lake.marker`). Why it is safe while runs write is told in docs/collection.md.
"""

from collections.abc import Collection
from datetime import datetime

from rat_resources.collection import limits as moments
from rat_resources.collection.finding import Finder
from rat_resources.collection.report import Collected
from rat_resources.collection.strangers import refuse_strangers
from rat_resources.collection.sweeping import Sweep
from rat_resources.lake.marker import Marker
from rat_resources.lake.refs import MAIN
from rat_resources.metadata import audit
from rat_resources.names import TableName
from rat_resources.platform import Platform

__all__ = ["Collected", "collect"]


def collect(
    whole: Platform,
    *,
    tables: Collection[TableName] = (),
    dry_run: bool = False,
    adopt: bool = False,
    by: str = "maintain",
    now: datetime | None = None,
) -> Collected:
    """Remove the files that nothing has needed for long enough; with *dry_run*, only say which.

    Only those of *tables*, if any are named. With *adopt*, the warehouse is taken over from whoever has
    marked it. CollectionError where it cannot be told which files are needed, or whose they are, and then
    nothing was removed. Without *now*, it is what the database's clock says.
    """
    warehouse = whole.lake.catalog(MAIN).warehouse
    marker = Marker(whole.metadata, warehouse)
    if adopt and not dry_run:
        take_over(whole, marker, by=by)
    is_marked = adopt or marker.check()
    limits = moments.read_limits(whole, warehouse, now=now)
    finder = Finder(whole, warehouse, limits)
    finder.find_all()
    folders = finder.folders()
    if not is_marked:
        refuse_strangers(warehouse, finder.live, folders)
    if not dry_run:
        if not is_marked:
            marker.make()
        with whole.metadata.transaction() as tx:
            moments.begin(tx, warehouse, limits)
    collected = Collected(dry_run, history_since=limits.history)
    collected.needs = finder.live.counts
    collected.problems += sorted(set(finder.live.broken.values()))
    wanted = {str(each) for each in tables}
    chosen = {k: v for k, v in folders.items() if not wanted or v in wanted}
    try:
        Sweep(whole.metadata, finder, collected).go_through(chosen)
    finally:
        write_down(whole, collected, by=by)
    return collected


def take_over(whole: Platform, marker: Marker, *, by: str) -> None:
    """Mark the warehouse as ours, and write down who wanted that."""
    had = marker.take()
    with whole.metadata.transaction() as tx:
        resource = marker.warehouse
        audit.record(tx, "lake.adopt", resource=resource, user=by, detail=had)


def write_down(whole: Platform, collected: Collected, *, by: str) -> None:
    """Write down who removed how much."""
    if collected.is_dry or not collected.removed:
        return
    detail = "; ".join(
        f"{each.table}: {each.amounts['removed']}"
        for each in collected.folders
        if each.amounts["removed"]
    )
    with whole.metadata.transaction() as tx:
        audit.record(tx, "lake.collect", resource="lake", user=by, detail=detail)
