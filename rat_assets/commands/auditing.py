"""Auditing: whether Dagster, the schemas in Postgres and the catalog tell the same story."""

import click

from rat_assets.commands.display import plural, print_json
from rat_resources.errors import OperatorError, RetryError
from rat_resources.settings import Settings

DIFFERS = 1
COULD_NOT_COMPARE = 2


def audit(*, at_most: int, as_json: bool) -> int:
    """Compare everything, and say what differs; 2 when it could not be compared."""
    from rat_resources import audit as auditing

    try:
        with auditing.opened(Settings.load()) as whole:
            report = auditing.audit(whole, at_most=at_most)
    except (OperatorError, RetryError) as error:
        click.echo(
            f"rat: nothing was compared: {' '.join(str(error).split())}", err=True
        )
        return COULD_NOT_COMPARE
    if as_json:
        print_json(report.to_json())
    else:
        for line in report.lines:
            click.echo(line)
        click.echo(plural(report.differences, "difference"))
    return DIFFERS if report.differences else 0
