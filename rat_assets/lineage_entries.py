"""Column lineage as a materialization shows it: as Dagster keeps it, as a table, as a picture.

Dagster's open-source UI draws no column lineage, so it is told twice more, for people.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from rat_assets.entries import Entries, as_table
from rat_assets.lineage_picture import data_uri
from rat_resources.lineage import Lineage

ROWS = 100
PICTURE_BYTES = 30_000
NONE, UNTOLD = "—", "?"


def describe_lineage(lineage: Lineage | None) -> Entries:
    """Where each column of a table takes its values from."""
    if lineage is None or not lineage.columns:
        return {}
    kept: dict[str, Any] = {"dagster/column_lineage": as_dagster(lineage)}
    if not any(lineage.sources.values()):
        return kept if lineage.sources else {}
    shown = {**kept, "column_lineage": as_table(list(rows(lineage)), limit=ROWS)}
    picture = f"![{lineage.dataset}]({data_uri(lineage)})"
    if len(picture) <= PICTURE_BYTES:
        shown["column_lineage_picture"] = dg.MetadataValue.md(picture)
    return shown


def as_dagster(lineage: Lineage) -> dg.TableColumnLineage:
    """The lineage in Dagster's own words."""
    return dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(dg.AssetKey(source.dataset.split(".")), source.column)
                for source in sources
            ]
            for column, sources in lineage.sources.items()
        }
    )


def rows(lineage: Lineage) -> Iterator[Mapping[str, str]]:
    """A row for each column and each table that it takes values from."""
    for column in lineage.columns:
        sources = lineage.sources.get(column)
        read: dict[str, list[str]] = {}
        for source in sources or ():
            read.setdefault(source.dataset, []).append(source.column)
        if not read:
            what = UNTOLD if sources is None else NONE
            yield {"column": column, "table": what, "from": what}
        for number, (dataset, columns) in enumerate(read.items()):
            name = column if number == 0 else ""
            yield {"column": name, "table": dataset, "from": ", ".join(columns)}
