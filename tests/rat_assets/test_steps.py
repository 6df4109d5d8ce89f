"""Steps: what is tried again, what Dagster is told, and what it is not."""

import os
import signal
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from sqlalchemy import select

from rat_assets.runner import RunReport
from rat_resources import leases, publishing
from rat_resources.audit import audit
from rat_resources.lake.refs import MAIN
from rat_resources.metadata.landing import ClaimState, LandingClaim
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.names import TableName
from rat_resources.reaping import DIED
from rat_resources.reconciliation import end_dead_run, reconcile
from tests.factories import Shop, folder_of
from tests.hooks import cancel, dagster_status, settle, when
from tests.places import EVERYWHERE

NUMBERS = "shop/pipelines/bronze/numbers"
QUERY = {f"{NUMBERS}/pipeline.sql": "SELECT range AS n FROM range(3)"}
TWICE = "max_retries: 2\nretry_delay_seconds: 0\n"


def failing(shop: Shop, *, times: int, code: str = "pa.table({'n': [1]})") -> str:
    """A script that fails the first *times* that it runs."""
    counter = shop.folder.parent / "counter"
    return f"""
import pathlib
counter = pathlib.Path({str(counter)!r})
count = int(counter.read_text()) if counter.exists() else 0
counter.write_text(str(count + 1))
if count < {times}:
    raise RuntimeError(f'failure {{count}}')
result = {code}
"""


def write_elsewhere(shop: Shop, name: str, *, values: list[int]) -> None:
    """Publish rows of a table by a branch of somebody else."""
    table, branch = TableName.parse(name), f"elsewhere-{uuid.uuid4()}"
    refs = shop.whole.lake.refs
    base = refs.head(MAIN)
    refs.create(branch, at=f"{MAIN}@{base}")
    catalog = shop.whole.lake.catalog(branch)
    rows = pa.table({"n": pa.array(values, pa.int64())})
    if catalog.table_exists(table.key):
        written = catalog.load_table(table.key)
    else:
        catalog.create_namespace_if_not_exists(table.key[:1])
        catalog.create_namespace_if_not_exists(table.key[:2])
        written = catalog.create_table(table.key, schema=rows.schema)
    written.append(rows)
    refs.merge(branch, from_hash=refs.head(branch), into=MAIN, expected_hash=base)


# Trying again.


def test_a_failed_run_is_repeated_as_another_run_on_another_branch(shop: Shop) -> None:
    shop.publish(
        {
            f"{NUMBERS}/pipeline.py": failing(shop, times=2),
            f"{NUMBERS}/config.yaml": TWICE,
        }
    )

    report = shop.run()

    assert report.tables[0].status == "published"
    found = shop.runs()
    assert [run.status for run in found] == ["failed", "failed", "success"]
    assert [run.attempt for run in found] == [1, 2, 3]
    assert len({run.branch for run in found}) == 3
    assert len({run.dagster_run_id for run in found}) == 1
    assert len(shop.materializations("shop.bronze.numbers")) == 1
    assert shop.branches == []


def test_retries_come_to_an_end(shop: Shop) -> None:
    shop.publish(
        {
            f"{NUMBERS}/pipeline.py": failing(shop, times=9),
            f"{NUMBERS}/config.yaml": TWICE,
        }
    )

    report = shop.run()

    assert report.tables[0].status == "failed"
    assert "failure 2" in (report.tables[0].error or "")
    assert len(shop.runs()) == 3


def test_what_the_tests_stopped_is_not_tried_again(shop: Shop) -> None:
    test = f"{NUMBERS}/tests/quality/small.sql"
    shop.publish(
        QUERY | {f"{NUMBERS}/config.yaml": TWICE, test: "FROM {{ this }} WHERE n > 1"}
    )

    report = shop.run()

    assert report.tables[0].failed == 1
    assert len(shop.runs()) == 1
    error = shop.runs()[0].error or ""
    assert "1 quality test stopped the publication" in error
    assert "small: failed, 1 offending row" in error


