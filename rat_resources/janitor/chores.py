"""Chores: what one thing is that the janitor does, and what it sees while it does it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from rat_resources.platform import Platform
from rat_resources.retention import Policy, as_text


@dataclass(frozen=True)
class Scene:
    """What is looked at: a platform, at one moment of its database's clock."""

    whole: Platform
    instance: dg.DagsterInstance
    policy: Policy
    now: datetime

    def cutoff(self, word: str) -> datetime | None:
        """What is older goes, where nobody nearer says otherwise; None: nothing goes."""
        return self.policy.cutoff(word, now=self.now)

    def cutoffs(self, word: str) -> dict[str, Any]:
        """The same as a query takes it: of all, of each pipeline that has its own, and the latest of them."""
        own = self.policy.cutoffs(word, now=self.now)
        every = [self.cutoff(word), *own.values()]
        latest = max((each for each in every if each), default=None)
        return {
            "cutoff": as_text(self.cutoff(word)),
            "cutoffs": json.dumps(
                {str(key): as_text(each) for key, each in own.items()}
            ),
            "latest": as_text(latest),
        }


@dataclass(frozen=True)
class Batch:
    """Some things that go together, and how: all of them, or after a crash none."""

    counts: Mapping[str, int]
    remove: Callable[[], None]


@dataclass(frozen=True)
class Chore:
    """One kind of thing that is cleaned up.

    *find* goes on from where it was, whether or not what it found was removed: so a dry run finds what
    a real one would.
    """

    what: str
    kinds: tuple[str, ...]  # what is counted
    find: Callable[[Scene], Iterator[Batch]]
