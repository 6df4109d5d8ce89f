"""The landing sensor: notices files, records them, and wishes for what waits for them.

Dagster's loop comes round every five seconds. A tick with nothing to report watches the folders
until then, so that a file is noticed within half a second.
What a look is, is `rat_resources.landing`; what becomes of a wish is `rat_sensors.wishes`.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from rat_resources import archive, landing, triggers
from rat_resources.landing import Zone
from rat_resources.metadata import Metadata
from rat_resources.metadata.landing import BUILT_IN
from rat_resources.names import TableName
from rat_resources.observations import observe
from rat_resources.places import Place
from rat_sensors.wishes import ask_for_due, run_request

# Well below the minute that Dagster gives a tick.
BUDGET = timedelta(seconds=20)
# A little less than a round of Dagster's loop, which else leaves out the next one.
WATCH = timedelta(seconds=4.4)
GLANCE = 0.3  # seconds


def rotate(zones: Sequence[Zone], *, after: str | None) -> list[Zone]:
    """The zones in the order of this tick: first the one after where the last tick stopped."""
    return sorted(zones, key=lambda zone: (str(zone) <= (after or ""), str(zone)))


def build_landing_sensor(
    job: ExecutableDefinition,
    *,
    written: Collection[TableName] = (),
    watch: timedelta = WATCH,
) -> dg.SensorDefinition:
    """The sensor that notices files, and asks at once for the runs of *job* that they call for.

    A tick that finds nothing goes on watching for so long.
    """

    @dg.sensor(
        name="landing_zones",
        job=job,
        description="Notices files that land, and asks for the pipelines that wait for them.",
        # Five would be a hair more than a round, and every other one left out.
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"metadata", "store"},
    )
    def landing_zones(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Look at every zone, as many as a tick may."""
        metadata, root = context.resources.metadata, context.resources.store.root
        until = time.monotonic() + watch.total_seconds()
        marks = folder_marks(metadata, root=root)
        looks = look_around(metadata, root=root, after=context.cursor)
        if looks.found_nothing and await_change(marks, until=until):
            looks = look_around(metadata, root=root, after=looks.cursor)
        # Not left to the wishes sensor, whose next tick may be five seconds away.
        asks = (
            ask_for_due(metadata, context.instance, written=written)[0]
            if looks.fired
            else []
        )
        for one in looks.fired:
            context.log.info(f"{one.label}: due {one.due_at:%H:%M:%S}")
        return dg.SensorResult(
            run_requests=[run_request(ask) for ask in asks] or None,
            skip_reason=None if asks else describe(looks),
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
    refused: list[str] = field(default_factory=list)

    @property
    def found_nothing(self) -> bool:
        """Whether there is nothing to report."""
        return not self.events and not self.fired


def describe(looks: Looks) -> str:
    """What a tick saw that asks for nothing: where it looked, and what nobody will read."""
    return "; ".join([f"looked at {looks.zones} landing zones", *looks.refused[:20]])


def look_around(metadata: Metadata, *, root: Place, after: str | None) -> Looks:
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
        looks.refused += [
            f"{zone}/{one.name} is not read: {one.why}" for one in looked.refused
        ]
    return looks


def folder_marks(metadata: Metadata, *, root: Place) -> dict[Path, int]:
    """The folders of pipelines' zones, and what changes when a file is put there or taken away.

    None in S3, where every glance is a request that costs: there the next tick looks.
    """
    if not isinstance(root, Path):
        return {}
    with metadata.transaction() as tx:
        zones = landing.active_zones(tx)
    folders = [
        root / zone.path for zone in zones if (zone.namespace, zone.name) != BUILT_IN
    ]
    return {folder: mark(folder) for folder in folders}


def mark(folder: Path) -> int:
    """When the last entry of *folder* came or went; 0 while it does not exist."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def await_change(
    marks: Mapping[Path, int],
    *,
    until: float,
    wait: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until something comes or goes in one of the folders; False when the time is over.

    A file that is rewritten in place, or lies deeper, is left to the next look.
    """
    while marks and time.monotonic() < until:
        if any(mark(folder) != before for folder, before in marks.items()):
            return True
        wait(GLANCE)
    return False
