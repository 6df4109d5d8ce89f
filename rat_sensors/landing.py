"""The landing sensor: notices files, records them, and wishes for what waits for them.

What a look is, is `rat_resources.landing`; what becomes of a wish is `rat_sensors.wishes`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from rat_resources import archive, landing, triggers
from rat_resources.landing import Zone
from rat_resources.metadata import Metadata
from rat_resources.observations import observe
from rat_sensors.wishes import ask_for_due, run_request

# Well below the minute that Dagster gives a tick.
BUDGET = timedelta(seconds=20)


def rotate(zones: Sequence[Zone], *, after: str | None) -> list[Zone]:
    """The zones in the order of this tick: first the one after where the last tick stopped."""
    return sorted(zones, key=lambda zone: (str(zone) <= (after or ""), str(zone)))


def build_landing_sensor(job: ExecutableDefinition) -> dg.SensorDefinition:
    """The sensor that notices files, and asks at once for the runs of *job* that they call for."""

    @dg.sensor(
        name="landing_zones",
        job=job,
        description="Notices files that land, and asks for the pipelines that wait for them.",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"metadata", "store"},
    )
    def landing_zones(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Look at every zone, as many as a tick may."""
        metadata, root = context.resources.metadata, context.resources.store.root
        looks = look_around(metadata, root=root, after=context.cursor)
        # Not left to the wishes sensor, whose next tick may be five seconds away.
        asks = ask_for_due(metadata, context.instance)[0] if looks.fired else []
        for one in looks.fired:
            context.log.info(f"{one.label}: due {one.due_at:%H:%M:%S}")
        return dg.SensorResult(
            run_requests=[run_request(ask) for ask in asks] or None,
            skip_reason=None if asks else f"looked at {looks.zones} landing zones",
            cursor=looks.cursor,
            asset_events=looks.events,
        )

    return landing_zones


@dataclass
class Looks:
    """What one tick saw."""

    cursor: str | None
    zones: int = 0
    events: list[dg.AssetObservation] = field(default_factory=list)
    fired: list[triggers.Fired] = field(default_factory=list)


def look_around(metadata: Metadata, *, root: Path, after: str | None) -> Looks:
    """Look at every zone, as many as a tick may; the next tick begins after the last one."""
    started, looks = time.monotonic(), Looks(after)
    with metadata.transaction() as tx:
        zones = rotate(landing.active_zones(tx), after=after)
    for zone in zones:
        if time.monotonic() - started > BUDGET.total_seconds():
            break
        with metadata.transaction() as tx:
            archive.finish_moves(tx, zone, root=root)
        with metadata.transaction() as tx:
            now = datetime.now(UTC)
            looked = landing.look(tx, zone, root=root, now=now)
            looks.fired += triggers.fire_uploads(tx, zone, now=now)
            if looked.new or looked.gone:
                looks.events.append(observe(tx, zone, looked=looked))
        looks.cursor, looks.zones = str(zone), looks.zones + 1
    return looks
