"""HTTP as alerts use it: one POST to an address that was looked at, and a small answer.

No redirect is followed, no proxy of the environment is asked, and the very address that was checked
is connected to, whatever the name resolves to a moment later; the certificate is the name's. A
connection is kept for the next message to the same place, not longer than names keep their addresses.
Every step has a time-out and all of them together another: a receiver that drips a byte at a time
holds nobody up.
"""

import contextlib
import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from rat_resources.alerts import addresses
from rat_resources.alerts.addresses import Address, Resolve, Rules, Target
from rat_resources.alerts.receipts import (
    DeliveryError,
    PassingError,
    RefusedError,
    TooLargeError,
)
from rat_resources.retry_after import parse_retry_after

MOST_ADDRESSES = 8
MOST_ANSWER = 16 << 10  # bytes
LONGEST_WAIT = 3_600.0  # seconds, whatever the receiver wishes
# A connection at rest: receivers close theirs after some seconds, and names move.
MOST_REST = 4.0
MOST_LIFE = 60.0
MOST_KEPT = 256
# Ours to say, or a way to smuggle a second request.
UNSAFE = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
GONE = frozenset({301, 308})
PASSING = frozenset({408, 421, 425, 429})
TOO_LARGE = 413
OK = range(200, 300)
REDIRECTS = range(300, 400)
CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True)
class Patience:
    """How long a receiver may take, in seconds."""

    connect: float = 5
    read: float = 10  # between two bytes
    total: float = 15


