"""Maintenance: what keeps tables fast, planned first and then done, without changing a row.

`plans` says what there is to do. Nothing here deletes a file: what no commit needs any more is for
`rat_resources.collection` to find.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rat_resources import releases, runs
from rat_resources.errors import NotFoundError
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.refs import MAIN
from rat_resources.lake.strategies import WriteConfig
from rat_resources.maintenance.plans import Layout, TablePlan
from rat_resources.maintenance.plans import plan as plan_table
from rat_resources.names import TableName, nearest
from rat_resources.platform import Platform

AT_ONCE = 200  # tables that are looked up together


@dataclass(frozen=True)
class Maintained:
    """What was done, or would be."""

    is_dry: bool
    plans: Sequence[TablePlan]

    def to_json(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "dry_run": self.is_dry,
            "tables": [each.to_json() for each in self.plans],
        }


def maintain(
    whole: Platform, *, only: Collection[TableName] = (), dry_run: bool = False
) -> Maintained:
    """Do what keeps the tables fast, all of them or *only* some; with *dry_run*, only say what."""
    return Maintained(dry_run, list(plan(whole, only=only)))


def plan(whole: Platform, *, only: Collection[TableName] = ()) -> Iterator[TablePlan]:
    """What there is to do to the tables on main, table by table, in order of name."""
    at = f"@{whole.lake.refs.head(MAIN)}"
    names = choose(whole, only, at=at)
    with whole.metadata.transaction() as tx:
        now = runs.database_time(tx)
        configs = {
            each.spec.table: write_config(each.spec) for each in releases.load(tx)
        }
    for first in range(0, len(names), AT_ONCE):
        some = names[first : first + AT_ONCE]
        for name, table in sorted(whole.lake.tables(some, at=at).items()):
            planned = plan_table(name, table, layout=layout(configs.get(name)), now=now)
            if not planned.is_empty:
                yield planned


def choose(
    whole: Platform, only: Collection[TableName], *, at: str
) -> list[TableName]:
    """The tables on main that were asked for, or all; NotFoundError names one that is not there."""
    known = sorted(whole.lake.published(at=at))
    for name in only:
        if name not in known:
            guess = nearest(str(name), map(str, known))
            message = f"there is no table {name} on {MAIN}"
            fix = f"did you mean {guess}?" if guess else "see `rat tables`"
            raise NotFoundError(message, fix=fix)
    return [each for each in known if not only or each in only]


def layout(config: WriteConfig | None) -> Layout:
    """How the rows of a table lie that is written like this; None: by no pipeline."""
    return Layout(order=config.keys if config is not None else ())
