"""Trying alerts: what one would raise now, and one test message of it."""

from collections.abc import Iterator
from typing import Any

import click

from rat_assets.commands.display import plural, print_json, print_table
from rat_assets.commands.opening import open_platform
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import MOST_ROWS, Event, Raised
from rat_resources.alerts.matches import Looked, Match, Occasion, firing

FAILED = 1
MOST_SHOWN = 20


def try_alert(name: str, *, as_json: bool) -> int:
    """Print what an alert would raise now; 1 when it cannot be evaluated."""
    from rat_assets import alert_trial
    from rat_resources.alerts import episodes

    whole = open_platform()
    definition = alert_trial.find(whole, name)
    looked = alert_trial.evaluate(whole, definition)
    with whole.metadata.transaction() as tx:
        raised = episodes.find_raised(tx, [definition.id])[definition.id]
    if as_json:
        print_json(describe(looked, raised))
    else:
        say(looked, raised)
    return 0 if looked.trouble is None else FAILED


def describe(looked: Looked, raised: list[Raised]) -> dict[str, Any]:
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
            {"subject": each.subject, "since": each.since.isoformat()}
            for each in raised
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


def say(looked: Looked, raised: list[Raised]) -> None:
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
    for each in raised:
        click.echo(f"raised since {each.since:%Y-%m-%d %H:%M:%S} UTC: {each.subject}")


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
