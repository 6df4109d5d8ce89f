"""Landing zones as external assets: the left edge of the graph, where files arrive.

Noticing files is `rat_sensors.landing`; reading them is a pipeline's `landing_zone()`.
"""

from collections.abc import Sequence

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
            or f"Files for {zone.namespace}/landing/{zone.name}",
            owners=owners_of(zone.owner or ""),
            tags={"rat/namespace": zone.namespace, "rat/layer": "landing"},
            kinds={"file"},
        )
        for zone in zones
    ]


def owners_of(owner: str) -> list[str]:
    """An owner as Dagster takes it: an address or a team."""
    if not owner:
        return []
    return [owner] if "@" in owner or owner.startswith("team:") else [f"team:{owner}"]
