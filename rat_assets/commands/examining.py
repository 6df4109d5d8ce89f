"""Examining: what the doctor finds, a line each."""

from collections import Counter

import click

from rat_assets.commands.display import plural, print_json
from rat_resources.settings import Settings

SICK = 1


def doctor(*, as_json: bool) -> int:
    """Look at every part and print what was found; the exit code."""
    from rat_resources.doctor import examine, is_well

    found = examine(Settings.load())
    if as_json:
        print_json([each.to_json() for each in found])
        return 0 if is_well(found) else SICK
    width = max(len(each.part) for each in found)
    for each in found:
        click.echo(f"{each.level:<8} {each.part:<{width}}  {each.what}")
        if each.fix:
            click.echo(f"{'':<8} {'':<{width}}  → {each.fix}")
    count = Counter(each.level.value for each in found)
    problems, warnings = count["problem"], count["warning"]
    click.echo(f"{plural(problems, 'problem')}, {plural(warnings, 'warning')}")
    return 0 if is_well(found) else SICK
