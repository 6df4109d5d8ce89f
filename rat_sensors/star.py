"""The schedule of the star's tables: the lake has what Postgres has, an hour later at most."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.target import ExecutableDefinition

from rat_resources.runs import TRIGGER_TAG

# Half an hour from the reports, which read the same database.
EVERY_HOUR = "30 * * * *"
STAR = "star"


def star_job(keys: Sequence[dg.AssetKey]) -> ExecutableDefinition:
    """The job that brings the star's tables into the lake."""
    return dg.define_asset_job(
        STAR,
        selection=dg.AssetSelection.assets(*keys),
        description="Bring the reporting star into the lake: the tables platform.gold.*.",
        executor_def=dg.in_process_executor,
    )


def star_schedule(job: ExecutableDefinition) -> dg.ScheduleDefinition:
    """The clock of that job; it runs from the start."""
    return dg.ScheduleDefinition(
        name=STAR,
        job=job,
        cron_schedule=EVERY_HOUR,
        description="Brings the reporting star into the lake.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={TRIGGER_TAG: f"schedule:{EVERY_HOUR}"},
    )
