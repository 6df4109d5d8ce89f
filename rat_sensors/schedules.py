"""The schedules sensor: reads the clocks of `rat.schedules` and wishes for what is due.

A sensor and no Dagster schedule, because a pipeline's clocks are rows that a publish changes.
"""

from datetime import UTC, datetime

import dagster as dg

from rat_resources import schedules as clocks
from rat_resources import wishes


@dg.sensor(
    name="schedules",
    description="Wishes for the pipelines whose schedule is due.",
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"metadata"},
)
def schedules(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Wish for what is due now."""
    with context.resources.metadata.transaction() as tx:
        fired = clocks.fire_due(tx, now=datetime.now(UTC), active=wishes.running(tx))
    return dg.SkipReason(f"{len(fired)} schedules were due")
