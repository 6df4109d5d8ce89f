"""Beginning: a project of one's own, and a pipeline in it."""

from pathlib import Path

import click

from rat_assets import scaffolds
from rat_resources.settings import Settings
from rat_resources.trees import shown

NEXT = """\
What to do next:
  cd {folder}
  rat publish .
  rat upload shop/orders shop/landing/orders/_samples/orders_2026-01.csv
  rat run shop
  rat query "FROM shop.silver.orders"
  rat dev\
"""


def init(folder: Path) -> None:
    """Make a project, and say what to do with it."""
    for path in scaffolds.init_project(folder):
        click.echo(f"made {path}{'/' if path.is_dir() else ''}")
    click.echo(NEXT.format(folder=shown(folder)))


def new(name: str, *, python: bool) -> None:
    """Make a pipeline, and say what to do with it."""
    table, project = scaffolds.read_name(name), Settings.load().project
    for path in scaffolds.new_pipeline(project, table, python=python):
        click.echo(f"made {shown(path)}")
    click.echo(f"next: rat publish {shown(project)}, then rat run {table}")
