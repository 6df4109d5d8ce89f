"""The invalidations sensor: tells the readers of invalidated rows, and asks at once for their runs.

Who that is, is `rat_resources.propagation`; what becomes of a wish is `rat_sensors.wishes`.
"""

from collections.abc import Collection

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from rat_resources import propagation
from rat_resources.names import TableName
from rat_sensors.wishes import ask_for_due, run_request


def build_invalidations_sensor(
    job: ExecutableDefinition, *, written: Collection[TableName] = ()
) -> dg.SensorDefinition:
    """The sensor that asks for the runs of *job* that invalidations call for."""

    @dg.sensor(
        name="invalidations",
        job=job,
        description="Tells the readers of rows that turned out wrong to read them again.",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"metadata"},
    )
    def invalidations(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        metadata = context.resources.metadata
        with metadata.transaction() as tx:
            routed = propagation.route(tx)
        for problem in routed.problems:
            context.log.warning(f"{problem.dataset}: {problem.what}")
        if not routed.told:
            return dg.SensorResult(skip_reason=str(routed))
        asks, _ = ask_for_due(metadata, context.instance, written=written)
        requests = [run_request(ask) for ask in asks if ask.selection]
        return dg.SensorResult(
            run_requests=requests or None,
            skip_reason=None if requests else str(routed),
        )

    return invalidations
