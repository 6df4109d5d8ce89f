import json
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData

from rat_assets.definitions import build_definitions
from rat_assets.external_runs import ingest_job, sync_job
from rat_resources.wiring import resources
from rat_sensors.external_runs import build_files_sensor, build_sync_schedule
from tests.factories import Shop
from tests.rat_resources.external_runs.rows import make_client

GOOD = {"client": "acme", "pipeline": "orders", "id": "1", "status": "success"}


def tick(shop: Shop) -> SensorExecutionData:
    """What the sensor answers now."""
    sensor = build_files_sensor(ingest_job)
    # What it opens is closed with it, and not whenever it is thrown away.
    with dg.build_sensor_context(
        instance=shop.instance,
        resources=dict(resources()),
        definitions=dg.Definitions(
            jobs=[ingest_job], sensors=[sensor], resources=dict(resources())
        ),
    ) as context:
        return sensor.evaluate_tick(context)


def test_a_file_is_noticed_and_read_by_one_run(shop: Shop) -> None:
    before = tick(shop)
    shop.land("a.jsonl", json.dumps(GOOD), zone="chm/external_runs")

    noticed = tick(shop)
    (ask,) = noticed.run_requests or []
    reading = shop.instance.create_run_for_job(
        ingest_job, run_config=ask.run_config, status=dg.DagsterRunStatus.STARTED
    )
    meanwhile = tick(shop)
    shop.instance.delete_run(reading.run_id)
    done = ingest_job.execute_in_process(
        run_config=ask.run_config, instance=shop.instance, resources=dict(resources())
    )
    after = tick(shop)

    assert done.success
    assert len(noticed.asset_events) == 1
    assert [answer.skip_message for answer in (before, meanwhile, after)] == [
        "no file waits",
        "1 files wait for the run that reads",
        "no file waits",
    ]


def test_partners_are_asked_as_soon_as_there_is_one(shop: Shop) -> None:
    schedule = build_sync_schedule(sync_job)

    def evaluate() -> tuple[int, str | None]:
        with dg.build_schedule_context(
            instance=shop.instance,
            resources=dict(resources()),
            scheduled_execution_time=datetime(2026, 3, 1, tzinfo=UTC),
        ) as context:
            answer = schedule.evaluate_tick(context)
        return len(answer.run_requests or []), answer.skip_message

    nobody = evaluate()
    with shop.whole.metadata.transaction() as tx:
        make_client(tx, partner={"base_url": "https://acme.example"})
    somebody = evaluate()

    assert nobody == (0, "no active client has partner settings")
    assert somebody == (1, None)


def test_both_doors_are_there_before_anything_is_published(shop: Shop) -> None:
    whole = build_definitions(shop.whole, release=0).get_repository_def()

    assert {"sync_external_runs", "ingest_external_runs"} <= {*whole.job_names}
    assert whole.has_schedule_def("external_runs")
    assert whole.has_sensor_def("external_files")
    assert (
        dg.AssetKey(["chm", "landing", "external_runs"])
        in whole.asset_graph.get_all_asset_keys()
    )
