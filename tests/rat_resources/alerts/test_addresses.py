"""What nothing is ever sent to, however it is written, named or led to."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from ipaddress import ip_address

import pytest

from rat_resources.alerts.addresses import AddressError, Rules, Target, resolve
from rat_resources.alerts.http_sender import HttpSender, Patience, judge
from rat_resources.alerts.receipts import DeliveryError, RefusedError
from tests.rat_resources.alerts.receiver import Reply, receiving

# What the names of the corpus resolve to.
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "inside.example": ["10.0.0.5"],
    "loop.example": ["127.0.0.1"],
    "two.example": ["93.184.216.34", "127.0.0.1"],
    "six.example": ["2606:2800:220:1::1", "::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "ula.example": ["fd12:3456::1"],
    "carrier.example": ["100.64.0.1"],
    "zero.example": ["0.0.0.0"],  # noqa: S104 - nobody binds to it
    "multi.example": ["224.0.0.1"],
    "scoped.example": ["fe80::1%lo"],
    "kubernetes.default.svc": ["10.96.0.1"],
}
# Where a port stands, a socket listens.
CORPUS = """
https://127.0.0.1:{port}/
https://127.0.0.1:{port}
https://127.1:{port}/
https://127.0.1:{port}/
https://127.255.255.254:{port}/
https://2130706433:{port}/
https://0x7f000001:{port}/
https://0x7f.0.0.1:{port}/
https://0x7f.0x0.0x0.0x1:{port}/
https://017700000001:{port}/
https://0177.0.0.1:{port}/
https://0177.0.0.01:{port}/
https://127.0.0.1.:{port}/
https://00127.0.0.1:{port}/
https://0:{port}/
https://0.0.0.0:{port}/
https://localhost:{port}/
https://LOCALHOST:{port}/
https://localhost.:{port}/
https://localhost..:{port}/
https://[::1]:{port}/
https://[0:0:0:0:0:0:0:1]:{port}/
https://[0000:0000:0000:0000:0000:0000:0000:0001]:{port}/
https://[::]:{port}/
https://[::127.0.0.1]:{port}/
https://[::7f00:1]:{port}/
https://[::ffff:127.0.0.1]:{port}/
https://[::ffff:7f00:1]:{port}/
https://[::ffff:0:127.0.0.1]:{port}/
https://[64:ff9b::127.0.0.1]:{port}/
https://[64:ff9b:1::7f00:1]:{port}/
https://[2002:7f00:1::]:{port}/
https://[2001:0:4136:e378:8000:63bf:80ff:fffe]:{port}/
https://[fe80::1]:{port}/
https://[fe80::1%25lo]:{port}/
https://[::1%25lo]:{port}/
https://[fc00::1]:{port}/
https://[fd00:ec2::254]/latest/meta-data/
https://[fec0::1]:{port}/
https://[ff02::1]:{port}/
https://[2001:db8::1]:{port}/
https://[::1:{port}/
https://169.254.169.254/latest/meta-data/
https://2852039166/latest/meta-data/
https://0xa9fea9fe/latest/meta-data/
https://[::ffff:169.254.169.254]/latest/meta-data/
https://metadata.google.internal/computeMetadata/v1/
https://100.100.100.200/latest/meta-data/
https://168.63.129.16/machine
https://192.0.0.192/opc/v1/
https://10.0.0.1:{port}/
https://172.16.0.1:{port}/
https://192.168.0.1:{port}/
https://100.64.0.1:{port}/
https://198.18.0.1:{port}/
https://192.0.2.1:{port}/
https://224.0.0.1:{port}/
https://255.255.255.255:{port}/
https://240.0.0.1:{port}/
https://inside.example:{port}/
https://loop.example:{port}/
https://two.example:{port}/
https://six.example:{port}/
https://mapped.example:{port}/
https://ula.example:{port}/
https://carrier.example:{port}/
https://zero.example:{port}/
https://multi.example:{port}/
https://scoped.example:{port}/
https://kubernetes.default.svc:{port}/
https://example.com@127.0.0.1:{port}/
https://user:password@127.0.0.1:{port}/
https://127.0.0.1:{port}@example.com/
https://example.com:443@127.0.0.1:{port}/
https://@127.0.0.1:{port}/
https://example.com%40127.0.0.1:{port}/
https://example.com\\@127.0.0.1:{port}/
https://127.0.0.1:{port}\\@example.com/
https://example.com#@127.0.0.1:{port}/
https://127.0.0.1:{port}#@example.com/
https://127.0.0.1:{port}%2f@example.com/
https:\\\\127.0.0.1:{port}/
https:/127.0.0.1:{port}/
https:127.0.0.1:{port}/
https:///127.0.0.1:{port}/
//127.0.0.1:{port}/
http://127.0.0.1:{port}/
http://example.com:{port}/
ftp://127.0.0.1:{port}/
file:///etc/passwd
gopher://127.0.0.1:{port}/_x
javascript://127.0.0.1:{port}/
unix:///var/run/docker.sock
https://127。0。0。1:{port}/
https://127.0.0.1:{port}/
https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/
https://loc\u00adalhost:{port}/
https://\u217cocalhost:{port}/
https://%31%32%37.0.0.1:{port}/
https://127%2e0%2e0%2e1:{port}/
https://localhost%00.example.com:{port}/
https://127.0.0.1:{port}\t/
https://127.0.0.1\t:{port}/
 https://127.0.0.1:{port}/
