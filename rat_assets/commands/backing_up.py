"""Backing up: everything that RAT knows into one file, and a RAT from it again."""

from pathlib import Path

import click

from rat_assets.commands.display import plural
from rat_assets.commands.opening import open_platform
from rat_resources.settings import Settings


def backup(path: Path) -> None:
    """Write a backup, and say what it holds."""
    from rat_resources.backup.taking import back_up
    from rat_resources.instance import open_instance

    whole = open_platform()
    with open_instance():  # Dagster makes its tables when it is opened first
        manifest = back_up(whole, path)
    size = path.stat().st_size / 1e6
    held = plural(manifest.rows, "row")
    click.echo(f"{path}: {held}, {size:,.1f} MB, as of {manifest.made_at}")
    click.echo("the store and the warehouse are not in it; keep them as files are kept")


def restore(path: Path, *, force: bool, reset_main: bool) -> None:
    """Make this RAT what a backup holds, and say what is worth knowing."""
    from rat_resources.backup import restoring
    from rat_resources.instance import open_instance

    restored = restoring.restore(
        Settings.load(), path, force=force, reset_main=reset_main
    )
    for line in restored.lines:
        click.echo(line)
    whole = open_platform()
    with open_instance() as instance:
        for line in restoring.settle(whole, instance):
            click.echo(line)
    manifest = restored.manifest
    held = plural(manifest.rows, "row")
    click.echo(f"restored {held} as of {manifest.made_at}; see `rat audit`")
