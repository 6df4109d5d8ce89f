"""Events: what a source says of one run, made sense of.

A source may leave out much and spell a lot differently; what cannot be read is an EventError, which
says of which field and why, so that the next event goes on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rat_resources.errors import EventError
from rat_resources.external_runs.masking import bound, mask, mask_text, shorten
from rat_resources.metadata.base import Json

LONGEST_ID = 255
LONGEST_REASON = 1000
LONGEST_STATUS = 100
MOST_SECONDS = 2**31 - 1
MOST_ROWS = 2**63 - 1
LONGEST_NUMBER = 40
WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

RUNNING = "running"
FAILED = "failed"
STATUSES: Mapping[str, str] = {
    spelling: status
    for status, spellings in {
        RUNNING: ("running", "in_progress", "queued", "pending"),
        "success": ("success", "succeeded", "completed"),
        FAILED: ("failed", "failure", "error", "errored"),
        "canceled": ("canceled", "cancelled", "aborted"),
        "skipped": ("skipped",),
    }.items()
    for spelling in spellings
}
"""What a source says, in CHM's words."""

CLOCK_WENT_BACK = "The source's clock went backwards: no duration is known"


@dataclass(frozen=True)
class RunEvent:
    """What is known of one run at one moment."""

    external_run_id: str
    status: str
    status_reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_seconds: int | None = None
    rows_processed: int | None = None
    error_message: str | None = None
    payload: Json = None


def read_event(raw: Json, *, secrets: Sequence[str] = ()) -> RunEvent:
    """The event that *raw* tells, its payload masked; EventError where it cannot be made sense of."""
    if not isinstance(raw, dict):
        message = f"an event is a JSON object, and this is {kind(raw)}"
        raise EventError(message)
    status, status_why = read_status(raw.get("status"), secrets=secrets)
    started = read_time(raw, "started_at")
    finished = read_time(raw, "finished_at")
    if status == RUNNING:
        finished = None  # what goes on has not ended, whatever is planned
    duration, duration_why = read_duration(raw, started=started, finished=finished)
    generated = "; ".join(filter(None, (status_why, duration_why))) or None
    return RunEvent(
        external_run_id=read_id(raw, secrets=secrets),
        status=status,
        status_reason=read_text(raw, "status_reason", secrets=secrets) or generated,
        started_at=started,
        finished_at=finished,
        duration_seconds=duration,
        rows_processed=read_rows(raw),
        error_message=read_text(raw, "error_message", secrets=secrets),
        payload=bound(mask(raw, secrets=secrets)),
    )


def read_id(raw: Mapping[str, Json], *, secrets: Sequence[str] = ()) -> str:
    """What the source calls the run: `external_run_id`, else `id`."""
    for name in ("external_run_id", "id"):
        value = raw.get(name)
        if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
            message = f"{name} is {kind(value)}, not a text"
            raise EventError(message)
        text = "" if value is None else mask_text(str(value), secrets=secrets).strip()
        if len(text) > LONGEST_ID:
            message = f"{name} has more than {LONGEST_ID} characters"
            raise EventError(message)
        if text:
            return text
    message = "there is neither external_run_id nor id"
    raise EventError(message)


def read_status(value: Json, *, secrets: Sequence[str] = ()) -> tuple[str, str | None]:
    """The status in CHM's words; for a status that is missing or unknown, failed and why."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return FAILED, "Missing source status, recorded as failed"
    known = STATUSES.get(value.strip().lower()) if isinstance(value, str) else None
    if known:
        return known, None
    said = shorten(mask_text(str(value), secrets=secrets), most=LONGEST_STATUS)
    return FAILED, f"Unknown source status {said!r}, recorded as failed"


def read_time(raw: Mapping[str, Json], name: str) -> datetime | None:
    """A moment in ISO 8601; one that names no zone is in UTC."""
    value = raw.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        message = f"{name} is {kind(value)}, not a time in ISO 8601"
        raise EventError(message)
    try:
        moment = datetime.fromisoformat(value.strip())
        # One whose zone takes it out of the calendar is none either.
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{name} is no time in ISO 8601: {shown(value)}"
        raise EventError(message) from error


def read_duration(
    raw: Mapping[str, Json], *, started: datetime | None, finished: datetime | None
) -> tuple[int | None, str | None]:
    """How long the run took, as it says or from its times; none, and why, where time ran backwards."""
    given = read_number(raw, "duration_seconds", pattern=NUMBER)
    if given is not None and given > MOST_SECONDS:
        message = f"duration_seconds is more than {MOST_SECONDS}"
        raise EventError(message)
    if given is not None and given >= 0:
        return given, None
    if started is None or finished is None:
        return None, None if given is None else CLOCK_WENT_BACK
    if finished < started:
        return None, CLOCK_WENT_BACK
    seconds = int((finished - started).total_seconds())
    return (seconds, None) if seconds <= MOST_SECONDS else (None, None)


def read_rows(raw: Mapping[str, Json]) -> int | None:
    """How many rows the run processed."""
    rows = read_number(raw, "rows_processed", pattern=WHOLE)
    if rows is not None and not 0 <= rows <= MOST_ROWS:
        message = f"rows_processed is not between 0 and {MOST_ROWS}"
        raise EventError(message)
    return rows


def read_number(
    raw: Mapping[str, Json], name: str, *, pattern: re.Pattern[str]
) -> int | None:
    """A number, written as one or as a text; what stands behind its point is dropped."""
    value = raw.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        message = f"{name} is {kind(value)}, not a number"
        raise EventError(message)
    text = number_text(value)
    if len(text) > LONGEST_NUMBER or not pattern.fullmatch(text):
        message = f"{name} is no whole number: {shown(text)}"
        raise EventError(message)
    return int(text.partition(".")[0])


def number_text(value: float | str) -> str:
    """A number as digits."""
    if isinstance(value, float):
        # 1e3 and 1000.0 are one number.
        return str(int(value)) if value.is_integer() else f"{value:f}"
    # int() of many digits is slow, and str() of it refused.
    if isinstance(value, int) and abs(value) > 10**LONGEST_NUMBER:
        return "9" * (LONGEST_NUMBER + 1)
    return str(value).strip()


def read_text(
    raw: Mapping[str, Json], name: str, *, secrets: Sequence[str]
) -> str | None:
    """A text as it may be kept; an empty one is none."""
    value = raw.get(name)
    if value is None:
        return None
    text = value if isinstance(value, str) else str(mask(value, secrets=secrets))
    return shorten(mask_text(text, secrets=secrets)) if text.strip() else None


def kind(value: Json) -> str:
    """What a value is, in JSON's words."""
    words = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return words.get(type(value), "a number")


def shown(value: object) -> str:
    """A value of a stranger as a message may quote it."""
    return repr(shorten(mask_text(str(value)), most=60))
