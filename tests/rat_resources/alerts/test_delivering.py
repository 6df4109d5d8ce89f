"""Sending what is due: leases, fences, back-off, and what is told of it."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, text

from rat_assets.cli import rat
from rat_resources.alerts import deliveries
from rat_resources.alerts.addresses import Rules
from rat_resources.alerts.deliveries import Outcome, Terms, backoff
from rat_resources.alerts.delivering import Deliverer, Slowness
from rat_resources.alerts.http_sender import HttpSender, Patience
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.routing import route
from rat_resources.errors import MetadataError
from rat_resources.metadata import Metadata
from rat_resources.platform import opened, platform
from tests.conftest import administrate
from tests.rat_resources.alerts.receiver import Receiver, Reply, receiving
from tests.rat_resources.alerts.told import define, happen, make_due, rows

TERMS = Terms()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def deliverer(metadata: Metadata) -> Iterator[Deliverer]:
    """Somebody who sends to this machine, too."""
    http = HttpSender(Rules(loopback=True), patience=Patience(read=1, total=2))
    outbox = Outbox(http, environ={})
    yield Deliverer(metadata, outbox, "default", threads=2)
    outbox.close()


def tell(
    deliverer: Deliverer,
    receiver: Receiver,
    number: int = 1,
    **said: Any,  # noqa: ANN401 - fields
) -> None:
    """Let so many events happen that the receiver wants to hear of."""
    options = said.pop("options", {})
    with deliverer.metadata.transaction() as tx:
        channels = {"webhook": {"url": receiver.url, **options}}
        definition = define(tx, channels, **said)
        for each in range(number):
            happen(tx, definition, str(each), cause="storm")


def found(deliverer: Deliverer) -> list[Any]:
    """The deliveries."""
    with deliverer.metadata.transaction() as tx:
        return rows(tx)


def again(deliverer: Deliverer) -> Any:  # noqa: ANN401 - a Tally
    """Send once more, when the wait is over."""
    with deliverer.metadata.transaction() as tx:
        make_due(tx)
    return deliverer.run()


def test_what_happened_is_delivered_once(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver, 5)

    first, second = deliverer.run(), deliverer.run()

    keys = {request.headers["Idempotency-Key"] for request in receiver.requests}
    assert (first.routed, first.delivered) == (5, 5)
    assert second.is_empty
    assert len(receiver.requests) == 5
    assert keys == {str(row.id) for row in found(deliverer)}
    assert {row.status for row in found(deliverer)} == {"delivered"}
    assert {row.attempt for row in found(deliverer)} == {1}


def test_a_delivery_is_tried_again_and_says_why(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.replies = [Reply(503), Reply(429, headers={"Retry-After": "77"})]
    tell(deliverer, receiver)

    deliverer.run()
    (first,) = found(deliverer)
    again(deliverer)
    (second,) = found(deliverer)
    again(deliverer)
    (last,) = found(deliverer)

    assert (first.status, first.attempt) == ("retrying", 1)
    assert first.error_message.endswith("answers 503")
    assert 3 < first.wait.total_seconds() < 6
    assert 60 < second.wait.total_seconds() < 78
    assert (last.status, last.attempt, last.error_message) == ("delivered", 3, None)


def test_after_twelve_attempts_it_has_failed_and_that_is_told_once(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.replies = [Reply(500)] * 24
    tell(deliverer, receiver, 2)

    deliverer.run()
    tallies = [again(deliverer) for _ in range(12)]

    assert len(receiver.requests) == 24
    assert sum(each.failed for each in tallies) == 2
    assert {(row.status, row.attempt) for row in found(deliverer)} == {("failed", 12)}
    assert len(system_events(deliverer)) == 1


def system_events(deliverer: Deliverer) -> list[Any]:
    """What is told of RAT's own troubles."""
    events = text("""
        SELECT payload FROM trace.alert_events WHERE payload ->> 'kind' = 'system'
    """)
    with deliverer.metadata.transaction() as tx:
        return list(tx.scalars(events))


