"""Rolling back: an earlier release is current again, and nothing of the later ones goes on."""

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select, text, update

from rat_assets import actions
from rat_resources import hand_written, leases, releases, runs, wishes
from rat_resources.errors import CancelledError, NotFoundError
from rat_resources.lake.refs import MAIN
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion
from rat_resources.metadata.runs import Run, RunStatus
from rat_resources.metadata.trace.tasks import Task, TaskStatus
from rat_resources.names import TableName
from rat_resources.releases import Release
from rat_resources.retirement import ReadError, retire
from rat_resources.rollback import PrunedError
from tests.factories import ORDERS, Shop
from tests.places import EVERYWHERE
from tests.rat_assets.test_cli import call

NUMBERS = "shop/pipelines/bronze/numbers/pipeline.sql"
SILVER = "shop/pipelines/silver/orders/pipeline.sql"
GOLD = "shop/pipelines/gold/revenue/pipeline.sql"
BRONZE_TABLE, SILVER_TABLE, GOLD_TABLE = (
    TableName("shop", layer, name)
    for layer, name in (
        ("bronze", "orders"),
        ("silver", "orders"),
        ("gold", "revenue"),
    )
)
NEW = {"shop/pipelines/gold/one/pipeline.sql": "SELECT 1 AS id"}
CHANGED = {SILVER: ORDERS[SILVER].replace("amount::DECIMAL(12, 2)", "amount")}


def ask(shop: Shop, question: str) -> Sequence[tuple[Any, ...]]:
    """The rows of a question."""
    with shop.whole.metadata.transaction() as tx:
        return [tuple(row) for row in tx.execute(text(question))]


def pointers(shop: Shop) -> list[tuple[Any, ...]]:
    """What Trace serves."""
    return [
        *ask(shop, "SELECT dag_name, dag_version_id FROM trace.dag_current_versions"),
        *ask(
            shop,
            "SELECT dataset, dataset_version FROM trace.current_dataset_versions ORDER BY 1",
        ),
    ]


def code(shop: Shop, table: TableName) -> str:
    """The published code of a pipeline."""
    with shop.whole.metadata.transaction() as tx:
        (found,) = releases.load(tx, only=[table])
    return releases.read_source(shop.whole.store, found).code


def test_everything_is_as_it_was_by_a_new_release(shop: Shop) -> None:
    shop.publish()
    before = pointers(shop)
    shop.publish(CHANGED)
    shop.publish(NEW)

    release = actions.roll_back(shop.whole, 1)

    assert release == Release(
        4,
        is_new=True,
        changed=(SILVER_TABLE,),
        unchanged=(BRONZE_TABLE, GOLD_TABLE),
        retired=(TableName("shop", "gold", "one"),),
    )
    assert pointers(shop) == before
    assert code(shop, SILVER_TABLE) == ORDERS[SILVER]
    assert not releases.publish(shop.whole.metadata, shop.whole.store).is_new


def test_a_pipeline_that_was_retired_since_comes_back(shop: Shop) -> None:
    shop.publish()
    before = pointers(shop)
    retire(shop.whole.metadata, shop.whole.store, [str(GOLD_TABLE)])

    release = actions.roll_back(shop.whole, 1)

    assert release.created == (GOLD_TABLE,)
    assert pointers(shop) == before


def test_rolling_back_twice_changes_nothing_the_second_time(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED)
    actions.roll_back(shop.whole, 1)
    before = pointers(shop)

    again = actions.roll_back(shop.whole, 1)

    assert (again.number, again.is_new) == (3, False)
    assert pointers(shop) == before


def test_a_rollback_can_be_rolled_back(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED)
    before = pointers(shop)
    actions.roll_back(shop.whole, 1)

    actions.roll_back(shop.whole, 2)

    assert pointers(shop) == before
    assert code(shop, SILVER_TABLE) == CHANGED[SILVER]


def test_a_dry_run_says_what_would_change_and_changes_nothing(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED | NEW)
    before = pointers(shop)

    said = actions.roll_back(shop.whole, 1, dry_run=True)

    assert (said.number, said.changed) == (3, (SILVER_TABLE,))
    assert said.retired == (TableName("shop", "gold", "one"),)
    assert pointers(shop) == before
    assert ask(shop, "SELECT max(number) FROM rat.releases") == [(2,)]


