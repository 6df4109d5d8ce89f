"""What tells a run that it is to stop."""

import os
import signal
import threading
from types import FrameType

import duckdb
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from rat_assets.heartbeat import is_interrupt
from rat_resources.errors import QueryError

ENDLESS = "SELECT max(a.range + b.range) FROM range(4000000) a, range(4000000) b"


def test_a_signal_in_the_middle_of_a_query_is_an_interrupt() -> None:
    over = threading.Event()

    def signal_until_heard() -> None:
        while not over.wait(0.05):
            os.kill(os.getpid(), signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        over.set()
        raise DagsterExecutionInterruptedError

    before = signal.signal(signal.SIGINT, interrupt)
    sender = threading.Thread(target=signal_until_heard)
    try:
        # No signal may come before the query.
        with duckdb.connect() as connection, pytest.raises(RuntimeError) as heard:  # noqa: PT012
            sender.start()
            connection.execute(ENDLESS).fetchall()
    finally:
        sender.join()
        signal.signal(signal.SIGINT, before)

    assert is_interrupt(heard.value)


def test_an_error_that_an_interrupt_caused_is_one_too() -> None:
    error = QueryError("p.py:1: RuntimeError: Query interrupted")
    error.__cause__ = RuntimeError("Query interrupted")

    assert is_interrupt(error)
    assert not is_interrupt(QueryError("no such column"))
    assert not is_interrupt(RuntimeError("something else"))
