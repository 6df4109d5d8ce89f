"""Events are added once, raise a subject until it is resolved, and fit into a message."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from rat_resources.alerts import events
from rat_resources.alerts.events import Event, Payload, Raised
from rat_resources.metadata import Metadata
from rat_resources.metadata.alerts import AlertState
from rat_resources.metadata.trace.alerts import AlertDefinition, AlertEvent
from rat_resources.mirror import people
from rat_resources.mirror.ids import trace_id

AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def tx(metadata: Metadata) -> Iterator[Session]:
    with metadata.transaction() as tx:
        yield tx


def make_definition(
    tx: Session, name: str = "negative", kind: str = "threshold"
) -> uuid.UUID:
    """The row of a definition."""
    org = people.declare_org(tx)
    row = AlertDefinition(
        id=uuid.uuid4(),
        org_id=org,
        user_id=trace_id("user", "default/admin"),
        name=name,
        condition={"kind": kind},
        channels={},
    )
    tx.add(row)
    tx.flush()
    return row.id


def told(tx: Session) -> list[AlertEvent]:
    """The events, the oldest first."""
    return list(tx.scalars(select(AlertEvent).order_by(AlertEvent.created_at)))


def raised(tx: Session) -> list[Raised]:
    """What is raised now."""
    return [Raised.of(each) for each in tx.scalars(select(AlertState))]


def make_event(key: str = "alert:1:all:7", **said: object) -> Event:
    """An event about a table."""
    payload = Payload("threshold", "Something is wrong", table="shop.gold.revenue")
    return Event(key, payload, **said)  # type: ignore[arg-type]


def test_an_event_is_added_once_whoever_tells_of_it(tx: Session) -> None:
    first = events.add(tx, make_event())

    again = events.add(tx, make_event())

    assert first is not None
    assert again is None
    assert [each.dedupe_key for each in told(tx)] == ["alert:1:all:7"]


def test_the_id_of_an_event_follows_from_its_key(tx: Session) -> None:
    org = people.declare_org(tx)

    event_id = events.add(tx, make_event())

    assert event_id == events.id_of(org, "alert:1:all:7")


def test_an_event_is_of_the_deployments_org_and_keeps_what_its_rows_say(
    tx: Session,
) -> None:
    events.add(
        tx, make_event(chain_id=1, block_hash="0xb", block_number=9, event_time=AT)
    )

    [row] = told(tx)
    assert row.org_id == people.declare_org(tx)
    assert (row.chain_id, row.block_hash, row.block_number) == (1, "0xb", 9)
    assert row.event_time == AT
    assert row.source_dataset == "shop.gold.revenue"


def test_what_is_raised_is_not_told_again_until_it_is_resolved(tx: Session) -> None:
    definition = make_definition(tx)
    said: dict[str, Any] = {"definition_id": definition, "raises": "all"}

    first = events.add(tx, make_event("alert:1:all:7", **said))
    meanwhile = events.add(tx, make_event("alert:1:all:8", **said))
    [over] = raised(tx)
    events.add(tx, events.resolution(over, Payload("threshold", "All is well")))
    afterwards = events.add(tx, make_event("alert:1:all:9", **said))

    assert first == over.event_id
    assert meanwhile is None
    assert afterwards is not None
    assert [each.dedupe_key for each in told(tx)] == [
        "alert:1:all:7",
        f"resolved:{first}",
        "alert:1:all:9",
    ]


def test_a_resolution_told_twice_is_one_and_says_what_is_over(tx: Session) -> None:
    event_id = events.add(tx, make_event(raises="x"))
    [over] = raised(tx)
    resolution = events.resolution(over, Payload("threshold", "All is well"))

    events.tell(tx, [resolution])
    again = events.tell(tx, [resolution])

    payload = Payload.from_json(told(tx)[-1].payload)
    assert again == []
    assert (payload.state, payload.resolves) == ("resolved", str(event_id))
    assert not raised(tx)


def test_a_resolution_says_which_of_many_is_over(tx: Session) -> None:
    payload = Payload("threshold", "42 is dear", subject={"id": 42, "day": "monday"})
    events.add(tx, Event("alert:1:x:7", payload, raises="x"))
    [over] = raised(tx)

    events.add(tx, events.resolution(over, Payload("threshold", "dear: no longer so")))

    said = Payload.from_json(told(tx)[-1].payload)
    assert said.title == "dear: no longer so (id 42, day monday)"
    assert said.subject == {"id": 42, "day": "monday"}


def test_an_old_event_told_again_raises_nothing_anew(tx: Session) -> None:
    event = make_event(raises="x")
    events.add(tx, event)
    events.add(tx, events.resolution(raised(tx)[0], Payload("threshold", "Well")))

    events.add(tx, event)

    assert not raised(tx)


def test_an_event_can_be_kept_as_json() -> None:
    event = make_event(
        definition_id=uuid.uuid4(), run_id=uuid.uuid4(), event_time=AT, raises=""
    )

    again = Event.from_json(event.to_json())

    assert again.to_json() == event.to_json()
    assert again.event_time == AT


def test_what_an_event_tells_is_never_long() -> None:
    payload = Payload(
        "threshold",
        "x" * 5_000,
        rows=[{"text": "y" * 9_000}] * 20,
        subject={"name": "a\0b"},
        figures={"list": list(range(1_000))},
    )

    document = payload.to_json()

    assert len(document["title"]) == events.LONGEST_TITLE
    assert len(document["rows"]) == events.MOST_ROWS
    assert len(document["rows"][0]["text"]) == events.LONGEST_TEXT
    assert len(document["figures"]["list"]) == events.MOST_ITEMS
    assert document["subject"] == {"name": "a␀b"}


def test_a_trouble_is_told_once_while_it_lasts_and_again_when_it_is_back(
    tx: Session,
) -> None:
    trouble = partial(
        events.add_system, tx, key="udf:x", title="It cannot be evaluated"
    )

    trouble()
    trouble()
    events.resolve_system(tx, key="udf:x", title="It can")
    events.resolve_system(tx, key="udf:x", title="It can")
    trouble()

    keys = [each.dedupe_key for each in told(tx)]
    assert keys == ["system:udf:x", keys[1], "system:udf:x:2"]
    assert keys[1].startswith("resolved:")


def test_a_trouble_is_told_to_every_definition_that_wants_to_hear_of_troubles(
    tx: Session,
) -> None:
    listener = make_definition(tx, "troubles", kind="system")
    make_definition(tx)

    events.add_system(tx, key="x", title="It is broken")

    [event] = told(tx)
    assert event.alert_definition_id == listener
    assert event.payload["definition"] == "troubles"


def test_an_event_names_the_task_of_its_run(tx: Session) -> None:
    tx.execute(text("SET LOCAL session_replication_role = replica"))
    run, job, task = (uuid.uuid4() for _ in range(3))
    tx.execute(
        text("INSERT INTO trace.tasks (id, job_id, run_id) VALUES (:task, :job, :run)"),
        {"task": task, "job": job, "run": run},
    )

    events.add(tx, make_event(run_id=run))

    [event] = told(tx)
    assert (event.producer_task_id, event.producer_job_id) == (task, job)
