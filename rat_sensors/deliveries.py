"""The deliveries sensor: sends what somebody wants to hear of, a bounded batch a tick.

How is `rat_resources.alerts.delivering`; `rat deliver --watch` does the same beside it, for those who
have more to say than a tick can send.
"""

import dagster as dg

from rat_resources.alerts.delivering import Deliverer
from rat_resources.alerts.outbox import Outbox
from rat_resources.settings import Settings

# Well below the minute that Dagster gives a tick, with the longest message behind it.
BUDGET = 20.0


@dg.sensor(
    name="deliveries",
    description="Sends alerts: routes what happened, and delivers what is due.",
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"metadata"},
)
def deliveries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Send what is due."""
    settings = Settings.load()
    outbox = Outbox.open(settings)
    try:
        deliverer = Deliverer(context.resources.metadata, outbox, settings.org)
        return dg.SkipReason(str(deliverer.run(seconds=BUDGET)))
    finally:
        outbox.close()
