"""A receiver on loopback: by HTTPS or HTTP, it answers as a test scripts, and keeps what came."""

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False  # the connection is closed without a word
    hangs: bool = False  # nothing is answered until the test ends
    drips: bool = False  # the head never comes to an end


@dataclass
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """The answers to come, and the requests that came."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self) -> Reply:
        """What is answered next."""
        return self.replies.pop(0) if self.replies else Reply()

    def take(self, key: str) -> None:
        """Hear that a message was taken."""


class Handler(BaseHTTPRequestHandler):
    """Answers as its receiver says."""

    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def setup(self) -> None:
        super().setup()
        self.receiver.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.receiver.requests.append(Request(self.path, dict(self.headers), body))
        reply = self.receiver.answer()
        if reply.hangs:
            self.receiver.over.wait(30)
        if reply.drips:
            self.drip()
        if reply.silent or reply.hangs or reply.drips:
            self.close_connection = True
            return
        if reply.status == HTTPStatus.OK:
            self.receiver.take(self.headers.get("Idempotency-Key", ""))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(reply.body)

    def drip(self) -> None:
        """A byte of the head at a time, until the other side is gone."""
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.receiver.over.wait(0.01):
                self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server that is not impressed by clients that go away."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def receiving(
    *replies: Reply,
    certificates: Path | None = None,
    receiver: Receiver | None = None,
) -> Iterator[Receiver]:
    """A receiver that answers these in turn, then 200; with *certificates* by TLS."""
    receiver = receiver or Receiver(replies=list(replies))
    handler = type("ReceiverHandler", (Handler,), {"receiver": receiver})
    with Server(("127.0.0.1", 0), handler) as server:
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                certificates / "server.pem", certificates / "server.key"
            )
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificates is None else "https"
        receiver.url = f"{scheme}://localhost:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.over.set()
            server.shutdown()
            thread.join()
