"""The mirror sensor: tells the other schemas what Dagster's log knows, all the time.

What is told is `rat_resources.mirror.log`; a tick on an idle system is one question of indexes.
"""

from datetime import timedelta

import dagster as dg

from rat_resources.mirror import jobs, log

# Well below the minute that Dagster gives a tick.
BUDGET = timedelta(seconds=20)


@dg.sensor(
    name="mirror",
    description="Tells the reporting tables what Dagster's log knows: runs, steps, jobs.",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"metadata"},
)
def mirror(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tell what happened since the last tick."""
    metadata = context.resources.metadata
    progress = log.catch_up(metadata, budget=BUDGET)
    for line in progress.unreadable:
        context.log.warning(line)
    if context.repository_def is not None:
        with metadata.transaction() as tx:
            jobs.declare_jobs(tx, context.repository_def.job_names)
    return dg.SkipReason(str(progress))
