"""The reconcile sensor: finishes or undoes what a crash left open, all the time."""

from collections.abc import Callable
from typing import Any

import dagster as dg


def build_reconcile_sensor(
    reconcile: Callable[[dg.SensorEvaluationContext], Any],
) -> dg.SensorDefinition:
    """The sensor that calls *reconcile*, which says what it did, or returns nothing."""

    @dg.sensor(
        name="reconcile",
        description="Finishes or undoes what a crash left open.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"platform"},
    )
    def reconcile_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        done = reconcile(context)
        return dg.SkipReason(str(done) if done else "nothing was left open")

    return reconcile_sensor