def test_a_retry_reads_the_files_of_the_attempt_that_failed(shop: Shop) -> None:
    reading = failing(
        shop,
        times=1,
        code="duckdb_conn.sql(f\"FROM read_csv('{landing_zone('z', new=True)}/*')\")",
    )
    shop.publish({f"{NUMBERS}/pipeline.py": reading, f"{NUMBERS}/config.yaml": TWICE})
    settle(shop.land("a.csv", "n\n1\n", zone="shop/z"))
    shop.notice()

    report = shop.run(trigger="trigger:lz_upload:shop/z")

    assert (report.tables[0].status, report.tables[0].rows_written) == ("published", 1)


def test_the_files_of_the_last_attempt_wait_with_the_reason(shop: Shop) -> None:
    reading = failing(shop, times=9, code="landing_zone('z', new=True)")
    shop.publish({f"{NUMBERS}/pipeline.py": reading})
    settle(shop.land("a.csv", "n\n1\n", zone="shop/z"))
    shop.notice()

    shop.run(trigger="trigger:lz_upload:shop/z")

    with shop.whole.metadata.transaction() as tx:
        (claim,) = tx.scalars(select(LandingClaim)).all()
        assert claim.state == ClaimState.WAITING
        assert "failure 0" in claim.reason


def test_nobody_waits_for_a_retry_of_a_cancelled_run(shop: Shop) -> None:
    shop.publish(
        {
            f"{NUMBERS}/pipeline.py": failing(shop, times=9),
            f"{NUMBERS}/config.yaml": "max_retries: 1\nretry_delay_seconds: 3600\n",
        }
    )

    with when("write", lambda: cancel(shop), state="failed"):
        report = shop.run()

    assert report.tables[0].status == "cancelled"
    canceled = dg.DagsterRunStatus.CANCELED
    assert dagster_status(shop, report.dagster_run_id) == canceled


def test_what_goes_wrong_after_the_merge_publishes_nothing_twice(shop: Shop) -> None:
    shop.publish(
        {f"{NUMBERS}/pipeline.sql": APPENDING, f"{NUMBERS}/config.yaml": TWICE}
    )
    (folder_of(shop.whole.settings.store) / "_logs").write_text(
        "in the way of all logs"
    )

    report = shop.run()

    assert report.tables[0].status == "published"
    assert len(shop.runs()) == 1
    assert len(shop.rows("shop.bronze.numbers")) == 3
    assert len(shop.materializations("shop.bronze.numbers")) == 1


def test_an_error_after_the_merge_is_told_and_not_repeated(shop: Shop) -> None:
    shop.publish(
        {f"{NUMBERS}/pipeline.sql": APPENDING, f"{NUMBERS}/config.yaml": TWICE}
    )

    def fail() -> None:
        raise RuntimeError("out of luck")

    with when("publish", fail, state="said", says="published"):
        report = shop.run()
    untold = len(shop.materializations("shop.bronze.numbers"))
    reconcile(shop.whole, shop.instance)

    assert report.tables[0].status == "published"
    failed = dg.DagsterRunStatus.FAILURE
    assert dagster_status(shop, report.dagster_run_id) == failed
    assert (len(shop.runs()), len(shop.rows("shop.bronze.numbers"))) == (1, 3)
    assert (untold, len(shop.materializations("shop.bronze.numbers"))) == (0, 1)
    assert shop.branches == []


def test_what_somebody_took_for_dead_is_not_tried_again_by_its_own_process(
    shop: Shop,
) -> None:
    shop.publish(QUERY | {f"{NUMBERS}/config.yaml": TWICE})

    def bury() -> None:
        (run,) = shop.runs()
        list(end_dead_run(shop.whole, run.id))

    with when("write", bury):
        report = shop.run()

    (run,) = shop.runs()
    assert not report.succeeded
    assert (run.status, run.error) == ("failed", DIED)
    assert shop.branches == []


def test_ctrl_c_during_the_merge_waits_until_it_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    silver = "shop/pipelines/silver/numbers/pipeline.sql"
    shop.publish(QUERY | {silver: "SELECT n FROM {{ ref('bronze.numbers') }}"})
    merge = publishing.publish

    def interrupted(*asked: Any, **named: Any) -> str | None:  # noqa: ANN401 - whatever it is
        os.kill(os.getpid(), signal.SIGINT)
        return merge(*asked, **named)

    monkeypatch.setattr(publishing, "publish", interrupted)

    report = shop.run()

    assert [each.status for each in report.tables] == ["published", "skipped"]
    canceled = dg.DagsterRunStatus.CANCELED
    assert dagster_status(shop, report.dagster_run_id) == canceled
    assert len(shop.materializations("shop.bronze.numbers")) == 1


