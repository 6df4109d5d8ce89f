"""The schedule of the platform's reports: drawn anew every hour, so that they tell what is."""

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

EVERY_HOUR = "0 * * * *"


def reports_schedule(job: ExecutableDefinition) -> dg.ScheduleDefinition:
    """The clock of the job that draws the reports; it runs from the start."""
    return dg.ScheduleDefinition(
        name="reports",
        job=job,
        cron_schedule=EVERY_HOUR,
        description="Draws the platform's reports anew.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
