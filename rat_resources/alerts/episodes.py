"""Episodes: what is told of all that was looked at, given what was told before.

It is decided where the conditions were evaluated, as a document that anybody can state later: the
events, and the troubles of conditions that could not be evaluated. Stating it twice adds nothing.
"""

import re
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from rat_resources.alerts import events
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import Event, Raised
from rat_resources.alerts.matches import Looked, Match, Occasion, firing, judge
from rat_resources.errors import RatError
from rat_resources.metadata.alerts import AlertState
from rat_resources.metadata.trace.alerts import AlertEvent

MOST_EVENTS = (
    1_000  # of a definition at once; of the rest it is told that they are there
)
OTHERS = "others"
TROUBLE = (
    "condition"  # what the keys of troubles begin with, before the definition's id
)
SYSTEM = "system:"
NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class Trouble:
    """That a condition cannot be evaluated."""

    key: str
    title: str
    remediation: str
    table: str | None


@dataclass
class Told:
    """What is told: a document, when it is to be kept until it is stated."""

    events: list[Event] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    settled: dict[str, str] = field(
        default_factory=dict
    )  # titles by the keys of troubles

    def __bool__(self) -> bool:
        return bool(self.events or self.troubles or self.settled)

    def to_json(self) -> dict[str, Any]:
        """A document that `state` takes."""
        return {
            "events": [each.to_json() for each in self.events],
            "troubles": [asdict(each) for each in self.troubles],
            "settled": self.settled,
        }


def conclude(tx: Session, looked: Sequence[Looked], *, occasion: Occasion) -> Told:
    """What is told of all that was looked at."""
    told = Told()
    if not looked:
        return told
    raised = find_raised(tx, [each.definition.id for each in looked])
    for each in looked:
        mine = raised[each.definition.id]
        states = [one for one in mine if not one.subject.startswith(SYSTEM)]
        troubles = {one.subject.removeprefix(SYSTEM) for one in mine} - {
            one.subject for one in states
        }
        if each.trouble is not None:
            trouble = describe(each.definition, each.trouble)
            if trouble.key not in troubles:
                told.troubles.append(trouble)
            troubles.discard(trouble.key)
        else:
            said = [*judge(each, raised=states, occasion=occasion)]
            told.events += bound(tx, each, said, occasion=occasion)
        for key in troubles:
            told.settled[key] = f"{name_of(each.definition)} can be evaluated again"
    return told


def state(tx: Session, document: Mapping[str, Any]) -> list[uuid.UUID]:
    """State what was told; the ids of the events that this added."""
    added = events.tell(tx, map(Event.from_json, document["events"]), decided=True)
    for each in document["troubles"]:
        added += events.add_system(tx, **each, severity="warning")
    for key, title in document["settled"].items():
        added += events.resolve_system(tx, key=key, title=title)
    return added


def find_raised(
    tx: Session, definitions: Collection[uuid.UUID]
) -> dict[uuid.UUID, list[Raised]]:
    """What is raised of *definitions*, and of the trouble with them."""
    prefix = f"{SYSTEM}{TROUBLE}:"
    about = func.split_part(AlertState.subject, ":", 3)
    wanted = select(AlertState).where(
        or_(
            AlertState.definition_id.in_(definitions),
            AlertState.subject.startswith(prefix)
            & about.in_([str(each) for each in definitions]),
        )
    )
    found: dict[uuid.UUID, list[Raised]] = defaultdict(list)
    for each in tx.scalars(wanted):
        if each.subject.startswith(prefix):
            found[uuid.UUID(each.subject.split(":")[2])].append(Raised.of(each))
        elif each.definition_id is not None:
            found[each.definition_id].append(Raised.of(each))
    return found


# Troubles.


def describe(definition: Definition, error: RatError) -> Trouble:
    """The trouble with a definition: the same one has the same key, whatever figures it names."""
    problem = sha256(NUMBERS.sub("0", error.message).encode()).hexdigest()[:8]
    return Trouble(
        key=f"{TROUBLE}:{definition.id}:{problem}",
        title=f"{name_of(definition)} cannot be evaluated: {error.message}",
        remediation=error.fix,
        table=str(definition.table) if definition.table else None,
    )


def name_of(definition: Definition) -> str:
    """A definition in a sentence."""
    return f"the alert {definition.namespace}/{definition.name}"


# How many.


def bound(
    tx: Session, looked: Looked, said: Iterable[Event], *, occasion: Occasion
) -> Iterator[Event]:
    """Events that are not known yet, so many that somebody reads them; then one about the rest."""
    told = list(said)
    firing_now = [each for each in told if each.payload.state == "firing"]
    yield from (each for each in told if each.payload.state != "firing")
    news = unknown(tx, firing_now)
    yield from news[:MOST_EVENTS]
    rest = len(news) - MOST_EVENTS
    if rest > 0:
        many = f"{rest:,} more" if not looked.more else f"more than {rest:,} more"
        others = Match(
            f"{many} in {occasion.table or 'all'}",
            key=OTHERS,
            lasts=False,
            figures={"more": rest + looked.more},
            rows_matching=rest + looked.more,
        )
        yield firing(looked.definition, others, occasion=occasion)


def unknown(tx: Session, told: Sequence[Event]) -> list[Event]:
    """Those events that no row tells of yet."""
    if not told:
        return []
    keys = [each.dedupe_key for each in told]
    known = set(
        tx.scalars(select(AlertEvent.dedupe_key).where(AlertEvent.dedupe_key.in_(keys)))
    )
    return [each for each in told if each.dedupe_key not in known]
