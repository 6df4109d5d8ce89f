"""Landing zones as external assets: the left edge of the graph, where files arrive.

Noticing files is `rat_sensors.landing`; reading them is a pipeline's `landing_zone()`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from rat_resources.metadata.landing import LandingZone
from rat_resources.names import dagster_name


def zone_key(namespace: str, name: str) -> dg.AssetKey:
    """The asset that a landing zone is."""
    return dg.AssetKey([namespace, "landing", name])


def zone_specs(zones: Sequence[LandingZone]) -> list[dg.AssetSpec]:
    """The landing zones as Dagster shows them: it never materializes one."""
    return [
        dg.AssetSpec(
            zone_key(zone.namespace, zone.name),
            group_name=dagster_name(f"{zone.namespace}/landing"),
            description=zone.description
            or f"Files that arrive in `{zone.namespace}/landing/{zone.name}`, and who reads them.",
            owners=owners_of(zone.owner or ""),
            tags={"rat/namespace": zone.namespace, "rat/layer": "landing"},
            kinds={"file"},
            metadata=describe_zone(zone),
        )
        for zone in zones
    ]


def describe_zone(zone: LandingZone) -> dict[str, Any]:
    """What is known of a zone before any file came."""
    shown: dict[str, Any] = {
        "add_a_file": f"rat upload {zone.namespace}/{zone.name} FILE",
        "after_reading": "files move to _processed"
        if zone.archive
        else "files stay where they are",
    }
    if zone.expected_columns:
        shown["dagster/column_schema"] = dg.TableSchema(
            [
                dg.TableColumn(name, str(zone.expected_columns[name]))
                for name in sorted(zone.expected_columns, key=order_of(zone))
            ]
        )
    elif zone.expected_schema:
        shown["expected"] = zone.expected_schema
    return shown


def order_of(zone: LandingZone) -> Callable[[str], int]:
    """The place of a column among the expected ones: JSON in Postgres forgets it, the text does not."""
    lines = zone.expected_schema.splitlines()
    places = {line.rpartition(": ")[0]: place for place, line in enumerate(lines)}
    return lambda name: places.get(name, len(places))


def owners_of(owner: str) -> list[str]:
    """An owner as Dagster takes it: an address or a team."""
    if not owner:
        return []
    return [owner] if "@" in owner or owner.startswith("team:") else [f"team:{owner}"]
