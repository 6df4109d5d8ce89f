"""Matches: what a condition found, and which events follow from it.

A match is of a subject: all of the table, a group, a row, a test, a pipeline. It fires once while it
lasts; what no longer matches is resolved. What is raised now is `events`'.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from rat_resources.alerts import events
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import Event, Payload, Raised
from rat_resources.errors import RatError
from rat_resources.hashes import hash_of

ALL = "all"
CHAIN = ("chain_id", "block_hash", "tx_hash", "block_number")
COPIED = (*CHAIN, "event_time")
OF_A_BLOCK = ("block_hash", "tx_hash")
# What Postgres' bigint holds.
LARGEST = 2**63


@dataclass(frozen=True)
class Match:
    """What a condition found."""

    sentence: str  # what is wrong
    subject: Mapping[str, Any] = field(default_factory=dict)  # as it is shown
    key: str = ALL  # the subject, as a key has it
    figures: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    rows_matching: int | None = None
    copied: Mapping[str, Any] = field(default_factory=dict)  # of the columns of COPIED
    identity: str | None = None  # of the data, where it has its own: a block, a run
    lasts: bool = True  # whether it is raised until it no longer matches
    partition_key: str | None = None
    remediation: str = ""  # what to do, where the definition does not say it
    cause: str = ""  # where it has one of its own


@dataclass(frozen=True)
class Looked:
    """What came of one condition: its matches, or why it could not be evaluated."""

    definition: Definition
    matches: Sequence[Match] = ()
    more: int = 0  # matches that nobody looked at
    trouble: RatError | None = None
    covers: frozenset[str] | None = None  # the subjects that were looked at; None: all


@dataclass(frozen=True)
class Occasion:
    """On what a condition was evaluated."""

    identity: str  # of the data or the run: a snapshot, a run's id
    table: str | None = None
    pipeline: str | None = None
    run_id: uuid.UUID | None = None
    dagster_run_id: str | None = None
    at: datetime | None = None  # when it happened; None: now
    cause: str = ""  # what else has the same one may be told with it


def key_of(values: Mapping[str, Any]) -> str:
    """What tells a subject from any other, and nothing of what it is."""
    return hash_of(values).removeprefix("sha256:")[:16]


def judge(
    looked: Looked, *, raised: Iterable[Raised], occasion: Occasion
) -> Iterator[Event]:
    """The events that follow from what matches now, where *raised* was raised before.

    What matches and was not raised fires; what was raised and no longer matches is resolved.
    """
    known = {each.subject: each for each in raised}
    for match in looked.matches:
        if match.key not in known:
            yield firing(looked.definition, match, occasion=occasion)
    if looked.more:
        return  # what was raised may be among them
    lasting = {match.key for match in looked.matches if match.lasts}
    for subject, over in known.items():
        is_over = looked.covers is None or subject in looked.covers
        if is_over and subject not in lasting:
            yield resolved(looked.definition, over, occasion=occasion)


def firing(definition: Definition, match: Match, *, occasion: Occasion) -> Event:
    """The event that a condition matches."""
    identity = match.identity or occasion.identity
    copied = of_chain(match.copied)
    at = copied.pop("event_time", None) or occasion.at
    return Event(
        f"alert:{definition.id}:{match.key}:{identity}",
        payload(
            definition,
            f"{definition.name}: {match.sentence}",
            occasion=occasion,
            subject=match.subject,
            figures=match.figures,
            rows=match.rows,
            rows_matching=match.rows_matching,
            since=at and at.isoformat(),
            remediation=definition.remediation or match.remediation,
            cause=match.cause or occasion.cause,
        ),
        severity=definition.severity,
        definition_id=definition.id,
        raises=match.key if match.lasts else None,
        run_id=occasion.run_id,
        partition_key=match.partition_key,
        event_time=at,
        **copied,
    )


def resolved(
    definition: Definition, over: Raised, *, occasion: Occasion, why: str = ""
) -> Event:
    """The event that a condition no longer matches."""
    where = occasion.table or occasion.pipeline
    said = why or ("no longer so" + (f" in {where}" if where else ""))
    return events.resolution(
        over,
        payload(
            definition, f"{definition.name}: {said}", occasion=occasion, remediation=""
        ),
        severity=definition.severity,
        run_id=occasion.run_id,
        event_time=occasion.at,
    )


def payload(
    definition: Definition,
    title: str,
    *,
    occasion: Occasion,
    **said: Any,  # noqa: ANN401 - the fields of Payload
) -> Payload:
    """What an event of a definition tells."""
    return Payload(
        kind=definition.kind,
        title=title,
        definition=definition.name,
        labels=definition.labels,
        table=occasion.table,
        pipeline=occasion.pipeline,
        run_id=str(occasion.run_id) if occasion.run_id else None,
        dagster_run_id=occasion.dagster_run_id,
        description=definition.description,
        owner=definition.owner or "",
        **{"remediation": definition.remediation, "cause": occasion.cause} | said,
    )


def of_chain(copied: Mapping[str, Any]) -> dict[str, Any]:
    """What an event's columns take of a row's; what they cannot hold is left out."""
    taken: dict[str, Any] = {}
    for name in ("chain_id", "block_number"):
        if (number := as_integer(copied.get(name))) is not None:
            taken[name] = number
    for name in OF_A_BLOCK:
        if copied.get(name) is not None:
            taken[name] = events.shorten(as_text(copied[name]), events.LONGEST_TITLE)
    if (at := as_time(copied.get("event_time"))) is not None:
        taken["event_time"] = at
    return taken


def as_integer(value: object) -> int | None:
    """A whole number that Postgres can hold, however it is written."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = int(value, 0) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
    except (ValueError, TypeError, OverflowError):
        return None
    return number if -LARGEST <= number < LARGEST and str(value) != "nan" else None


def as_text(value: object) -> str:
    """A text, or bytes as people write them."""
    if isinstance(value, bytes | bytearray):
        return f"0x{value.hex()}"
    return str(value)


def as_time(value: object) -> datetime | None:
    """A time; one without a zone is in UTC, as everywhere."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return None


def identity_of(copied: Mapping[str, Any]) -> str | None:
    """What tells the block that a row came with, so that another one's is another event."""
    said = [
        as_text(copied[name]) for name in OF_A_BLOCK if copied.get(name) is not None
    ]
    return "/".join(said) or None
