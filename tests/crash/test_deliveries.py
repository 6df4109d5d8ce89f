"""Whoever dies while alerts are sent: every one arrives, and twice only where a lease lapsed.

Real servers on loopback, by TLS with an authority of our own: a receiver that fails, hangs and closes
three times in ten, one that is gone for a while, and a mail server that refuses. Before a release there
are 2,000 events and four workers of whom one is killed every few seconds (`make test-crash`).
"""

import multiprocessing as mp
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import text

from rat_resources.alerts import definitions, events
from rat_resources.alerts.addresses import Rules
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.deliveries import Terms
from rat_resources.alerts.delivering import Deliverer
from rat_resources.alerts.events import Event, Payload
from rat_resources.alerts.http_sender import HttpSender, Patience
from rat_resources.alerts.outbox import Outbox
from rat_resources.errors import MetadataError
from rat_resources.metadata import Metadata
from tests.rat_resources.alerts.receiver import Receiver, Reply, receiving
from tests.servers import certificates as authority
from tests.servers.mail import MailServer, mail_server

PATIENCE = Patience(connect=2, read=3, total=4)
TERMS = Terms(lease=timedelta(seconds=12), first_wait=0.1, longest_wait=1, attempts=40)
GIVE_UP = 180.0  # seconds
CHANNELS = ("webhook", "webhook", "webhook", "slack", "email")


@dataclass
class Flaky(Receiver):
    """A receiver that takes seven messages of ten, and knows which."""

    luck: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - no secret
    taken: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, key: str) -> None:
        """Count what was taken."""
        with self.lock:
            self.taken[key] += 1

    def answer(self) -> Reply:
        """Now and then something else than what is wanted."""
        with self.lock:
            draw = self.luck.random()
        if draw < 0.01:
            return Reply(hangs=True)
        if draw < 0.1:
            return Reply(silent=True)
        if draw < 0.2:
            return Reply(429, headers={"Retry-After": "0"})
        return Reply(500) if draw < 0.3 else Reply()


@dataclass
class Scene:
    """Who receives, who sends, and who died of it."""

    metadata: Metadata
    folder: Path
    workers: list[ForkServerProcess] = field(default_factory=list)
    orphans: set[str] = field(default_factory=set)
    deaths: int = 0

    def happen(self, number: int, urls: dict[str, dict[str, object]]) -> None:
        """Let so many events happen, each for one channel."""
        with self.metadata.transaction() as tx:
            for channel, config in urls.items():
                definitions.save(
                    tx,
                    defined(
                        definitions.definition_id(tx, "n", channel), channel, config
                    ),
                )
            ids = {each: definitions.definition_id(tx, "n", each) for each in urls}
            for turn in range(number):
                payload = Payload("threshold", f"flight {turn} is late")
                channel = CHANNELS[turn % len(CHANNELS)]
                events.add(
                    tx, Event(f"alert:{turn}", payload, definition_id=ids[channel])
                )

    def start(self, smtp: str) -> None:
        """Start a worker."""
        context = mp.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        dsn = self.metadata.dsn
        ca = str(self.folder / "ca.pem")
        worker = context.Process(target=work, args=(dsn, ca, smtp))
        worker.start()
        self.workers.append(worker)

    def kill(self, smtp: str, *, lapse: bool) -> None:
        """Kill a worker in the middle of it, and start another one."""
        worker = self.workers.pop(0)
        os.kill(worker.pid or 0, signal.SIGKILL)
        worker.join()
        self.deaths += 1
        with self.metadata.transaction() as tx:
            self.orphans |= set(tx.scalars(ORPHANS, {"worker": f"%:{worker.pid}:%"}))
            if lapse:  # nobody waits for it in every test
                tx.execute(LAPSE, {"worker": f"%:{worker.pid}:%"})
        self.start(smtp)

    def stop(self) -> None:
        """End the workers well."""
        for each in self.workers:
            os.kill(each.pid or 0, signal.SIGTERM)
        for each in self.workers:
            each.join(30)

    def states(self) -> Counter[str]:
        """How many deliveries are how far."""
        with self.metadata.transaction() as tx:
            found = tx.execute(
                text("SELECT status, count(*) FROM trace.alert_deliveries GROUP BY 1")
            )
            return Counter({row.status: row.count for row in found})

    def ids(self) -> set[str]:
        """The ids of all deliveries."""
        with self.metadata.transaction() as tx:
            return set(tx.scalars(text("SELECT id::text FROM trace.alert_deliveries")))


