import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests

from rat_resources.errors import PartnerError
from rat_resources.external_runs import pages
from rat_resources.external_runs.pages import Api, UnreachableError
from rat_resources.external_runs.partners import Partner
from rat_resources.retry_after import parse_retry_after
from tests.rat_resources.external_runs.partner_server import (
    PartnerServer,
    Reply,
    page,
    serve,
)

TOKEN = "t0p-s3cr3t-t0k3n"  # noqa: S105 - nobody's
NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[PartnerServer]:
    """A partner's API."""
    with serve() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """How long was waited, each time."""
    return []


@pytest.fixture
def api(server: PartnerServer, waits: list[float]) -> Iterator[Api]:
    """The API as RAT asks it; nobody really waits."""
    partner = Partner("acme", server.url, token=TOKEN, timeout=2)
    with requests.Session() as session:
        yield Api(partner, session, wait=waits.append, jitter=lambda: 0.5)


def ids(api: Api, *, external_id: str = "orders", most_pages: int = 10) -> list[str]:
    """The ids of all runs of a pipeline."""
    found = api.pages(external_id, most_pages=most_pages)
    return [run["id"] for each in found for run in each.runs]


def run(name: str) -> dict[str, str]:
    return {"id": name, "status": "success"}


def test_pages_follow_each_other_until_there_is_no_cursor(
    server: PartnerServer, api: Api
) -> None:
    server.replies = [page([run("a")], "p 2"), page(None, 3), page([run("b")], "")]

    found = ids(api, external_id="a b/c?d")

    assert found == ["a", "b"]
    assert server.paths == [
        "/v1/pipelines/a%20b%2Fc%3Fd/runs",
        "/v1/pipelines/a%20b%2Fc%3Fd/runs?cursor=p+2",
        "/v1/pipelines/a%20b%2Fc%3Fd/runs?cursor=3",
    ]
    assert {each["Authorization"] for each in server.headers} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_error_is_asked_again_and_later_each_time(
    server: PartnerServer, api: Api, waits: list[float], status: int
) -> None:
    server.replies = [*[Reply(b"sorry", status=status)] * 3, page([run("a")])]

    found = ids(api)

    assert found == ["a"]
    assert waits == [1.5, 2.5, 4.5]


def test_after_the_last_attempt_it_is_given_up(
    server: PartnerServer, api: Api, waits: list[float]
) -> None:
    server.replies = [Reply(status=503)] * 9

    with pytest.raises(UnreachableError, match="answers 503, asked 4 times"):
        ids(api)

    assert len(server.paths) == 4
    assert len(waits) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 501])
def test_every_other_error_fails_at_once(
    server: PartnerServer, api: Api, waits: list[float], status: int
) -> None:
    server.replies = [Reply(f"no {TOKEN} here".encode(), status=status)]

    with pytest.raises(PartnerError, match=f"answers {status}: no \\*\\*\\* here"):
        ids(api)

    assert len(server.paths) == 1
    assert waits == []


def test_a_partner_says_how_long_to_wait(
    server: PartnerServer, api: Api, waits: list[float]
) -> None:
    server.replies = [
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=429, headers={"Retry-After": "1"}),
        Reply(status=503, headers={"Retry-After": "86400"}),
        page([]),
    ]

    ids(api)

    assert waits == [7, 2.5, pages.LONGEST_WAIT]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("12", 12),
        ("-3", 0),
        ("soon", 0),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), 0),
        ("Sun, 01 Mar 2026 10:00:30 -0000", 30),
        ("99999999999999999999, 99 Foo", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "reply",
    [
        Reply(silent=True),
        Reply(b'{"runs": [{"id": "a"', length=5000),
        Reply(b'{"runs": [{"id": "a"', unmarked=True),
        Reply(b"5\r\nabc", headers={"Transfer-Encoding": "chunked"}, unmarked=True),
    ],
    ids=["nothing", "half a page", "half an unmarked page", "half a chunk"],
)
def test_a_connection_that_breaks_is_asked_again(
    server: PartnerServer, api: Api, waits: list[float], reply: Reply
) -> None:
    server.replies = [reply, page([run("b")])]

    found = ids(api)

    assert found == ["b"]
    assert waits == [1.5]


