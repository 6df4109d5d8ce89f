"""Which deliveries follow from an event, and when they are due."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts import events
from rat_resources.alerts.destinations import of_channels
from rat_resources.alerts.routing import (
    Happened,
    Routed,
    delivery_id,
    end_of_quiet,
    fits,
    group_key,
    quiet_until,
    route,
    why_untold,
)
from rat_resources.metadata import Metadata
from rat_resources.mirror.people import declare_org
from tests.rat_resources.alerts.told import define, happen, rows

HOOK = {"url": "https://hooks.example/x"}
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def tx(metadata: Metadata) -> Iterator[Session]:
    """A transaction on a fresh database."""
    with metadata.transaction() as tx:
        yield tx


def test_an_event_is_delivered_once_through_each_channel(tx: Session) -> None:
    definition = define(tx, {"webhook": HOOK, "email": {"to": "ops@example.com"}})
    event = happen(tx, definition)

    first, second = route(tx), route(tx)

    assert (first, second) == (Routed(1, 2), Routed(0, 0))
    assert {row.channel for row in rows(tx)} == {"webhook", "email"}
    org_id = declare_org(tx)
    assert {row.id for row in rows(tx)} == {
        delivery_id(org_id, event, each) for each in ("webhook", "email")
    }


def test_routing_the_whole_log_again_adds_nothing(tx: Session) -> None:
    define_id = define(tx, {"webhook": HOOK | {"group_by": ["cause"]}})
    for number in range(3):
        happen(tx, define_id, str(number))
    route(tx)

    tx.execute(
        text("INSERT INTO rat.alert_queue (event_id) SELECT id FROM trace.alert_events")
    )

    assert route(tx) == Routed(3, 0)


def test_an_event_that_somebody_inserts_is_routed_too(tx: Session) -> None:
    definition = define(tx, {"webhook": HOOK})
    tx.execute(
        text("""
            INSERT INTO trace.alert_events (org_id, alert_definition_id, dedupe_key)
            VALUES (:org, :definition, 'by hand')
        """),
        {"org": declare_org(tx), "definition": definition},
    )

    assert route(tx) == Routed(1, 1)


def test_what_is_another_organisations_never_leaves(tx: Session) -> None:
    definition = define(tx, {"webhook": HOOK})
    other = uuid.uuid4()
    tx.execute(
        text("INSERT INTO trace.orgs (id, name, slug) VALUES (:id, 'other', 'other')"),
        {"id": other},
    )
    tx.execute(
        text("""
            INSERT INTO trace.alert_events (org_id, alert_definition_id, dedupe_key)
            VALUES (:org, :definition, 'theirs')
        """),
        {"org": other, "definition": definition},
    )

    assert route(tx) == Routed(1, 0)


def test_a_definition_that_is_off_says_nothing(tx: Session) -> None:
    happen(tx, define(tx, {"webhook": HOOK}, enabled=False))

    assert route(tx) == Routed(1, 0)


def test_who_was_told_hears_that_it_is_over_though_the_alert_is_off_by_now(
    tx: Session,
) -> None:
    definition = define(tx, {"webhook": HOOK, "email": {"to": "ops@example.com"}})
    event = happen(tx, definition)
    route(tx)
    tx.execute(
        text(
            "UPDATE trace.alert_deliveries SET status = 'failed' WHERE channel = 'email'"
        )
    )
    tx.execute(
        text("""
            UPDATE trace.alert_deliveries
            SET status = 'sending', leased_until = clock_timestamp(), lease_owner = 'us'
            WHERE channel = 'webhook'
        """)
    )
    tx.execute(text("UPDATE trace.alert_definitions SET enabled = false"))

    over = happen(tx, definition, "over", state="resolved", resolves=str(event))
    tx.execute(
        text("""
            INSERT INTO trace.alert_events (org_id, alert_definition_id, dedupe_key, payload)
            SELECT org_id, id, 'by hand', '{"resolves": "no id"}' FROM trace.alert_definitions
        """)
    )

    assert route(tx) == Routed(2, 1)
    assert [row.channel for row in rows(tx) if row.alert_event_id == over] == [
        "webhook"
    ]


def test_an_old_event_is_kept_and_not_sent(tx: Session) -> None:
    definition = define(
        tx,
        {"webhook": HOOK | {"max_delivery_age": "7d"}, "slack": {"webhook_url": "x"}},
    )
    happen(tx, definition, event_time=datetime.now(UTC) - timedelta(days=8))

    route(tx)

    assert [row.channel for row in rows(tx)] == ["slack"]


def happened(**said: Any) -> Happened:  # noqa: ANN401 - fields
    """An event about flights."""
    payload = {
        "kind": "threshold",
        "labels": {"team": "ops"},
        "definition": "late",
        "cause": "storm",
        **said.pop("payload", {}),
    }
    severity = said.pop("severity", "warning")
    event_id = uuid.UUID(int=1)
    return Happened(event_id, None, severity, NOW, "nyc.silver.flights", payload)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, True),
        ({}, True),
        ({"severity": "warning"}, True),
        ({"severity": ["critical", "warning"]}, True),
        ({"severity": "critical"}, False),
        ({"severity": "warning", "namespace": "nyc"}, True),
        ({"severity": "warning", "namespace": "shop"}, False),
        ({"labels.team": "ops"}, True),
        ({"labels.team": "sales"}, False),
        ({"labels.none": "x"}, False),
        ({"dataset": "nyc.silver.flights", "state": "firing"}, True),
        ({"kind": "quality"}, False),
        ({"nonsense": "x"}, False),
        ({"severity": []}, False),
        ("severity", False),
        ([1], False),
    ],
)
def test_where_is_an_and_of_fields(where: Any, *, expected: bool) -> None:  # noqa: ANN401 - JSON
    assert fits(happened(), where) is expected


def test_forty_failures_of_one_cause_have_one_delivery_that_leads(tx: Session) -> None:
    channels = {"webhook": HOOK | {"group_by": ["cause"], "group_wait": "30s"}}
    late, lost = (define(tx, channels, name=name) for name in ("late", "lost"))
    for number in range(40):
        happen(tx, (late, lost)[number % 2], str(number), cause="storm")
        if number % 10 == 0:
            route(tx)
    route(tx)
    happen(tx, late, "another", cause="strike")
    route(tx)

    found = rows(tx)
    leaders = [row for row in found if row.leader_id is None]
    assert len(found) == 41
    assert len(leaders) == 2
    led = [sum(row.leader_id == each.id for row in found) for each in leaders]
    assert sorted(led) == [0, 39]
    assert all(
        timedelta(seconds=20) < row.wait < timedelta(seconds=31) for row in leaders
    )


def test_a_group_whose_leader_is_taken_gets_a_new_one(tx: Session) -> None:
    definition = define(tx, {"webhook": HOOK | {"group_by": ["cause"]}})
    happen(tx, definition, "1", cause="storm")
    route(tx)
    tx.execute(
        text("""
            UPDATE trace.alert_deliveries
            SET status = 'sending', leased_until = now() + interval '1 minute', attempt = 1
        """)
    )
    happen(tx, definition, "2", cause="storm")
    route(tx)

    assert [row.leader_id for row in rows(tx)] == [None, None]


def test_what_began_and_what_ended_are_not_told_together() -> None:
    (hook,) = of_channels({"webhook": HOOK | {"group_by": ["cause"]}})
    (other,) = of_channels({"webhook": {"url": "https://b", "group_by": ["cause"]}})
    (pager,) = of_channels({"pagerduty": {"routing_key": "x", "group_by": ["cause"]}})

    keys = {
        group_key(happened(), hook),
        group_key(happened(payload={"state": "resolved"}), hook),
        group_key(happened(), other),
    }

    assert len(keys) == 3
    assert group_key(happened(), pager) is None
    assert group_key(happened(payload={"state": "test"}), hook) is None


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "begins", "ends", "until"),
    [
        ("2026-11-21 23:30", 22, 7, "2026-11-22 07:00"),
        ("2026-11-22 06:59", 22, 7, "2026-11-22 07:00"),
        ("2026-11-22 07:00", 22, 7, None),
        ("2026-11-22 12:00", 22, 7, None),
        ("2026-11-22 22:00", 22, 7, "2026-11-23 07:00"),
        ("2026-11-22 12:00", 9, 17, "2026-11-22 17:00"),
        ("2026-11-22 18:00", 9, 17, None),
        # The nights in which the clocks are changed.
        ("2026-03-28 23:00", 22, 7, "2026-03-29 07:00"),
        ("2026-10-24 23:00", 22, 7, "2026-10-25 07:00"),
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(
    now: str, begins: int, ends: int, until: str | None
) -> None:
    at, expected = (
        datetime.fromisoformat(each).replace(tzinfo=BERLIN)
        for each in (now, until or now)
    )

    found = end_of_quiet(
        at, begins=timedelta(hours=begins), ends=timedelta(hours=ends), zone=BERLIN
    )

    assert found == expected


NIGHT = {"from": "00:00", "to": "23:59", "timezone": "UTC"}


@pytest.mark.parametrize(
    ("severity", "said", "is_quiet"),
    [
        ("warning", NIGHT, True),
        ("warning", NIGHT | {"unless_severity": "critical"}, True),
        ("critical", NIGHT | {"unless_severity": "critical"}, False),
        ("critical", NIGHT | {"unless_severity": "warning"}, False),
        ("warning", None, False),
        ("warning", {"from": "x", "to": "y"}, False),
        ("warning", NIGHT | {"timezone": "Mars/Base"}, False),
        ("warning", "always", False),
    ],
)
def test_quiet_hours_keep_what_is_not_bad_enough(
    severity: str,
    said: Any,  # noqa: ANN401 - JSON
    *,
    is_quiet: bool,
) -> None:
    due = quiet_until(happened(severity=severity), said, now=NOW)

    assert (due > NOW) is is_quiet


def test_a_rule_of_chm_says_itself_where_to(tx: Session) -> None:
    tx.execute(
        text("INSERT INTO chm.clients (id, name) VALUES (gen_random_uuid(), 'c')")
    )
    rule = tx.execute(
        text("""
            INSERT INTO chm.alert_rules (client_id, rule_type, channel, destination)
            SELECT id, 'on_failure', 'webhook', 'env:CHM_HOOK' FROM chm.clients RETURNING id
        """)
    ).scalar_one()
    happen(tx, None, "1", kind="chm", rule=str(rule))

    assert route(tx) == Routed(1, 1)
    assert [row.channel for row in rows(tx)] == ["webhook"]


def test_nobody_hears_of_a_channel_that_failed_through_that_channel(
    tx: Session,
) -> None:
    broken = {"webhook": HOOK, "email": {"to": "ops@example.com"}}
    definition = define(tx, {"webhook": HOOK})
    happen(tx, definition)
    route(tx)
    (failed,) = rows(tx)
    system = define(tx, broken, name="system")
    tx.execute(
        text("""
            UPDATE trace.alert_definitions SET condition = '{"kind": "system"}' WHERE id = :id
        """),
        {"id": system},
    )

    events.add_system(
        tx, key="delivery", title="broken", figures={"delivery": str(failed.id)}
    )
    route(tx)

    assert sorted(row.channel for row in rows(tx)) == ["email", "webhook"]


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ({}, "no channel"),
        ({"webhook": HOOK | {"where": {"severity": "critical"}}}, "`where` of webhook"),
        ({"webhook": HOOK | {"max_delivery_age": "1h"}}, "too old for webhook"),
        ({"webhook": HOOK}, ""),
    ],
)
def test_it_is_said_why_nobody_hears_of_an_event(
    channels: dict[str, Any], said: str
) -> None:
    event = Happened(uuid.uuid4(), None, "warning", NOW - timedelta(days=1), "a.b.c")

    why = why_untold(event, channels, enabled=True, now=NOW)
    off = why_untold(event, {"webhook": HOOK}, enabled=False, now=NOW)

    assert why == said
    assert off == "switched off"
