"""Trying alerts: what one would raise now, and one test message of it."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from time import monotonic, sleep
from typing import Any

import click
from sqlalchemy import text

from rat_assets.commands.display import moment, plural, print_json, print_table
from rat_assets.commands.opening import open_platform
from rat_resources.alerts import overview
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import MOST_ROWS, Event
from rat_resources.alerts.matches import Looked, Match, Occasion, firing
from rat_resources.alerts.overview import Standing
from rat_resources.platform import Platform

FAILED = 1
MOST_SHOWN = 20
PATIENCE = 30.0  # seconds, with whoever takes the message
PAUSE = 0.5
UNDER_WAY = ("pending", "sending")


def try_alert(name: str, *, send: bool, as_json: bool) -> int:
    """Print what an alert would raise now; 1 when it cannot be evaluated, or a message is not sent."""
    from rat_assets import alert_trial

    whole = open_platform()
    definition = alert_trial.find(whole, name)
    looked = alert_trial.evaluate(whole, definition)
    with whole.metadata.transaction() as tx:
        raised = overview.raised_of(tx, [definition.id])
    sent = send_test(whole, looked) if send else []
    if as_json:
        said = {"sent": [asdict(each) for each in sent]} if send else {}
        print_json(describe(looked, raised) | said)
    else:
        say(looked, raised)
        for each in sent:
            click.echo(f"test message by {each.channel}: {each.words}")
        if send and not sent:
            click.echo("test message: no channel of it wants to hear of this")
    is_sent = all(each.status == "delivered" for each in sent) and bool(sent) == send
    return 0 if looked.trouble is None and is_sent else FAILED


def describe(looked: Looked, raised: Sequence[Standing]) -> dict[str, Any]:
    """What an alert would raise, as JSON has it."""
    definition = looked.definition
    return {
        "alert": f"{definition.namespace}/{definition.name}",
        "kind": definition.kind,
        "severity": definition.severity,
        "would_raise": [
            {
                "title": each.payload.title,
                "subject": dict(each.payload.subject),
                "figures": dict(each.payload.figures),
                "rows_matching": each.payload.rows_matching,
                "rows": list(each.payload.rows),
            }
            for each in events_of(looked)
        ],
        "more": looked.more,
        "trouble": str(looked.trouble) if looked.trouble else None,
        "raised": [
            {"title": each.title, "since": each.since.isoformat()} for each in raised
        ],
    }


def events_of(looked: Looked) -> list[Event]:
    """The events that would be raised, if nothing were yet."""
    return [
        firing(looked.definition, each, occasion=occasion_of(looked.definition))
        for each in looked.matches
    ]


def occasion_of(definition: Definition) -> Occasion:
    """The occasion that a test is."""
    table = str(definition.table) if definition.table else None
    return Occasion(identity="test", table=table, pipeline=table, cause="test")


def say(looked: Looked, raised: Sequence[Standing]) -> None:
    """Print what an alert would raise."""
    definition = looked.definition
    name = f"{definition.namespace}/{definition.name}"
    if looked.trouble is not None:
        click.echo(f"{name} cannot be evaluated: {looked.trouble}")
    elif not looked.matches:
        click.echo(f"{name} would raise nothing now")
    else:
        click.echo(f"{name} would raise {plural(len(looked.matches), 'alert')} now")
    for match in looked.matches[:MOST_SHOWN]:
        for line in lines_of(match):
            click.echo(line)
        if match.rows:
            print_rows(match)
    hidden = len(looked.matches) + looked.more - MOST_SHOWN
    if hidden > 0:
        click.echo(f"… and {hidden:,} more")
    for each in raised[:MOST_SHOWN]:
        click.echo(f"raised since {moment(each.since)} UTC: {each.title}")
    if len(raised) > MOST_SHOWN:
        click.echo(f"… and {len(raised) - MOST_SHOWN:,} more are raised")


def lines_of(match: Match) -> Iterator[str]:
    """A match, line by line."""
    yield f"  {match.sentence}"
    figures = {key: each for key, each in match.figures.items() if each is not None}
    if figures:
        said = ", ".join(f"{key} {each}" for key, each in figures.items())
        yield f"  figures: {said}"


def print_rows(match: Match) -> None:
    """Print the rows of a match."""
    rows = list(match.rows)[:MOST_ROWS]
    columns = list(rows[0])
    print_table(columns, [tuple(row.get(name) for name in columns) for row in rows])


# One test message.


@dataclass(frozen=True)
class Sent:
    """What became of the test message of one channel."""

    channel: str
    status: str
    error: str | None

    @property
    def words(self) -> str:
        """What became of it, for people."""
        return f"{self.status}: {self.error}" if self.error else self.status


def send_test(whole: Platform, looked: Looked) -> list[Sent]:
    """Hand one message that says it is a test to every channel of an alert; what became of each."""
    from rat_resources.alerts import events
    from rat_resources.alerts.delivering import Deliverer
    from rat_resources.alerts.outbox import Outbox

    with whole.metadata.transaction() as tx:
        event_id = events.add(tx, test_event(looked))
    outbox = Outbox.open(whole.settings)
    try:
        deliverer = Deliverer(whole.metadata, outbox, whole.settings.org)
        until = monotonic() + PATIENCE
        while True:
            deliverer.run(seconds=PATIENCE)
            sent = find_sent(whole, event_id)
            # The sensor may have taken it, and be at it.
            if all(each.status not in UNDER_WAY for each in sent):
                return sent
            if monotonic() > until:
                return sent
            sleep(PAUSE)
    finally:
        outbox.close()


def find_sent(whole: Platform, event_id: uuid.UUID | None) -> list[Sent]:
    """The deliveries of an event, as they are now."""
    with whole.metadata.transaction() as tx:
        return [Sent(*each) for each in tx.execute(SENT, {"event_id": event_id})]


SENT = text("""
    SELECT channel, status, error_message
    FROM trace.alert_deliveries
    WHERE alert_event_id = :event_id
    ORDER BY channel
""")


def test_event(looked: Looked) -> Event:
    """An event that says it is a test: of what the alert finds now, or of what it might."""
    definition = looked.definition
    found = events_of(looked)
    example = Match("this is what a message looks like")
    event = (
        found[0]
        if found
        else firing(definition, example, occasion=occasion_of(definition))
    )
    title = f"This is a test: {event.payload.title}"
    return replace(
        event,
        dedupe_key=f"test:{definition.id}:{uuid.uuid4()}",
        payload=replace(event.payload, state="test", title=title, since=None),
        raises=None,
        event_time=None,
    )
