import socket
from collections.abc import Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from tests.servers.proxy import Proxy


class Echo(StreamRequestHandler):
    """Answers every line by itself."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class Server(ThreadingTCPServer):
    """Ends without waiting for whoever is connected."""

    daemon_threads = True
    block_on_close = False


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Server(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Proxy.to("127.0.0.1", server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(connection: socket.socket, line: bytes) -> bytes:
    """The answer; nothing where the connection was cut."""
    try:
        connection.sendall(line)
        return connection.recv(100)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def test_what_is_sent_gets_through(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        answer = ask(connection, b"hello\n")

    assert answer == b"hello\n"


def test_a_cut_ends_every_connection_until_it_is_open_again(proxy: Proxy) -> None:
    with connect(proxy) as before:
        ask(before, b"hello\n")
        proxy.cut()
        cut_off = ask(before, b"again\n")
    with connect(proxy) as meanwhile:
        refused = ask(meanwhile, b"hello\n")

    proxy.open()

    assert (cut_off, refused) == (b"", b"")
    with connect(proxy) as after:
        assert ask(after, b"hello\n") == b"hello\n"


def test_an_answer_is_lost_once_after_its_request_arrived(proxy: Proxy) -> None:
    proxy.lose_answer(after=b"merge")

    with connect(proxy) as first:
        assert ask(first, b"other\n") == b"other\n"
        lost = ask(first, b"merge\n")
    with connect(proxy) as second:
        repeated = ask(second, b"merge\n")

    assert lost == b""
    assert proxy.lost.is_set()
    assert repeated == b"merge\n"


def test_an_answer_is_held_until_it_is_released(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.hold()
        connection.sendall(b"hello\n")
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(10)
        proxy.release()
        answer = connection.recv(100)

    assert answer == b"hello\n"
