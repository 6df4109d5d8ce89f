"""What a tick of the sensor tells: failed runs, CHM's rules, what is late, what is disabled."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from rat_resources.alerts import endings, events, lateness, rules, watch
from rat_resources.alerts.definitions import Definition, save
from rat_resources.alerts.events import Event, Payload
from rat_resources.alerts.matches import Looked, Match
from rat_resources.metadata import Metadata
from rat_resources.metadata.alerts import AlertState
from rat_resources.metadata.chm import AlertRule, Client, Pipeline
from rat_resources.metadata.chm import Run as ClientRun
from rat_resources.metadata.quality import QualityResult, QualityTest
from rat_resources.metadata.runs import Run, RunStatus
from rat_resources.metadata.trace.alerts import AlertEvent
from rat_resources.names import TableName
from rat_resources.runs import database_time
from tests.rat_resources.rows import make_pipeline

TABLE = TableName("shop", "bronze", "orders")
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def define(
    tx: Session,
    name: str,
    condition: Mapping[str, Any],
    *,
    enabled: bool = True,
) -> Definition:
    """Let somebody want to hear of something."""
    definition = Definition(
        id=uuid.uuid5(uuid.NAMESPACE_OID, name),
        name=name,
        namespace="shop",
        kind=condition["kind"],
        condition=condition,
        enabled=enabled,
    )
    save(tx, definition)
    tx.flush()
    return definition


def make_run(
    tx: Session,
    pipeline_id: uuid.UUID,
    *,
    status: str = RunStatus.FAILED,
    at: datetime | None = None,
    **said: Any,  # noqa: ANN401 - the columns of rat.runs
) -> uuid.UUID:
    """A run that is over."""
    row = Run(
        id=uuid.uuid4(),
        pipeline_id=pipeline_id,
        status=status,
        finished_at=at or database_time(tx),
        **said,
    )
    tx.add(row)
    tx.flush()
    return row.id


def told(metadata: Metadata) -> list[AlertEvent]:
    """The events, the oldest first."""
    with metadata.transaction() as tx:
        return list(tx.scalars(select(AlertEvent).order_by(AlertEvent.created_at)))


def tick(metadata: Metadata, **said: Any) -> int:  # noqa: ANN401 - what else a tick takes
    """One tick."""
    return watch.tick(metadata, head=lambda: "c0ffee", **said)


FAILURES = {"kind": "run_status", "statuses": ["failed"], "pipelines": ["shop.*"]}


def test_what_failed_before_anybody_looked_is_told_to_nobody(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        define(tx, "failures", FAILURES)
        pipeline = make_pipeline(tx)
        make_run(tx, pipeline, at=database_time(tx) - timedelta(minutes=10))

    assert [tick(metadata), tick(metadata)] == [0, 0]


def test_a_failed_run_is_told_once_and_a_pipeline_that_stays_broken_no_more(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        define(tx, "failures", FAILURES)
        pipeline = make_pipeline(tx)
    tick(metadata)
    with metadata.transaction() as tx:
        run = make_run(tx, pipeline, error="Out of disk 17 in shop.bronze.orders\nmore")

    added = [tick(metadata), tick(metadata)]
    with metadata.transaction() as tx:
        make_run(tx, pipeline, error="Out of disk 18")
    added.append(tick(metadata))

    [event] = told(metadata)
    assert added == [1, 0, 0]
    assert event.dedupe_key.endswith(f":shop.bronze.orders:{run}")
    assert event.payload["title"] == (
        "failures: shop.bronze.orders failed: Out of disk 17 in shop.bronze.orders"
    )
    assert event.payload["cause"] == "Out of disk … in "


def test_a_run_that_is_tried_again_has_not_ended(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        define(tx, "failures", FAILURES)
        pipeline = make_pipeline(tx)
        first = make_run(tx, pipeline, dagster_run_id="d", attempt=1)
        last = make_run(tx, pipeline, dagster_run_id="d", attempt=2)

        endings.tell(tx, [first, last])

    assert [each.payload["run_id"] for each in told(metadata)] == [str(last)]


def test_failures_of_one_cause_say_the_same_cause() -> None:
    one = endings.cause_of("No space left on disk3 for a.silver.x", table="a.silver.x")
    other = endings.cause_of("No space left on disk17 for b.gold.y", table="b.gold.y")

    assert one == other


@pytest.mark.parametrize(
    ("condition", "verdicts", "fires"),
    [
        ({"status": "failed"}, ["failed"], True),
        ({"status": "failed"}, ["error"], True),
        ({"status": "failed"}, ["warned"], False),
        ({"status": "failed", "test": "other"}, ["failed"], False),
        ({"status": "warned", "times": 2}, ["warned", "warned"], True),
        ({"status": "warned", "times": 2}, ["passed", "warned"], False),
        ({"status": "warned", "times": 3}, ["warned", "warned"], False),
    ],
)
def test_a_test_of_a_run_that_published_nothing_is_told_by_its_condition(
    metadata: Metadata,
    condition: Mapping[str, Any],
    verdicts: list[str],
    fires: bool,  # noqa: FBT001 - a column of the table of cases
) -> None:
    with metadata.transaction() as tx:
        define(
            tx, "tests", {"kind": "quality", "dataset": str(TABLE)} | dict(condition)
        )
        pipeline = make_pipeline(tx)
        test = QualityTest(
            pipeline_id=pipeline, name="positive", remediation="Ask the shop"
        )
        tx.add(test)
        tx.flush()
        for number, verdict in enumerate(verdicts):
            run = make_run(tx, pipeline)
            at = NOW + timedelta(minutes=number)
            tx.add(
                QualityResult(
                    test_id=test.id,
                    run_id=run,
                    status=verdict,
                    value=3,
                    ran_at=at,
                    sample=[{"id": 1}],
                )
            )
        tx.flush()

        endings.tell(tx, [run])

    assert [each.payload["remediation"] for each in told(metadata)] == [
        "Ask the shop"
    ] * fires


# CHM's rules.


def make_client(tx: Session) -> tuple[uuid.UUID, uuid.UUID]:
    """A client and a pipeline of its own."""
    client = Client(name="acme")
    tx.add(client)
    tx.flush()
    pipeline = Pipeline(
        client_id=client.id,
        name="sync",
        platform="airflow",
        pipeline_type="ingestion",
        environment="prod",
    )
    tx.add(pipeline)
    tx.flush()
    return client.id, pipeline.id


def fail(tx: Session, pipeline_id: uuid.UUID, *, at: datetime) -> uuid.UUID:
    """A failed run of a client's pipeline."""
    run = ClientRun(
        pipeline_id=pipeline_id,
        external_run_id=str(uuid.uuid4()),
        status="failed",
        started_at=at,
        finished_at=at,
        error_message="No route to host",
    )
    tx.add(run)
    tx.flush()
    return run.id