@dataclass(frozen=True)
class Answer:
    """What a receiver said: no more of it than decides anything, and nobody logs it."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None
    location: str | None = None


class TimedSocket:
    """A connected socket on which all that is read and written ends at one moment."""

    def __init__(self, sock: socket.socket, *, patience: Patience) -> None:
        self.sock = sock
        self.read_timeout = patience.read
        self.until = 0.0
        self.timeout = 0.0  # as the socket has it
        self.outgoing: list[bytes] = []
        self.poll = select.poll()
        self.poll.register(sock, select.POLLIN | select.POLLHUP | select.POLLERR)

    def wait(self) -> None:
        """Let the next call last no longer than it may; TimeoutError when nothing is left."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        # Nearly always it is the time-out of a single read, and set already.
        timeout = min(left, self.read_timeout)
        if timeout != self.timeout:
            self.sock.settimeout(timeout)
            self.timeout = timeout

    def sendall(self, data: bytes) -> None:
        """Take what is to be written: http.client has the head and the body apart."""
        self.outgoing.append(data)

    def flush(self) -> None:
        """Write it, in one piece."""
        rest = memoryview(b"".join(self.outgoing))
        self.outgoing = []
        while rest:
            self.wait()
            rest = rest[self.sock.send(rest) :]

    def recv_into(self, buffer: Any) -> int:  # noqa: ANN401 - what a reader hands over
        """Read some of it."""
        self.wait()
        return self.sock.recv_into(buffer)

    def makefile(self, _mode: str, *_: object) -> io.BufferedReader:
        """What http.client reads an answer from, now that it has asked."""
        self.flush()
        return io.BufferedReader(Incoming(self))

    def is_quiet(self) -> bool:
        """Whether the other side neither closed it nor said something unasked."""
        return not self.poll.poll(0)

    def close(self) -> None:
        """Nothing yet: http.client says so before it has read the answer."""

    def end(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self.sock.close()


class Incoming(io.RawIOBase):
    """The reading side of a socket."""

    def __init__(self, sock: TimedSocket) -> None:
        self.sock = sock

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - io's own
        """Read some of it."""
        return self.sock.recv_into(buffer)


@dataclass
class Connection:
    """A connection to a place, and how old it is."""

    target: Target
    client: http.client.HTTPConnection
    sock: TimedSocket
    born: float
    used: float

    def is_fresh(self, now: float) -> bool:
        """Whether it may carry another message."""
        return (
            now - self.used < MOST_REST
            and now - self.born < MOST_LIFE
            and self.sock.is_quiet()
        )


@dataclass
class HttpSender:
    """Sends by HTTPS to wherever the rules allow; threads may share it."""

    rules: Rules = field(default_factory=Rules)
    ca: str | None = None  # a file of authorities besides those that everybody trusts
    patience: Patience = field(default_factory=Patience)
    resolve: Resolve = addresses.resolve
    kept: dict[tuple[str, str, int], list[Connection]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def context(self) -> ssl.SSLContext:
        """What it takes to trust a receiver; to read it takes longer than to send a message."""
        return trusting(self.ca)

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The receiver's answer; DeliveryError where there is none."""
        target = Target.parse(url)
        self.rules.check_target(target)
        until = time.monotonic() + self.patience.total
        with translated(target):
            connection = self.connected(target, until=until)
            try:
                answer = ask(connection, target, body=body, headers=headers)
            except BaseException:
                connection.sock.end()
                raise
        self.keep(connection)
        return answer

    def connected(self, target: Target, *, until: float) -> Connection:
        """A connection to the target: one that is kept, or a new one."""
        place = (target.scheme, target.host, target.port)
        while True:
            with self.lock:
                waiting = self.kept.get(place)
                found = waiting.pop() if waiting else None
            if found is None:
                break
            if found.is_fresh(time.monotonic()):
                found.sock.until = until
                return found
            found.sock.end()
        return self.connect(target, until=until)

    def connect(self, target: Target, *, until: float) -> Connection:
        """A new connection to an address that was looked at."""
        sock = self.open_socket(target, until=until)
        sock.until = until
        client = http.client.HTTPConnection(target.host, target.port)
        client.default_port = addresses.PORTS[target.scheme]
        client.auto_open = 0
        client.sock = sock
        now = time.monotonic()
        return Connection(target, client, sock, born=now, used=now)

    def open_socket(self, target: Target, *, until: float) -> TimedSocket:
        """A socket to the first address that takes it; every address of the name must be allowed."""
        found = self.addresses_of(target, until=until)
        for address in found:
            self.rules.check(address, target=target)
        for last, address in zip(markers(len(found)), found, strict=True):
            try:
                return self.secured(address, target, until=until)
            except ssl.SSLError:
                raise
            except OSError:
                if last:
                    raise
        raise PassingError(f"{target.place} has no address")

    def secured(self, address: Address, target: Target, *, until: float) -> TimedSocket:
        """A socket to this very address, with the certificate of the name."""
        left = min(self.patience.connect, until - time.monotonic())
        sock = socket.create_connection((str(address), target.port), max(left, 0.001))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.scheme == "https":
                sock = self.context.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise
        return TimedSocket(sock, patience=self.patience)

    def addresses_of(self, target: Target, *, until: float) -> list[Address]:
        """All addresses of a host, asked for once."""
        literal = addresses.as_literal(target.host)
        if literal is not None:
            return [literal]
        left = min(self.patience.connect, until - time.monotonic())
        found = resolved(self.resolve, target, within=left)
        return [addresses.parse_address(each) for each in found[:MOST_ADDRESSES]]

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next message, if its answer came to an end."""
        if connection.client.sock is None:
            connection.sock.end()
            return
        connection.used = time.monotonic()
        target = connection.target
        with self.lock:
            if sum(map(len, self.kept.values())) < MOST_KEPT:
                place = (target.scheme, target.host, target.port)
                self.kept.setdefault(place, []).append(connection)
                return
        connection.sock.end()

    def close(self) -> None:
        """Close what is kept."""
        with self.lock:
            kept, self.kept = self.kept, {}
        for connections in kept.values():
            for each in connections:
                each.sock.end()


def trusting(ca: str | None) -> ssl.SSLContext:
    """TLS with the authorities that everybody trusts, and with those of a file."""
    import certifi  # noqa: PLC0415 - who sends nothing needs none

    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        context.load_verify_locations(ca)
    return context


def markers(length: int) -> Iterator[bool]:
    """Whether each of so many is the last."""
    return (number == length - 1 for number in range(length))


def resolved(resolve: Resolve, target: Target, *, within: float) -> list[str]:
    """What a resolver knows of a host; PassingError when it takes too long or knows nothing."""
    found: list[str] = []

    def look() -> None:
        # A name without an address, or one that cannot be one: the same to us.
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(resolve(target.host, target.port))

    # The system's resolver takes no time-out.
    thread = threading.Thread(target=look, daemon=True, name="resolve")
    thread.start()
    thread.join(max(within, 0.001))
    if not found:
        raise PassingError(f"{target.place} has no address")
    return found


def ask(
    connection: Connection,
    target: Target,
    *,
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    """Send a request, and read its answer."""
    said = {"User-Agent": "rat", "Accept": "*/*"} | safe(headers)
    connection.client.request("POST", target.path, body=body, headers=said)
    response = connection.client.getresponse()
    content = response.read(MOST_ANSWER)
    if not response.isclosed() or response.will_close:
        # There is more, which nobody reads.
        connection.client.sock = None
    return Answer(
        response.status,
        content,
        retry_after=response.getheader("Retry-After"),
        location=response.getheader("Location"),
    )


def safe(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers but for those that are ours or a proxy's to say."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() not in UNSAFE and not name.lower().startswith("proxy-")
    }


@contextlib.contextmanager
def translated(target: Target) -> Iterator[None]:
    """What goes wrong between us and a receiver, as whether it is worth another try."""
    try:
        yield
    except DeliveryError:
        raise
    except ssl.SSLCertVerificationError as error:
        why = f"{target.place} cannot be trusted: {error.verify_message}"
        raise PassingError(why) from None
    except TimeoutError:
        raise PassingError(f"{target.place} does not answer in time") from None
    except ssl.SSLError:
        raise PassingError(f"{target.place} does not speak TLS as it should") from None
    except (http.client.HTTPException, ValueError) as error:
        why = f"{target.place} does not speak HTTP: {type(error).__name__}"
        raise PassingError(why) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise PassingError(f"{target.place} cannot be reached: {why}") from None


def judge(answer: Answer, *, target: str, now: datetime | None = None) -> Answer:
    """The answer when it is a good one; else what may become of the message."""
    status = answer.status
    if status in OK:
        return answer
    place = Target.parse(target).place
    why = f"{place} answers {status}"
    if status in REDIRECTS:
        error = RefusedError if status in GONE else PassingError
        raise error(f"{why}, a redirect, and none is followed")
    if status == TOO_LARGE:
        raise TooLargeError(f"{why}: the message is too large")
    if status in CLIENT_ERRORS and status not in PASSING:
        raise RefusedError(why)
    raise PassingError(
        why, retry_after=wait_of(answer.retry_after, now=now or datetime.now(UTC))
    )


def wait_of(said: str | None, *, now: datetime) -> float:
    """How long a receiver wants to be left alone, within reason."""
    return min(parse_retry_after(said, now=now), LONGEST_WAIT)