def test_what_can_never_be_taken_fails_at_once_and_may_be_retried_by_hand(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.replies = [Reply(410)]
    tell(deliverer, receiver)
    deliverer.run()
    (failed,) = found(deliverer)

    with deliverer.metadata.transaction() as tx:
        retried = deliveries.retry(tx, None)
    (waiting,) = found(deliverer)
    deliverer.run()
    (delivered,) = found(deliverer)

    assert (failed.status, failed.attempt) == ("failed", 1)
    assert retried == [failed.id]
    assert (waiting.status, waiting.attempt) == ("pending", 0)
    assert (delivered.status, delivered.attempt) == ("delivered", 1)
    first, second = (each.headers["Idempotency-Key"] for each in receiver.requests)
    assert first == second
    states = [each["state"] for each in system_events(deliverer)]
    assert states == ["firing", "resolved"]


def test_only_what_is_named_is_retried(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.replies = [Reply(404)] * 2
    tell(deliverer, receiver, 2)
    deliverer.run()
    one = found(deliverer)[0].id

    with deliverer.metadata.transaction() as tx:
        retried = deliveries.retry(tx, [one, uuid.uuid4()])
        nothing = deliveries.retry(tx, [])

    assert retried == [one]
    assert nothing == []


def test_a_group_is_one_message_and_all_its_rows_are_delivered(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.replies = [Reply(500)]
    tell(deliverer, receiver, 40, options={"group_by": ["cause"], "group_wait": "1h"})

    deliverer.run()
    waiting = len(receiver.requests)
    again(deliverer)
    retrying = {row.status for row in found(deliverer)}
    again(deliverer)

    first, second = receiver.requests
    assert waiting == 0
    assert retrying == {"retrying"}
    assert first.body == second.body
    assert second.document["count"] == 40
    assert len(second.document["events"]) == 10
    assert {(row.status, row.attempt) for row in found(deliverer)} == {("delivered", 2)}


def test_what_one_has_claimed_no_other_takes(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver, 3)
    deliverer.route()

    with deliverer.metadata.transaction() as tx:
        ours = deliveries.claim(tx, owner="us", most=2, terms=TERMS)
        with deliverer.metadata.transaction() as other:
            theirs = deliveries.claim(other, owner="them", most=9, terms=TERMS)
    with deliverer.metadata.transaction() as tx:
        nobodys = deliveries.claim(tx, owner="them", most=9, terms=TERMS)

    assert (len(ours), len(theirs), len(nobodys)) == (2, 1, 0)


def test_a_lapsed_lease_is_taken_over_and_its_owner_settles_nothing(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver)
    deliverer.route()
    with deliverer.metadata.transaction() as tx:
        (asleep,) = deliveries.claim(tx, owner="asleep", most=1, terms=TERMS)
    lapse(deliverer)

    tally = deliverer.run()
    with deliverer.metadata.transaction() as tx:
        late = deliveries.settle(
            tx, [Outcome(asleep, "failed", "late")], owner="asleep"
        )

    (row,) = found(deliverer)
    assert tally.delivered == 1
    assert late == []
    assert (row.status, row.attempt) == ("delivered", 2)


def lapse(deliverer: Deliverer) -> None:
    """Let every lease have lapsed."""
    with deliverer.metadata.transaction() as tx:
        tx.execute(
            text("""
                UPDATE trace.alert_deliveries
                SET leased_until = clock_timestamp() - interval '1 s',
                    next_attempt_at = clock_timestamp() - interval '1 s'
            """)
        )


def test_what_kills_its_senders_is_not_sent_for_ever(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver)
    deliverer.route()
    for _ in range(12):
        with deliverer.metadata.transaction() as tx:
            assert deliveries.claim(tx, owner="dies", most=1, terms=TERMS)
        lapse(deliverer)

    deliverer.run()

    (row,) = found(deliverer)
    assert row.status == "failed"
    assert not receiver.requests


def test_who_is_stopped_gives_back_what_was_not_begun(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver, 20)
    receiver.replies = [Reply(hangs=True)] * 2
    thread = threading.Thread(target=deliverer.run)
    thread.start()
    until = time.monotonic() + 20
    while len(receiver.requests) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    deliverer.stopped.set()
    receiver.over.set()
    thread.join()

    states = [(row.status, row.attempt) for row in found(deliverer)]
    assert states.count(("retrying", 1)) == 2
    assert sum(attempt == 0 for _, attempt in states) == 18
    assert "sending" not in {status for status, _ in states}
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("SET enabled = false", "switched off"),
        ("SET channels = '{}'", "no channel webhook any more"),
        ('SET channels = \'{"webhook": {"url": 7}}\'', "no url"),
        ('SET channels = \'{"webhook": {"url": "http://10.0.0.1/"}}\'', "private"),
    ],
)
def test_a_destination_is_looked_up_when_it_is_sent(
    change: str, why: str, deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver)
    deliverer.route()
    with deliverer.metadata.transaction() as tx:
        tx.execute(text(f"UPDATE trace.alert_definitions {change}"))

    deliverer.run()

    (row,) = found(deliverer)
    assert row.status == "failed"
    assert why in row.error_message
    assert not receiver.requests


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [
        (1, 4, 6),
        (2, 8, 12),
        (3, 16, 24),
        (9, 1024, 1536),
        (10, 1440, 2160),
        (99, 1440, 2160),
    ],
)
def test_the_wait_doubles_up_to_half_an_hour(
    attempt: int, least: float, most: float
) -> None:
    assert least <= backoff(attempt, terms=TERMS) <= most
    assert backoff(attempt, terms=TERMS, retry_after=3_000) == 3_000


