"""When runs of other people's pipelines come in: partners are asked every hour, files are noticed.

What is done then is the jobs' that are launched; without a partner, or a file, nothing is.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance, RunsFilter
from sqlalchemy import select

from rat_resources import landing
from rat_resources.external_runs.intake import find_waiting, get_zone
from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import Client
from rat_resources.observations import observe
from rat_resources.places import Place
from rat_sensors.wishes import UNFINISHED

EVERY_HOUR = "17 * * * *"
# A worker that was killed leaves its run as it was: it must not keep the files waiting for ever.
LONGEST = timedelta(hours=1)


def build_sync_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """The clock of *job*, which asks partners; it skips while there are none."""

    @dg.schedule(
        name="external_runs",
        job_name=job.name,
        cron_schedule=EVERY_HOUR,
        description="Fetches the runs of partners' pipelines.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        required_resource_keys={"metadata"},
    )
    def external_runs(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        """Ask for a sync, if there is anybody to ask."""
        if has_partners(context.resources.metadata):
            return dg.RunRequest()
        return dg.SkipReason("no active client has partner settings")

    return external_runs


def has_partners(metadata: Metadata) -> bool:
    """Whether any client has an API to ask."""
    found = select(Client.id).where(Client.is_active, Client.partner.is_not(None))
    with metadata.transaction() as tx:
        return tx.scalar(found.limit(1)) is not None


def build_files_sensor(job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that notices files of runs, and asks for *job* to read them."""

    @dg.sensor(
        name="external_files",
        job_name=job.name,
        description="Notices files of other people's runs, and asks for them to be read.",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"metadata", "store"},
    )
    def external_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Look at the zone; one run reads all that waits in it."""
        events, waiting = look(
            context.resources.metadata, root=context.resources.store.root
        )
        if not waiting:
            why = "no file waits"
        elif is_reading(context.instance, job.name):
            why = f"{waiting} files wait for the run that reads"
        else:
            ask = dg.RunRequest(run_config=NOT_BY_HAND)
            return dg.SensorResult(run_requests=[ask], asset_events=events)
        return dg.SensorResult(skip_reason=why, asset_events=events)

    return external_files


NOT_BY_HAND = {"ops": {"read_external_files": {"config": {"by_hand": False}}}}


def look(metadata: Metadata, *, root: Place) -> tuple[list[dg.AssetObservation], int]:
    """What came or went in the zone, and how many files have yet to be read."""
    with metadata.transaction() as tx:
        zone = get_zone(tx, root=root)
        looked = landing.look(tx, zone, root=root, now=datetime.now(UTC))
        news = looked.new or looked.gone
        events = [observe(tx, zone, looked=looked)] if news else []
        return events, len(find_waiting(tx, zone, by_hand=False))


def is_reading(instance: DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job is on its way."""
    unfinished = RunsFilter(
        job_name=job_name,
        statuses=UNFINISHED,
        created_after=datetime.now(UTC) - LONGEST,
    )
    return bool(instance.get_run_records(unfinished, limit=1))
