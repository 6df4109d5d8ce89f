"""Alerts in a terminal: which are raised, what happened, and what is defined."""

from collections.abc import Iterable, Sequence

import click

from rat_assets.commands.display import moment, plural, print_json, print_table
from rat_assets.commands.opening import open_platform
from rat_resources.alerts import definitions, overview
from rat_resources.alerts.definitions import Definition, Source, file_key
from rat_resources.alerts.overview import Told
from rat_resources.errors import NotFoundError
from rat_resources.names import TableName, nearest
from rat_resources.releases import load

TITLE = 100  # characters of what is told of an alert
NOBODY = "nobody"


def show(table: str | None, *, everything: bool, limit: int, as_json: bool) -> None:
    """Print what is raised now, or what happened."""
    with open_platform().metadata.transaction() as tx:
        name = (
            str(find(table, [each.spec.table for each in load(tx)])) if table else None
        )
        if everything:
            found = overview.history(tx, table=name, limit=limit)
        else:
            found = overview.raised_now(tx, table=name, limit=limit)
        defined = len(definitions.load(tx))
    if as_json:
        print_json([each.to_json() for each in found])
    elif found:
        print_told(found, everything=everything)
    else:
        click.echo(nothing(name, everything=everything, defined=defined))


def find(typed: str, known: Sequence[TableName]) -> TableName:
    """The table that somebody means; NotFoundError with the nearest."""
    names = {str(each): each for each in known}
    if typed not in names:
        guess = nearest(typed, names)
        fix = f"did you mean {guess}?" if guess else "`rat tables` lists them"
        raise NotFoundError(f"no pipeline {typed} is published", fix=fix)
    return names[typed]


def nothing(name: str | None, *, everything: bool, defined: int) -> str:
    """That there is nothing to show."""
    about = f" about {name}" if name else ""
    said = "nothing has happened" if everything else "no alert is raised"
    if not defined:
        return f"{said}{about}; none is defined, docs/alerts.md says how"
    return f"{said}{about}; {plural(defined, 'alert')} {'is' if defined == 1 else 'are'} defined"


def print_told(found: Iterable[Told], *, everything: bool) -> None:
    """Print events, with what became of them."""
    rows = [
        (
            moment(each.at),
            *((each.state,) if everything else ()),
            each.severity,
            each.alert,
            each.table,
            shorten(each.title),
            told(each),
        )
        for each in found
    ]
    when = ("at", "state") if everything else ("since",)
    print_table((*when, "severity", "alert", "table", "what", "told"), rows)


def told(event: Told) -> str:
    """Who was told of an event."""
    nobody = f"{NOBODY}: {event.untold}" if event.untold else NOBODY
    return ", ".join(map(str, event.deliveries)) or nobody


def shorten(title: str) -> str:
    """The beginning of a sentence that is too long for a line."""
    return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"


def show_definitions(*, as_json: bool) -> None:
    """Print what is defined, that which is switched off too."""
    with open_platform().metadata.transaction() as tx:
        found = definitions.load(tx, only_enabled=False, only_kept=True)
    if as_json:
        print_json([overview.as_object(each) for each in found])
        return
    if not found:
        click.echo("no alert is defined; docs/alerts.md says how")
        return
    columns = ("alert", "kind", "table", "severity", "channels", "owner", "kept in")
    print_table(columns, [row_of(each) for each in found])


def row_of(definition: Definition) -> tuple[object, ...]:
    """A definition as a row."""
    is_file = definition.source == Source.FILE
    where = file_key(definition) if is_file else "the job save_alert"
    return (
        f"{definition.namespace}/{definition.name}",
        definition.kind,
        definition.table and str(definition.table),
        definition.severity,
        ", ".join(definition.channels) or NOBODY,
        definition.owner,
        where if definition.enabled else f"{where}, switched off",
    )
