"""The schedule of maintenance: every night, what keeps the lake's tables fast is done.

What that is says `rat_resources.maintenance`; somebody who wants another hour, or none, turns this
clock off and launches the job `maintain` by one of their own.
"""

import dagster as dg

EVERY_NIGHT = "13 3 * * *"
MAINTENANCE = "maintenance"


def maintenance_schedule(job: dg.JobDefinition, *, op: str) -> dg.ScheduleDefinition:
    """The clock of *job*, whose one *op* it tells to do it; it runs from the start."""
    return dg.ScheduleDefinition(
        name=MAINTENANCE,
        job=job,
        cron_schedule=EVERY_NIGHT,
        run_config={"ops": {op: {"config": {"dry_run": False}}}},
        description="Keeps the lake's tables fast, and removes files that nothing needs.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
