"""What tells a run that it is to stop."""

import duckdb

from rat_assets.heartbeat import is_interrupt
from rat_resources.errors import QueryError


def test_an_error_that_an_interrupt_caused_is_one_too() -> None:
    error = QueryError("p.py:1: RuntimeError: Query interrupted")
    error.__cause__ = RuntimeError("Query interrupted")

    assert is_interrupt(error)
    assert is_interrupt(duckdb.InterruptException("INTERRUPT Error: Interrupted!"))
    assert not is_interrupt(QueryError("no such column"))
    assert not is_interrupt(RuntimeError("something else"))
