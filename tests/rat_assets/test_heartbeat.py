"""What tells a run that it is to stop."""

import os
import signal

import duckdb
import pytest

from rat_assets.heartbeat import Deadline, is_interrupt
from rat_resources.errors import CancelledError, QueryError

ENDLESS = "SELECT max(a.range + b.range) FROM range(4000000) a, range(4000000) b"


def test_an_error_that_an_interrupt_caused_is_one_too() -> None:
    error = QueryError("p.py:1: RuntimeError: Query interrupted")
    error.__cause__ = RuntimeError("Query interrupted")

    assert is_interrupt(error)
    assert is_interrupt(duckdb.InterruptException("INTERRUPT Error: Interrupted!"))
    assert not is_interrupt(QueryError("no such column"))
    assert not is_interrupt(RuntimeError("something else"))


def test_a_ctrl_c_that_a_library_swallowed_ends_the_query_all_the_same() -> None:
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    hour = Deadline(3600, reason=CancelledError("too late"))

    with hour, duckdb.connect() as connection:
        hour.watch(connection)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(duckdb.InterruptException):
            connection.execute(ENDLESS)
        with pytest.raises(CancelledError, match="Ctrl-C"):
            hour.refuse_stop()
    restored = signal.signal(signal.SIGINT, before)

    assert restored != hour.hear_signal


def test_a_stop_that_comes_when_the_query_is_over_interrupts_nothing() -> None:
    connection = duckdb.connect()
    hour = Deadline(3600, reason=CancelledError("too late"))
    hour.watch(connection)
    connection.close()

    hour.interrupt()

    hour.refuse_stop()  # nothing was stopped
