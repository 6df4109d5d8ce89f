"""Mirroring: what Dagster's log knows, told to the other schemas at once; or everything, anew."""

import click

from rat_assets.commands.display import plural
from rat_assets.commands.opening import open_platform
from rat_resources.instance import open_instance
from rat_resources.mirror import log, rebuilding
from rat_resources.mirror.log import Progress

FAILED = 1
SHOWN = 20


def mirror(*, everything: bool) -> int:
    """Catch up, or rebuild; 1 when something could not be read."""
    metadata = open_platform().metadata
    with open_instance():  # Dagster makes its tables when it is opened first
        if not everything:
            return show(log.catch_up(metadata))
        rebuilt = rebuilding.rebuild(metadata)
    click.echo(f"{plural(rebuilt.runs, 'run')} of pipelines told anew")
    code = show(rebuilt.progress)
    for line in rebuilt.gaps:
        click.echo(line)
    return code


def show(progress: Progress) -> int:
    """Say what was done, and what could not be read; the exit code."""
    click.echo(
        f"{plural(progress.read, 'run')} of Dagster's log read; rows written: "
        f"{plural(progress.runs, 'run')}, {plural(progress.steps, 'step')}; "
        f"{plural(len(progress.unreadable), 'item')} could not be read"
    )
    for line in progress.unreadable[:SHOWN]:
        click.echo(f"  {line}", err=True)
    if len(progress.unreadable) > SHOWN:
        click.echo(f"  … and {len(progress.unreadable) - SHOWN} more", err=True)
    return FAILED if progress.unreadable else 0