def test_a_server_that_is_not_there_is_out_of_reach(waits: list[float]) -> None:
    with serve() as gone:
        partner = Partner("acme", gone.url, token=TOKEN, retries=1)
    with requests.Session() as session:
        api = Api(partner, session, wait=waits.append)

        with pytest.raises(UnreachableError, match="cannot be reached, asked 2 times"):
            ids(api)

    assert len(waits) == 1


def test_a_server_that_is_silent_for_too_long_is_asked_again(
    server: PartnerServer, api: Api, waits: list[float]
) -> None:
    server.replies = [Reply(b"{", length=100), page([run("a")])]
    hasty = replace(api, partner=replace(api.partner, timeout=0.1))

    assert ids(hasty) == ["a"]
    assert waits == [1.5]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(b"<html>", headers={"Content-Type": "text/html"}), "text/html that is"),
        (Reply(b"", status=200), "no JSON"),
        (Reply(b"\xff\xfe\x00", status=200), "no JSON"),
        (Reply(b"[" * 100_000), "no JSON"),
        (Reply(b"[1]"), "no object"),
        (Reply(b"null"), "no object"),
        (Reply(b"", status=204), "answers 204"),
        (Reply(b"", status=304), "answers 304"),
        (page({"id": "a"}), "`runs` that is no list"),
        (page("many"), "`runs` that is no list"),
        (page([], {"a": 1}), "`next_cursor` that is no text"),
        (page([], cursor=True), "`next_cursor` that is no text"),
        (Reply(b"x" * 50, headers={"Content-Encoding": "gzip"}), "compression"),
    ],
)
def test_an_answer_that_is_no_page_is_an_error_at_once(
    server: PartnerServer, api: Api, waits: list[float], reply: Reply, why: str
) -> None:
    server.replies = [reply]

    with pytest.raises(PartnerError, match=why):
        ids(api)

    assert waits == []


def test_a_compressed_page_is_read(server: PartnerServer, api: Api) -> None:
    body = gzip.compress(json.dumps({"runs": [run("a")]}).encode())
    server.replies = [Reply(body, headers={"Content-Encoding": "gzip"})]

    assert ids(api) == ["a"]


def test_a_page_without_end_is_not_read_to_its_end(
    server: PartnerServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_BYTES", 1 << 20)
    bomb = gzip.compress(b" " * (64 << 20))
    server.replies = [Reply(bomb, headers={"Content-Encoding": "gzip"})]

    with pytest.raises(PartnerError, match="more than 1 MB"):
        ids(api)


def test_a_cursor_that_comes_back_ends_it(server: PartnerServer, api: Api) -> None:
    server.replies = [page([run("a")], "x"), page([run("b")], "y"), page([], "x")]

    with pytest.raises(PartnerError, match="one cursor twice"):
        ids(api)


def test_pages_without_end_come_to_one(server: PartnerServer, api: Api) -> None:
    server.replies = [page([run("a")], n) for n in range(100)]

    with pytest.raises(PartnerError, match="more than 5 pages"):
        ids(api, most_pages=5)

    assert len(server.paths) == 5


def test_a_redirect_is_followed_on_the_same_host_only(
    server: PartnerServer, api: Api
) -> None:
    with serve() as other:
        server.replies = [
            Reply(status=307, headers={"Location": "/v1/elsewhere?cursor=x"}),
            page([run("a")], "2"),
            Reply(status=302, headers={"Location": f"{other.url}/runs?key=1"}),
        ]

        with pytest.raises(
            PartnerError, match="redirects to another host, 127"
        ) as error:
            ids(api)

    assert other.paths == []
    assert server.paths[1] == "/v1/elsewhere?cursor=x"
    assert TOKEN not in str(error.value)


def test_redirects_in_a_circle_come_to_an_end(server: PartnerServer, api: Api) -> None:
    server.replies = [Reply(status=301, headers={"Location": "/v1/a"})] * 99

    with pytest.raises(PartnerError, match="redirects more than"):
        ids(api)

    assert len(server.paths) == pages.MOST_REDIRECTS


def test_a_netrc_of_the_machine_is_not_sent_instead(
    server: PartnerServer, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w") as file:  # noqa: PTH123 - a path as the environment holds it
        file.write("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", netrc)
    server.replies = [page([])]

    ids(api)

    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_an_id_that_is_a_folder_in_a_path_is_refused(api: Api) -> None:
    with pytest.raises(PartnerError, match="no address can name"):
        ids(api, external_id="..")
