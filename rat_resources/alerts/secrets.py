"""Secrets of destinations: they stand in the environment, and `env:NAME` says where.

They are read when a message is sent, so that a new one needs no restart of whoever set it, and they
are in no row, no log and no error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rat_resources.alerts.receipts import PassingError, RefusedError

NAMED = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
MASK = "***"
SHORTEST = 4
LONGEST = 4_096


@dataclass
class Secrets:
    """The environment, and what was read of it for one message."""

    environ: Mapping[str, str] = field(repr=False)
    read: list[str] = field(default_factory=list, repr=False)

    def reveal(self, value: Any, *, what: str) -> str:  # noqa: ANN401 - JSON, right or wrong
        """What *value* says, or what the variable holds that it names."""
        if not isinstance(value, str) or not value.strip():
            raise RefusedError(f"the destination has no {what}")
        named = NAMED.fullmatch(value.strip())
        if named is None:
            return value.strip()
        return self.variable(named[1], what=what)

    def variable(self, name: str, *, what: str) -> str:
        """What a variable holds; PassingError names the variable where that is no secret."""
        # A secret pasted from a file ends with a line break.
        secret = self.environ.get(name, "").strip()
        if not secret:
            raise PassingError(f"{name}, the {what}, is not set where alerts are sent")
        if len(secret) > LONGEST or not secret.isprintable() or not secret.isascii():
            raise PassingError(f"{name}, the {what}, holds what cannot be one")
        self.read.append(secret)
        return secret

    def scrub(self, text: str) -> str:
        """*text* without anything that was read."""
        for secret in sorted(self.read, key=len, reverse=True):
            # One of three letters would black out half of what is told.
            if len(secret) >= SHORTEST:
                text = text.replace(secret, MASK)
        return text


def is_named(value: Any) -> bool:  # noqa: ANN401 - JSON, right or wrong
    """Whether a value only names the variable that holds the secret."""
    return isinstance(value, str) and NAMED.fullmatch(value.strip()) is not None
