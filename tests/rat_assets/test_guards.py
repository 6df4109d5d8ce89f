"""Guards: a run that changes too much of main is stopped, unless somebody accepts it."""

import getpass

import dagster as dg
import pytest
from sqlalchemy import select

from rat_assets.actions import run_job
from rat_assets.changes import Changes
from rat_assets.guards import find_offenders
from rat_assets.steps import accepted_by
from rat_resources.guards import Guard, Limit
from rat_resources.lake.evolution import SchemaChange
from rat_resources.metadata.landing import LandingFile
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.runs import ACCEPT_TAG, REPEATS_TAG
from rat_resources.wiring import resources
from tests.factories import Shop
from tests.hooks import settle

FOLDER = "shop/pipelines/bronze/orders"
TABLE = "shop.bronze.orders"
SQL, CONFIG = f"{FOLDER}/pipeline.sql", f"{FOLDER}/config.yaml"
FIVE_PERCENT = Limit(5, is_share=True)
DROPPED = SchemaChange("dropped", "note", "varchar", None)
WIDENED = SchemaChange("widened", "id", "integer", "bigint")


def orders(rows: int, *, guard: str = "max_removed: 5%") -> dict[str, str]:
    """A table of so many rows."""
    return {
        SQL: f"SELECT range AS id, 'x' AS note FROM range({rows})",
        CONFIG: f"guard: {{{guard}}}",
    }


def changes(
    *,
    added: int = 0,
    removed: int = 0,
    changed: int | None = 0,
    before: int = 1000,
    columns: tuple[SchemaChange, ...] = (),
) -> Changes:
    return Changes(
        is_first=False,
        rows_before=before,
        rows_after=before + added - removed,
        added=added,
        removed=removed,
        changed=changed,
        columns=columns,
    )


def results(shop: Shop) -> list[tuple[str, str, str]]:
    """Every result: test, status, message."""
    with shop.whole.metadata.transaction() as tx:
        rows = tx.execute(
            select(QualityTest.name, QualityResult.status, QualityResult.message)
            .join(QualityResult, QualityResult.test_id == QualityTest.id)
            .order_by(QualityResult.ran_at)
        )
        return [(name, status, message) for name, status, message in rows]


@pytest.mark.parametrize(
    ("guard", "what", "found", "offenders", "message"),
    [
        (
            Guard(max_removed=FIVE_PERCENT),
            "max_removed",
            changes(removed=50),
            0,
            "removed 50 of 1,000 rows, 5.0 %; allowed 5 %",
        ),
        (
            Guard(max_removed=FIVE_PERCENT),
            "max_removed",
            changes(removed=51),
            51,
            "removed 51 of 1,000 rows, 5.1 %; allowed 5 %",
        ),
        (
            Guard(max_added=Limit(1000)),
            "max_added",
            changes(added=1001),
            1001,
            "added 1,001 of 1,000 rows, 100.1 %; allowed 1,000",
        ),
        (
            Guard(max_added=FIVE_PERCENT),
            "max_added",
            changes(added=9, before=0),
            0,
            "added 9 of 0 rows; allowed 5 %",
        ),
        (
            Guard(max_changed=FIVE_PERCENT),
            "max_changed",
            changes(changed=None),
            None,
            "all rows were written anew, so nobody knows which changed",
        ),
        (
            Guard(columns="no_drop"),
            "columns",
            changes(columns=(WIDENED,)),
            0,
            "no such change; allowed no_drop",
        ),
        (
            Guard(columns="no_drop"),
            "columns",
            changes(columns=(WIDENED, DROPPED)),
            1,
            "dropped note (varchar); allowed no_drop",
        ),
        (
            Guard(columns="no_change"),
            "columns",
            changes(columns=(WIDENED,)),
            1,
            "widened id (integer → bigint); allowed no_change",
        ),
        (
            Guard(max_removed=FIVE_PERCENT),
            "max_removed",
            None,
            0,
            "nothing changed",
        ),
    ],
)
def test_a_guard_compares_what_changed_with_what_may_change(
    guard: Guard,
    what: str,
    found: Changes | None,
    offenders: int | None,
    message: str,
) -> None:
    assert find_offenders(what, guard, found) == (offenders, message)