# Conflicts.


def test_what_others_publish_meanwhile_is_no_conflict(shop: Shop) -> None:
    shop.publish(QUERY)

    with when("test", lambda: write_elsewhere(shop, "shop.bronze.other", values=[1])):
        report = shop.run()

    assert report.tables[0].status == "published"
    assert len(shop.runs()) == 1
    assert shop.rows("shop.bronze.other") == [(1,)]


def test_a_conflict_is_run_again_on_top(shop: Shop) -> None:
    shop.publish({f"{NUMBERS}/pipeline.sql": APPENDING})

    with when(
        "test", lambda: write_elsewhere(shop, "shop.bronze.numbers", values=[70])
    ):
        report = shop.run()

    assert report.tables[0].status == "published", report.tables[0].error
    statuses = [run.status for run in shop.runs()][-2:]
    assert statuses == ["failed", "success"]
    assert shop.rows("shop.bronze.numbers") == [(0,), (1,), (2,), (70,)]
    assert shop.branches == []


@EVERYWHERE
def test_rows_that_are_only_added_go_on_top_of_what_others_added(shop: Shop) -> None:
    offends = "SELECT * FROM {{ this }} WHERE n > 70"
    shop.publish(
        {
            f"{NUMBERS}/pipeline.sql": APPENDING,
            f"{NUMBERS}/tests/quality/is_small.sql": f"-- @severity: warn\n{offends}",
        }
    )
    shop.run()

    with when(
        "publish",
        lambda: write_elsewhere(shop, "shop.bronze.numbers", values=[70, 71]),
    ):
        report = shop.run()

    (table,) = report.tables
    first, second = shop.runs()
    assert (table.status, table.error) == ("published", None)
    assert (table.rows_written, table.rows_total, table.warned) == (3, 8, 1)
    assert (first.status, second.status) == ("success", "success")
    assert (second.branch or "").endswith(".1")
    assert [row[0] for row in shop.rows("shop.bronze.numbers")] == [
        *(0, 0, 1, 1, 2, 2),
        *(70, 71),
    ]
    assert shop.branches == []
    assert [each for each in audit(shop.whole).lines if "lake.tables" in each] == []


def test_what_others_added_is_tested_with_our_rows_before_they_are_merged(
    shop: Shop,
) -> None:
    offends = "SELECT n FROM {{ this }} GROUP BY n HAVING count(*) > 2"
    shop.publish(
        {
            f"{NUMBERS}/pipeline.sql": APPENDING,
            f"{NUMBERS}/tests/quality/is_rare.sql": f"-- @severity: error\n{offends}",
        }
    )
    shop.run()

    with when(
        "publish", lambda: write_elsewhere(shop, "shop.bronze.numbers", values=[1])
    ):
        report = shop.run()

    assert report.tables[0].status == "failed"
    assert len(shop.rows("shop.bronze.numbers")) == 4
    assert shop.branches == []


@pytest.mark.parametrize(
    "code",
    [
        "-- @merge_strategy: append_only\n"
        "SELECT range + (SELECT count(*) FROM {{ this }}) AS n FROM range(3)",
        "-- @merge_strategy: full_refresh\nSELECT range AS n FROM range(3)",
        "-- @merge_strategy: incremental\n-- @unique_key: n\n"
        "SELECT range AS n FROM range(5)",
    ],
    ids=["reads this", "replaces", "upserts"],
)
def test_what_is_more_than_added_rows_is_computed_again(shop: Shop, code: str) -> None:
    shop.publish({f"{NUMBERS}/pipeline.sql": APPENDING})
    shop.run()
    shop.publish({f"{NUMBERS}/pipeline.sql": code})

    with when(
        "publish", lambda: write_elsewhere(shop, "shop.bronze.numbers", values=[70])
    ):
        report = shop.run()

    assert report.tables[0].status == "published", report.tables[0].error
    assert [run.status for run in shop.runs()][1:] == ["failed", "success"]
    assert shop.branches == []


