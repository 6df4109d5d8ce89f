"""The janitor: what nobody needs any more goes, a bounded batch at a time, each kind counted.

How long things are kept is `rat_resources.retention`; what may go, and what must stay although it is
old, say the modules beside this one, one a concern. A batch is gone as a whole or not at all, and what
a crash leaves is found again: cleaning twice, or two at once, removes nothing more. The data files of
the lake are none of its business.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from rat_resources import retention, runs
from rat_resources.errors import RatError
from rat_resources.janitor import audit_log as past_actions
from rat_resources.janitor import (
    dagster_log,
    dagster_runs,
    dagster_ticks,
    dead_runs,
    files,
    run_logs,
    zones,
)
from rat_resources.janitor.chores import Batch, Chore, Scene
from rat_resources.metadata import audit
from rat_resources.platform import Platform

FOREVER = timedelta.max

# The runs of Dagster last: what they printed is told by their rows.
CHORES: tuple[Chore, ...] = (
    *dead_runs.CHORES,
    *files.CHORES,
    *run_logs.CHORES,
    *zones.CHORES,
    *past_actions.CHORES,
    *dagster_ticks.CHORES,
    *dagster_runs.CHORES,
    *dagster_log.CHORES,
)
"""Everything that is cleaned up, in the order in which it is."""


@dataclass
class Cleaned:
    """What was removed, or would be."""

    is_dry: bool
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # a line each
    is_done: bool = True  # False: time ran out before everything was looked at

    @property
    def removed(self) -> Mapping[str, int]:
        """How much of what, in the order of the chores; what there was nothing of is left out."""
        known = [kind for chore in CHORES for kind in chore.kinds]
        return {kind: self.counts[kind] for kind in known if self.counts[kind]}

    @property
    def lines(self) -> Iterator[str]:
        """What was done, a line each."""
        word = "would be removed" if self.is_dry else "removed"
        for kind, number in self.removed.items():
            yield f"{kind.replace('_', ' ')}: {number:,} {word}"
        yield from self.problems
        if not self.is_done:
            yield "there is more to look at; the next round goes on"

    def to_json(self) -> Mapping[str, Any]:
        """The same for a program."""
        return {
            "dry_run": self.is_dry,
            "removed": dict(self.removed),
            "problems": self.problems,
            "done": self.is_done,
        }


def clean(
    whole: Platform,
    instance: dg.DagsterInstance,
    *,
    dry_run: bool = False,
    by: str = "janitor",
    budget: timedelta = FOREVER,
    only: Sequence[Chore] = CHORES,
    now: datetime | None = None,
) -> Cleaned:
    """Remove what is over its time, as far as *budget* goes; with *dry_run*, only count it.

    A chore that fails is told and stops no other. Without *now*, it is what the database's clock says.
    """
    cleaned, deadline = Cleaned(dry_run), time.monotonic() + budget.total_seconds()
    scene = look_at(whole, instance, now=now)
    cleaned.problems += scene.policy.problems
    for chore in only:
        try:
            for batch in chore.find(scene):
                do(batch, cleaned)
                if time.monotonic() > deadline:
                    cleaned.is_done = False
                    break
        except (RatError, OSError, SQLAlchemyError) as error:
            logging.getLogger(__name__).warning("%s", chore.what, exc_info=True)
            said = str(error).strip().partition("\n")[0]
            cleaned.problems.append(f"{chore.what}: {said}")
        if not cleaned.is_done:
            break
    if cleaned.removed and not dry_run:
        note(scene, cleaned, by=by)
    return cleaned


def look_at(
    whole: Platform, instance: dg.DagsterInstance, *, now: datetime | None
) -> Scene:
    """The platform at one moment, with what is said of how long its things are kept."""
    platform = retention.of_platform(whole.settings.retention)
    with whole.metadata.transaction() as tx:
        policy = retention.read_policy(tx, whole.store, platform=platform)
        return Scene(whole, instance, policy, now=now or runs.database_time(tx))


def do(batch: Batch, cleaned: Cleaned) -> None:
    """Remove a batch, unless nothing shall be removed, and count it."""
    if not cleaned.is_dry:
        batch.remove()
    cleaned.counts.update(batch.counts)


def note(scene: Scene, cleaned: Cleaned, *, by: str) -> None:
    """Write down who removed what."""
    detail = ", ".join(f"{kind}: {number}" for kind, number in cleaned.removed.items())
    with scene.whole.metadata.transaction() as tx:
        audit.record(tx, "platform.clean", resource="platform", user=by, detail=detail)
