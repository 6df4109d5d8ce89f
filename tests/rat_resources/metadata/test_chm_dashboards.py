"""What people ask of clients' health: reference answers, and the edges of each definition."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import AlertRule, Client, Pipeline, Run

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def make_client(tx: Session, name: str, **facts: Any) -> Client:  # noqa: ANN401 - the columns
    """A client."""
    row = Client(name=name, **facts)
    tx.add(row)
    tx.flush()
    return row


def make_pipeline(tx: Session, client: Client, name: str, **facts: Any) -> Pipeline:  # noqa: ANN401
    """An external pipeline of a client."""
    facts = {"platform": "airflow", "pipeline_type": "ingestion"} | facts
    row = Pipeline(client_id=client.id, name=name, **facts)
    tx.add(row)
    tx.flush()
    return row


def make_run(
    tx: Session,
    pipeline: Pipeline,
    status: str,
    *,
    ago: timedelta = HOUR,
    **facts: Any,  # noqa: ANN401
) -> Run:
    """A run that ended some time before NOW, a minute after it started."""
    ended = NOW - ago
    facts = {
        "external_run_id": str(uuid.uuid4()),
        "started_at": ended - timedelta(minutes=1),
        "finished_at": ended,
        "created_at": ended,
    } | facts
    row = Run(pipeline_id=pipeline.id, status=status, **facts)
    tx.add(row)
    tx.flush()
    return row


def ask(tx: Session, question: str, **values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
    """The rows of a question, `:now` being NOW."""
    rows = tx.execute(text(f"SELECT * FROM chm.{question}"), {"now": NOW} | values)
    return [tuple(row) for row in rows]


def make_nine_runs(tx: Session) -> None:
    """Two clients and nine runs, two of them of a pipeline or client that is disabled."""
    acme, beta = make_client(tx, "acme"), make_client(tx, "beta")
    orders = make_pipeline(tx, acme, "orders", platform="vendor_api")
    invoices = make_pipeline(tx, acme, "invoices")
    events = make_pipeline(tx, beta, "events", platform="vendor_api")
    old = make_pipeline(tx, beta, "old", platform="vendor_api", is_active=False)
    legacy = make_pipeline(tx, acme, "legacy", platform="cron", is_active=False)
    make_run(tx, orders, "success", ago=5 * HOUR, rows_processed=1300)
    make_run(tx, orders, "success", ago=2 * DAY, rows_processed=1300)
    make_run(tx, orders, "failed", ago=3 * DAY, rows_processed=690)
    make_run(tx, invoices, "failed", ago=2 * HOUR, rows_processed=860)
    make_run(tx, invoices, "failed", ago=30 * HOUR, rows_processed=1050)
    make_run(tx, events, "success", ago=1 * DAY, rows_processed=450)
    make_run(tx, events, "failed", ago=10 * DAY, rows_processed=500)
    make_run(tx, old, "failed", ago=4 * HOUR, rows_processed=7000)
    make_run(tx, legacy, "success", ago=8 * DAY, rows_processed=9000)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("client_risk(:now)", [("acme", 5, 3, 60), ("beta", 1, 0, 0)]),
        (
            "vendor_dependency_risk(:now)",
            [
                ("other_platforms", 3, 2, Decimal("66.67")),
                ("vendor_api", 6, 3, Decimal("50.00")),
            ],
        ),
        (
            "client_throughput(:now)",
            [
                ("acme", 5, 5200, 1040, Decimal("0.232")),
                ("beta", 2, 950, 475, Decimal("0.053")),
            ],
        ),
        ("reliability_by_environment(:now)", [("prod", 7, 4, Decimal("57.14"))]),
        ("failures_per_client(:now)", [("acme", 1, 3), ("beta", 1, 1)]),
        ("failures_since_yesterday(:now)", [("beta", 1, 0, 1), ("acme", 1, 1, 0)]),
        (
            "failure_rate_by_platform(:now)",
            [
                ("airflow", 2, 2, 1),
                ("vendor_api", 3, 6, Decimal("0.5000")),
                ("cron", 0, 1, 0),
            ],
        ),
        (
            "top_flaky(:now, 4)",
            [
                ("acme", "invoices", 2, 2, 1),
                ("beta", "old", 1, 1, 1),
                ("beta", "events", 1, 2, Decimal("0.5000")),
                ("acme", "orders", 1, 3, Decimal("0.3333")),
            ],
        ),
    ],
)
def test_nine_runs_give_the_reference_answers(
    metadata: Metadata, question: str, answer: list[tuple[Any, ...]]
) -> None:
    with metadata.transaction() as tx:
        make_nine_runs(tx)

        assert ask(tx, question) == answer


def test_a_pipeline_without_runs_has_none_and_no_rate(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx, make_client(tx, "acme"), "idle")

        assert ask(tx, "top_flaky(:now)") == [("acme", "idle", 0, 0, 0)]
        assert [row[4:7] for row in ask(tx, "latest_status(:now)")] == [
            (None, None, None)
        ]
        assert [row[4:] for row in ask(tx, "freshness_watchlist(:now)")] == [
            (None, None, None)
        ]
        assert ask(tx, "client_risk(:now)") == []


def test_failures_are_counted_by_bucket_in_a_half_open_window(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        for ago in (0 * DAY, 1 * DAY, 1 * DAY + HOUR, 3 * DAY):
            make_run(tx, pipeline, "failed", ago=ago)
        make_run(tx, pipeline, "success", ago=DAY)

        rows = ask(tx, "failures_over_time(:now, 'day', :since)", since=NOW - 3 * DAY)

        noon = NOW - 12 * HOUR
        assert rows == [(noon - 3 * DAY, 1), (noon - DAY, 2)]


def test_a_run_without_times_happened_when_it_was_first_heard_of(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        make_run(tx, pipeline, "failed", started_at=None, finished_at=None)

        assert ask(tx, "failures_per_client(:now)") == [("acme", 1, 1)]
        (row,) = ask(tx, "latest_status(:now)")
        assert row[4:6] == ("failed", NOW - HOUR)


def test_the_latest_run_started_last_whatever_finished_last(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        started = NOW - 2 * HOUR
        make_run(tx, pipeline, "failed", started_at=started - HOUR, ago=0 * HOUR)
        newest = make_run(tx, pipeline, "running", started_at=started, finished_at=None)
        make_run(tx, pipeline, "success", started_at=None)

        (row,) = ask(tx, "latest_status(:now)")
        (latest,) = ask(tx, "latest_run(:id, :now)", id=pipeline.id)

        assert row[4:7] == ("running", started, newest.id)
        assert latest[0] == newest.id


def test_of_runs_that_started_together_the_one_that_finished_last_is_latest(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        make_run(tx, pipeline, "running", started_at=NOW - DAY, finished_at=None)
        make_run(tx, pipeline, "success", started_at=NOW - DAY, ago=3 * HOUR)
        last = make_run(tx, pipeline, "failed", started_at=NOW - DAY, ago=2 * HOUR)

        (latest,) = ask(tx, "latest_run(:id, :now)", id=pipeline.id)

        assert latest[0] == last.id


def test_an_as_of_of_the_past_does_not_know_what_came_after(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        make_run(tx, pipeline, "success", ago=2 * DAY)
        make_run(tx, pipeline, "failed")

        (row,) = ask(tx, "latest_status(:then)", then=NOW - DAY)

        assert row[4] == "success"
        assert ask(tx, "client_risk(:then)", then=NOW - DAY) == [("acme", 1, 0, 0)]


@pytest.mark.parametrize("switch", ["client", "pipeline"])
def test_what_is_inactive_is_in_no_active_listing_but_in_the_totals(
    metadata: Metadata, switch: str
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme", is_active=switch != "client")
        pipeline = make_pipeline(
            tx, client, "orders", is_active=switch != "pipeline", external_id="7"
        )
        make_run(tx, pipeline, "failed", rows_processed=1)
        standard = (
            "latest_status",
            "client_risk",
            "client_throughput",
            "freshness_watchlist",
            "reliability_by_environment",
        )

        assert [row for each in standard for row in ask(tx, f"{each}(:now)")] == []
        assert ask(tx, "failures_per_client(:now)") == [("acme", 1, 1)]
        assert ask(tx, "top_flaky(:now)") == [("acme", "orders", 1, 1, 1)]
        assert [row[1:] for row in ask(tx, "weekly_run_health(:now)")] == [
            ("failed", 1)
        ]
        assert ask(tx, "governance_gaps(:now)") == [
            ("acme", "orders", "inactive, with recent runs")
        ]


def test_durations_fall_into_equal_buckets_and_one_more(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        for seconds in (0, 359, 360, 3599, 3600, 9999, None):
            make_run(tx, pipeline, "success", duration_seconds=seconds)

        rows = ask(tx, "duration_distribution(:now)")

        assert rows == [
            (1, 0, 360, 2),
            (2, 360, 720, 1),
            (10, 3240, 3600, 1),
            (11, 3600, None, 2),
        ]


def test_pipelines_that_nobody_watches_are_gaps(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        acme, beta = make_client(tx, "acme"), make_client(tx, "beta")
        make_pipeline(tx, acme, "orders", external_id="7")
        make_pipeline(tx, beta, "events")
        rule = {"rule_type": "on_failure", "channel": "slack", "destination": "#x"}
        tx.add(AlertRule(client_id=acme.id, **rule))
        tx.add(AlertRule(client_id=beta.id, is_enabled=False, **rule))
        tx.flush()

        assert ask(tx, "governance_gaps(:now)") == [
            ("beta", "events", "no enabled alert rule"),
            ("beta", "events", "no external id"),
        ]


def test_the_longest_without_a_success_come_first(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme")
        make_run(tx, make_pipeline(tx, client, "fresh"), "success")
        make_run(tx, make_pipeline(tx, client, "never"), "failed")
        stale = make_pipeline(tx, client, "stale")
        make_run(tx, stale, "success", ago=DAY)
        make_run(tx, stale, "failed")

        rows = ask(tx, "freshness_watchlist(:now)")

        assert [(row[1], row[6]) for row in rows] == [
            ("never", None),
            ("stale", DAY),
            ("fresh", HOUR),
        ]


def test_a_history_is_of_a_window_a_status_and_a_direction(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        a, b, c = (
            make_run(tx, pipeline, status, started_at=NOW - ago)
            for status, ago in (
                ("failed", 3 * DAY),
                ("success", 2 * DAY),
                ("failed", DAY),
            )
        )
        none = make_run(tx, pipeline, "failed", started_at=None)

        def history(rest: str) -> list[uuid.UUID]:
            rows = ask(tx, f"run_history(:id{rest})", id=pipeline.id, a=NOW - 3 * DAY)
            return [row[0] for row in rows]

        assert history("") == [c.id, b.id, a.id, none.id]
        assert history(", top => 2, ascending => true") == [none.id, a.id]
        assert history(", 'failed'") == [c.id, a.id, none.id]
        assert history(", since => :a, until => :now - INTERVAL '1 day'") == [
            b.id,
            a.id,
        ]


def test_a_summary_has_every_status_and_the_latest_of_each_pipeline(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme")
        orders = make_pipeline(tx, client, "orders")
        make_pipeline(tx, client, "idle")
        make_run(tx, orders, "failed", ago=DAY)
        make_run(tx, orders, "success")
        make_run(tx, orders, "success", started_at=None)
        window = {"id": client.id, "since": NOW - 7 * DAY}

        counts = ask(tx, "client_summary(:id, :since, :now)", **window)
        latest = ask(tx, "client_latest(:id, :since, :now)", **window)

        assert counts == [
            ("running", 0),
            ("success", 1),
            ("failed", 1),
            ("canceled", 0),
            ("skipped", 0),
        ]
        assert [row[1:4] for row in latest] == [("orders", "airflow", "success")]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("failures_over_time(:now, 'month')", "minute, hour, day or week"),
        ("duration_distribution(:now, max_duration => 0)", "greater than 0"),
        ("duration_distribution(:now, bucket_count => 0)", "greater than 0"),
        ("run_history(gen_random_uuid(), top => 1001)", "between 1 and 1000"),
        ("client_summary(gen_random_uuid(), :now, :now)", "since is before until"),
        ("client_latest(gen_random_uuid(), :now, :now)", "since is before until"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    metadata: Metadata, question: str, said: str
) -> None:
    with metadata.transaction() as tx, pytest.raises(DBAPIError, match=said):
        ask(tx, question)
