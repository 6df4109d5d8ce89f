"""Addresses: where a message may be sent, and where never.

Whoever defines an alert writes a URL, and RAT stands inside a network that they may not reach. So a
URL has one plain form, and every address that its name resolves to is looked at when connecting.
"""

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self

from rat_resources.alerts.receipts import RefusedError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

LONGEST = 2_048
HIGHEST_PORT = 65_535
PORTS = {"https": 443, "http": 80}
URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*|\?[!-~]*)?",
    re.IGNORECASE,
)
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A name whose last part is a number is an address to some, and to others another one.
NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")


class AddressError(RefusedError):
    """Nothing is sent there."""


@dataclass(frozen=True)
class Target:
    """Whom a URL speaks to, and what it asks for."""

    scheme: str
    host: str  # in lower case; an IPv6 address without its brackets
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The target of a URL in its one plain form; AddressError for every other."""
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise AddressError("the URL holds a user or a password; leave them out")
        match = URL.fullmatch(url) if len(url) <= LONGEST else None
        if match is None or "\\" in url or "#" in url:
            raise AddressError(
                "the URL is not plain: write https://host/path in ASCII (a name as xn--…)"
            )
        scheme = match["scheme"].lower()
        port = int(match["port"] or PORTS[scheme])
        if not 0 < port <= HIGHEST_PORT:
            raise AddressError(f"the URL names port {port}, and there is none")
        path = match["path"] or "/"
        path = path if path.startswith("/") else f"/{path}"
        return cls(scheme, plain_host(match["host"]), port, path)

    @property
    def place(self) -> str:
        """The host and the port, as an error names them: a path may be a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def plain_host(written: str) -> str:
    """A host as it is compared and connected to."""
    host = written.lower()
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1]))
        except ValueError:
            raise AddressError(f"{written} is no address") from None
    labels = host.split(".")
    if NUMERIC.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise AddressError(
                f"{written} is no address in its plain form, a.b.c.d"
            ) from None
    if not all(map(LABEL.fullmatch, labels)):
        raise AddressError(f"{written} is no name of a host")
    return host


# Never, whoever allows it: what a cloud tells its machines, and what is no host.
NEVER = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fe80::/10",
        "fd00:ec2::/32",
        "fd20:ce::/64",
        "ff00::/8",
    )
)
PRIVATE = tuple(
    ip_network(each)
    for each in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "fc00::/7",
        "fec0::/10",
    )
)
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
# What carries an address of the other kind in itself, and leads who knows where.
CARRIERS = tuple(
    ip_network(each)
    for each in (
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
    )
)
GLOBAL_V6 = ip_network("2000::/3")


@dataclass(frozen=True)
class Rules:
    """What an operator allows besides the addresses of the internet."""

    loopback: bool = False  # for tests and trials: and there plain http, too
    hosts: frozenset[str] = frozenset()  # receivers inside the company, by name

    @classmethod
    def of(cls, *, loopback: bool, hosts: Iterable[str]) -> Self:
        """The rules that settings describe."""
        return cls(loopback, frozenset(each.lower() for each in hosts))

    def check_target(self, target: Target) -> None:
        """AddressError for what is no https, unless that may be."""
        if target.scheme != "https" and not self.loopback:
            raise AddressError("the URL is not https")

    def check(self, address: Address, *, target: Target) -> None:
        """AddressError for an address that nothing is sent to."""
        if why := self.why_not(address, host=target.host):
            raise AddressError(f"{target.place} is {why}, where nothing is sent")
        if target.scheme != "https" and not is_in(address, LOOPBACK):
            raise AddressError("the URL is not https")

    def why_not(self, address: Address, *, host: str) -> str:
        """What is wrong with an address; empty when nothing is."""
        if isinstance(address, IPv6Address) and address.scope_id:
            return "an address of one machine's network"
        if is_in(address, NEVER):
            return "an address that no receiver has"
        if is_in(address, LOOPBACK):
            allowed = self.loopback or host in self.hosts
            return "" if allowed else "this very machine"
        if is_in(address, CARRIERS):
            return "an address within an address"
        if is_in(address, PRIVATE) or not is_public(address):
            return "" if host in self.hosts else "an address of a private network"
        return ""


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of the networks has the address."""
    return any(address in network for network in networks)


def is_public(address: Address) -> bool:
    """Whether the internet has the address."""
    if isinstance(address, IPv6Address) and address not in GLOBAL_V6:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def parse_address(text: str) -> Address:
    """An address as a resolver gives it."""
    return ip_address(text)


def as_literal(host: str) -> Address | None:
    """The address that a host is written as; None when it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