https://loop.example:0/
https://loop.example:65536/
https://loop.example:-1/
https://loop.example:{port}abc/
https://loop.example:%34%34%33/
https://-loop.example:{port}/
https://
https://:{port}/
"""
BREAKS = [
    "https://127.0.0.1:{port}/\r\nX-Evil:%20yes",
    "https://localhost:{port}/ HTTP/1.1\r\nHost: evil\r\n\r\n",
    "https://localhost:{port}/\n",
    "https://local\u2028host:{port}/",
    "https://127.0.0.1:{port}/\0",
]
URLS = [*CORPUS.strip("\n").split("\n"), *BREAKS]


@pytest.fixture(scope="module")
def listeners() -> Iterator[list[socket.socket]]:
    """Sockets that hear whoever connects, by IPv4 and by IPv6, on one port."""
    with ExitStack() as stack:
        four = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        port = four.getsockname()[1]
        six = socket.create_server(("::1", port), family=socket.AF_INET6)
        sockets = [four, stack.enter_context(closing(six))]
        for each in sockets:
            each.settimeout(0)
        yield sockets


def heard(listeners: Sequence[socket.socket]) -> int:
    """How many connected."""
    count = 0
    for each in listeners:
        try:
            while True:
                each.accept()[0].close()
                count += 1
        except BlockingIOError:
            continue
    return count


def look_up(host: str, port: int) -> list[str]:
    """The names of the corpus."""
    return NAMES.get(host) or [host]


def test_the_corpus_is_large() -> None:
    assert len(set(URLS)) >= 60


@pytest.mark.parametrize("url", URLS)
def test_nobody_is_reached_who_must_not_be(
    url: str, listeners: list[socket.socket]
) -> None:
    sender = HttpSender(resolve=look_up)
    url = url.replace("{port}", str(listeners[0].getsockname()[1]))

    with pytest.raises(AddressError) as refusal:
        sender.post(url, body=b"{}", headers={})

    assert heard(listeners) == 0
    assert "password" not in refusal.value.why or "leave them out" in refusal.value.why


def test_the_sockets_do_hear_whoever_connects(listeners: list[socket.socket]) -> None:
    for each in listeners:
        socket.create_connection(each.getsockname()[:2]).close()

    assert heard(listeners) == 2


def test_a_name_that_changes_its_address_is_asked_once(
    listeners: list[socket.socket],
) -> None:
    asked = []
    here = str(listeners[0].getsockname()[1])

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        # Once it is looked at, it leads inside.
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    sender = HttpSender(Rules(hosts=frozenset({"trick.example"})), resolve=rebinding)
    sender.patience = Patience(connect=0.05, total=0.1)

    with pytest.raises(DeliveryError):
        sender.post(f"https://trick.example:{here}/", body=b"", headers={})

    assert asked == ["trick.example"]
    assert heard(listeners) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with receiving() as inside:
        reply = Reply(status, headers={"Location": inside.url})
        with receiving(reply) as outside:
            sender = HttpSender(Rules(loopback=True), resolve=resolve)
            answer = sender.post(outside.url, body=b"{}", headers={})
            with pytest.raises(DeliveryError, match="none is followed"):
                judge(answer, target=outside.url)
            sender.close()

        assert len(outside.requests) == 1
        assert not inside.requests


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "fe80::1", "0.0.0.0"],  # noqa: S104 - nobody binds to it
)
def test_nobody_can_allow_what_a_cloud_tells_its_machines(address: str) -> None:
    rules = Rules.of(loopback=True, hosts=["Inside.example"])
    sender = HttpSender(rules, resolve=lambda *_: [address])

    with pytest.raises(AddressError, match="no receiver has"):
        sender.post("https://inside.example/", body=b"", headers={})


def test_a_receiver_inside_the_company_may_be_allowed_by_its_name() -> None:
    rules = Rules.of(loopback=False, hosts=["Inside.example"])

    assert rules.why_not(ip_address("10.0.0.5"), host="inside.example") == ""
    assert rules.why_not(ip_address("10.0.0.5"), host="other.example") != ""


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "2a00:1450:4001::1"]
)
def test_the_internet_may_be_reached(address: str) -> None:
    assert Rules().why_not(ip_address(address), host="hooks.example") == ""


def test_a_plain_url_is_read_as_it_is() -> None:
    target = Target.parse("https://Hooks.Example:8443/a/b?c=d")

    assert target == Target("https", "hooks.example", 8443, "/a/b?c=d")
    assert target.place == "hooks.example:8443"


def test_plain_http_stays_on_loopback() -> None:
    sender = HttpSender(Rules(loopback=True), resolve=lambda *_: ["93.184.216.34"])

    with pytest.raises(RefusedError, match="not https"):
        sender.post("http://hooks.example/", body=b"", headers={})
