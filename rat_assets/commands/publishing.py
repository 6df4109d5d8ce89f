"""Publishing by hand: what became current, and who has to know."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from rat_assets import actions
from rat_assets.commands.display import moment, plural, print_json, print_table
from rat_assets.commands.opening import open_platform
from rat_resources import code_server, releases, rollback
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.releases import Release
from rat_resources.settings import joined

NAMED = 5  # of the pipelines that a folder does not hold


def publish(path: Path | None, *, message: str, as_json: bool) -> None:
    """Publish a folder tree, or what the store holds, and reload a running code server."""
    whole = open_platform()
    say(whole, actions.publish(whole, path, message=message), as_json=as_json)


def retire(names: Sequence[str], *, message: str, as_json: bool) -> None:
    """Take pipelines out of what is current, and reload a running code server."""
    whole = open_platform()
    say(whole, actions.retire(whole, names, message=message), as_json=as_json)


def roll_back(to: int, *, message: str, dry_run: bool, as_json: bool) -> None:
    """Make an earlier release current again, and reload a running code server; or only say how."""
    whole = open_platform()
    release = actions.roll_back(whole, to, message=message, dry_run=dry_run)
    if not dry_run:
        say(whole, release, as_json=as_json)
    elif as_json:
        print_json(as_object(release))
    else:
        click.echo("\n".join(describe(release, would=True)))


def list_releases(*, as_json: bool) -> None:
    """Print the newest releases."""
    with open_platform().metadata.transaction() as tx:
        current, found = releases.current(tx), rollback.history(tx)
    columns = ("release", "published", "by", "message")
    rows = [
        (each.number, each.created_at, each.published_by, each.message)
        for each in found
    ]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    if not rows:
        click.echo("nothing was published yet; `rat publish` does")
        return
    print_table(columns, [(row[0], moment(row[1]), *row[2:]) for row in rows])
    click.echo(f"release {current} is current; `rat rollback RELEASE` goes back to one")


def say(whole: Platform, release: Release, *, as_json: bool) -> None:
    """Say what became current, to people and to a running code server."""
    reloaded = release.is_new and code_server.reload(whole.settings)
    if as_json:
        print_json(as_object(release))
        return
    for line in describe(release):
        click.echo(line)
    for note in notes(release):
        click.echo(f"note: {note}", err=True)
    for warning in release.warnings:
        click.echo(f"warning: {warning}", err=True)
    server = joined(whole.settings.code_server)
    if reloaded:
        click.echo(
            f"{f'the code server {server}' if server else '`rat dev`'} has reloaded it"
        )
    elif release.is_new and server:
        click.echo(f"warning: the code server {server} does not answer", err=True)
    elif release.is_new and code_server.is_dagster_dev_running():
        click.echo("press Reload in the Dagster UI to see it there")


def describe(release: Release, *, would: bool = False) -> list[str]:
    """What a publish came to, in lines, or *would* come to."""
    changes = [
        *(f"  created    {table}" for table in release.created),
        *(f"  changed    {table}" for table in release.changed),
        *(f"  retired    {table}" for table in release.retired),
        *(f"  {line}" for line in release.alerts),
    ]
    count = len(release.unchanged)
    same = f"; {plural(count, 'pipeline')} unchanged" if count else ""
    how = "" if release.is_new else " as it is"
    becomes = "would be" if would else "is"
    return [f"release {release.number} {becomes} current{how}{same}", *changes]


def notes(release: Release) -> Iterator[str]:
    """What a reader of the result should know beside it."""
    if release.left_out:
        yield describe_left_out(release.left_out)
    if release.alerts_left_out:
        listed = ", ".join(release.alerts_left_out[:NAMED])
        yield (
            f"this folder lacks pipelines of its namespace, so alerts that it lacks stay: {listed}"
        )
    if release.retired:
        table = release.retired[0]
        its = "its table stays" if len(release.retired) == 1 else "their tables stay"
        yield (
            f'{its} on main, as for rat query "FROM {table}"; views are gone; '
            "schedules and triggers stop"
        )


def describe_left_out(tables: Sequence[TableName]) -> str:
    """The published pipelines that a folder does not hold, and how to be rid of them."""
    namespaces = ", ".join(sorted({table.namespace for table in tables}))
    more = len(tables) - NAMED
    named = ", ".join(map(str, tables[:NAMED])) + (
        f" and {more} more" if more > 0 else ""
    )
    one = len(tables) == 1
    return (
        f"{plural(len(tables), 'published pipeline')} of {namespaces} "
        f"{'is' if one else 'are'} not in this folder: {named}; "
        f"rat retire {tables[0] if one else 'NAME'} takes {'it' if one else 'them'} out"
    )


def as_object(release: Release) -> dict[str, object]:
    """A release as JSON has it."""
    return {
        "release": release.number,
        "is_new": release.is_new,
        **{
            word: [str(table) for table in getattr(release, word)]
            for word in ("created", "changed", "unchanged", "retired", "left_out")
        },
        "alerts": list(release.alerts),
        "warnings": [str(warning) for warning in release.warnings],
    }
