"""Pages: what a partner's API answers, asked again where that may help.

A connection that fails, a time-out, 429 and the passing errors of servers are asked again, later each
time and never before the partner wants it; every other answer that is no page is a PartnerError at
once. The token goes to the partner's own address only.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests import PreparedRequest, Response, Session

from rat_resources.errors import PartnerError
from rat_resources.external_runs.masking import mask_text, shorten
from rat_resources.external_runs.partners import Partner
from rat_resources.metadata.base import Json
from rat_resources.retry_after import parse_retry_after

PASSING = frozenset({429, 500, 502, 503, 504})
MOST_BYTES = 32 << 20
MOST_REDIRECTS = 5
LONGEST_WAIT = 300.0
# A server that drips a byte at a time never runs into a time-out.
PATIENCE = 10
CHUNK = 1 << 16

Wait = Callable[[float], None]


class UnreachableError(PartnerError):
    """The partner's API does not answer, however often it is asked."""


class PassingError(Exception):
    """The same request may succeed later."""

    def __init__(self, why: str, *, retry_after: float = 0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Page:
    """Some runs of a pipeline as their source tells them, and where there are more."""

    runs: list[Json]
    next_cursor: str | None


@dataclass(frozen=True)
class Api:
    """A partner's API, and how to wait for it."""

    partner: Partner
    session: Session
    wait: Wait = time.sleep
    jitter: Callable[[], float] = random.random

    def pages(self, external_id: str, *, most_pages: int) -> Iterator[Page]:
        """The runs of a pipeline, page by page until there is no more."""
        url = self.partner.runs_url(external_id)
        cursor: str | None = None
        seen = set()
        for _ in range(most_pages):
            page = self.fetch(url, cursor=cursor)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            if cursor in seen:
                message = f"{url} gives one cursor twice, and so would never end"
                raise PartnerError(message)
            seen.add(cursor)
        message = f"{url} has more than {most_pages} pages"
        raise PartnerError(message, fix="allow more in most_pages of the job's config")

    def fetch(self, url: str, *, cursor: str | None) -> Page:
        """One page; asked for as often as the partner's settings allow."""
        for attempt in range(self.partner.retries + 1):
            try:
                return read_page(self.ask(url, cursor=cursor), url=url)
            except PassingError as error:
                why, after = str(error), error.retry_after
            if attempt < self.partner.retries:
                self.wait(self.delay(attempt, retry_after=after))
        message = f"{url} {why}, asked {self.partner.retries + 1} times"
        raise UnreachableError(message)

    def delay(self, attempt: int, *, retry_after: float) -> float:
        """How long to wait after a failed attempt, the first one being 0."""
        backoff = self.partner.backoff
        grown = backoff * (1 << attempt) + self.jitter() * backoff
        return min(max(grown, retry_after), LONGEST_WAIT)

    def ask(self, url: str, *, cursor: str | None) -> "Answer":
        """What the API answers, wherever on its own host it sends us."""
        params = {} if cursor is None else {"cursor": cursor}
        here = url
        for _ in range(MOST_REDIRECTS):
            with self.get(here, params=params) as response:
                if not response.is_redirect:
                    return self.judge(response, url=url)
                here = urljoin(response.url, response.headers["Location"])
            if origin(here) != origin(url):
                message = f"{url} redirects to another host, {urlsplit(here).hostname}"
                raise PartnerError(
                    message, fix="name that one as base_url if it is right"
                )
            params = {}
        message = f"{url} redirects more than {MOST_REDIRECTS} times"
        raise PartnerError(message)

    def get(self, url: str, *, params: dict[str, str]) -> Response:
        """The beginning of an answer; its body has yet to be read."""
        try:
            return self.session.get(
                url,
                params=params,
                auth=self.authorize,
                timeout=self.partner.timeout,
                headers={"Accept": "application/json", "User-Agent": "rat"},
                allow_redirects=False,
                stream=True,
            )
        except requests.exceptions.SSLError as error:
            raise self.refusal(f"{url} cannot be trusted: {error}") from None
        except requests.ConnectionError:
            raise PassingError("cannot be reached") from None
        except requests.Timeout:
            raise PassingError("does not answer in time") from None
        except requests.RequestException as error:
            raise self.refusal(f"{url} cannot be asked: {error}") from None

    def authorize(self, request: PreparedRequest) -> PreparedRequest:
        """The request with the token, and with nothing that a .netrc would say instead."""
        if self.partner.token is not None:
            request.headers["Authorization"] = f"Bearer {self.partner.token}"
        return request

    def judge(self, response: Response, *, url: str) -> "Answer":
        """The answer, when it is one."""
        if response.status_code in PASSING:
            after = parse_retry_after(
                response.headers.get("Retry-After"), now=datetime.now(UTC)
            )
            why = f"answers {response.status_code}"
            raise PassingError(why, retry_after=after)
        body = self.read(response, url=url)
        if response.status_code != requests.codes.ok:
            said = " ".join(body[:2000].decode(errors="replace").split())
            said = f": {shorten(said, most=200)}" if said else ""
            raise self.refusal(f"{url} answers {response.status_code}{said}")
        headers = response.headers
        return Answer(
            body,
            content_type=headers.get("Content-Type", "no content type"),
            is_whole="Content-Length" in headers or "Transfer-Encoding" in headers,
        )

    def read(self, response: Response, *, url: str) -> bytes:
        """The body of a response, within bounds of size and time."""
        until = time.monotonic() + PATIENCE * self.partner.timeout
        body = bytearray()
        try:
            while chunk := response.raw.read1(CHUNK, decode_content=True):
                body += chunk
                if len(body) > MOST_BYTES:
                    message = f"{url} answers with more than {MOST_BYTES >> 20} MB"
                    raise PartnerError(message, fix="let it make smaller pages")
                if time.monotonic() > until:
                    raise PassingError("does not come to an end in time")
        except urllib3.exceptions.DecodeError:
            message = f"{url} answers with a compression that cannot be read"
            raise PartnerError(message) from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise PassingError("stops in the middle of an answer") from None
        return bytes(body)

    def refusal(self, message: str) -> PartnerError:
        """A PartnerError that tells no secret, whatever it quotes."""
        return PartnerError(mask_text(message, secrets=self.partner.secrets))


@dataclass(frozen=True)
class Answer:
    """The body of an answer of status 200."""

    body: bytes
    content_type: str
    is_whole: bool  # its end was marked; else it may have been cut anywhere


def read_page(answer: Answer, *, url: str) -> Page:
    """The page that an answer holds; PartnerError when it holds none."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        if not answer.is_whole:
            raise PassingError("stops in the middle of an answer") from None
        message = f"{url} answers with {answer.content_type} that is no JSON"
        raise PartnerError(message) from None
    if not isinstance(document, dict):
        message = f"{url} answers with JSON that is no object"
        raise PartnerError(message)
    runs = document.get("runs")
    if not isinstance(runs, list | None):
        message = f"{url} answers with `runs` that is no list"
        raise PartnerError(message)
    return Page(runs or [], read_cursor(document.get("next_cursor"), url=url))


def read_cursor(value: Json, *, url: str) -> str | None:
    """Where there are more runs; None at the end."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        message = f"{url} answers with `next_cursor` that is no text"
        raise PartnerError(message)
    return str(value)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Whom a URL speaks to."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return parts.scheme, None, None
    return (
        parts.scheme,
        parts.hostname,
        port or {"http": 80, "https": 443}.get(parts.scheme),
    )