def test_routing_and_taking_a_group_at_once_loses_no_member(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver, 1, options={"group_by": ["cause"], "group_wait": "1s"})
    deliverer.route()
    with deliverer.metadata.transaction() as tx:
        make_due(tx)
    with deliverer.metadata.transaction() as tx:
        definition = tx.execute(
            text("SELECT id FROM trace.alert_definitions")
        ).scalar_one()
        happen(tx, definition, "late comer", cause="storm")

    # It has the leader in hand when the other wants to send it.
    with deliverer.metadata.transaction() as routing:
        route(routing)
        with deliverer.metadata.transaction() as tx:
            skipped = deliveries.claim(tx, owner="us", most=9, terms=TERMS)
    deliverer.run()

    assert skipped == []
    assert receiver.requests[0].document["count"] == 2
    assert {row.status for row in found(deliverer)} == {"delivered"}


def test_a_receiver_that_hangs_holds_some_threads_and_is_let_in_again_once_it_answers() -> (
    None
):
    slowness = Slowness()
    slowness.enter("a", most=2)
    slowness.leave("a", hung=True)

    let_in = [slowness.enter("a", most=2) for _ in range(3)]
    elsewhere = slowness.enter("b", most=2)
    slowness.leave("a", hung=False)
    again = [slowness.enter("a", most=2) for _ in range(3)]

    assert let_in == [True, True, False]
    assert elsewhere
    assert again == [True, True, True]


def test_what_waited_too_long_is_given_back_before_its_lease_lapses(
    deliverer: Deliverer, receiver: Receiver
) -> None:
    tell(deliverer, receiver)
    deliverer.route()
    with deliverer.metadata.transaction() as tx:
        (waited,) = deliveries.claim(tx, owner=deliverer.owner, most=1, terms=TERMS)

    outcome = deliverer.send(waited, since=time.monotonic() - 58)
    with deliverer.metadata.transaction() as tx:
        deliveries.settle(tx, [outcome], owner=deliverer.owner)

    (row,) = found(deliverer)
    assert (row.status, row.attempt) == ("retrying", 0)
    assert not receiver.requests


def test_a_worker_outlives_a_postgres_that_is_gone_for_a_while(
    deliverer: Deliverer, receiver: Receiver, server: URL
) -> None:
    name = deliverer.metadata.url.database
    tell(deliverer, receiver, 1)
    troubles = []

    def come_back(error: MetadataError) -> None:
        troubles.append(error)
        administrate(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    administrate(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    administrate(
        server,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    deliverer.watch(
        pause=0.01, told=lambda _: deliverer.stopped.set(), troubled=come_back
    )

    assert troubles
    assert len(receiver.requests) == 1
    assert [row.status for row in found(deliverer)] == ["delivered"]


def test_the_commands_send_and_try_again(
    deliverer: Deliverer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_ALERT_ALLOW_LOOPBACK", "1")
    receiver.replies = [Reply(404), Reply(404)]
    tell(deliverer, receiver, 2)

    sent = CliRunner().invoke(rat, ["deliver"], standalone_mode=False)
    first, second = (str(row.id) for row in found(deliverer))
    one = CliRunner().invoke(rat, ["alert", "retry", first])
    rest = CliRunner().invoke(rat, ["alert", "retry", "--failed"])
    none = CliRunner().invoke(rat, ["alert", "retry", second])
    again = CliRunner().invoke(rat, ["deliver", "--json"])
    wrong = CliRunner().invoke(rat, ["alert", "retry", "pigeon"])
    # What the commands opened, which no fixture knows.
    platform().metadata.dispose()
    opened.cache_clear()

    assert sent.output == "2 routed, 2 failed\n"
    assert one.output == rest.output == "1 failed delivery queued anew\n"
    assert none.exit_code == wrong.exit_code == 1
    assert json.loads(again.output)["delivered"] == 2
    assert again.exit_code == 0
