"""Publishing by hand: what became current, and who has to know."""

from pathlib import Path

import click

from rat_assets import actions
from rat_assets.commands.display import plural, print_json
from rat_assets.commands.opening import open_platform
from rat_resources import code_server
from rat_resources.releases import Release


def publish(path: Path | None, *, message: str, as_json: bool) -> None:
    """Publish a folder tree, or what the store holds, and reload a running code server."""
    whole = open_platform()
    release = actions.publish(whole, path, message=message)
    reloaded = release.is_new and code_server.reload(whole.settings)
    if as_json:
        print_json(as_object(release))
        return
    for line in describe(release):
        click.echo(line)
    for warning in release.warnings:
        click.echo(f"warning: {warning}", err=True)
    if reloaded:
        click.echo("`rat dev` has reloaded it")
    elif release.is_new and code_server.is_dagster_dev_running():
        click.echo("press Reload in the Dagster UI to see it there")


def describe(release: Release) -> list[str]:
    """What a publish came to, in lines."""
    changes = [
        *(f"  created    {table}" for table in release.created),
        *(f"  changed    {table}" for table in release.changed),
        *(f"  retired    {table}" for table in release.retired),
    ]
    count = len(release.unchanged)
    same = f"; {plural(count, 'pipeline')} unchanged" if count else ""
    how = "" if release.is_new else " as it is"
    return [f"release {release.number} is current{how}{same}", *changes]


def as_object(release: Release) -> dict[str, object]:
    """A release as JSON has it."""
    return {
        "release": release.number,
        "is_new": release.is_new,
        **{
            word: [str(table) for table in getattr(release, word)]
            for word in ("created", "changed", "unchanged", "retired")
        },
        "warnings": [str(warning) for warning in release.warnings],
    }
