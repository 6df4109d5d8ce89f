"""The invalidations sensor: tells the readers of invalidated rows, and asks at once for their runs.

It also notices what other engines did to main (`rat_resources.outside`). Who is told is
`rat_resources.propagation`; what becomes of a wish is `rat_sensors.wishes`.
"""

from collections.abc import Collection

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from rat_resources import outside, propagation
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
        required_resource_keys={"platform"},
    )
    def invalidations(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        whole = context.resources.platform
        with whole.metadata.transaction() as tx:
            routed = propagation.route(tx)
        for problem in routed.problems:
            context.log.warning(f"{problem.dataset}: {problem.what}")
        head, rewritten = outside.look(whole, since=context.cursor)
        for table in rewritten:
            context.log.info(f"{table} was rewritten by somebody else")
        # Not left to the wishes sensor, whose next tick may be five seconds away.
        asks = (
            ask_for_due(whole.metadata, context.instance, written=written)[0]
            if rewritten or routed.told
            else []
        )
        requests = [run_request(ask) for ask in asks if ask.selection]
        return dg.SensorResult(
            run_requests=requests or None,
            skip_reason=None if requests else str(routed),
            cursor=head,
        )

    return invalidations
