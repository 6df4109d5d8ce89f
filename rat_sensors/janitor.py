"""The janitor sensor: removes what nobody needs any more, a little at a time.

What that is, and how long things are kept, is `rat_resources.janitor`.
"""

from datetime import timedelta

import dagster as dg

from rat_resources.janitor import clean

# Well below the minute that Dagster gives a tick; what is left is for the next.
BUDGET = timedelta(seconds=15)


@dg.sensor(
    name="janitor",
    description="Removes what is older than it is kept: Dagster's runs and ticks, logs, drafts.",
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"platform"},
)
def janitor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Remove what is over its time."""
    cleaned = clean(context.resources.platform, context.instance, budget=BUDGET)
    for line in cleaned.problems:
        context.log.warning(line)
    return dg.SkipReason("; ".join(cleaned.lines) or "nothing was over its time")
