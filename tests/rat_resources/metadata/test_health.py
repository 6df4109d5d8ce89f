"""Questions: every answer is one that was computed by hand."""

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata, health
from rat_resources.metadata.health import LOOKUPS, PARTS, QUESTIONS
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.metadata.runs import Run
from tests.rat_resources.rows import make_pipeline

NOON = datetime(2026, 3, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
AS_OF = "as_of timestamp with time zone DEFAULT now()"
FOUND = text("""
    SELECT pronamespace::regnamespace || '.' || proname, pg_get_function_arguments(oid)
    FROM pg_proc
    WHERE 'as_of' = ANY(proargnames)
        AND pronamespace::regnamespace::text IN ('rat', 'chm', 'lakeflow')
""")


def make_run(
    tx: Session,
    pipeline_id: uuid.UUID,
    status: str,
    *,
    ended: datetime | None,
    took: timedelta = timedelta(seconds=1),
    asked: datetime | None = None,
    unchanged: bool = False,
    rows: int | None = None,
) -> uuid.UUID:
    """A run that ended at a moment, or has not."""
    run = Run(
        id=uuid.uuid4(),
        pipeline_id=pipeline_id,
        status=status,
        created_at=asked or (ended or NOON) - took,
        started_at=(ended or NOON) - took,
        finished_at=ended,
        duration_ms=None if ended is None else took // timedelta(milliseconds=1),
        unchanged=unchanged,
        rows_total=rows,
        snapshot_id=None if rows is None else 1,
    )
    tx.add(run)
    tx.flush()
    return run.id


def make_old_pipeline(tx: Session, name: str = "orders") -> uuid.UUID:
    """A pipeline that was there before everything that is asked."""
    found = make_pipeline(tx, name)
    tx.get_one(Pipeline, found).created_at = NOON - 365 * DAY
    tx.flush()
    return found


def make_test(tx: Session, pipeline_id: uuid.UUID, name: str) -> uuid.UUID:
    """A quality test."""
    test = QualityTest(id=uuid.uuid4(), pipeline_id=pipeline_id, name=name)
    tx.add(test)
    tx.flush()
    return test.id


def say(
    tx: Session, test_id: uuid.UUID, status: str, *, at: datetime, value: int | None = 0
) -> None:
    """What a test said in a run of its own."""
    pipeline_id = tx.get_one(QualityTest, test_id).pipeline_id
    run_id = make_run(tx, pipeline_id, "success", ended=at)
    tx.add(
        QualityResult(
            test_id=test_id, run_id=run_id, status=status, ran_at=at, value=value
        )
    )
    tx.flush()


def test_a_fresh_platform_answers_every_question(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        answers = {each.name: each.ask(tx) for each in QUESTIONS}

    for name, rows in answers.items():
        assert not any(row.get("runs", name) for row in rows), name


def test_every_function_with_an_as_of_is_a_question(metadata: Metadata) -> None:
    lookups = {each.name for each in LOOKUPS}

    with metadata.transaction() as tx:
        found = {name: arguments for name, arguments in tx.execute(FOUND)}
        defaults = {
            name: {
                argument.split()[0]: tx.execute(
                    text(f"SELECT {argument.partition(' DEFAULT ')[2]}")
                ).scalar()
                for argument in arguments.split(", ")[1:]
            }
            for name, arguments in found.items()
            if name not in (*PARTS, *lookups)
        }

    assert defaults == {each.name: each.parameters for each in QUESTIONS}
    assert all(AS_OF in arguments for arguments in found.values())


def test_nobody_is_known_by_an_id_of_nothing(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        for question, subject in LOOKUPS.items():
            given: dict[str, Any] = {subject: uuid.uuid4()}

            rows = question.ask(tx, **given)

            assert not any(row.get("run_count", 1) for row in rows)


# Runs.


def test_runs_are_counted_on_the_day_they_ended(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        orders = make_old_pipeline(tx)
        make_run(tx, orders, "success", ended=NOON - DAY)
        make_run(tx, orders, "success", ended=NOON - DAY, unchanged=True)
        make_run(tx, orders, "failed", ended=NOON - DAY)
        make_run(tx, orders, "cancelled", ended=NOON - HOUR)
        make_run(tx, orders, "running", ended=None)
        make_run(tx, orders, "failed", ended=NOON - 3 * DAY)

        rows = health.RUNS_PER_DAY.ask(tx, as_of=NOON, days=2)

    assert [tuple(row.values()) for row in rows] == [
        (date(2026, 3, 14), 3, 1, 1, 1, 0, 0, Decimal("66.67")),
        (date(2026, 3, 15), 2, 0, 0, 0, 1, 1, Decimal("0.00")),
    ]


def test_a_day_ends_at_midnight_of_utc(metadata: Metadata) -> None:
    midnight = NOON.replace(hour=0)
    with metadata.transaction() as tx:
        tx.execute(text("SET LOCAL timezone = 'America/New_York'"))
        orders = make_old_pipeline(tx)
        make_run(tx, orders, "success", ended=midnight)
        make_run(tx, orders, "success", ended=midnight - timedelta(microseconds=1))

        rows = health.RUNS_PER_DAY.ask(tx, as_of=NOON, days=1)

    assert [(row["day"], row["runs"]) for row in rows] == [(date(2026, 3, 15), 1)]


def test_what_ended_later_was_not_known_then(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        orders = make_old_pipeline(tx)
        make_run(tx, orders, "failed", ended=NOON + HOUR, asked=NOON - HOUR)
        make_run(tx, orders, "failed", ended=NOON + HOUR, asked=NOON + HOUR)

        then = health.RUNS_PER_DAY.ask(tx, as_of=NOON, days=1)
        later = health.RUNS_PER_DAY.ask(tx, as_of=NOON + HOUR, days=1)

    assert [(row["unfinished"], row["failed"]) for row in then] == [(1, 0)]
    assert [(row["unfinished"], row["failed"]) for row in later] == [(0, 2)]


def test_the_slowest_are_told_by_their_95th_percentile(metadata: Metadata) -> None:
    second = timedelta(seconds=1)
    with metadata.transaction() as tx:
        steady, spiky = make_old_pipeline(tx, "steady"), make_old_pipeline(tx, "spiky")
        for seconds in (10, 11, 12):
            make_run(tx, steady, "success", ended=NOON, took=seconds * second)
        for seconds in (1, 2, 3, 4, 101):
            make_run(tx, spiky, "success", ended=NOON, took=seconds * second)
        # Neither a failure nor a look that found nothing is work.
        make_run(tx, steady, "failed", ended=NOON, took=999 * second)
        make_run(tx, steady, "success", ended=NOON, took=second, unchanged=True)
        make_run(tx, steady, "success", ended=NOON - 30 * DAY, took=999 * second)

        rows = health.SLOWEST_PIPELINES.ask(tx, as_of=NOON)

    # Of 1, 2, 3, 4, 101 the place 0.95 · 4 = 3.8 lies between 4 and 101: 4 + 0.8 · 97.
    assert [tuple(row.values())[2:] for row in rows] == [
        ("spiky", 5, *map(Decimal, ("3.000", "81.600", "101.000", "111.000"))),
        ("steady", 3, *map(Decimal, ("11.000", "11.900", "12.000", "33.000"))),
    ]


def test_the_flakiest_go_back_and_forth(metadata: Metadata) -> None:
    stories = {"flaky": "sfsfs", "broken": "sfff", "whole": "sss", "stopped": "fcf"}
    words = {"s": "success", "f": "failed", "c": "cancelled"}
    with metadata.transaction() as tx:
        for name, story in stories.items():
            pipeline_id = make_old_pipeline(tx, name)
            for hours, letter in enumerate(reversed(story)):
                make_run(tx, pipeline_id, words[letter], ended=NOON - hours * HOUR)

        rows = health.FLAKIEST_PIPELINES.ask(tx, as_of=NOON)

    assert [tuple(row.values())[2:] for row in rows] == [
        ("flaky", 5, 2, 4, Decimal("40.00"), NOON - HOUR),
        ("broken", 4, 3, 1, Decimal("75.00"), NOON),
        ("stopped", 2, 2, 0, Decimal("100.00"), NOON),
    ]


def test_recovery_lasts_from_the_first_failure_to_the_next_success(
    metadata: Metadata,
) -> None:
    # A letter an hour, the last one at noon.
    stories = {"steady": "sss", "mended": "fsffscfs", "broken": "sff"}
    words = {"s": "success", "f": "failed", "c": "cancelled"}
    with metadata.transaction() as tx:
        for name, story in stories.items():
            pipeline_id = make_old_pipeline(tx, name)
            for hours, letter in enumerate(reversed(story)):
                make_run(tx, pipeline_id, words[letter], ended=NOON - hours * HOUR)

        rows = health.RECOVERY_TIMES.ask(tx, as_of=NOON)

    # Streaks of 1, 2 and 1 hours.
    assert [tuple(row.values())[2:] for row in rows] == [
        ("mended", 4, 3, Decimal("4800.000"), None),
        ("broken", 2, 0, None, NOON - HOUR),
    ]


def test_only_as_many_are_told_as_somebody_asks_for(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        for name in ("b", "a", "c"):
            pipeline_id = make_old_pipeline(tx, name)
            make_run(tx, pipeline_id, "success", ended=NOON - HOUR, rows=1)
            make_run(tx, pipeline_id, "failed", ended=NOON)

        for question in (health.SLOWEST_PIPELINES, health.FLAKIEST_PIPELINES):
            rows = question.ask(tx, as_of=NOON, top=2)

            assert [row["pipeline"] for row in rows] == ["a", "b"]
        assert len(health.ROWS_PER_TABLE.ask(tx, as_of=NOON, top=2)) == 2


# Freshness.


def test_freshness_tells_the_age_the_rhythm_and_the_looks(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        orders = make_old_pipeline(tx)
        for hours in (10, 8, 6):
            make_run(tx, orders, "success", ended=NOON - hours * HOUR)
        make_run(tx, orders, "success", ended=NOON - 5 * HOUR, unchanged=True)
        make_run(tx, orders, "success", ended=NOON - 3 * HOUR, unchanged=True)
        make_run(tx, orders, "failed", ended=NOON - HOUR)

        (row,) = health.FRESHNESS.ask(tx, as_of=NOON)

    # The pauses are 2, 2, 1 and 2 hours; the last success is 3 hours ago.
    assert row == {
        "namespace": "shop",
        "layer": "bronze",
        "pipeline": "orders",
        "state": "fresh",
        "last_publication": NOON - 6 * HOUR,
        "age": 6 * HOUR,
        "unchanged_looks": 2,
        "last_success": NOON - 3 * HOUR,
        "rhythm": 2 * HOUR,
        "lateness": Decimal("1.50"),
    }


def test_late_pipelines_come_first_and_then_those_that_never_succeeded(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        for name, hours in {
            "weekly": (672, 504, 336, 168),
            "hourly": (8, 7, 6, 5),
        }.items():
            pipeline_id = make_old_pipeline(tx, name)
            for each in hours:
                make_run(tx, pipeline_id, "success", ended=NOON - each * HOUR)
        make_run(tx, make_old_pipeline(tx, "broken"), "failed", ended=NOON)
        make_run(tx, make_old_pipeline(tx, "young"), "success", ended=NOON - 2 * HOUR)

        rows = health.FRESHNESS.ask(tx, as_of=NOON)

    assert [(row["pipeline"], row["state"], row["lateness"]) for row in rows] == [
        ("hourly", "late", Decimal("5.00")),
        ("broken", "never", None),
        ("weekly", "fresh", Decimal("1.00")),
        ("young", "fresh", None),
    ]


def test_a_pipeline_that_was_tried_a_few_times_is_not_late(metadata: Metadata) -> None:
    minute = timedelta(minutes=1)
    with metadata.transaction() as tx:
        tried, young = make_old_pipeline(tx, "tried"), make_old_pipeline(tx, "young")
        for minutes in (43, 42, 41, 40):
            make_run(tx, tried, "success", ended=NOON - minutes * minute)
        for days in (13, 12, 11):
            make_run(tx, young, "success", ended=NOON - days * DAY)

        rows = health.FRESHNESS.ask(tx, as_of=NOON)

    assert [(row["pipeline"], row["state"], row["lateness"]) for row in rows] == [
        ("tried", "fresh", Decimal("40.00")),
        ("young", "fresh", None),
    ]


def test_retired_pipelines_are_not_late(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        orders = make_old_pipeline(tx)
        make_run(tx, orders, "success", ended=NOON - 2 * DAY, rows=1)
        tx.get_one(Pipeline, orders).deleted_at = NOON - DAY
        tx.flush()

        assert health.FRESHNESS.ask(tx, as_of=NOON) == []
        assert health.ROWS_PER_TABLE.ask(tx, as_of=NOON) == []
        assert len(health.FRESHNESS.ask(tx, as_of=NOON - 2 * DAY)) == 1


def test_rows_are_told_from_what_held_when_the_span_began(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        orders = make_old_pipeline(tx)
        for days, rows in ((300, 1), (200, 2), (50, 3), (1, 4)):
            make_run(tx, orders, "success", ended=NOON - days * DAY, rows=rows)
        make_run(tx, orders, "failed", ended=NOON, rows=9)
        make_run(tx, orders, "success", ended=NOON + HOUR, rows=9)

        found = health.ROWS_PER_TABLE.ask(tx, as_of=NOON)

    assert [(row["table"], row["rows_total"]) for row in found] == [
        ("orders", 2),
        ("orders", 3),
        ("orders", 4),
    ]


# Quality.


@pytest.fixture
def judged(metadata: Metadata) -> Metadata:
    """Two pipelines with what their tests said on two days."""
    with metadata.transaction() as tx:
        orders, items = make_old_pipeline(tx), make_old_pipeline(tx, "items")
        unique = make_test(tx, orders, "unique")
        positive = make_test(tx, orders, "positive")
        known = make_test(tx, items, "known")
        say(tx, unique, "passed", at=NOON - DAY)
        say(tx, unique, "failed", at=NOON - DAY + HOUR, value=3)
        say(tx, unique, "failed", at=NOON, value=4)
        say(tx, positive, "error", at=NOON - DAY, value=None)
        say(tx, positive, "passed", at=NOON - HOUR)
        say(tx, known, "warned", at=NOON - HOUR, value=1)
        say(tx, known, "passed", at=NOON + HOUR)
        say(tx, known, "passed", at=NOON - 40 * DAY)
    return metadata


def test_what_each_test_said_is_told_by_day(judged: Metadata) -> None:
    with judged.transaction() as tx:
        rows = health.QUALITY_HISTORY.ask(tx, as_of=NOON)

    first, second = date(2026, 3, 14), date(2026, 3, 15)
    counts = ("passed", "failed", "warned", "error")
    assert [
        (row["day"], row["test"], *(row[each] for each in counts)) for row in rows
    ] == [
        (first, "positive", 0, 0, 0, 1),
        (first, "unique", 1, 1, 0, 0),
        (second, "known", 0, 0, 1, 0),
        (second, "positive", 1, 0, 0, 0),
        (second, "unique", 0, 1, 0, 0),
    ]


def test_only_a_pass_counts_as_one(judged: Metadata) -> None:
    with judged.transaction() as tx:
        pipelines = health.PASS_RATE.ask(tx, as_of=NOON)
        namespaces = health.PASS_RATE_OF_NAMESPACES.ask(tx, as_of=NOON)
        days = health.DAILY_PASS_RATE.ask(tx, as_of=NOON)

    assert [tuple(row.values())[2:] for row in pipelines] == [
        ("items", 1, 0, 0, 1, 0, Decimal("0.00")),
        ("orders", 5, 2, 2, 0, 1, Decimal("40.00")),
    ]
    assert [tuple(row.values()) for row in namespaces] == [
        ("shop", 6, 2, 2, 1, 1, Decimal("33.33"))
    ]
    assert [(row["results"], row["pass_rate"]) for row in days] == [
        (3, Decimal("33.33")),
        (3, Decimal("33.33")),
    ]


def test_failing_tests_say_since_when(judged: Metadata) -> None:
    with judged.transaction() as tx:
        rows = health.FAILING_TESTS.ask(tx, as_of=NOON)

    told = ("test", "status", "offenders", "since", "ran_at")
    assert [tuple(row[each] for each in told) for row in rows] == [
        ("unique", "failed", 4, NOON - DAY + HOUR, NOON),
        ("known", "warned", 1, NOON - HOUR, NOON - HOUR),
    ]


def test_a_test_that_is_published_no_longer_does_not_fail(judged: Metadata) -> None:
    with judged.transaction() as tx:
        tx.query(QualityTest).filter_by(name="unique").one().active = False
        tx.flush()

        rows = health.FAILING_TESTS.ask(tx, as_of=NOON)

    assert [row["test"] for row in rows] == ["known"]
