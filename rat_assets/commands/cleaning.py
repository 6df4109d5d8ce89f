"""Cleaning: what is older than it is kept, removed or only counted."""

import click

from rat_assets.commands.display import print_json
from rat_assets.commands.opening import open_platform

FAILED = 1


def clean(*, dry_run: bool, as_json: bool) -> int:
    """Remove what is over its time, or say what would be; 1 when some of it could not be."""
    from rat_assets.actions import user
    from rat_resources import janitor
    from rat_resources.instance import open_instance
    from rat_resources.mirror import log

    whole = open_platform()
    with open_instance() as instance:
        # Only what the mirror has told may go.
        log.try_to_catch_up(whole.metadata)
        cleaned = janitor.clean(whole, instance, dry_run=dry_run, by=user())
    if as_json:
        print_json(cleaned.to_json())
    else:
        for line in list(cleaned.lines) or ["nothing is over its time"]:
            click.echo(line)
    return FAILED if cleaned.problems else 0
