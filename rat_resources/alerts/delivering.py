"""Delivering: routes what happened, and sends what is due, with some threads.

Any number of these work side by side, in the sensor's tick and in `rat deliver --watch`: what one has
claimed no other takes, and what a dead one left is taken when its lease lapses.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Self

from rat_resources.alerts import deliveries, routing
from rat_resources.alerts.deliveries import OFF, Claimed, Outcome, Terms
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import DeliveryError, PassingError
from rat_resources.errors import MetadataError
from rat_resources.metadata import Metadata
from rat_resources.workers import this_worker

THREADS = 8
AT_ONCE = 64  # claimed, and settled, in one transaction
SOON = 0.05  # seconds that what is done waits for others, to be settled with them
# A receiver that hangs may hold so many of the threads, and is left alone for a while.
MOST_SLOW = 4
SLOW = 30.0
WAIT_FOR_SLOW = 5.0


@dataclass
class Tally:
    """What was done."""

    routed: int = 0
    delivered: int = 0
    retrying: int = 0
    failed: int = 0
    given_back: int = 0
    late: int = 0  # somebody else had them by then

    def __str__(self) -> str:
        said = {
            "routed": self.routed,
            "delivered": self.delivered,
            "to be tried again": self.retrying,
            "failed": self.failed,
            "given back": self.given_back,
            "late": self.late,
        }
        shown = [f"{number:,} {word}" for word, number in said.items() if number]
        return ", ".join(shown) or "nothing was due"

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to do."""
        return not any(vars(self).values())

    def count(self, outcome: Outcome) -> None:
        """Count what became of one."""
        if outcome.is_untried:
            self.given_back += 1
        elif outcome.status == "delivered":
            self.delivered += 1
        elif outcome.status == "failed":
            self.failed += 1
        else:
            self.retrying += 1


@dataclass
class Slowness:
    """Which receivers hang: each may hold some threads and no more."""

    last: dict[str, float] = field(default_factory=dict)
    now: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, place: str, *, most: int) -> bool:
        """Whether somebody may be held up there."""
        with self.lock:
            is_slow = time.monotonic() - self.last.get(place, -SLOW) < SLOW
            if is_slow and self.now[place] >= most:
                return False
            self.now[place] += 1
            return True

    def leave(self, place: str, *, hung: bool) -> None:
        """Say how it was there."""
        with self.lock:
            self.now[place] -= 1
            if not self.now[place]:
                del self.now[place]
            if hung:
                self.last[place] = time.monotonic()
            else:
                self.last.pop(place, None)


