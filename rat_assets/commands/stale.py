"""What is stale and why; and running it, in order."""

from collections.abc import Iterator, Sequence

import click

from rat_assets import restoring
from rat_assets.commands import running
from rat_assets.commands.display import moment, plural, print_json, print_table
from rat_assets.commands.opening import open_platform
from rat_assets.restoring import KEPT, Restoring, Turn
from rat_assets.runner import RunReport
from rat_resources import graph, staleness
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.staleness import Stale, Why

STALE = 1


def show(*, as_json: bool) -> int:
    """Print what is stale, since when and why; the exit code says whether anything is."""
    with open_platform().metadata.transaction() as tx:
        stale = list(staleness.load(tx).values())
    if as_json:
        print_json([each.to_json() for each in stale])
    elif stale:
        rows = [(str(each.table), moment(each.since), each.words) for each in stale]
        print_table(("table", "stale since (UTC)", "because"), rows)
        click.echo("`rat run --stale` makes them anew, in order")
    else:
        click.echo("nothing is stale")
    return STALE if stale else 0


def run(*, dry_run: bool, as_json: bool) -> int:
    """Run what is stale, and what becomes so by it; the exit code."""
    whole = open_platform()
    if dry_run:
        show_plan(whole, as_json=as_json)
        return 0
    work = Restoring(whole)
    reports = []
    for turn in work.turns():
        if not as_json:
            click.echo("\n".join(announce(turn)))
        report = carry_out(whole, turn, quiet=as_json)
        work.failed |= {
            each.table
            for each in report.tables
            if each.status not in ("published", "unchanged")
        }
        reports.append(report)
    tell(reports, work.left(), strategies=strategies_of(whole), as_json=as_json)
    return running.FAILED if work.failed else 0


def carry_out(whole: Platform, turn: Turn, *, quiet: bool) -> RunReport:
    """Run a turn and wait for its end."""
    with (
        running.terminal() as screen,
        running.streaming(screen, quiet=quiet) as stream,
    ):
        report, stopped = running.run_ask(whole, turn.ask)
        stream.finish(report)
    if stopped:
        raise KeyboardInterrupt
    return report


def announce(turn: Turn) -> Iterator[str]:
    """What a turn does and why, line by line."""
    for each in turn.stale:
        yield f"{turn.kind}: {each.table}, {each.words}"


def show_plan(whole: Platform, *, as_json: bool) -> None:
    """Print what would run, in order, and what might follow."""
    with whole.metadata.transaction() as tx:
        stale = staleness.load(tx)
        outlines = {each.table: each for each in graph.outlines(tx)}
    turns = list(restoring.plan(stale, outlines))
    further = [str(table) for table in restoring.followers(stale, outlines)]
    if as_json:
        runs = [
            {"run": turn.kind, **each.to_json()}
            for turn in turns
            for each in turn.stale
        ]
        print_json({"runs": runs, "further": further})
        return
    if not turns:
        click.echo("nothing is stale")
        return
    rows = [
        (turn.kind, str(each.table), each.words)
        for turn in turns
        for each in turn.stale
    ]
    print_table(("would be done", "table", "because"), rows)
    if further:
        click.echo(f"then, where their rows change: {', '.join(further)}")


def strategies_of(whole: Platform) -> dict[TableName, str]:
    """How each table is written."""
    with whole.metadata.transaction() as tx:
        return {each.table: each.strategy for each in graph.outlines(tx)}


def tell(
    reports: Sequence[RunReport],
    left: Sequence[Stale],
    *,
    strategies: dict[TableName, str],
    as_json: bool,
) -> None:
    """Say what became of it all."""
    if as_json:
        runs = [running.as_object(each) for each in reports]
        print_json({"runs": runs, "still_stale": [each.to_json() for each in left]})
        return
    if not reports:
        click.echo("nothing was stale" if not left else "nothing could be run")
    done = sum(len(each.tables) for each in reports)
    if reports:
        click.echo(f"\n{plural(done, 'table')} in {plural(len(reports), 'run')}")
    for each in left:
        click.echo(f"still stale: {each.table}, {each.words}{advice(each, strategies)}")


def advice(stale: Stale, strategies: dict[TableName, str]) -> str:
    """What a person may do about a table that keeps what an old definition made."""
    if stale.has(Why.DEFINITION) and strategies.get(stale.table) in KEPT:
        return f"; its past is kept, unless somebody says: rat run {stale.table} --full-refresh"
    return ""