def make_rule(tx: Session, **said: Any) -> uuid.UUID:  # noqa: ANN401 - the columns of a rule
    """A rule that was there before everything."""
    rule = AlertRule(
        channel="slack",
        destination="https://hooks.example/secret",
        created_at=NOW - timedelta(days=1),
        **said,
    )
    tx.add(rule)
    tx.flush()
    return rule.id


def test_a_rule_fires_once_for_each_failed_run(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        client, pipeline = make_client(tx)
        rule = make_rule(tx, client_id=client, rule_type="on_failure")
        failed = [fail(tx, pipeline, at=NOW), fail(tx, pipeline, at=NOW)]

        rules.tell(tx, failed)
        rules.tell(tx, failed)

    found = told(metadata)
    assert {each.dedupe_key for each in found} == {
        f"chm:{rule}:{run}" for run in failed
    }
    assert found[0].payload["title"] == "acme/sync failed: No route to host"
    assert found[0].payload["rule"] == str(rule)
    assert "hooks.example" not in str([each.payload for each in found])


def test_a_rule_of_a_window_fires_once_a_bucket_when_enough_have_failed(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        client, pipeline = make_client(tx)
        rule = make_rule(
            tx,
            client_id=client,
            pipeline_id=pipeline,
            rule_type="failures_in_window",
            threshold=3,
            window_minutes=60,
        )
        minutes = (0, 20, 60, 70, 75, 110)

        for each in minutes:
            run = fail(tx, pipeline, at=NOW + timedelta(minutes=each))
            rules.tell(tx, [run])

    # At 60 the first has just left the window, so there are three only at 70.
    [first] = told(metadata)
    assert first.dedupe_key == f"chm:{rule}:2026-03-04T13:00:00+00:00"
    assert first.event_time == NOW + timedelta(minutes=70)
    assert first.payload["figures"]["failed"] == 3


def test_a_failure_that_is_heard_of_late_counts_where_it_belongs(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        _, pipeline = make_client(tx)
        make_rule(
            tx,
            pipeline_id=pipeline,
            rule_type="failures_in_window",
            threshold=2,
            window_minutes=60,
        )
        rules.tell(tx, [fail(tx, pipeline, at=NOW + timedelta(minutes=30))])

        rules.tell(tx, [fail(tx, pipeline, at=NOW)])

    [event] = told(metadata)
    assert event.event_time == NOW + timedelta(minutes=30)


def test_a_rule_is_about_its_own_pipelines_from_when_it_was_made(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        client, pipeline = make_client(tx)
        other = Client(name="beta")
        tx.add(other)
        tx.flush()
        make_rule(tx, client_id=other.id, rule_type="on_failure")
        make_rule(tx, client_id=client, rule_type="on_failure", is_enabled=False)
        late = make_rule(tx, pipeline_id=pipeline, rule_type="on_failure")
        tx.execute(
            text("UPDATE chm.alert_rules SET created_at = :at WHERE id = :id"),
            {"at": NOW + timedelta(minutes=1), "id": late},
        )

        rules.tell(tx, [fail(tx, pipeline, at=NOW)])

    assert told(metadata) == []


def test_a_run_of_a_client_that_is_told_again_fires_nothing_more(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        client, pipeline = make_client(tx)
        make_rule(tx, client_id=client, rule_type="on_failure")
    added = [tick(metadata)]
    with metadata.transaction() as tx:
        fail(tx, pipeline, at=NOW)

    added.append(tick(metadata))
    with metadata.transaction() as tx:
        tx.execute(text("UPDATE chm.runs SET ingested_at = now() + interval '1 hour'"))
        tx.execute(text("DELETE FROM rat.alert_positions"))
    added += [tick(metadata), tick(metadata)]

    assert added == [0, 1, 0, 0]


# Lateness.


def published(tx: Session, *hours_ago: float) -> uuid.UUID:
    """A pipeline whose table was published so many hours before NOW; the last publication."""
    pipeline = make_pipeline(tx)
    runs = [
        make_run(tx, pipeline, status=RunStatus.SUCCESS, at=NOW - timedelta(hours=each))
        for each in hours_ago
    ]
    make_run(tx, pipeline, status=RunStatus.SUCCESS, at=NOW, unchanged=True)
    return runs[-1]


@pytest.mark.parametrize(
    ("condition", "hours_ago", "late"),
    [
        ({"max_age_minutes": 90}, [2], True),
        ({"max_age_minutes": 150}, [2], False),
        ({"rhythm": {"factor": 2}}, [9, 8, 7, 6, 5, 2.5], True),
        ({"rhythm": {"factor": 3}}, [9, 8, 7, 6, 5, 2.5], False),
        ({"rhythm": {"factor": 2}}, [9, 8], False),
        ({"max_age_minutes": 1}, [], False),
    ],
)
def test_a_table_is_late_by_its_age_or_by_its_own_rhythm(
    metadata: Metadata,
    condition: Mapping[str, Any],
    hours_ago: list[float],
    late: bool,  # noqa: FBT001 - a column of the table of cases
) -> None:
    with metadata.transaction() as tx:
        if hours_ago:
            published(tx, *hours_ago)
        else:
            make_pipeline(tx)
        definition = define(
            tx, "late", {"kind": "freshness", "dataset": str(TABLE)} | dict(condition)
        )

        lateness.tell(tx, now=NOW)
        lateness.tell(tx, now=NOW + timedelta(minutes=1))

        state = tx.scalars(select(AlertState)).all()
    assert len(told(metadata)) == late
    assert [each.definition_id for each in state] == [definition.id] * late


def test_a_late_table_is_told_by_its_last_publication_and_resolved_by_the_next(
    metadata: Metadata,
) -> None:
    condition = {"kind": "freshness", "dataset": str(TABLE), "max_age_minutes": 60}
    with metadata.transaction() as tx:
        last = published(tx, 3)
        definition = define(tx, "late", condition)
        lateness.tell(tx, now=NOW)
        tx.execute(text("UPDATE rat.runs SET finished_at = :at"), {"at": NOW})

        lateness.tell(tx, now=NOW)

    first, over = told(metadata)
    assert first.dedupe_key == f"alert:{definition.id}:all:{last}"
    assert first.event_time == NOW - timedelta(hours=2)
    assert first.payload["title"] == (
        "late: shop.bronze.orders was last published 3 h 0 min ago, and 1 h 0 min is allowed"
    )
    assert over.payload["resolves"] == str(first.id)


def test_a_scheduled_time_that_no_run_has_served_is_told(metadata: Metadata) -> None:
    condition = {"kind": "run_status", "statuses": ["missing"], "pipelines": ["shop"]}
    due = NOW - timedelta(hours=1)
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx)
        define(tx, "missing", condition)
        tx.execute(
            text(
                "INSERT INTO rat.schedules (pipeline_id, cron_expr, next_run_at)"
                " VALUES (:pipeline, '0 * * * *', :due)"
            ),
            {"pipeline": pipeline, "due": due},
        )

        lateness.tell(tx, now=NOW)
        lateness.tell(tx, now=NOW)
        tx.execute(text("UPDATE rat.schedules SET next_run_at = :at"), {"at": NOW})
        lateness.tell(tx, now=NOW)

    first, over = told(metadata)
    assert first.payload["title"] == (
        "missing: shop.bronze.orders should have run at 2026-03-04 11:00 UTC, and did not"
    )
    assert over.payload["state"] == "resolved"


# The tick.


def test_a_tick_that_has_nothing_to_do_asks_once(metadata: Metadata) -> None:
    tick(metadata)
    tick(metadata)
    asked: list[str] = []

    with metadata.transaction() as tx:
        work = watch.Work(*tx.execute(watch.WORK).one())
    tick(metadata, ask=lambda *_: asked.append("asked"))

    assert work.is_idle
    assert asked == []


def test_a_query_about_no_table_is_asked_again_only_when_main_has_moved(
    metadata: Metadata,
) -> None:
    commits = iter(["one", "one", "two"])
    with metadata.transaction() as tx:
        define(tx, "asked", {"kind": "sql", "query": "SELECT 1"})
    asked: list[str] = []

    def ask(definitions: Sequence[Definition], commit: str) -> list[Looked]:
        asked.append(commit)
        return [Looked(each, [Match("it is so")]) for each in definitions]

    for _ in range(3):
        watch.tick(metadata, head=lambda: next(commits), ask=ask)

    assert asked == ["one", "two"]
    assert [each.payload["title"] for each in told(metadata)] == ["asked: it is so"]


def test_what_is_disabled_is_raised_no_more(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        definition = define(tx, "failures", FAILURES)
        payload = Payload("run_status", "It failed", pipeline="shop.bronze.orders")
        event = Event("alert:x", payload, definition_id=definition.id, raises="all")
        events.add(tx, event)
        events.add_system(tx, key=f"condition:{definition.id}:1", title="It is broken")
        define(tx, "failures", FAILURES, enabled=False)

    added = [tick(metadata), tick(metadata)]

    assert added == [2, 0]
    titles = sorted(each.payload["title"] for each in told(metadata)[2:])
    assert titles == ["failures is not watched any more"] * 2
