"""The queue: a step waits as a task, becomes its run's, or ends with a reason."""

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from sqlalchemy import select

from rat_assets import actions
from rat_assets.definitions import build_definitions
from rat_assets.runner import origin_of
from rat_assets.steps import asset_key
from rat_resources import reaping, releases, runs, wishes
from rat_resources import tasks as tasks_of_trace
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.runs import RunStatus
from rat_resources.metadata.trace.dags import Job
from rat_resources.metadata.trace.tasks import Task
from rat_resources.mirror import positions
from rat_resources.mirror.ids import trace_id
from rat_resources.mirror.log import catch_up
from rat_resources.names import TableName
from rat_sensors.jobs import PIPELINES
from tests.factories import Shop
from tests.rat_resources.audit.test_audit import lines
from tests.rat_resources.mirror.dagster_jobs import change

BRONZE, SILVER = TableName("shop", "bronze", "one"), TableName("shop", "silver", "two")
TWO = {
    "shop/pipelines/bronze/one/pipeline.sql": "SELECT 1 AS id",
    "shop/pipelines/bronze/one/config.yaml": "max_retries: 2\n",
    "shop/pipelines/silver/two/pipeline.sql": "FROM {{ ref('bronze.one') }}",
}
FAILING = TWO | {"shop/pipelines/bronze/one/pipeline.sql": "SELECT error('no') AS id"}


class Queued:
    """A run of a shop's pipelines that Dagster was asked for."""

    def __init__(self, shop: Shop, *tables: TableName) -> None:
        whole = shop.whole
        with whole.metadata.transaction() as tx:
            release = releases.current(tx) or 0
        built = build_definitions(whole, release=release, only=tables)
        self.instance = shop.instance
        self.job = built.resolve_job_def(PIPELINES)
        self.run = shop.instance.create_run_for_job(
            job_def=self.job,
            asset_selection=frozenset(map(asset_key, tables)),
            remote_job_origin=origin_of(self.job.name),
        )

    @property
    def id(self) -> str:
        """The id of the run."""
        return self.run.run_id

    def execute(self) -> None:
        """Run it to its end."""
        execute_run(
            InMemoryJob(self.job), self.run, self.instance, raise_on_error=False
        )


def tasks(shop: Shop) -> dict[str, Task]:
    """The only task of each job."""
    with shop.whole.metadata.transaction() as tx:
        found = [
            (name, task)
            for task, name in tx.execute(
                select(Task, Job.name).join(Job, Job.id == Task.job_id)
            )
        ]
        tx.expunge_all()
    assert len(dict(found)) == len(found)
    return dict(found)


def states(shop: Shop) -> dict[str, str]:
    """What became of the only task of each job."""
    return {name: task.status for name, task in tasks(shop).items()}


@pytest.fixture
def two(shop: Shop) -> Shop:
    """A shop of two pipelines, one after the other."""
    shop.publish(TWO)
    return shop


def test_the_steps_of_a_queued_run_wait_as_tasks(two: Shop) -> None:
    queued = Queued(two, BRONZE, SILVER)

    catch_up(two.whole.metadata)

    assert states(two) == {"bronze.one": "Queued", "silver.two": "Queued"}
    bronze = tasks(two)["bronze.one"]
    assert bronze.id == trace_id("task", queued.id, BRONZE)
    assert (bronze.dagster_run_id, bronze.run_id) == (queued.id, None)
    assert (bronze.attempt, bronze.attempts, bronze.dedupe_key) == (1, 0, None)
    assert lines(two) == []


def test_a_step_that_begins_takes_its_task_over(two: Shop) -> None:
    with two.whole.metadata.transaction() as tx:
        (bronze,) = tx.scalars(select(Pipeline.id).where(Pipeline.layer == "bronze"))
        wishes.wish(tx, bronze, label="manual", reason="news")
    queued = Queued(two, BRONZE, SILVER)
    catch_up(two.whole.metadata)
    waited = tasks(two)

    queued.execute()
    catch_up(two.whole.metadata)

    done = tasks(two)
    assert states(two) == {"bronze.one": "Completed", "silver.two": "Completed"}
    assert [done[name].id for name in done] == [waited[name].id for name in done]
    assert {task.run_id for task in done.values()} == {run.id for run in two.runs()}
    assert done["bronze.one"].dedupe_key == "news"
    assert lines(two) == []


def test_a_step_is_of_the_release_that_its_run_is_of(two: Shop) -> None:
    queued = Queued(two, BRONZE)
    catch_up(two.whole.metadata)
    before = tasks(two)["bronze.one"].job_id
    two.publish({"shop/pipelines/bronze/one/pipeline.sql": "SELECT 2 AS id"})

    queued.execute()

    done = tasks(two)["bronze.one"]
    assert (done.job_id, done.status) == (before, "Completed")


def test_a_run_that_leaves_the_queue_takes_its_tasks_along(two: Shop) -> None:
    queued = Queued(two, BRONZE)
    catch_up(two.whole.metadata)

    two.instance.report_run_canceled(queued.run, message="not today")
    catch_up(two.whole.metadata)

    task = tasks(two)["bronze.one"]
    assert (task.status, task.error_message) == ("Canceled", "not today")
    assert (task.completed_at is None, task.run_id) == (False, None)
    assert lines(two) == []


