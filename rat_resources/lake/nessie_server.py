"""A Nessie server over HTTP: one session, who we are, time-outs, and what its errors mean.

What is asked of it is `nessie_refs`. Only what changes nothing is asked twice: `get` waits for a
server that is gone for a moment; `send` repeats what surely did not arrive, and of an answer that
was lost says so.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NoReturn

import confuse
import requests
from pynessie.auth import setup_auth
from pynessie.conf import build_config
from pynessie.error import (
    NessieException,
    NessiePermissionException,
    NessieServerException,
    NessieUnauthorizedException,
    _create_exception,
)
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import MaxRetryError, NewConnectionError

from rat_resources.errors import CatalogError, LostAnswerError
from rat_resources.lake.nessie_login import ClientCredentials
from rat_resources.nessie_settings import UNCHECKED, NessieSettings

Json = Any

API = 2
CONNECTIONS = 32
CONNECT_TIMEOUT = 5.0  # seconds
RESTART = 6.0  # seconds; longer than that, whoever types a command wants to know
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)  # seconds; the last one again and again
PAGE = 500


class UnreachableError(CatalogError):
    """The request did not arrive."""


class NessieServer:
    """REST API v2 of one server."""

    def __init__(self, settings: NessieSettings) -> None:
        self.settings = settings
        self.base = f"{settings.url}/api/v{API}/"
        self.timeout = (min(CONNECT_TIMEOUT, settings.timeout), settings.timeout)
        self.session = open_session(settings)

    def check(self) -> Json:
        """The server's own configuration; CatalogError if it is none, or speaks another version."""
        try:
            found = self._read(lambda: self._ask("GET", "config"), patience=RESTART)
        except NessieException as error:
            raise self._not_nessie(f"answers {error.status_code}") from error
        if not isinstance(found, dict) or "maxSupportedApiVersion" not in found:
            raise self._not_nessie("answers, and not as Nessie does")
        if found["maxSupportedApiVersion"] < API or "noAncestorHash" not in found:
            message = f"the server at {self.settings.url} does not speak Nessie's REST API v{API}"
            raise CatalogError(message, fix="use Nessie 0.99 or newer")
        return found

    def _not_nessie(self, what: str) -> CatalogError:
        message = f"what is at {self.settings.url} is no Nessie server: it {what}"
        fix = "set RAT_NESSIE_URL to the server's address, as http://host:19120"
        return CatalogError(message, fix=fix)

    def get(self, path: str, **params: Any) -> Json:  # noqa: ANN401 - JSON
        """What is at *path*; a server that is gone is waited for, as long as its time-out."""
        return self._read(lambda: self._ask("GET", path, params=params))

    def find(self, path: str, body: Json) -> Json:
        """What a question that needs a body finds; it changes nothing, so it may be asked again."""
        return self._read(lambda: self._ask("POST", path, body=body))

    def send(
        self,
        method: str,
        path: str,
        body: Json = None,
        **params: Any,  # noqa: ANN401 - JSON
    ) -> Json:
        """Let the server change something, once; LostAnswerError if nobody knows whether it did."""
        return self._repeat(
            lambda: self._ask(method, path, params=params, body=body),
            during=UnreachableError,
        )

    def pages(self, path: str, items: str, **params: Any) -> Iterator[Json]:  # noqa: ANN401 - JSON
        """Every one of *items*, page by page."""
        token = None
        while True:
            page = self.get(
                path, **{"max-records": PAGE, **params, "page-token": token}
            )
            yield from page[items]
            if not page["hasMore"]:
                return
            token = page["token"]

    def _read(self, ask: Callable[[], Json], *, patience: float | None = None) -> Json:
        gone = (UnreachableError, LostAnswerError)
        try:
            return self._repeat(ask, during=gone, patience=patience)
        except LostAnswerError as error:
            # Nothing was to be done, so nothing is unknown.
            raise CatalogError(error.message, fix=error.fix) from error

    def _repeat(
        self,
        ask: Callable[[], Json],
        *,
        during: type[Exception] | tuple[type[Exception], ...],
        patience: float | None = None,
    ) -> Json:
        """What *ask* returns, asked again while the server is gone; *patience* as its time-out."""
        allowed = self.settings.timeout
        end = time.monotonic() + min(patience or allowed, allowed)
        pauses = iter(PAUSES)
        while True:
            try:
                return ask()
            except during:
                pause = next(pauses, PAUSES[-1])
                if time.monotonic() + pause > end:
                    raise
                time.sleep(pause)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Json = None,
    ) -> Json:
        url = self.base + path
        answer = self._request(method, url, params=params, json=body)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and isinstance(
            self.session.auth, ClientCredentials
        ):
            # Tokens can be revoked before their time; the login has forgotten this one.
            answer = self._request(method, url, params=params, json=body)
        if not answer.ok:
            self._raise_refused(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise self._not_nessie("answers, and not as Nessie does") from error

    def _request(self, method: str, url: str, **what: Json) -> requests.Response:
        try:
            # What a session trusts, REQUESTS_CA_BUNDLE would overrule; not what a request says.
            return self.session.request(
                method, url, timeout=self.timeout, verify=self.session.verify, **what
            )
        except requests.exceptions.RequestException as error:
            self._raise_unanswered(error)

    def _raise_unanswered(
        self, error: requests.exceptions.RequestException
    ) -> NoReturn:
        where = self.settings.url
        if isinstance(error, requests.exceptions.SSLError):
            message = f"the certificate of the Nessie server at {where} is not trusted: {reason(error)}"
            raise CatalogError(
                message, fix="set RAT_NESSIE_CA to the file of its authority"
            ) from error
        message = f"the Nessie server at {where} does not answer: {reason(error)}"
        if never_arrived(error):
            fix = "start it, or set RAT_NESSIE_URL to where it is"
            raise UnreachableError(message, fix=fix) from error
        raise LostAnswerError(
            message, fix="look at its log, or set RAT_NESSIE_TIMEOUT higher"
        ) from error

    def _raise_refused(self, answer: requests.Response) -> NoReturn:
        error = as_pynessie(answer)
        where = self.settings.url
        if isinstance(error, NessieUnauthorizedException):
            message = f"the Nessie server at {where} does not accept who we say we are"
            raise CatalogError(message, fix=self._login_fix()) from error
        if isinstance(error, NessiePermissionException):
            asked = f"{answer.request.method} {answer.request.path_url}"
            message = f"the Nessie server at {where} forbids {asked}"
            fix = "grant the user of RAT all rights on its branches"
            raise CatalogError(message, fix=fix) from error
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise UnreachableError(
                f"the Nessie server at {where} is too busy"
            ) from error
        if isinstance(error, NessieServerException):
            message = f"the Nessie server at {where} failed: {error.server_message}"
            raise LostAnswerError(message, fix="look at its log") from error
        raise error

    def _login_fix(self) -> str:
        if self.settings.token_url:
            return "look at RAT_NESSIE_USER, RAT_NESSIE_PASSWORD and RAT_NESSIE_SCOPE"
        if self.settings.token:
            return "RAT_NESSIE_TOKEN may be wrong or expired"
        if self.settings.user:
            return "look at RAT_NESSIE_USER and RAT_NESSIE_PASSWORD"
        return "set RAT_NESSIE_TOKEN, or RAT_NESSIE_USER and RAT_NESSIE_PASSWORD"


def open_session(settings: NessieSettings) -> requests.Session:
    """A session that keeps its connections, knows who we are and whom we trust."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=CONNECTIONS)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    # Only then does a conflict say which keys it is about.
    session.headers["Nessie-Client-Spec"] = str(API)
    session.headers["Accept"] = "application/json"
    configuration = configure(settings)
    session.verify = trusted(settings, configuration)
    session.cert = settings.certificate
    session.auth = login(settings, configuration, verify=session.verify)
    return session


def configure(settings: NessieSettings) -> confuse.Configuration:
    """pynessie's configuration, overruled by what our settings say."""
    said = {
        "endpoint": f"{settings.url}/api/v1",
        "auth.timeout": settings.timeout,
    }
    if settings.token:
        said |= {"auth.type": "bearer", "auth.token": settings.token}
    elif settings.user:
        said |= {
            "auth.type": "basic",
            "auth.username": settings.user,
            "auth.password": settings.password or "",
        }
    try:
        return build_config(said)
    except OSError:
        # It makes a folder under HOME, which may be read-only.
        configuration = confuse.Configuration("nessie", "pynessie.conf", read=False)
        configuration.read(user=False)
        configuration.set_args(said, dots=True)
        return configuration


def trusted(
    settings: NessieSettings, configuration: confuse.Configuration
) -> bool | str:
    """What the server's certificate is checked against."""
    if settings.ca == UNCHECKED:
        return False
    return settings.ca or bool(configuration["verify"].get())


def login(
    settings: NessieSettings,
    configuration: confuse.Configuration,
    *,
    verify: bool | str,
) -> AuthBase | None:
    """What says of each request who we are."""
    if settings.token_url:
        return ClientCredentials(settings, verify=verify)
    found: AuthBase | None = setup_auth(configuration)
    return found


def as_pynessie(answer: requests.Response) -> NessieException:
    """The error that pynessie makes of an answer; `details` are the conflicts that it tells."""
    try:
        said = answer.json()
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    error: NessieException = _create_exception(
        said, answer.status_code, answer.reason, answer.url
    )
    details = said.get("errorDetails") or {}
    error.conflicts = details.get("conflicts") or []
    return error


def never_arrived(error: requests.exceptions.RequestException) -> bool:
    """Whether there was not even a connection."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(
        cause.reason, NewConnectionError
    )


def reason(error: requests.exceptions.RequestException) -> str:
    """Why there was no answer, without the address that everybody knows."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or cause)
    return text.rpartition(": ")[2] or text
