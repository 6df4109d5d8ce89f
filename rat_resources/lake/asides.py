"""Asides: branches that a process makes for a moment, whose names say since when.

No row knows them, so what a process that died left of them goes by their age (`rat_resources.janitor`).
The branches of runs are `rat_resources.reconciliation`'s.
"""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rat_resources.lake.refs import Reference, Refs

KINDS = ("append", "doctor", "first", "maintain", "restored")
STAMP = "%Y%m%dT%H%M%SZ"
NAME = re.compile(rf"(?:{'|'.join(KINDS)})-(?P<since>\d{{8}}T\d{{6}}Z)-.+")
# Far more than what is done on one takes, and than clocks differ; who comes later fails cleanly.
LONGEST_LIFE = timedelta(hours=1)


def name_aside(kind: str, *, id: uuid.UUID) -> str:
    """The name of a branch that is made now."""
    return f"{kind}-{datetime.now(UTC):{STAMP}}-{id}"


def since(name: str) -> datetime | None:
    """When a branch of that name was made; None: it is no aside."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found["since"], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None  # somebody else's, of a 13th month


def left(refs: Refs, *, now: datetime) -> Iterator[Reference]:
    """The asides that nobody is at any more."""
    for kind in KINDS:
        for reference in list(refs.references(prefix=f"{kind}-")):
            made = since(reference.name)
            if made is not None and now - made > LONGEST_LIFE:
                yield reference
