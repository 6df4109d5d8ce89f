"""Outages: what must be done is done once the server that it needs is back."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

PAUSE = timedelta(seconds=0.5)

T = TypeVar("T")


def outlast(
    do: Callable[[], T],
    *,
    patience: timedelta,
    during: type[Exception] | tuple[type[Exception], ...],
) -> T:
    """What *do* returns, done again *during* an outage; its error once *patience* is at an end."""
    until = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return do()
        except during:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE.total_seconds())
