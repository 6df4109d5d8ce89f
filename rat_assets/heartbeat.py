"""The heartbeat of a run: keeps its lease, and notices when it is to stop. A preview has a deadline.

Dagster cannot stop a run that executes in its own process, so the run looks for itself.
"""

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

import duckdb
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt
from duckdb import DuckDBPyConnection
from sqlalchemy.exc import SQLAlchemyError

from rat_resources import leases, runs, tasks
from rat_resources.errors import (
    CancelledError,
    LeaseLostError,
    MetadataError,
    RatError,
)
from rat_resources.leases import HEARTBEAT, Hold
from rat_resources.metadata import Metadata
from rat_resources.tasks import Claim

# A query that begins just after an interrupt does not hear it.
INTERRUPT_AGAIN = 0.5


class Watch:
    """A thread that watches while its `with` lasts, and stops what happens in it."""

    def __init__(self) -> None:
        self.stopped: RatError | None = None
        self.over = threading.Event()
        # Of all that wakes a thread, this alone may be used by a signal's handler.
        self.woken: SimpleQueue[None] = SimpleQueue()
        self.handler: Any = None  # what a Ctrl-C did before
        self.connection: DuckDBPyConnection | None = None
        self.runs_python = False
        self.was_interrupted = False
        self.thread = threading.Thread(
            target=self.beat, name="rat-heartbeat", daemon=True
        )

    def __enter__(self) -> Self:
        self.thread.start()
        if threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGINT, self.hear_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection = None
        # Dagster lets SIGTERM do what SIGINT does.
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) == self.hear_signal:
                signal.signal(number, self.handler)
        self.over.set()
        self.woken.put(None)
        self.thread.join()

    def beat(self) -> None:
        """What the thread does, until it is over."""
        raise NotImplementedError

    def is_over(self, *, after: float) -> bool:
        """Wait so many seconds; whether it was over before, by its end or by a Ctrl-C."""
        try:
            self.woken.get(timeout=after)
        except Empty:
            return False
        self.interrupt_again()
        return True

    def hear_signal(self, number: int, frame: FrameType | None) -> None:
        """Take a Ctrl-C: what it raises may be lost in a library, so the thread follows it up."""
        if self.handler == signal.SIG_IGN and self.stopped is None:
            return  # a shell's job in the background, which hears the thread but no Ctrl-C
        self.stopped = self.stopped or CancelledError("somebody pressed Ctrl-C")
        self.woken.put(None)
        before = self.handler if callable(self.handler) else signal.default_int_handler
        before(number, frame)

    def watch(self, connection: DuckDBPyConnection) -> None:
        """Interrupt this connection's query when the run is to stop."""
        self.connection = connection

    def refuse_stop(self) -> None:
        """Raise what the run is to stop for, if it is."""
        if self.stopped is not None:
            raise self.stopped

    def stop(self, reason: RatError) -> None:
        """Let the run stop as soon as it can."""
        self.stopped = reason
        if self.runs_python:
            _thread.interrupt_main()
        self.interrupt_again()

    def interrupt_again(self) -> None:
        """Interrupt whatever query runs, until it is over."""
        self.interrupt()
        while not self.over.wait(INTERRUPT_AGAIN):
            self.interrupt()

    def interrupt(self) -> None:
        """Interrupt the query that runs now, if one does."""
        connection = self.connection  # the run may let go of it meanwhile
        if connection is not None:
            with suppress(duckdb.ConnectionException):  # or have closed it
                connection.interrupt()

    @contextmanager
    def interrupting_python(self) -> Iterator[None]:
        """While this lasts, a stop also interrupts Python code, where it is the main thread's."""
        self.runs_python = threading.current_thread() is threading.main_thread()
        try:
            self.refuse_stop()
            yield
        finally:
            self.runs_python = False

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """While this lasts, a Ctrl-C waits: what was merged is also written down."""
        with uninterrupted():
            try:
                yield
            finally:
                self.was_interrupted = check_captured_interrupt()


class Heartbeat(Watch):
    """Keeps the leases of a run and its task, and stops it when Dagster's run is to stop."""

    def __init__(self, metadata: Metadata, hold: Hold, dagster_run_id: str) -> None:
        super().__init__()
        self.metadata = metadata
        self.hold = hold
        self.task: Claim | None = None  # once it is claimed
        self.dagster_run_id = dagster_run_id

    def beat(self) -> None:
        """Keep the lease and look at Dagster's run, until the run is over."""
        while not self.is_over(after=HEARTBEAT.total_seconds()):
            try:
                with self.metadata.transaction() as tx:
                    leases.beat(tx, self.hold)
                    if self.task is not None:
                        tasks.beat(tx, self.task)
                    status = runs.stopped_by(tx, self.dagster_run_id)
            except LeaseLostError as error:
                self.stop(error)
                return
            except (MetadataError, SQLAlchemyError):
                continue  # Postgres may come back; the lease is ours until somebody takes it
            if status is not None:
                self.stop(CancelledError(f"Dagster's run is {status}"))
                return


class Deadline(Watch):
    """Stops what takes too long."""

    def __init__(self, seconds: float, *, reason: RatError) -> None:
        super().__init__()
        self.seconds = seconds
        self.reason = reason

    def beat(self) -> None:
        """Wait for the end, or for the deadline."""
        if not self.is_over(after=self.seconds):
            self.stop(self.reason)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """While this lasts, a Ctrl-C is held back; then it is forgotten."""
    with capture_interrupts():
        yield


def is_interrupt(error: BaseException | None) -> bool:
    """Whether *error* says, itself or by its cause, that a query was interrupted.

    A signal during a query comes out of DuckDB as a plain RuntimeError, and Python's own exception
    is lost.
    """
    if error is None:
        return False
    is_signal = type(error) is RuntimeError and str(error) == "Query interrupted"
    return (
        is_signal
        or isinstance(error, duckdb.InterruptException)
        or is_interrupt(error.__cause__)
    )
