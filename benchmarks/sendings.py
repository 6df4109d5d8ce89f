"""Sendings: how many alerts a second reach a receiver, sent by one, two and four processes.

The receiver is a process of its own that only counts, by HTTPS with an authority of our own, as a
webhook is; every message is signed. The limit is a bare client of Python's that posts the same body over
one connection and knows of no database.
"""

import asyncio
import http.client
import json
import multiprocessing as mp
import ssl
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter, process_time

from sqlalchemy import text

from benchmarks.paper import Figures
from rat_resources.alerts import definitions, routing
from rat_resources.alerts.addresses import Rules
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.delivering import Deliverer
from rat_resources.alerts.events import Payload
from rat_resources.alerts.http_sender import HttpSender
from rat_resources.alerts.outbox import Outbox
from rat_resources.metadata import Metadata
from rat_resources.mirror.people import declare_org
from tests.servers import certificates

EVENTS = 4_000
WORKERS = (1, 2, 4)
BARE = 2_000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTEXT = mp.get_context("spawn")
ALONE = "a bare client, one connection, no database"


def measure(metadata: Metadata) -> Figures:
    """The table of deliveries a second."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        certificates.make(Path(folder))
        with receiver(folder) as url:
            bare = post_barely(url, folder)
            rows.append((ALONE, f"{bare:,.0f}", "", ""))
            for workers in WORKERS:
                routed = happen(metadata, url)
                sent, spent = send(metadata, folder, workers=workers)
                each = f"{spent / EVENTS * 1000:.2f} ms"
                rows.append((named(workers), f"{sent:,.0f}", each, f"{routed:,.0f}"))
    columns = (
        "webhooks by HTTPS, signed",
        "delivered a second",
        "processor time of each, of the sender",
        "routed a second",
    )
    return Figures(columns, rows)


def named(workers: int) -> str:
    """So many processes of `rat deliver`."""
    return f"{workers} process{'es' if workers > 1 else ''} of `rat deliver`"


@contextmanager
def receiver(folder: str) -> Iterator[str]:
    """Where a receiver is that takes everything."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=receive, args=(folder, theirs), daemon=True)
    process.start()
    try:
        yield f"https://localhost:{ours.recv()}/hook"
    finally:
        process.kill()
        process.join()


class Taking(asyncio.Protocol):
    """Answers every whole request."""

    transport: asyncio.Transport
    rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a server it is one
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what has come whole."""
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(self.rest) < end + 4 + length:
                return
            self.rest = self.rest[end + 4 + length :]
            self.transport.write(ANSWER)


def receive(folder: str, pipe: object) -> None:
    """Be the receiver."""

    async def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Taking, "127.0.0.1", 0, ssl=context)
        pipe.send(server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        await server.serve_forever()

    asyncio.run(serve())


def post_barely(url: str, folder: str) -> float:
    """Posts a second of a bare client."""
    place = url.removeprefix("https://").partition("/")[0]
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    client = http.client.HTTPSConnection(place, context=context)
    body = json.dumps({"id": str(uuid.uuid4()), "text": "x" * 600})
    begun = perf_counter()
    for _ in range(BARE):
        client.request("POST", "/hook", body=body)
        client.getresponse().read()
    took = perf_counter() - begun
    client.close()
    return BARE / took


def happen(metadata: Metadata, url: str) -> float:
    """Let events happen and route them; how many a second were routed."""
    with metadata.transaction() as tx:
        config = {"url": url, "secret": "env:SECRET"}
        definition = Definition(
            id=definitions.definition_id(tx, "b", "hook"),
            name="hook",
            namespace="b",
            kind="threshold",
            condition={"kind": "threshold", "dataset": "b.gold.t"},
            channels={"webhook": config},
        )
        definitions.save(tx, definition)
        payload = Payload(
            "threshold",
            "12 flights are later than 3 hours",
            definition="hook",
            table="b.gold.t",
            figures={"delay": 181.5},
            rows=[{"flight": f"UA{n}", "delay": 180 + n} for n in range(5)],
            rows_matching=12,
            remediation="Ask the airport",
        )
        values = {
            "org": declare_org(tx),
            "definition": definition.id,
            "payload": json.dumps(payload.to_json()),
            "events": EVENTS,
        }
        tx.execute(HAPPEN, values)
    begun = perf_counter()
    routed = 0
    while True:
        with metadata.transaction() as tx:
            count = routing.route(tx).events
        routed += count
        if not count:
            return routed / (perf_counter() - begun)


HAPPEN = text("""
    INSERT INTO trace.alert_events (org_id, alert_definition_id, dedupe_key, severity, payload)
    SELECT :org, :definition, gen_random_uuid()::text, 'warning', CAST(:payload AS jsonb)
    FROM generate_series(1, :events)
""")
TOOK = text("""
    SELECT count(*) / extract(epoch FROM max(delivered_at) - min(last_attempt_at)) AS rate
    FROM (
        SELECT * FROM trace.alert_deliveries WHERE status = 'delivered'
        ORDER BY delivered_at DESC LIMIT :events
    ) AS last
""")


def send(metadata: Metadata, folder: str, *, workers: int) -> tuple[float, float]:
    """Send all that is due with so many processes; deliveries a second, seconds of the processor."""
    barrier, spent = CONTEXT.Barrier(workers), CONTEXT.Value("d", 0.0)
    processes = [
        CONTEXT.Process(target=work, args=(metadata.dsn, folder, barrier, spent))
        for _ in range(workers)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    with metadata.transaction() as tx:
        rate = float(tx.execute(TOOK, {"events": EVENTS}).scalar_one())
    return rate, spent.value


def work(dsn: str, folder: str, barrier: Barrier, spent: "Synchronized[float]") -> None:
    """Be a process that sends."""
    http_sender = HttpSender(Rules(loopback=True), ca=f"{folder}/ca.pem")
    outbox = Outbox(http_sender, environ={"SECRET": "a-secret-of-the-benchmark"})
    with Metadata.connect(dsn) as metadata:
        with metadata.transaction() as tx:
            tx.execute(text("SELECT 1"))
        _ = http_sender.context
        barrier.wait()
        begun = process_time()
        Deliverer(metadata, outbox, "default").run()
        with spent.get_lock():
            spent.value += process_time() - begun
    outbox.close()