def test_a_run_that_cannot_start_fails_its_tasks(two: Shop) -> None:
    queued = Queued(two, BRONZE)

    two.instance.report_run_failed(queued.run, message="no such image")
    catch_up(two.whole.metadata)

    task = tasks(two)["bronze.one"]
    assert (task.status, task.error_message) == ("Failed", "no such image")
    assert (task.next_retry_at, task.attempts) == (None, 0)
    assert lines(two) == []


def test_what_follows_a_failure_is_cancelled_and_has_no_run(shop: Shop) -> None:
    shop.publish(FAILING | {"shop/pipelines/bronze/one/config.yaml": ""})
    queued = Queued(shop, BRONZE, SILVER)
    catch_up(shop.whole.metadata)

    queued.execute()
    catch_up(shop.whole.metadata)

    assert states(shop) == {"bronze.one": "Failed", "silver.two": "Canceled"}
    said = tasks(shop)["silver.two"].error_message or ""
    assert said.startswith("its Dagster run failed before it")
    assert "shop__bronze__one" in said
    assert len(shop.runs()) == 1
    assert lines(shop) == []


def test_the_end_is_the_same_for_who_never_saw_it_wait(shop: Shop) -> None:
    shop.publish(FAILING | {"shop/pipelines/bronze/one/config.yaml": ""})
    Queued(shop, BRONZE, SILVER).execute()

    catch_up(shop.whole.metadata)

    assert states(shop) == {"bronze.one": "Failed", "silver.two": "Canceled"}


def test_a_deleted_run_is_not_waited_for(two: Shop) -> None:
    queued = Queued(two, BRONZE)
    catch_up(two.whole.metadata)

    two.instance.delete_run(queued.id)
    catch_up(two.whole.metadata)

    task = tasks(two)["bronze.one"]
    assert (task.status, task.error_message) == (
        "Canceled",
        "its Dagster run was deleted",
    )


def test_a_run_that_goes_on_with_a_lost_task_leaves_its_own(two: Shop) -> None:
    first = Queued(two, BRONZE)
    catch_up(two.whole.metadata)
    lost = tasks(two)["bronze.one"].id
    lose(two, first)
    queued = Queued(two, BRONZE)
    catch_up(two.whole.metadata)

    queued.execute()
    catch_up(two.whole.metadata)

    with two.whole.metadata.transaction() as tx:
        own = tx.get_one(Task, trace_id("task", queued.id, BRONZE))
        theirs = tx.get_one(Task, lost)
    assert (own.status, own.error_message) == (
        "Canceled",
        f"task {lost} does its work",
    )
    assert (theirs.status, theirs.dagster_run_id) == ("Completed", queued.id)
    assert lines(two) == []


def lose(shop: Shop, queued: Queued) -> None:
    """Let the worker of a run die as it begins, with attempts left."""
    with shop.whole.metadata.transaction() as tx:
        (published,) = releases.load(tx, only=[BRONZE])
        run_id = runs.run_id_of(queued.id, BRONZE, attempt=1)
        wanted = runs.ask(
            tx,
            run_id,
            pipeline_id=published.pipeline_id,
            version_id=published.version_id,
            dagster_run_id=queued.id,
            attempt=1,
            settings={"release": 1},
        )
        assert wanted is not None
        tasks_of_trace.claim(tx, wanted, run_id=run_id)
        runs.end(tx, run_id, RunStatus.FAILED, error="lost")
        reaping.lose(tx, run_id)
    shop.instance.report_run_failed(queued.run)


def test_telling_again_changes_nothing_and_wakes_nobody(two: Shop) -> None:
    Queued(two, BRONZE)
    catch_up(two.whole.metadata)
    change(
        two.whole.metadata,
        "UPDATE trace.tasks SET status = 'Canceled', completed_at = now()",
    )
    with two.whole.metadata.transaction() as tx:
        positions.restart(tx)

    catch_up(two.whole.metadata)

    assert states(two) == {"bronze.one": "Canceled"}


def test_a_rollback_cancels_what_waits_and_its_run_is_refused(two: Shop) -> None:
    two.publish({"shop/pipelines/bronze/one/pipeline.sql": "SELECT 2 AS id"})
    queued = Queued(two, BRONZE)
    catch_up(two.whole.metadata)

    actions.roll_back(two.whole, 1)
    before = states(two)
    queued.execute()
    catch_up(two.whole.metadata)

    assert before == states(two) == {"bronze.one": "Canceled"}
    (run,) = two.runs()
    assert (run.status, tasks(two)["bronze.one"].run_id) == ("cancelled", run.id)
    assert lines(two) == []


def test_what_is_no_table_of_ours_is_no_task(
    shop: Shop,
) -> None:
    @dg.asset(key=["shop", "bronze", "theirs"])
    def theirs() -> None: ...

    job = dg.Definitions([theirs]).resolve_implicit_global_asset_job_def()
    shop.instance.create_run_for_job(job_def=job)

    catch_up(shop.whole.metadata)

    assert states(shop) == {}