@dataclass
class Deliverer:
    """Sends what is due, until it is told to stop or nothing is left."""

    metadata: Metadata
    outbox: Outbox
    org: str
    threads: int = THREADS
    terms: Terms = field(default_factory=Terms)
    stopped: threading.Event = field(default_factory=threading.Event)
    # One process may have several after one another, and none may settle for another.
    owner: str = field(default_factory=lambda: f"{this_worker()}/{uuid.uuid4().hex}")
    slowness: Slowness = field(default_factory=Slowness)

    def run(self, *, seconds: float | None = None) -> Tally:
        """Route and send until nothing is due, the time is over, or somebody stops it."""
        tally = Tally(routed=self.route())
        until = time.monotonic() + seconds if seconds is not None else None
        with Round(self, tally, until=until) as round_:
            round_.go()
        return tally

    def watch(
        self,
        *,
        pause: float,
        told: Callable[[Tally], None],
        troubled: Callable[[MetadataError], None],
    ) -> None:
        """Run again and again until somebody stops it, after a pause where nothing was due.

        A Postgres that is gone is *troubled* about, and waited for.
        """
        while not self.stopped.is_set():
            try:
                tally = self.run()
            except MetadataError as error:
                # What was sent and not settled is sent again when its lease has lapsed.
                troubled(error)
                self.stopped.wait(pause)
                continue
            if not tally.is_empty:
                told(tally)
            if not tally.delivered:
                self.stopped.wait(pause)

    def route(self) -> int:
        """Write the deliveries of what happened; how many events there were."""
        routed = 0
        while not self.stopped.is_set():
            with self.metadata.transaction() as tx:
                events = routing.route(tx).events
            routed += events
            if events < routing.AT_ONCE:
                break
        return routed

    def send(self, claimed: Claimed, *, since: float) -> Outcome:
        """Send one message; what became of it."""
        if self.stopped.is_set() or time.monotonic() > since + self.latest_start:
            return Outcome(claimed, "retrying", is_untried=True)
        if claimed.attempt > self.terms.attempts:
            why = f"nobody who tried came back, {self.terms.attempts} times"
            return Outcome(claimed, "failed", why)
        if not claimed.is_enabled:
            return Outcome(claimed, "failed", OFF)
        if claimed.destination is None:
            why = f"the alert has no channel {claimed.channel} any more"
            return Outcome(claimed, "failed", why)
        place, hung = claimed.destination.identity, False
        if not self.slowness.enter(place, most=min(MOST_SLOW, self.threads // 2 or 1)):
            wait = WAIT_FOR_SLOW
            return Outcome(claimed, "retrying", is_untried=True, wait=wait)
        begun = time.monotonic()
        try:
            return self.sent(claimed)
        finally:
            hung = time.monotonic() - begun > self.outbox.http.patience.connect
            self.slowness.leave(place, hung=hung)

    @property
    def latest_start(self) -> float:
        """How long after a claim a message may still be begun: its lease must not lapse meanwhile."""
        longest = 1.5 * self.outbox.http.patience.total
        return max(self.terms.lease.total_seconds() - longest, 1)

    def sent(self, claimed: Claimed) -> Outcome:
        """What became of a message that is sent now."""
        message = claimed.message(ui=self.outbox.ui, org=self.org)
        config = claimed.destination.config if claimed.destination else {}
        try:
            receipt = self.outbox.send(claimed.channel, message, config)
        except PassingError as error:
            if claimed.attempt >= self.terms.attempts:
                return Outcome(claimed, "failed", error.why)
            wait = deliveries.backoff(
                claimed.attempt, terms=self.terms, retry_after=error.retry_after
            )
            return Outcome(claimed, "retrying", error.why, wait=wait)
        except DeliveryError as error:
            return Outcome(claimed, "failed", error.why)
        return Outcome(claimed, "delivered", message_id=receipt.message_id)


class Round:
    """Claims, hands to the threads, and settles, until nothing is due."""

    def __init__(
        self, deliverer: Deliverer, tally: Tally, *, until: float | None
    ) -> None:
        self.by = deliverer
        self.tally = tally
        self.until = until
        self.held: dict[Future[Outcome], Claimed] = {}
        self.done: SimpleQueue[Future[Outcome]] = SimpleQueue()
        self.finished: list[Outcome] = []
        self.settled_at = time.monotonic()
        # Whoever dies leaves few behind where little is done at a time.
        self.pace = deliverer.threads
        self.pool = ThreadPoolExecutor(deliverer.threads, "deliver")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what was not begun, and settle the rest."""
        for future, claimed in list(self.held.items()):
            if future.cancel():
                del self.held[future]
                self.finished.append(Outcome(claimed, "retrying", is_untried=True))
        while self.held:
            self.collect(wait=1)
        self.pool.shutdown()
        self.settle()

    def go(self) -> None:
        """Work until nothing is due and nothing is held, or it is time to end."""
        is_more = True
        while not self.is_over() and (is_more or self.held):
            if is_more and len(self.held) < self.pace:
                is_more = self.claim() > 0
            self.collect(wait=SOON if self.held else 0)
            if self.is_time():
                # What was tried again at once may be due already.
                is_more = self.settle() or is_more

    def is_over(self) -> bool:
        """Whether it is time to end."""
        is_late = self.until is not None and time.monotonic() > self.until
        return is_late or self.by.stopped.is_set()

    def is_time(self) -> bool:
        """Whether what is done is to be settled: there is much of it, or it waited."""
        waited = time.monotonic() - self.settled_at
        return len(self.finished) >= AT_ONCE or not self.held or waited > SOON

    def claim(self) -> int:
        """Claim some and hand them to the threads; how many."""
        with self.by.metadata.transaction() as tx:
            found = deliveries.claim(
                tx, owner=self.by.owner, most=self.pace, terms=self.by.terms
            )
        since = time.monotonic()
        for each in found:
            future = self.pool.submit(self.by.send, each, since=since)
            self.held[future] = each
            future.add_done_callback(self.done.put)
        return len(found)

    def collect(self, *, wait: float) -> None:
        """Take what the threads have done; wait a moment where that is nothing."""
        try:
            self.take(self.done.get(timeout=wait) if wait else self.done.get_nowait())
            while True:
                self.take(self.done.get_nowait())
        except Empty:
            return

    def take(self, future: Future[Outcome]) -> None:
        """Take the outcome of one that is done."""
        claimed = self.held.pop(future, None)
        if claimed is None or future.cancelled():
            return
        error = future.exception()
        why = f"the message cannot be made: {type(error).__name__}"
        self.finished.append(
            future.result()
            if error is None
            else Outcome(
                claimed,
                "retrying" if claimed.attempt < self.by.terms.attempts else "failed",
                why,
                wait=deliveries.backoff(claimed.attempt, terms=self.by.terms),
            )
        )

    def settle(self) -> bool:
        """Write what became of them; whether there was anything."""
        finished, self.finished = self.finished, []
        self.settled_at = time.monotonic()
        self.pace = min(max(self.by.threads, 2 * len(finished)), AT_ONCE)
        if not finished:
            return False
        with self.by.metadata.transaction() as tx:
            settled = deliveries.settle(tx, finished, owner=self.by.owner)
        for each in settled:
            self.tally.count(each)
        self.tally.late += len(finished) - len(settled)
        return True