def test_an_unknown_release_is_met_with_those_that_there_are(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED)

    with pytest.raises(NotFoundError, match=r"no release 7; there is 1, 2; "):
        actions.roll_back(shop.whole, 7)


def test_before_the_first_publish_there_is_nothing_to_go_back_to(shop: Shop) -> None:
    with pytest.raises(NotFoundError, match="nothing was published yet"):
        actions.roll_back(shop.whole, 1)


def test_a_release_whose_versions_were_pruned_says_which_one_can_be_had(
    shop: Shop,
) -> None:
    shop.publish()
    for n in range(2, 6):
        shop.publish({GOLD: f"SELECT {n} AS n FROM {{{{ ref('silver.orders') }}}}\n"})
    with shop.whole.metadata.transaction() as tx:
        gold = select(Pipeline.id).where(Pipeline.layer == "gold").scalar_subquery()
        tx.execute(
            PipelineVersion.__table__.delete().where(  # type: ignore[attr-defined]
                PipelineVersion.pipeline_id == gold,
                PipelineVersion.release_number.in_([1, 2]),
            )
        )

    with pytest.raises(
        PrunedError, match=r"had of shop.gold.revenue were pruned; .* restored is 3$"
    ):
        actions.roll_back(shop.whole, 2)
    assert actions.roll_back(shop.whole, 3).changed == (GOLD_TABLE,)


def test_a_release_between_two_kept_versions_is_not_guessed(shop: Shop) -> None:
    shop.publish()
    for n in range(2, 5):
        shop.publish({GOLD: f"SELECT {n} AS n FROM {{{{ ref('silver.orders') }}}}\n"})
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("DELETE FROM rat.pipeline_versions WHERE version_number = 2"))

    with pytest.raises(PrunedError, match="release 2 is no longer whole"):
        actions.roll_back(shop.whole, 2)


def test_a_draft_in_the_store_stays(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED)
    shop.whole.store.write(SILVER, b"SELECT 3 AS draft")

    actions.roll_back(shop.whole, 1)

    assert shop.whole.store.read(SILVER) == b"SELECT 3 AS draft"
    dirty = "SELECT layer FROM rat.pipelines WHERE draft_dirty"
    assert ask(shop, dirty) == [("silver",)]


def queued_tasks(shop: Shop) -> dict[str, uuid.UUID]:
    """A task that waits, for each active job."""
    with shop.whole.metadata.transaction() as tx:
        rows = tx.execute(
            text(
                "INSERT INTO trace.tasks (job_id) SELECT id FROM trace.jobs WHERE active"
                " RETURNING id, (SELECT name FROM trace.jobs WHERE jobs.id = job_id)"
            )
        )
        return {name: task for task, name in rows}


def test_what_waits_for_an_abandoned_generation_is_cancelled(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED)
    tasks = queued_tasks(shop)

    actions.roll_back(shop.whole, 1)

    with shop.whole.metadata.transaction() as tx:
        found = {name: tx.get_one(Task, task).status for name, task in tasks.items()}
        silver = tx.get_one(Task, tasks["silver.orders"])
    assert found == {
        "bronze.orders": TaskStatus.QUEUED,
        "silver.orders": TaskStatus.CANCELED,
        "gold.revenue": TaskStatus.CANCELED,
    }
    assert silver.error_message == "release 2 was rolled back to 1"


def test_what_leaves_is_wished_for_no_more_and_nothing_is_computed(shop: Shop) -> None:
    shop.publish()
    shop.publish(NEW)
    with shop.whole.metadata.transaction() as tx:
        for each in releases.load(tx):
            wishes.wish(tx, each.pipeline_id, label="auto", reason="news")
    before = shop.main

    actions.roll_back(shop.whole, 1)

    wished = ask(
        shop,
        "SELECT name, state, ended_because, finished_at IS NULL FROM rat.wishes"
        " JOIN rat.pipelines ON pipelines.id = pipeline_id WHERE layer = 'gold' ORDER BY 1",
    )
    assert wished == [
        ("one", "done", "its pipeline was retired by release 3", False),
        ("revenue", "waiting", None, True),
    ]
    assert (shop.main, shop.runs()) == (before, [])


