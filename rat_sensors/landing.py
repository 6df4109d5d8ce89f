"""The landing sensor: notices files, records them, and wishes for what waits for them.

What a look is, is `rat_resources.landing`; what becomes of a wish is `rat_sensors.wishes`.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from rat_resources import archive, landing, triggers
from rat_resources.landing import Looked, Zone

# Well below the minute that Dagster gives a tick.
BUDGET = timedelta(seconds=20)


def rotate(zones: Sequence[Zone], *, after: str | None) -> list[Zone]:
    """The zones in the order of this tick: first the one after where the last tick stopped."""
    return sorted(zones, key=lambda zone: (str(zone) <= (after or ""), str(zone)))


def observe(zone: Zone, looked: Looked) -> dg.AssetObservation:
    """What Dagster shows of a look that found something."""
    return dg.AssetObservation(
        asset_key=dg.AssetKey([zone.namespace, "landing", zone.name]),
        metadata={
            "new": len(looked.new),
            "bytes": sum(file.size for file in looked.new),
            "still_being_written": len(looked.waiting),
            "gone": len(looked.gone),
            "newest": ", ".join(file.name for file in looked.new[-5:]),
            "refused": "\n".join(f"{one.name}: {one.why}" for one in looked.refused),
        },
    )


@dg.sensor(
    name="landing_zones",
    description="Notices files that land, and wishes for the pipelines that wait for them.",
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"metadata", "store"},
)
def landing_zones(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Look at every zone, as many as a tick may."""
    metadata, root = context.resources.metadata, context.resources.store.root
    started, cursor, events = time.monotonic(), context.cursor, []
    with metadata.transaction() as tx:
        zones = rotate(landing.active_zones(tx), after=cursor)
    for zone in zones:
        if time.monotonic() - started > BUDGET.total_seconds():
            break
        with metadata.transaction() as tx:
            archive.finish_moves(tx, zone, root=root)
        with metadata.transaction() as tx:
            now = datetime.now(UTC)
            looked = landing.look(tx, zone, root=root, now=now)
            fired = triggers.fire_uploads(tx, zone, now=now)
        cursor = str(zone)
        if looked.new or looked.gone:
            events.append(observe(zone, looked))
        for one in fired:
            context.log.info(f"{one.label}: due {one.due_at:%H:%M:%S}")
    return dg.SensorResult(
        skip_reason=f"looked at {len(zones)} landing zones",
        cursor=cursor,
        asset_events=events,
    )
