"""Maintaining: the tables on main are gone over, planned, and done one after the other."""

import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pyiceberg.table import Table
from sqlalchemy import select

from rat_resources import collection, releases, retention, runs
from rat_resources.collection.report import Collected
from rat_resources.errors import CollectionError, NotFoundError
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.refs import MAIN
from rat_resources.lake.sorting import SortField, sorted_by
from rat_resources.lake.strategies import MergeStrategy, WriteConfig
from rat_resources.maintenance.plans import Layout, TablePlan
from rat_resources.maintenance.plans import plan as plan_table
from rat_resources.maintenance.rounds import Done, Work
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.names import TableName, nearest
from rat_resources.platform import Platform

AT_ONCE = 200  # tables that are looked up together
PATIENCE = timedelta(seconds=30)  # with a run that is active
# Tables of these have their rows as they were written; the others' merges move them anyway.
IN_ORDER = (MergeStrategy.FULL_REFRESH, MergeStrategy.APPEND_ONLY)


@dataclass
class Maintained:
    """What was done, or would be."""

    is_dry: bool
    plans: list[TablePlan] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    collected: Collected | None = None  # None: nobody looked for unneeded files
    refusal: str = ""  # why no file may be removed

    @property
    def problems(self) -> list[str]:
        """What was left undone, and why, a line each."""
        refused = [self.refusal] if self.refusal else []
        left = (each for each in self.done if each.problem)
        return [*(f"{each.plan.name}: {each.problem}" for each in left), *refused]

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """What was planned and what was done, a row for each table."""
        done = {each.plan.name: each for each in self.done}
        for planned in self.plans:
            said: dict[str, Any] = {
                "table": str(planned.name),
                "why": ", ".join(planned.why),
                "files": planned.files_before,
                "snapshots": len(planned.expired),
            }
            if made := done.get(planned.name):
                said |= {
                    "files after": made.files_after,
                    "bytes": made.bytes_before,
                    "bytes after": made.bytes_after,
                    "dead rows": made.dead_rows,
                }
            yield said

    def to_json(self) -> dict[str, Any]:
        """The same for a program."""
        done = {each.plan.name: each.to_json() for each in self.done}
        return {
            "dry_run": self.is_dry,
            "tables": [
                {**each.to_json(), "done": done.get(each.name)} for each in self.plans
            ],
            "collected": self.collected.to_json() if self.collected else None,
        }


def maintain(
    whole: Platform,
    *,
    only: Collection[TableName] = (),
    dry_run: bool = False,
    adopt: bool = False,
    by: str = "maintain",
    patience: timedelta = PATIENCE,
    say: Callable[[str], None] = lambda _line: None,
) -> Maintained:
    """Do what keeps the tables fast, all of them or *only* some; with *dry_run*, only say what.

    A table whose pipeline runs for longer than *patience* is left for the next time. Where no table
    is named, files that nothing needs any more go at the end; with *adopt*, also where another RAT has
    marked the warehouse.
    """
    maintained = Maintained(dry_run)
    pipelines = {} if dry_run else pipeline_ids(whole)
    for planned in plan(whole, only=only):
        maintained.plans.append(planned)
        if not dry_run:
            work = Work(whole, planned, pipelines.get(planned.name), by, patience, say)
            maintained.done.append(work.run())
    if not only:
        try:
            maintained.collected = collection.collect(
                whole, dry_run=dry_run, adopt=adopt, by=by
            )
        except CollectionError as error:
            maintained.refusal = str(error)
    return maintained


def pipeline_ids(whole: Platform) -> dict[TableName, uuid.UUID]:
    """The pipeline of each table that has or had one; runs of it hold its lease."""
    with whole.metadata.transaction() as tx:
        found = tx.execute(
            select(Pipeline.namespace, Pipeline.layer, Pipeline.name, Pipeline.id)
        )
        return {TableName(*key): pipeline_id for *key, pipeline_id in found}


def plan(whole: Platform, *, only: Collection[TableName] = ()) -> Iterator[TablePlan]:
    """What there is to do to the tables on main, table by table, in order of name."""
    at = f"@{whole.lake.refs.head(MAIN)}"
    names = choose(whole, only, at=at)
    platform = retention.of_platform(whole.settings.retention)
    pipelines = pipeline_ids(whole)
    with whole.metadata.transaction() as tx:
        now = runs.database_time(tx)
        configs = {
            each.spec.table: write_config(each.spec) for each in releases.load(tx)
        }
        policy = retention.read_policy(tx, whole.store, platform=platform)
    for first in range(0, len(names), AT_ONCE):
        some = names[first : first + AT_ONCE]
        for name, table in sorted(whole.lake.tables(some, at=at).items()):
            kept = policy.of_table(name.namespace, pipelines.get(name)).snapshots
            shape = layout(table, configs.get(name), retention=kept)
            planned = plan_table(name, table, layout=shape, now=now)
            if not planned.is_empty:
                yield planned


def choose(whole: Platform, only: Collection[TableName], *, at: str) -> list[TableName]:
    """The tables on main that were asked for, or all; NotFoundError names one that is not there."""
    known = sorted(whole.lake.published(at=at))
    for name in only:
        if name not in known:
            guess = nearest(str(name), map(str, known))
            message = f"there is no table {name} on {MAIN}"
            fix = f"did you mean {guess}?" if guess else "see `rat tables`"
            raise NotFoundError(message, fix=fix)
    return [each for each in known if not only or each in only]


def layout(
    table: Table, config: WriteConfig | None, *, retention: timedelta | None
) -> Layout:
    """How the rows of a table lie that is written like this; None: by no pipeline."""
    keeps_order = config is None or config.merge_strategy in IN_ORDER
    keys = () if config is None or keeps_order else tuple(map(SortField, config.keys))
    return Layout(sorted_by(table.metadata) or keys, keeps_order, retention)
