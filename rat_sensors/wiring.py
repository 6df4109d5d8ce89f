"""All sensors, wired to the job that they launch and to what they are allowed to call."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from rat_resources.names import TableName
from rat_sensors.invalidations import build_invalidations_sensor
from rat_sensors.landing import build_landing_sensor
from rat_sensors.reconcile import build_reconcile_sensor
from rat_sensors.schedules import schedules
from rat_sensors.staleness import build_staleness_sensor
from rat_sensors.wishes import build_wishes_sensor


def build_sensors(
    job: ExecutableDefinition,
    *,
    reconcile: Callable[[dg.SensorEvaluationContext], Any],
    written: Collection[TableName] = (),
) -> Sequence[dg.SensorDefinition]:
    """Every sensor of the code location, which has what is *written* by hand; all are on from the start."""
    return [
        build_landing_sensor(job, written=written),
        schedules,
        build_wishes_sensor(job, written=written),
        build_invalidations_sensor(job, written=written),
        build_staleness_sensor(written),
        build_reconcile_sensor(reconcile),
    ]
