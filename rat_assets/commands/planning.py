"""Planning: what a publish would change, before anything is published."""

from collections.abc import Iterator
from pathlib import Path

import click

from rat_assets import actions
from rat_assets.commands.display import plural, print_json
from rat_assets.commands.opening import open_platform
from rat_assets.commands.publishing import describe_left_out
from rat_assets.forecast import Outlook, forecast
from rat_resources.lake.types import type_words
from rat_resources.plans import Plan


def plan(path: Path | None, *, as_json: bool) -> None:
    """Say what publishing would change."""
    whole = open_platform()
    planned = actions.plan(whole, path)
    outlooks = forecast(whole, planned)
    if as_json:
        print_json(plan_object(planned, outlooks))
    else:
        click.echo("\n".join(describe_plan(planned, outlooks)))
    if planned.release.left_out and not as_json:
        said = describe_left_out(planned.release.left_out)
        click.echo(f"note: {said}", err=True)
    for warning in planned.warnings:
        click.echo(f"warning: {warning}", err=True)


def describe_plan(planned: Plan, outlooks: list[Outlook]) -> Iterator[str]:
    """A plan, line by line."""
    release = planned.release
    same = f"{plural(len(release.unchanged), 'pipeline')} unchanged"
    if planned.is_empty:
        yield f"nothing would change: release {release.number} is current; {same}"
        return
    yield f"release {release.number} is current and would be followed by another; {same}"
    yield from (f"  create     {table}" for table in release.created)
    for table in release.changed:
        yield f"  change     {table}: {'; '.join(planned.words[table])}"
    yield from (f"  {line}" for line in (*planned.zones, *release.alerts))
    columns = [line for each in outlooks for line in describe_outlook(each)]
    if columns:
        yield from ("", "columns", *columns)
    yield from describe_rebuild(planned)


def describe_outlook(outlook: Outlook) -> Iterator[str]:
    """What would become of the columns of one table."""
    if outlook.failure:
        yield f"  ✘ {outlook.table} would fail: {outlook.failure}"
    if outlook.unknown:
        yield f"  ? {outlook.table}: {outlook.unknown}"
    yield from (f"  {outlook.table}: {change}" for change in outlook.changes)
    if outlook.stops:
        yield f"  ✘ {outlook.table}: contract: enforced would stop this; {how_to_go_on(outlook)}"
    for reader in outlook.readers:
        yield f"  {reader.column} takes values from {reader.reads}"


def how_to_go_on(outlook: Outlook) -> str:
    """How columns are changed that a contract keeps."""
    return f"if it is meant: rat run {outlook.table} --accept-changes"


def describe_rebuild(planned: Plan) -> Iterator[str]:
    """What would have to run."""
    rewritten, following = planned.rewritten, planned.following
    if not rewritten:
        yield from ("", "no rows would change: nothing has to run")
        return
    names = " ".join(map(str, rewritten))
    yield from ("", f"to be run afterwards: rat run {names} --downstream")
    for table in rewritten:
        why = "new" if table in planned.release.created else "changed"
        yield f"  {table}  {why}"
    for table in following:
        yield f"  {table}  follows"


def plan_object(planned: Plan, outlooks: list[Outlook]) -> dict[str, object]:
    """A plan as JSON has it."""
    release = planned.release
    return {
        "release": release.number,
        "would_change": not planned.is_empty,
        "created": [str(table) for table in release.created],
        "changed": {
            str(table): list(planned.words[table]) for table in release.changed
        },
        "unchanged": [str(table) for table in release.unchanged],
        "left_out": [str(table) for table in release.left_out],
        "zones": list(planned.zones),
        "alerts": list(release.alerts),
        "rewritten": [str(table) for table in planned.rewritten],
        "following": [str(table) for table in planned.following],
        "tables": [outlook_object(each) for each in outlooks],
        "warnings": [str(warning) for warning in planned.warnings],
    }


def outlook_object(outlook: Outlook) -> dict[str, object]:
    """An outlook as JSON has it."""
    return {
        "table": str(outlook.table),
        "columns": outlook.columns
        and [
            {"name": each.name, "type": type_words(each.type)}
            for each in outlook.columns
        ],
        "changes": [vars(change) for change in outlook.changes],
        "readers": [vars(reader) for reader in outlook.readers],
        "failure": outlook.failure,
        "unknown": outlook.unknown,
        "contract_stops": outlook.stops,
    }