def test_a_run_that_removes_too_much_is_stopped_like_by_a_failed_test(
    shop: Shop,
) -> None:
    shop.publish(orders(100))
    shop.run()
    before = shop.main
    shop.publish(orders(88))

    report = shop.run()

    said = "removed 12 of 100 rows, 12.0 %; allowed 5 %"
    assert (shop.main, len(shop.rows(TABLE)), shop.branches) == (before, 100, [])
    assert results(shop) == [
        ("guard_max_removed", "passed", "there was no table to change"),
        ("guard_max_removed", "failed", said),
    ]
    assert f"guard_max_removed: failed, {said}" in str(report.tables[0].error)
    assert f"rat run {TABLE} --accept-changes" in str(report.tables[0].error)
    assert (shop.runs()[-1].changes or {})["removed"] == 12


def test_a_guard_is_a_check_in_dagster(shop: Shop) -> None:
    shop.publish(orders(100))
    shop.run()
    shop.publish(orders(50))

    shop.run()

    check = dg.AssetCheckKey(dg.AssetKey(TABLE.split(".")), "guard_max_removed")
    history = shop.instance.event_log_storage.get_asset_check_execution_history(
        check, 9
    )
    assert [record.status.value for record in history] == ["FAILED", "SUCCEEDED"]
    assert len(shop.materializations(TABLE)) == 1


def test_accepted_changes_are_published_once_and_it_is_recorded(shop: Shop) -> None:
    shop.publish(orders(100))
    shop.run()
    shop.publish(orders(50))
    user = getpass.getuser()

    accepted = shop.run(TABLE, accepted_by=user)
    shop.publish(orders(20))
    again = shop.run(TABLE)

    assert (accepted.succeeded, again.succeeded) == (True, False)
    assert [result[1:] for result in results(shop)[1:]] == [
        (
            "warned",
            f"removed 50 of 100 rows, 50.0 %; allowed 5 %; accepted by {user}",
        ),
        ("failed", "removed 30 of 50 rows, 60.0 %; allowed 5 %"),
    ]
    run = shop.runs()[1]
    assert run.changes
    assert run.changes["accepted_by"] == run.settings["accepted_by"] == user
    dagster_run = shop.instance.get_run_by_id(accepted.dagster_run_id)
    assert dagster_run
    assert dagster_run.tags[ACCEPT_TAG] == user
    assert dagster_run.is_success


def test_a_run_that_repeats_an_accepted_one_is_not_accepted() -> None:
    tags = {ACCEPT_TAG: "ann"}

    assert accepted_by(tags) == "ann"
    assert not accepted_by(tags | {REPEATS_TAG: "other"})


def test_the_job_that_is_done_again_accepts_nothing(shop: Shop) -> None:
    shop.publish(orders(9, guard="max_removed: 10%"))
    shop.run()
    shop.publish(orders(5, guard="max_removed: 10%"))
    asked = {"selection": [TABLE], "accept_changes": True}

    result = run_job.execute_in_process(
        run_config={"ops": {"run_pipelines": {"config": asked}}},
        instance=shop.instance,
        resources=resources(),
        tags={REPEATS_TAG: "other"},
        raise_on_error=False,
    )

    assert not result.success
    assert len(shop.rows(TABLE)) == 9


def test_a_full_refresh_that_drops_a_column_is_stopped(shop: Shop) -> None:
    shop.publish(orders(9, guard="columns: no_drop"))
    shop.run()
    shop.publish({SQL: "SELECT range AS id FROM range(9)"})

    report = shop.run()

    assert not report.succeeded
    assert results(shop)[-1] == (
        "guard_columns",
        "failed",
        "dropped note (varchar); allowed no_drop",
    )


def test_a_full_refresh_of_a_guarded_incremental_table_warns(shop: Shop) -> None:
    keyed = "-- @merge_strategy: incremental\n-- @unique_key: id\n"
    files = orders(9, guard="max_changed: 1")
    shop.publish(files | {SQL: keyed + files[SQL]})
    shop.run()

    report = shop.run(TABLE, full_refresh=True)

    assert report.succeeded
    assert results(shop)[-1][1] == "warned"


def test_files_of_a_guarded_run_wait_like_those_of_a_failed_test(shop: Shop) -> None:
    shop.publish(
        {
            SQL: "-- @merge_strategy: append_only\n"
            "SELECT * FROM read_csv('{{ landing_zone('orders', new=true) }}/*.csv')",
            CONFIG: "guard: {max_added: 1}",
        }
    )
    settle(shop.land("one.csv", "id\n1\n"))
    shop.run()
    settle(shop.land("two.csv", "id\n1\n2\n3\n"))

    stopped = shop.run()
    accepted = shop.run(TABLE, accepted_by="ann")

    with shop.whole.metadata.transaction() as tx:
        files = tx.scalars(select(LandingFile.s3_path)).all()
    assert (stopped.succeeded, accepted.succeeded) == (False, True)
    assert len(shop.rows(TABLE)) == 4
    assert len(files) == 2
