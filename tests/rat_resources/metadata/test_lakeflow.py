"""The metrics of the star, beside what was counted by hand."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def tx(metadata: Metadata) -> Iterator[Session]:
    """A transaction, in a star that knows two jobs."""
    with metadata.transaction() as tx:
        tx.execute(
            text("INSERT INTO lakeflow.dim_workspace (workspace_id) VALUES ('w')")
        )
        tx.execute(
            text("""
                INSERT INTO lakeflow.dim_job (workspace_id, job_id, job_name)
                VALUES ('w', 'a', 'job a'), ('w', 'b', 'job b')
            """)
        )
        yield tx


def add(
    tx: Session,
    state: str | None = "SUCCEEDED",
    *,
    ago: timedelta,
    seconds: float = 60,
    job: str | None = "a",
    trigger: str = "CRON",
) -> str:
    """A run that started so long *ago*; its id."""
    ended = None if state is None else NOW - ago + timedelta(seconds=seconds)
    row = tx.execute(
        text("""
            INSERT INTO lakeflow.fact_job_run_timeline (
                workspace_id, run_id, job_id, period_start_time, period_end_time, result_state,
                trigger_type
            ) VALUES ('w', gen_random_uuid()::text, :job, :start, :end, :state, :trigger)
            RETURNING run_id
        """),
        {
            "job": job,
            "start": NOW - ago,
            "end": ended,
            "state": state,
            "trigger": trigger,
        },
    )
    return str(row.scalar_one())


def ask(tx: Session, call: str, *, as_of: datetime = NOW) -> list[RowMapping]:
    """The rows of a function, as of a moment; *call* is its name and further arguments."""
    name, _, rest = call.partition("(")
    arguments = f":as_of, {rest.rstrip(')')}" if rest else ":as_of"
    found = tx.execute(
        text(f"SELECT * FROM lakeflow.{name}({arguments})"), {"as_of": as_of}
    )
    return list(found.mappings())


def pick(rows: Sequence[RowMapping], *names: str) -> list[tuple[Any, ...]]:
    """Some columns of rows."""
    return [tuple(row[name] for name in names) for row in rows]


def test_a_run_knows_its_day_its_length_and_whether_it_succeeded(tx: Session) -> None:
    add(tx, ago=12 * HOUR + timedelta(minutes=1), seconds=150.9)
    add(tx, "SUCCESS", ago=2 * HOUR, seconds=-5)
    add(tx, None, ago=HOUR)

    rows = tx.execute(
        text("""
            SELECT run_date::text, run_duration_seconds, run_duration_minutes, is_success
            FROM lakeflow.fact_job_run_timeline ORDER BY period_start_time
        """)
    ).all()

    assert [tuple(row) for row in rows] == [
        ("2026-03-19", 150, 2.5, True),
        ("2026-03-20", 0, 0.0, True),
        ("2026-03-20", None, None, False),
    ]


def test_a_state_that_nobody_knows_is_refused(tx: Session) -> None:
    with pytest.raises(IntegrityError, match="ck_fact_job_run_timeline_result_state"):
        add(tx, "CANCELED", ago=HOUR)


def test_rates_are_over_finished_runs_and_the_others_beside_them(tx: Session) -> None:
    for state in (
        "SUCCEEDED",
        "SUCCESS",
        "FAILED",
        "TIMED_OUT",
        "ERROR",
        "CANCELLED",
        "SKIPPED",
    ):
        add(tx, state, ago=HOUR)
    add(tx, "SUCCEEDED", ago=HOUR, trigger="ONETIME_RETRY")
    add(tx, None, ago=HOUR)
    add(tx, None, ago=HOUR)
    add(tx, "FAILED", ago=8 * DAY)

    (row,) = ask(tx, "job_rates")
    (total,) = ask(tx, "rates")

    assert pick([row], "job_name", "runs", "finished", "succeeded", "failed") == [
        ("job a", 10, 8, 3, 3)
    ]
    rates = {name: float(value) for name, value in row.items() if "rate" in name}
    assert rates == {
        "success_rate": 37.5,
        "success_rate_of_all": 30,
        "failure_rate": 37.5,
        "failure_rate_of_all": 20,
        "unsuccessful_rate_of_all": 70,
        "timeout_rate": 12.5,
        "cancel_rate": 12.5,
        "skip_rate": 12.5,
        "repair_rate": 10,
    }
    assert (total["jobs"], total["runs"], float(total["success_rate"])) == (1, 10, 37.5)


def test_what_happened_later_is_not_known_yet(tx: Session) -> None:
    add(tx, "FAILED", ago=2 * HOUR, seconds=5400)
    add(tx, "SUCCEEDED", ago=HOUR / 2)

    (row,) = ask(tx, "rates", as_of=NOW - HOUR)

    assert (row["runs"], row["finished"], row["success_rate"]) == (1, 0, None)


def test_nothing_that_ran_has_no_rate(tx: Session) -> None:
    (row,) = ask(tx, "rates")

    assert (row["jobs"], row["runs"], row["success_rate"]) == (0, 0, None)


def test_durations_interpolate_and_are_of_successes_unless_said_otherwise(
    tx: Session,
) -> None:
    for seconds in (100, 200, 300, 400, 4000):
        add(tx, ago=DAY, seconds=seconds)
    add(tx, "FAILED", ago=DAY, seconds=20000)
    add(tx, ago=DAY, job="b")

    (row,) = ask(tx, "job_durations")
    finished = ask(tx, "job_durations(7, 5, true)")

    assert (row["runs"], float(row["average"]), row["longest"]) == (5, 1000, 4000)
    p = [row[name] for name in ("p50", "p75", "p90", "p95", "p99")]
    assert p == pytest.approx([300, 400, 2560, 3280, 3856])
    # The squares of -900, -800, -700, -600 and 3000 sum up to 11,300,000.
    assert float(row["deviation"]) == pytest.approx(1680.77, abs=0.01)
    assert float(row["variation"]) == pytest.approx(1.6808, abs=0.0001)
    assert float(row["skew"]) == pytest.approx(2560 / 300, abs=0.0001)
    assert float(row["tail"]) == pytest.approx(3856 / 3280, abs=0.0001)
    assert (row["long_runs"], row["very_long_runs"], float(row["long_share"])) == (
        1,
        0,
        20,
    )
    assert [(each["runs"], each["very_long_runs"]) for each in finished] == [(6, 1)]


def test_an_outlier_is_far_from_what_nine_in_ten_need(tx: Session) -> None:
    for seconds in (100, 200, 300, 400, 4000):
        add(tx, ago=DAY, seconds=seconds)
        add(tx, ago=DAY, seconds=100, job="b")

    rows = ask(tx, "outliers")

    assert pick(rows, "job_id", "longest") == [("a", 4000)]
    assert rows[0]["deviation"] == pytest.approx(4000 - 2560)


def test_compliance_is_the_share_of_successes_in_time(tx: Session) -> None:
    for minutes in (10, 60, 61):
        add(tx, ago=DAY, seconds=minutes * 60)
    add(tx, "FAILED", ago=DAY, seconds=60)
    add(tx, ago=DAY, job="b")

    (row,) = ask(tx, "sla_compliance")

    assert (row["successful"], row["in_time"], float(row["compliance"])) == (
        3,
        2,
        66.67,
    )


def test_low_success_jobs_have_enough_runs_and_the_lowest_rate_first(
    tx: Session,
) -> None:
    for state in ("SUCCEEDED", "FAILED", "FAILED", "SUCCEEDED", "SUCCEEDED"):
        add(tx, state, ago=DAY)
        add(tx, ago=DAY, job="b")
    add(tx, "FAILED", ago=DAY, job=None)

    rows = ask(tx, "low_success_jobs")

    assert pick(rows, "job_id", "failed") == [("a", 2), ("b", 0)]
    assert [float(row["success_rate"]) for row in rows] == [60, 100]


def test_the_trend_has_a_row_for_each_day_that_had_runs(tx: Session) -> None:
    add(tx, "FAILED", ago=8 * DAY)
    add(tx, ago=4 * DAY)
    add(tx, "FAILED", ago=2 * DAY)
    add(tx, "FAILED", ago=2 * DAY, job="b")
    add(tx, "FAILED", ago=2 * DAY)
    add(tx, ago=2 * DAY)

    rows = ask(tx, "daily_trend(5)")

    assert pick(rows, "runs", "failed", "failing_jobs") == [(1, 0, 0), (4, 3, 2)]
    assert [str(row["day"]) for row in rows] == ["2026-03-16", "2026-03-18"]
    # The day before the window counts: (1 + 1) / 2, (1 + 1 + 4) / 3 and (100 + 0 + 75) / 3.
    assert [float(row["runs_average"]) for row in rows] == [1, 2]
    assert [float(row["failure_rate_average"]) for row in rows] == [50, 58.33]


def test_retries_are_counted_by_day(tx: Session) -> None:
    add(tx, "FAILED", ago=2 * HOUR)
    add(tx, "FAILED", ago=1.5 * HOUR)
    add(tx, "SUCCEEDED", ago=HOUR)
    add(tx, "FAILED", ago=DAY)
    add(tx, "FAILED", ago=DAY - HOUR)
    add(tx, ago=HOUR, job="b")

    rows = ask(tx, "retries")

    assert pick(rows, "job_id", "runs", "retries", "failed", "eventual_success") == [
        ("a", 3, 2, 2, True),
        ("a", 2, 1, 2, False),
    ]


def test_a_repair_is_a_success_right_after_a_failure(tx: Session) -> None:
    add(tx, "FAILED", ago=4 * HOUR)
    failed = add(tx, "ERROR", ago=3 * HOUR)
    repaired = add(tx, "SUCCEEDED", ago=2 * HOUR)
    add(tx, "FAILED", ago=1.5 * HOUR)
    add(tx, "CANCELLED", ago=1.2 * HOUR)
    add(tx, "SUCCEEDED", ago=HOUR)

    rows = ask(tx, "repairs")

    assert pick(rows, "failed_run_id", "repaired_by", "seconds") == [
        (failed, repaired, 3600)
    ]


def test_recovery_is_from_the_first_failure_to_the_end_of_the_next_success(
    tx: Session,
) -> None:
    add(tx, "SUCCEEDED", ago=10 * DAY)
    add(tx, "FAILED", ago=9 * DAY)
    add(tx, "TIMED_OUT", ago=8 * DAY)
    add(tx, "SUCCEEDED", ago=6 * DAY)
    add(tx, "FAILED", ago=5 * HOUR)
    add(tx, "CANCELLED", ago=4 * HOUR)
    add(tx, "FAILED", ago=3 * HOUR)
    add(tx, "SUCCEEDED", ago=2 * HOUR, seconds=120)
    add(tx, "FAILED", ago=HOUR)

    rows = ask(tx, "recoveries")
    (mttr,) = ask(tx, "mttr")

    hours = 3600
    assert pick(rows, "failures", "seconds") == [
        (2, 3 * hours + 60),
        (2, 3 * 24 * hours),
    ]
    assert (mttr["recoveries"], mttr["failures"]) == (2, 4)
    assert float(mttr["mttr_seconds"]) == (3 * hours + 60 + 3 * 24 * hours) / 2


def test_a_regression_compares_before_it_filters(tx: Session) -> None:
    for ago, seconds in ((1, 130), (6, 150), (8, 100), (13, 100), (15, 9000)):
        add(tx, ago=ago * DAY, seconds=seconds)
    for ago, seconds in ((1, 120), (8, 100)):
        add(tx, ago=ago * DAY, seconds=seconds, job="b")

    rows = ask(tx, "regressions")

    assert pick(rows, "job_id", "runs", "previous_runs") == [("a", 2, 2)]
    assert (float(rows[0]["average"]), float(rows[0]["ratio"])) == (140, 1.4)


def test_a_slow_run_is_beside_the_success_before_it(tx: Session) -> None:
    add(tx, ago=3 * DAY, seconds=400)
    add(tx, "FAILED", ago=2 * DAY, seconds=9000)
    slow = add(tx, ago=HOUR, seconds=601)
    add(tx, ago=HOUR / 2, seconds=900)
    add(tx, ago=3 * DAY, seconds=10, job="b")
    add(tx, ago=HOUR, seconds=290, job="b")

    rows = ask(tx, "slow_runs")

    assert pick(rows, "run_id", "seconds", "previous_seconds") == [(slow, 601, 400)]


def test_a_run_that_is_suspiciously_fast_stands_out(tx: Session) -> None:
    add(tx, ago=3 * DAY, seconds=400)
    fast = add(tx, ago=2 * HOUR, seconds=199)
    add(tx, ago=HOUR, seconds=20)

    rows = ask(tx, "suspiciously_fast_runs")

    assert pick(rows, "run_id", "seconds", "previous_seconds") == [(fast, 199, 400)]


def test_three_failures_in_a_row_are_told_until_a_success(tx: Session) -> None:
    for hours in (5, 4, 3):
        add(tx, "FAILED", ago=hours * HOUR)
    add(tx, "CANCELLED", ago=2 * HOUR)
    for state, hours in (("FAILED", 5), ("FAILED", 4), ("SUCCEEDED", 3), ("FAILED", 2)):
        add(tx, state, ago=hours * HOUR, job="b")

    rows = ask(tx, "consecutive_failures")
    add(tx, ago=HOUR)
    later = ask(tx, "consecutive_failures")

    assert pick(rows, "job_id", "failures", "last_result") == [("a", 3, "FAILED")]
    assert later == []


def test_a_drop_is_of_the_last_hour(tx: Session) -> None:
    add(tx, "FAILED", ago=2 * HOUR, job="b")
    add(tx, ago=HOUR / 2, job="b")
    for state in ("SUCCEEDED", "FAILED"):
        add(tx, state, ago=HOUR / 2)

    rows = ask(tx, "success_drops")

    assert pick(rows, "job_id", "finished", "failed") == [("a", 2, 1)]


def test_drift_is_points_for_rates_and_percent_for_the_rest(tx: Session) -> None:
    for state, ago, seconds in (
        ("SUCCEEDED", 8, 100),
        ("FAILED", 9, 100),
        ("SUCCEEDED", 1, 150),
        ("SUCCEEDED", 2, 150),
        ("SUCCEEDED", 3, 150),
        ("FAILED", 3, 1),
    ):
        add(tx, state, ago=ago * DAY, seconds=seconds)

    rows = ask(tx, "drift")

    assert [(row["metric"], row["unit"], float(row["drift"])) for row in rows] == [
        ("runs", "percent", 100),
        ("success_rate", "points", 25),
        ("failure_rate", "points", -25),
        ("average_seconds", "percent", 50),
    ]


def add_update(
    tx: Session, pipeline: str, state: str, *, ago: timedelta, run_id: str = ""
) -> None:
    """An update of a pipeline, of five minutes."""
    tx.execute(
        text("""
            INSERT INTO lakeflow.dim_pipeline (workspace_id, pipeline_id, pipeline_name)
            VALUES ('w', :name, :name) ON CONFLICT DO NOTHING
        """),
        {"name": pipeline},
    )
    tx.execute(
        text("""
            INSERT INTO lakeflow.fact_pipeline_update_timeline (
                workspace_id, pipeline_id, update_id, period_start_time, period_end_time, state,
                trigger_details_job_task
            ) VALUES (
                'w', :name, gen_random_uuid()::text, :start, :start + INTERVAL '5 minutes', :state,
                jsonb_build_object('run_id', CAST(:run AS text))
            )
        """),
        {"name": pipeline, "start": NOW - ago, "state": state, "run": run_id},
    )


def test_the_health_of_a_pipeline_is_of_its_updates(tx: Session) -> None:
    for state, ago in (
        ("COMPLETED", 1),
        ("COMPLETED", 2),
        ("FAILED", 3),
        ("FAILED", 9),
    ):
        add_update(tx, "shop.gold.a", state, ago=ago * DAY)

    (row,) = ask(tx, "pipeline_health")

    assert (row["updates"], row["completed"], row["failed"]) == (3, 2, 1)
    assert (float(row["completed_share"]), float(row["average_minutes"])) == (66.67, 5)


def test_a_failure_holds_up_all_that_reads_its_table(tx: Session) -> None:
    run_id = add(tx, "FAILED", ago=HOUR)
    publish(tx, "silver", "orders", refs=[])
    publish(tx, "gold", "revenue", refs=["shop.silver.orders"])
    publish(tx, "gold", "report", refs=["shop.gold.revenue"])
    add_update(tx, "shop.silver.orders", "FAILED", ago=HOUR, run_id=run_id)
    add_update(tx, "shop.gold.report", "FAILED", ago=2 * HOUR)
    add_update(tx, "shop.gold.report", "COMPLETED", ago=HOUR)

    rows = ask(tx, "impact")

    assert pick(rows, "job_name", "table_name", "reader", "distance") == [
        ("job a", "shop.silver.orders", "shop.gold.revenue", 1),
        ("job a", "shop.silver.orders", "shop.gold.report", 2),
    ]


def publish(tx: Session, layer: str, name: str, *, refs: list[str]) -> None:
    """A pipeline that reads what it reads."""
    tx.execute(
        text("INSERT INTO rat.namespaces (name) VALUES ('shop') ON CONFLICT DO NOTHING")
    )
    tx.execute(
        text("INSERT INTO rat.releases (number) VALUES (1) ON CONFLICT DO NOTHING")
    )
    tx.execute(
        text("""
            WITH made AS (
                INSERT INTO rat.pipelines (namespace, layer, name) VALUES ('shop', :layer, :name)
                RETURNING id
            )
            INSERT INTO rat.pipeline_versions (
                pipeline_id, version_number, release_number, spec, code_version
            )
            SELECT id, 1, 1, jsonb_build_object('refs', CAST(:refs AS text[])), '' FROM made
        """),
        {"layer": layer, "name": name, "refs": refs},
    )


def test_tasks_are_told_by_their_length_and_their_failures(tx: Session) -> None:
    for key, state, seconds in (
        ("slow", "SUCCEEDED", 90),
        ("slow", "SUCCEEDED", 30),
        ("quick", "SUCCEEDED", 1),
        ("quick", "FAILED", 500),
        ("quick", "BLOCKED", 0),
    ):
        tx.execute(
            text("""
                INSERT INTO lakeflow.dim_job_task (workspace_id, job_id, task_key)
                VALUES ('w', 'a', :key) ON CONFLICT DO NOTHING
            """),
            {"key": key},
        )
        tx.execute(
            text("""
                INSERT INTO lakeflow.fact_job_task_run_timeline (
                    workspace_id, run_id, task_run_id, job_id, task_key, period_start_time,
                    period_end_time, result_state
                ) VALUES (
                    'w', 'r', gen_random_uuid()::text, 'a', :key, :start,
                    :start + :seconds * INTERVAL '1 second', :state
                )
            """),
            {"key": key, "state": state, "seconds": seconds, "start": NOW - HOUR},
        )

    slowest = ask(tx, "slowest_tasks")
    failing = ask(tx, "failing_tasks")

    assert pick(slowest, "task_key", "runs", "longest") == [
        ("slow", 2, 90),
        ("quick", 1, 1),
    ]
    assert [float(row["average"]) for row in slowest] == [60, 1]
    assert pick(failing, "job_name", "task_key", "finished", "failed") == [
        ("job a", "quick", 3, 1)
    ]


def test_the_gold_names_show_the_same_rows(tx: Session) -> None:
    run_id = add(tx, ago=HOUR)

    job = tx.execute(
        text("SELECT name FROM lakeflow.gold_dim_job ORDER BY 1")
    ).scalars()
    run = tx.execute(text("SELECT run_id FROM lakeflow.gold_fact_job_run_timeline"))

    assert list(job) == ["job a", "job b"]
    assert list(run.scalars()) == [run_id]