def test_a_run_that_was_launched_with_what_is_abandoned_never_begins(
    shop: Shop,
) -> None:
    shop.publish()
    shop.publish(CHANGED)
    with shop.whole.metadata.transaction() as tx:
        (late,) = releases.load(tx, only=[SILVER_TABLE])
        run_id = uuid.uuid4()
        tx.add(Run(id=run_id, pipeline_id=late.pipeline_id, version_id=late.version_id))
        tx.flush()
        hold = leases.acquire(tx, late.pipeline_id, run_id=run_id)
    assert hold

    actions.roll_back(shop.whole, 1)

    with (
        pytest.raises(
            CancelledError, match=r"of release 2, which release 3 rolled back"
        ),
        shop.whole.metadata.transaction() as tx,
    ):
        runs.begin(
            tx,
            hold,
            branch="run",
            base_commit=shop.main,
            started_at=runs.database_time(tx),
        )


@EVERYWHERE
def test_what_was_published_before_a_rollback_can_still_be_asked(shop: Shop) -> None:
    shop.publish({NUMBERS: "SELECT range AS n FROM range(3)"})
    shop.run()
    first = shop.main
    shop.publish({NUMBERS: "SELECT range AS n FROM range(5)"})
    shop.run()
    second = shop.main

    actions.roll_back(shop.whole, 1)
    report = shop.run()

    assert report.succeeded
    asked = ("query", "SELECT count(*) FROM bronze.numbers", "--format", "csv")
    counts = [
        call(*asked, "--ref", ref).stdout.split()[-1]
        for ref in (first, second, MAIN, f"{MAIN}@{second}")
    ]
    assert counts == ["3", "5", "3", "5"]


def test_what_was_restored_runs(open_shop: Shop) -> None:
    open_shop.publish(CHANGED)
    actions.roll_back(open_shop.whole, 1)

    report = open_shop.run("shop.gold.revenue")

    assert report.succeeded
    assert open_shop.runs()[-1].status == RunStatus.SUCCESS


def test_what_is_written_by_hand_follows_its_code(shop: Shop) -> None:
    shop.publish()
    shop.publish(NEW)
    with shop.whole.metadata.transaction() as tx:
        version = update(PipelineVersion).where(PipelineVersion.release_number == 2)
        spec = PipelineVersion.spec.op("||")(text("""'{"hand_written": "a.py:one"}'"""))
        tx.execute(version.values(spec=spec))

    release = actions.roll_back(shop.whole, 1)

    assert not release.is_new
    with shop.whole.metadata.transaction() as tx:
        assert hand_written.current(tx) == {TableName("shop", "gold", "one")}
        abandoned = select(PipelineVersion.id).where(
            PipelineVersion.abandoned_by.is_not(None)
        )
        assert not tx.scalars(abandoned).all()


def test_what_a_hand_written_asset_reads_is_not_taken_from_it(shop: Shop) -> None:
    shop.publish()
    shop.publish(NEW)
    reader = "SELECT * FROM {{ ref('gold.one') }}"
    shop.publish({"shop/pipelines/gold/two/pipeline.sql": reader})
    with shop.whole.metadata.transaction() as tx:
        version = update(PipelineVersion).where(PipelineVersion.release_number == 3)
        spec = PipelineVersion.spec.op("||")(text("""'{"hand_written": "a.py:two"}'"""))
        tx.execute(version.values(spec=spec))

    with pytest.raises(ReadError, match=r"shop.gold.one is read by shop.gold.two"):
        actions.roll_back(shop.whole, 1)


def test_the_job_rolls_back(shop: Shop) -> None:
    shop.publish()
    shop.publish(CHANGED)

    config = {"ops": {"roll_back_release": {"config": {"release": 1}}}}
    done = actions.rollback_job.execute_in_process(
        run_config=config,
        instance=shop.instance,
        resources={"platform": shop.whole},
        raise_on_error=False,
    )

    assert done.success
    assert code(shop, SILVER_TABLE) == ORDERS[SILVER]
