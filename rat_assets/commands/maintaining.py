"""Maintenance: what would keep tables fast, and doing it."""

from collections.abc import Sequence

import click

from rat_assets.commands.display import plural, print_json, print_table, size
from rat_assets.commands.opening import open_platform
from rat_resources.maintenance import maintaining
from rat_resources.maintenance.maintaining import Maintained
from rat_resources.maintenance.plans import TablePlan
from rat_resources.names import TableName

FAILED = 1


def maintain(
    tables: Sequence[str], *, dry_run: bool, adopt: bool, as_json: bool
) -> int:
    """Keep tables fast, or say what would be done; the exit code."""
    try:
        only = [TableName.parse(each) for each in tables]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    from rat_assets.actions import user

    done = maintaining.maintain(
        open_platform(),
        only=only,
        dry_run=dry_run,
        adopt=adopt,
        by=user(),
        say=(lambda _line: None) if as_json or dry_run else click.echo,
    )
    if as_json:
        print_json(done.to_json())
    else:
        show(done)
    return FAILED if done.problems else 0


def show(done: Maintained) -> None:
    """Print what was planned, a table a line, or what became of it."""
    if not done.plans:
        click.echo("no table needs anything")
    elif done.is_dry:
        print_table(
            ("table", "what", "why", "files", "rewritten"), map(row_of, done.plans)
        )
    for line in (*done.problems, *(done.collected.lines if done.collected else ())):
        click.echo(line)


def row_of(plan: TablePlan) -> tuple[str, ...]:
    """What is done to a table, as a row."""
    files = f"{plan.files_before:,} → {plan.files_after:,}" if plan.bins else ""
    return (
        str(plan.name),
        ", ".join(what(plan)),
        ", ".join(f"{why} ({files})" for why, files in plan.why.items()),
        files,
        size(plan.bytes) if plan.bins else "",
    )


def what(plan: TablePlan) -> Sequence[str]:
    """What is done to a table, in words."""
    return [
        *(["compact"] if plan.bins else []),
        *([f"expire {plural(len(plan.expired), 'snapshot')}"] if plan.expired else []),
        *(
            [f"forget {plural(plan.log_entries, 'metadata file')}"]
            if plan.log_entries
            else []
        ),
    ]
