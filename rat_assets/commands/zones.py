"""Landing zones by hand: putting files in, and taking one out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from rat_assets import actions
from rat_assets.commands.display import moment, print_json, print_table, size
from rat_assets.commands.opening import open_platform
from rat_resources import landing
from rat_resources.errors import LandingError, NotFoundError
from rat_resources.external_runs.intake import given_up
from rat_resources.landing import Zone
from rat_resources.landing_files import files_at
from rat_resources.names import nearest
from rat_resources.platform import Platform


def upload(zone_name: str, files: Sequence[Path], *, as_json: bool) -> None:
    """Put *files* into a zone under their own names."""
    refuse_one_name(files)
    whole = open_platform()
    zone = find_zone(whole, zone_name)
    there = files_at(whole.settings.store, zone.path)
    uploaded = []
    for file in files:
        if not as_json and there.exists(file.name):
            click.echo(f"{zone}: {file.name} takes the place of an older one", err=True)
        copied = there.upload(file)
        with whole.metadata.transaction() as tx:
            version = landing.record_upload(tx, zone, uploaded=copied)
        uploaded.append(version)
        if not as_json:
            click.echo(f"{zone}: {version.name}, {size(version.size)}")
    if as_json:
        print_json(
            [
                {
                    "zone": str(zone),
                    "file": each.name,
                    "size": each.size,
                    "version": each.version,
                }
                for each in uploaded
            ]
        )


def refuse_one_name(files: Sequence[Path]) -> None:
    """LandingError when two of *files* have one name, and so would be one file in the zone."""
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(file.name, file)
        if other != file:
            message = f"{other} and {file} have one name, and a zone keeps one of them"
            raise LandingError(message, fix="rename one of the two")


def reject(zone_name: str, file: str) -> None:
    """Move a file out of its zone."""
    whole = open_platform()
    find_zone(whole, zone_name)
    actions.reject(whole, zone_name, file=file)
    click.echo(f"{zone_name}: {file} moved to _rejected/")


def list_waiting(*, as_json: bool) -> None:
    """Print the files that no run takes by itself any more, and why."""
    with open_platform().metadata.transaction() as tx:
        found = [*landing.waiting(tx), *given_up(tx)]
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        click.echo("no landing file waits for anybody")
        return
    print_table(
        ("zone", "file", "pipeline", "since", "why"),
        [
            (each.zone, each.name, each.pipeline, moment(each.since), each.reason)
            for each in found
        ],
    )


def find_zone(whole: Platform, name: str) -> Zone:
    """The zone that somebody means; NotFoundError with the nearest there is."""
    with whole.metadata.transaction() as tx:
        zones = {str(zone): zone for zone in landing.active_zones(tx)}
    if name in zones:
        return zones[name]
    guess = nearest(name, zones)
    known = ", ".join(zones) or "none yet: publish a pipeline that reads one"
    fix = f"did you mean {guess}?" if guess else f"there is {known}"
    message = f"no landing zone is called {name}"
    raise NotFoundError(message, fix=fix)
