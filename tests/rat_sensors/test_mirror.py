"""The mirror sensor: what a tick tells."""

import dagster as dg
from sqlalchemy import select

from rat_resources.metadata import Metadata
from rat_resources.metadata.lakeflow import DimJob
from rat_sensors.mirror import mirror
from tests.rat_resources.mirror.dagster_jobs import execute, run_of, skips, succeeds


def test_a_tick_tells_what_happened_and_which_jobs_there_are(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run_id = execute(instance, succeeds, location="rat")
    location = dg.Definitions(jobs=[succeeds, skips]).get_repository_def()
    context = dg.build_sensor_context(
        instance, repository_def=location, resources={"metadata": metadata}
    )

    tick = mirror.evaluate_tick(context)

    assert tick.skip_message == "1 runs read, 1 runs and 2 steps told"
    assert run_of(metadata, run_id).job_id == "rat/__repository__/succeeds"
    with metadata.transaction() as tx:
        jobs = set(tx.scalars(select(DimJob.job_id)))
    assert jobs == {"rat/__repository__/succeeds", "rat/__repository__/skips"}
