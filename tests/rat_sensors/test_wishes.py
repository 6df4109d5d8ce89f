import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import func, select, update

from rat_resources import releases, wishes
from rat_resources.metadata import Metadata
from rat_resources.metadata.automation import Wish
from rat_resources.names import TableName
from rat_resources.retirement import retire
from rat_resources.specs import pipeline_folder
from rat_resources.store import LocalStore
from rat_resources.wishes import Node
from rat_sensors import wishes as sensors

ORDERS = TableName("shop", "bronze", "orders")


@dg.asset(key=list(ORDERS.key))
def orders() -> None:
    """A table."""


JOB = dg.define_asset_job("pipelines", selection=dg.AssetSelection.assets(orders))
SENSOR = sensors.build_wishes_sensor(JOB)
DEFINITIONS = dg.Definitions(
    assets=[orders],
    jobs=[JOB],
    sensors=[SENSOR],
    resources={"metadata": dg.ResourceDefinition.none_resource()},
)


@pytest.fixture
def dagster() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(autouse=True)
def published(metadata: Metadata, tmp_path: Path) -> None:
    folder = tmp_path / "tree" / pipeline_folder(ORDERS)
    folder.mkdir(parents=True)
    (folder / "pipeline.sql").write_text("SELECT 1 AS id")
    releases.publish(metadata, LocalStore(tmp_path / "store"), folder=tmp_path / "tree")
    with metadata.transaction() as tx:
        (pipeline,) = releases.load(tx)
        wishes.wish(tx, pipeline.pipeline_id, label="schedule:0 * * * *", reason="1")


def tick(metadata: Metadata, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    context = dg.build_sensor_context(
        instance=instance, resources={"metadata": metadata}
    )
    return list(SENSOR.evaluate_tick(context).run_requests or ())


def launch(instance: dg.DagsterInstance, run_key: str) -> dg.ExecuteInProcessResult:
    job = DEFINITIONS.resolve_job_def("pipelines")
    return job.execute_in_process(instance=instance, tags={"dagster/run_key": run_key})


def test_a_due_wish_becomes_one_run_that_says_why(
    metadata: Metadata, dagster: dg.DagsterInstance
) -> None:
    (request,) = tick(metadata, dagster)
    again = tick(metadata, dagster)

    assert request.asset_selection == [dg.AssetKey(ORDERS.key)]
    assert request.tags["rat/trigger"] == "schedule:0 * * * *"
    assert json.loads(request.tags["rat/labels"]) == {
        "shop.bronze.orders": "schedule:0 * * * *"
    }
    assert again == []


def test_a_request_that_got_lost_is_made_again_under_its_key(
    metadata: Metadata, dagster: dg.DagsterInstance
) -> None:
    (lost,) = tick(metadata, dagster)
    with metadata.transaction() as tx:
        long_ago = func.now() - wishes.GRACE * 2
        tx.execute(update(Wish).values(requested_at=long_ago))

    (again,) = tick(metadata, dagster)

    assert again.run_key == lost.run_key
    assert again.asset_selection == lost.asset_selection


def test_a_wish_that_its_run_never_came_to_is_asked_for_anew(
    metadata: Metadata, dagster: dg.DagsterInstance
) -> None:
    (first,) = tick(metadata, dagster)
    launch(dagster, str(first.run_key))

    (second,) = tick(metadata, dagster)

    assert second.run_key != first.run_key


def test_a_run_that_was_taken_out_of_the_queue_does_not_come_back(
    metadata: Metadata, dagster: dg.DagsterInstance
) -> None:
    (first,) = tick(metadata, dagster)
    run = dagster.create_run_for_job(
        DEFINITIONS.resolve_job_def("pipelines"),
        tags={"dagster/run_key": str(first.run_key)},
        status=dg.DagsterRunStatus.NOT_STARTED,
    )
    dagster.report_run_canceled(run)

    again = tick(metadata, dagster)

    assert again == []
    with metadata.transaction() as tx:
        assert tx.scalars(select(Wish.state)).all() == ["done"]


def test_what_a_retired_pipeline_is_still_wished_to_do_ends(
    metadata: Metadata, dagster: dg.DagsterInstance, tmp_path: Path
) -> None:
    retire(metadata, LocalStore(tmp_path / "store"), [str(ORDERS)])
    with metadata.transaction() as tx:
        pipeline_id = tx.scalars(select(Wish.pipeline_id)).one()
        wishes.wish(tx, pipeline_id, label="auto", reason="a file that was on its way")

    asked = tick(metadata, dagster)

    assert asked == []
    with metadata.transaction() as tx:
        ended = tx.execute(select(Wish.state, Wish.ended_because)).all()
        assert not wishes.is_any_open(tx)
    assert {tuple(row) for row in ended} == {
        ("done", "its pipeline was retired by release 2")
    }


def test_the_graph_is_what_the_release_holds(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        (node,) = sensors.graph_of(tx)

    assert node == Node(node.pipeline_id, ORDERS, eager=False)
