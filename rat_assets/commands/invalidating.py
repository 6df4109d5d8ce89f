"""Invalidating by hand: who is told of wrong rows, and if wanted every run that follows."""

from collections.abc import Sequence

import click

from rat_assets.actions import user
from rat_assets.commands import running
from rat_assets.commands.display import print_json, print_table
from rat_assets.commands.opening import open_platform
from rat_assets.invalidating import Ask, Made, Told, made_for, next_asks
from rat_assets.invalidating import invalidate as tell
from rat_assets.runner import RunAsk
from rat_resources.platform import Platform


def invalidate(ask: Ask, *, run: bool, dry_run: bool, as_json: bool) -> int:
    """Say that rows are wrong, and print who is told; the exit code of the runs, if any."""
    whole = open_platform()
    told = tell(whole, ask, by=user(), dry_run=dry_run)
    if as_json:
        print_json(told.to_json())
    else:
        print_told(told, run=run)
    return work_through(whole, told, quiet=as_json) if run and not dry_run else 0


def print_told(told: Told, *, run: bool) -> None:
    """Print who is told."""
    what = "would be invalidated" if told.is_dry else f"invalidated as {told.id}"
    click.echo(f"{told.table}, {told.rows}: {what}")
    if told.readers:
        rows = [(each.table, each.words) for each in told.readers]
        print_table(("reads it", "and"), rows)
    else:
        click.echo("nothing reads it")
    if told.further:
        click.echo(f"then, where their rows change: {', '.join(told.further)}")
    if not told.is_dry and not run and any(each.will_run for each in told.readers):
        click.echo("`rat dev` runs them; --run does it here")


def work_through(whole: Platform, told: Told, *, quiet: bool) -> int:
    """Run everything that is due for an invalidation, hop by hop; 1 when some of it failed."""
    code, labels = 0, list[str]()
    while asks := next_asks(whole, told):
        for each in asks:
            words = tuple(map(str, each.selection))
            ask = RunAsk(words, trigger=each.label)
            labels.append(each.label)
            with (
                running.terminal() as screen,
                running.streaming(screen, quiet=quiet) as stream,
            ):
                report, stopped = running.run_ask(whole, ask)
                stream.finish(report)
            if stopped:
                raise KeyboardInterrupt
            code = code if report.succeeded else running.FAILED
    if not quiet:
        print_made(made_for(whole, labels))
    return code


def print_made(made: Sequence[Made]) -> None:
    """Print how much of each table was made anew, and why no less."""
    rows = [(each.table, each.words, each.rows_written, each.why) for each in made]
    if rows:
        print_table(("table", "made anew", "rows written", "because"), rows)
