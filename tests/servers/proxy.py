"""A TCP proxy whose connections can be cut, held back or lost, in front of any server of the tests.

with Proxy.to("127.0.0.1", 5432) as proxy:
    proxy.cut()                             nobody gets through, and who was through is cut off
    proxy.open()                            as if nothing had been
    proxy.hold()                            requests get through, their answers wait for release()
    proxy.lose_answer(after=b"/merge")      the request arrives, its answer never comes back
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Self

CHUNK = 1 << 16


class Proxy:
    """Passes bytes between whoever connects to `port` and the server."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self.port: int = listener.getsockname()[1]
        self.lost = Event()  # set once an answer was lost
        self._listener = listener
        self._target = target
        self._lock = Lock()
        self._live: set[socket.socket] = set()
        self._is_cut = False
        self._flowing = Event()
        self._flowing.set()
        self._fatal: bytes | None = None

    @classmethod
    @contextmanager
    def to(cls, host: str, port: int) -> Iterator[Self]:
        """A proxy on a free port that passes everything on to *host*:*port*."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            proxy = cls(listener, (host, port))
            accepting = Thread(target=proxy._accept, daemon=True)
            accepting.start()
            try:
                yield proxy
            finally:
                proxy.cut()
                # Closing alone does not wake who waits for a connection.
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                accepting.join()

    @property
    def address(self) -> str:
        """Where to connect instead of to the server."""
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection, and every new one at once."""
        with self._lock:
            self._is_cut = True
            cut_off(*self._live)
            self._live.clear()
        self._flowing.set()

    def open(self) -> None:
        """Let new connections through, whatever was asked for before."""
        with self._lock:
            self._is_cut, self._fatal = False, None
        self.lost.clear()
        self._flowing.set()

    def hold(self) -> None:
        """Keep what the server answers, until `release`."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass on what was held."""
        self._flowing.set()

    def lose_answer(self, *, after: bytes) -> None:
        """Cut the next connection that sends *after*, once the server has begun to answer it."""
        self._fatal = after

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._connect(client):
                cut_off(client)

    def _connect(self, client: socket.socket) -> bool:
        if self._is_cut:
            return False
        try:
            server = socket.create_connection(self._target)
        except OSError:
            return False
        with self._lock:
            if self._is_cut:
                cut_off(server)
                return False
            self._live |= {client, server}
        doomed = Event()
        for way in (
            Thread(target=self._ask, args=(client, server, doomed), daemon=True),
            Thread(target=self._answer, args=(server, client, doomed), daemon=True),
        ):
            way.start()
        return True

    def _ask(self, client: socket.socket, server: socket.socket, doomed: Event) -> None:
        seen = b""
        with suppress(OSError):
            while chunk := client.recv(CHUNK):
                fatal = self._fatal
                seen = (seen + chunk)[-CHUNK - len(fatal or b"") :]
                if fatal is not None and fatal in seen:
                    self._fatal = None
                    doomed.set()
                server.sendall(chunk)
        self._forget(client, server)

    def _answer(
        self, server: socket.socket, client: socket.socket, doomed: Event
    ) -> None:
        with suppress(OSError):
            while chunk := server.recv(CHUNK):
                self._flowing.wait()
                if doomed.is_set():
                    self.lost.set()
                    break
                client.sendall(chunk)
        self._forget(client, server)

    def _forget(self, *ends: socket.socket) -> None:
        with self._lock:
            self._live.difference_update(ends)
        cut_off(*ends)


def cut_off(*ends: socket.socket) -> None:
    """End connections for both of their sides."""
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
