"""A gate before a server: it lets nobody through who does not say the right thing, by TLS if need be.

It also gives OAuth2 clients their tokens, at /token, and keeps a list of what it was asked.
"""

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import requests

HOP = frozenset(
    {
        "host",
        "authorization",
        "connection",
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "accept-encoding",
    }
)


@dataclass
class Gate:
    """What stands before `target`; whoever sends one of `allowed` gets through."""

    target: str
    allowed: set[str] = field(default_factory=set)
    url: str = ""
    life: int = 3600  # seconds
    tokens: int = 0  # given so far
    forms: list[dict[str, str]] = field(default_factory=list)
    answer: tuple[int, bytes] | None = None  # to everything, whoever asks

    @property
    def token_url(self) -> str:
        """Where clients get their tokens."""
        return f"{self.url}/token"

    def give_token(self, form: dict[str, str]) -> dict[str, Any]:
        """A new token, which opens the gate until the next one is given."""
        self.forms.append(form)
        self.tokens += 1
        self.allowed = {f"Bearer token-{self.tokens}"}
        return {"access_token": f"token-{self.tokens}", "expires_in": self.life}


def basic(user: str, password: str) -> str:
    """How a user says who they are."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


CLIENT = basic("rat", "secret")


@contextmanager
def opened(
    target: str, *allowed: str, certificates: Path | None = None, client: bool = False
) -> Iterator[Gate]:
    """A gate on a free port; with *certificates* by TLS, with *client* only to whom they vouch for."""
    gate = Gate(target, set(allowed))
    handler = type("GateHandler", (Handler,), {"gate": gate})
    with Server(("127.0.0.1", 0), handler) as server:
        if certificates is not None:
            secure(server, certificates, client=client)
        scheme = "http" if certificates is None else "https"
        gate.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield gate
        server.shutdown()
        thread.join()


class Server(ThreadingHTTPServer):
    """A server whose clients need not trust it."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us is not our error."""


def secure(server: Server, certificates: Path, *, client: bool) -> None:
    """Speak TLS, with *client* only to whom the same authority vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "ca.pem")
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )


class Handler(BaseHTTPRequestHandler):
    """Lets requests through, or not."""

    protocol_version = "HTTP/1.1"
    gate: Gate

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name for it
        """Nothing."""

    def handle_any(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        who = self.headers.get("Authorization", "")
        if self.path == "/token":
            self.give_token(body, who)
        elif self.gate.answer is not None:
            self.say(*self.gate.answer)
        elif who not in self.gate.allowed:
            self.say(HTTPStatus.UNAUTHORIZED, b"")
        else:
            self.pass_on(body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def give_token(self, body: bytes, who: str) -> None:
        if who != CLIENT:
            self.say(HTTPStatus.UNAUTHORIZED, b"{}")
            return
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.say(HTTPStatus.OK, json.dumps(self.gate.give_token(form)).encode())

    def pass_on(self, body: bytes) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        answer = requests.request(
            self.command,
            self.gate.target + self.path,
            data=body,
            headers=headers,
            timeout=10,
        )
        self.say(answer.status_code, answer.content)

    def say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