ORPHANS = text("""
    SELECT id::text FROM trace.alert_deliveries
    WHERE status = 'sending' AND lease_owner LIKE :worker
""")
LAPSE = text("""
    UPDATE trace.alert_deliveries
    SET leased_until = clock_timestamp(), next_attempt_at = clock_timestamp()
    WHERE status = 'sending' AND lease_owner LIKE :worker
""")


def defined(id: uuid.UUID, name: str, config: dict[str, object]) -> Definition:
    """A definition of one channel."""
    return Definition(
        id=id,
        name=name,
        namespace="n",
        kind="threshold",
        condition={"kind": "threshold", "dataset": "n.gold.t"},
        channels={name: config},
    )


def give_up(error: MetadataError) -> NoReturn:
    """Nothing happens to Postgres here."""
    raise error


def work(dsn: str, ca: str, smtp: str) -> None:
    """Be a worker until somebody says stop."""
    outbox = Outbox(
        HttpSender(Rules(loopback=True), ca=ca, patience=PATIENCE),
        smtp=smtp,
        sender="rat@rat.test",
        environ={"PASSWORD": "secret"},
    )
    with Metadata.connect(dsn) as metadata:
        deliverer = Deliverer(metadata, outbox, "default", terms=TERMS)
        signal.signal(signal.SIGTERM, lambda *_: deliverer.stopped.set())
        deliverer.watch(pause=0.05, told=lambda _tally: None, troubled=give_up)
    outbox.close()


@pytest.fixture
def scene(metadata: Metadata, tmp_path: Path) -> Iterator[Scene]:
    """A database, and an authority that vouches for localhost."""
    authority.make(tmp_path)
    scene = Scene(metadata, tmp_path)
    yield scene
    for each in scene.workers:
        each.kill()
        each.join()


@pytest.mark.parametrize(
    ("number", "workers", "every", "lapse"),
    [(60, 2, 20, True), pytest.param(2_000, 4, 200, False, marks=pytest.mark.long)],
)
def test_every_alert_arrives_and_twice_only_where_a_lease_lapsed(
    scene: Scene, *, number: int, workers: int, every: int, lapse: bool
) -> None:
    flaky, mortal = Flaky(), Flaky()
    with ExitStack() as stack:
        stack.enter_context(receiving(certificates=scene.folder, receiver=flaky))
        stack.enter_context(receiving(certificates=scene.folder, receiver=mortal))
        mail = stack.enter_context(mail_server(scene.folder, auth=True))
        refuse_some(mail)
        smtp = f"smtp://rat:env:PASSWORD@localhost:{mail.port}"
        scene.happen(
            number,
            {
                "webhook": {"url": flaky.url},
                "slack": {"webhook_url": mortal.url},
                "email": {"to": "ops@rat.test"},
            },
        )
        begun = time.monotonic()
        for _ in range(workers):
            scene.start(smtp)
        play(scene, smtp, number=number, every=every, lapse=lapse)
        took = time.monotonic() - begun
        scene.stop()

    taken = (
        flaky.taken
        + mortal.taken
        + Counter(mail_["Idempotency-Key"] for mail_ in mail.mails)
    )
    twice = {key for key, times in taken.items() if times > 1}
    requests = len(flaky.requests) + len(mortal.requests)
    print(  # noqa: T201
        f"{number} events delivered in {took:.0f} s over {requests} requests and {len(mail.mails)} mails;"
        f" {scene.deaths} workers killed, who held {len(scene.orphans)}; {len(twice)} came twice"
    )
    assert scene.states() == {"delivered": number}
    assert set(taken) == scene.ids()
    assert twice <= scene.orphans


def play(scene: Scene, smtp: str, *, number: int, every: int, lapse: bool) -> None:
    """Kill a worker whenever so many more have arrived, until all have."""
    until, next_death = time.monotonic() + GIVE_UP, every
    while (states := scene.states())["delivered"] < number or len(states) > 1:
        assert time.monotonic() < until, states
        if next_death <= states["delivered"] < number:
            scene.kill(smtp, lapse=lapse)
            next_death += every
        time.sleep(0.05)


def refuse_some(mail: MailServer) -> None:
    """Let a mail server refuse three mails of ten for now."""
    luck = random.Random(7)  # noqa: S311 - no secret
    mail.answer = lambda: "451 later" if luck.random() < 0.3 else "250 OK"
