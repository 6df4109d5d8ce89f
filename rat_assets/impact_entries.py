"""Impact as an asset shows it: who reads the table, how many rows and how long that is, in a few lines.

It is what was known when the code location was loaded; `rat impact` tells all of it, as it is now.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import dagster as dg

from rat_assets.commands.display import duration, plural
from rat_assets.entries import Entries
from rat_resources import graph
from rat_resources.impact import Figures
from rat_resources.names import TableName
from rat_resources.specs import PipelineSpec

SHOWN = 8  # what is short is shown without a click

Known = Mapping[str, Figures]


def describe_impact(
    specs: Collection[PipelineSpec], figures: Known
) -> dict[TableName, Entries]:
    """What all that read each table come to; nothing of a table that nobody reads."""
    by_name = {spec.table: spec for spec in specs}
    reads = {spec.table: spec.refs for spec in specs}
    directly = graph.readers_of(reads)
    order = {table: number for number, table in enumerate(graph.in_order(reads))}
    shown: dict[TableName, Entries] = {}
    for table in directly.keys() & by_name.keys():
        below = sorted(graph.reach(directly, of=[table]), key=order.__getitem__)
        readers = [by_name[each] for each in below]
        lines = describe(readers, figures, direct=directly[table])
        shown[table] = {"impact": dg.MetadataValue.md("\n".join(lines))}
    return shown


def describe(
    readers: Sequence[PipelineSpec], figures: Known, *, direct: Collection[TableName]
) -> Iterator[str]:
    """The sum of all readers, and the first of them one by one, in Markdown."""
    known = [figures.get(str(each.table), Figures()) for each in readers]
    rows = sum(each.rows or 0 for each in known)
    takes = sum(each.rebuild_ms or 0 for each in known)
    owners = Counter(each.owner or "nobody" for each in readers)
    yield (
        f"**{plural(len(readers), 'table')}** ({len(direct)} directly), "
        f"{plural(rows, 'row')}, {duration(takes)} to rebuild; "
        f"owners: {', '.join(owner for owner, _ in owners.most_common(SHOWN))}\n"
    )
    for each, found in zip(readers[:SHOWN], known, strict=False):
        told = [
            *([] if found.rows is None else [plural(found.rows, "row")]),
            *([duration(found.rebuild_ms)] if found.rebuild_ms is not None else []),
            *([each.owner] if each.owner else []),
        ]
        yield f"- {each.table}{': ' if told else ''}{', '.join(told)}"
    if len(readers) > SHOWN:
        yield f"- … and {len(readers) - SHOWN:,} more"
