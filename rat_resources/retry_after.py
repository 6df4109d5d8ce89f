"""Retry-After: how long a server wants to be left alone, in seconds or until a date."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_retry_after(value: str | None, *, now: datetime) -> float:
    """How many seconds a Retry-After header asks to wait; 0 when it makes no sense."""
    if not value:
        return 0
    try:
        return max(float(int(value)), 0)
    except OverflowError:
        return float("inf")
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
        return max(
            (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds(), 0
        )
    except (ValueError, OverflowError):
        return 0
