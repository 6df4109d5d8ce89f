"""Observations: what Dagster is told of a table when alerts about it begin or end.

A publication shows the alerts that it leaves raised; what time, a failed run or somebody's query raises
afterwards is an observation of the table. What was told last is the cursor of the sensor `alerts`.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts import overview
from rat_resources.alerts.overview import Told
from rat_resources.hashes import hash_of

MOST_TABLES = 50  # that a tick tells of; the others follow
MOST_ROWS = 20


def observe(tx: Session, seen: str | None) -> tuple[Sequence[dg.AssetObservation], str]:
    """The tables whose raised alerts are others than those in the cursor *seen*, and the next cursor."""
    raised = by_table(overview.raised_now(tx))
    before = read_cursor(seen)
    now = {table: mark_of(told) for table, told in raised.items()}
    changed = sorted(
        table for table in {*before, *now} if before.get(table) != now.get(table)
    )[:MOST_TABLES]
    after = dict(before)
    for table in changed:
        after.pop(table, None)
        if table in now:
            after[table] = now[table]
    known = assets_among(tx, changed)
    return [
        observation(table, raised.get(table, ())) for table in changed if table in known
    ], json.dumps(after)


def by_table(told: Sequence[Told]) -> dict[str, list[Told]]:
    """What is raised of each table."""
    found: dict[str, list[Told]] = {}
    for each in told:
        if each.table is not None:
            found.setdefault(each.table, []).append(each)
    return found


def mark_of(told: Sequence[Told]) -> str:
    """What tells these alerts from any others."""
    return hash_of(sorted(str(each.event_id) for each in told))[-16:]


def read_cursor(seen: str | None) -> Mapping[str, str]:
    """What was told of each table; nothing where the cursor makes no sense."""
    try:
        document = json.loads(seen or "{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def assets_among(tx: Session, tables: Sequence[str]) -> set[str]:
    """Those of *tables* that a published pipeline writes: Dagster knows no others."""
    return set(tx.scalars(PUBLISHED, {"tables": list(tables)})) if tables else set()


PUBLISHED = text("""
    SELECT concat_ws('.', namespace, layer, name) AS table
    FROM rat.pipelines
    WHERE deleted_at IS NULL
        AND published_at IS NOT NULL
        AND concat_ws('.', namespace, layer, name) = ANY(:tables)
""")


def observation(table: str, told: Sequence[Told]) -> dg.AssetObservation:
    """What is raised of a table now."""
    shown: dict[str, int | dg.MetadataValue] = {"open_alerts": len(told)}
    if told:
        shown["alerts"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "alert": each.alert,
                        "severity": each.severity,
                        "since": f"{each.at:%Y-%m-%d %H:%M:%S %Z}",
                        "what": each.title[:200],
                        "told": ", ".join(map(str, each.deliveries)) or "nobody",
                    }
                )
                for each in told[:MOST_ROWS]
            ]
        )
    return dg.AssetObservation(asset_key=dg.AssetKey(table.split(".")), metadata=shown)
