"""A partner's API on loopback, which answers what a test scripts."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None  # what is announced, where that is not what comes
    unmarked: bool = (
        False  # no length: the end of the connection is the end of the body
    )
    silent: bool = False  # the connection is closed without a word


@dataclass
class PartnerServer:
    """The API: the answers to come, by path or in turn, and the requests that came."""

    port: int = 0
    replies: list[Reply] = field(default_factory=list)
    by_path: dict[str, Reply] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, path: str) -> Reply:
        """What is answered next."""
        if path in self.by_path:
            return self.by_path[path]
        return self.replies.pop(0) if self.replies else page([])


def page(runs: Any, cursor: Any = None, **reply: Any) -> Reply:  # noqa: ANN401 - JSON, right or wrong
    """A page of runs."""
    document = {"runs": runs, "next_cursor": cursor}
    return Reply(json.dumps(document).encode(), **reply)


@contextmanager
def serve(replies: Sequence[Reply] = ()) -> Iterator[PartnerServer]:
    """A partner's API that answers these in turn."""
    api = PartnerServer(replies=list(replies))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            api.paths.append(self.path)
            api.headers.append(dict(self.headers))
            reply = api.answer(self.path)
            self.close_connection = True
            if reply.silent:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if not reply.unmarked:
                length = len(reply.body) if reply.length is None else reply.length
                self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                self.wfile.write(reply.body)
            except OSError:
                return  # who asked has read enough

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