APPENDING = "-- @merge_strategy: append_only\nSELECT range AS n FROM range(3)"


def test_a_second_conflict_is_a_failure(shop: Shop) -> None:
    shop.publish(QUERY)
    again = when(
        "test", lambda: write_elsewhere(shop, "shop.bronze.numbers", values=[2])
    )
    once = when(
        "test", lambda: write_elsewhere(shop, "shop.bronze.numbers", values=[1])
    )

    def conflict_again() -> None:
        again.__enter__()

    with once, when("publish", conflict_again, state="failed"):
        report = shop.run()
    again.__exit__(None, None, None)

    (table,) = report.tables
    assert table.status == "failed"
    assert "we: 1 → 3 rows by overwrite" in (table.error or "")
    assert ": 1 → 2 rows by append" in (table.error or "")
    assert [run.status for run in shop.runs()] == ["failed", "failed"]
    assert shop.rows("shop.bronze.numbers") == [(1,), (2,)]
    assert shop.branches == []


# One at a time.


def test_a_waiting_run_can_be_cancelled(shop: Shop) -> None:
    shop.publish(QUERY)
    with shop.whole.metadata.transaction() as tx:
        (pipeline,) = tx.scalars(select(Pipeline)).all()
        leases.acquire(tx, pipeline.id, run_id=uuid.uuid4())

    with when("", lambda: cancel(shop), state="said", says="waiting"):
        report = shop.run()

    assert report.tables[0].status == "cancelled"
    assert shop.runs()[0].started_at is None


def test_a_waiting_run_runs_when_the_other_is_over(shop: Shop) -> None:
    shop.publish(QUERY)
    with shop.whole.metadata.transaction() as tx:
        (pipeline,) = tx.scalars(select(Pipeline)).all()
        other = leases.acquire(tx, pipeline.id, run_id=uuid.uuid4())
        assert other is not None

    def end_other() -> None:
        with shop.whole.metadata.transaction() as tx:
            leases.release(tx, other)

    with when("", end_other, state="said", says="waiting"):
        report = shop.run()

    assert report.tables[0].status == "published"


def test_two_runs_at_once_run_one_after_the_other(shop: Shop) -> None:
    shop.publish({f"{NUMBERS}/pipeline.sql": APPENDING})
    waits = Event()
    with ThreadPoolExecutor() as pool:
        seconds: list[Future[RunReport]] = []

        def begin_second() -> None:
            seconds.append(pool.submit(shop.run))
            assert waits.wait(timeout=60)

        with (
            when("", waits.set, state="said", says="waiting"),
            when("write", begin_second),
        ):
            first = shop.run()
            second = seconds[0].result(timeout=60)

    assert (first.succeeded, second.succeeded) == (True, True)
    assert len(shop.rows("shop.bronze.numbers")) == 6
    earlier, later = shop.runs()
    assert earlier.finished_at is not None
    assert later.started_at is not None
    assert later.started_at > earlier.finished_at


# What Dagster is told.


def test_a_failure_says_what_stands_on_main(shop: Shop) -> None:
    shop.publish({f"{NUMBERS}/pipeline.sql": "SELECT missing"})

    report = shop.run()

    logs = shop.instance.all_logs(
        report.dagster_run_id, of_type=dg.DagsterEventType.STEP_FAILURE
    )
    (event,) = [entry.dagster_event for entry in logs]
    assert event is not None
    error = event.step_failure_data.user_failure_data
    assert error is not None
    assert f"main is unchanged at {shop.main[:12]}" in (error.description or "")
    assert error.metadata["phase"].value == "write"


def test_a_warning_stops_nothing_and_is_seen(shop: Shop) -> None:
    test = f"{NUMBERS}/tests/quality/small.sql"
    shop.publish(QUERY | {test: "-- @severity: warn\nFROM {{ this }} WHERE n > 0"})

    report = shop.run()

    assert (report.tables[0].status, report.tables[0].warned) == ("published", 1)
    entry, _ = shop.instance.all_logs(
        report.dagster_run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    assert entry.dagster_event is not None
    check = entry.dagster_event.asset_check_evaluation_data
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.target_materialization_data is not None
    assert "2 offending rows (published" in (check.description or "")
