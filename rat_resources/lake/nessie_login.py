"""Logging in to Nessie as an OAuth2 client: a token is fetched, used, and renewed before it ends.

The other ways are pynessie's.
"""

import threading
import time
from http import HTTPStatus

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from rat_resources.errors import CatalogError
from rat_resources.nessie_settings import NessieSettings

LIFE = 300  # seconds, where the server does not say how long a token is good
MARGIN = 0.2  # of its life: nobody starts with a token that is about to end


class ClientCredentials(AuthBase):
    """The bearer token of an OAuth2 client, a new one whenever the last is about to end."""

    def __init__(self, settings: NessieSettings, *, verify: bool | str) -> None:
        self.settings = settings
        self.verify = verify
        self.lock = threading.Lock()
        self.token = ""
        self.until = 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """*request* with the token."""
        request.headers["Authorization"] = f"Bearer {self.current()}"
        request.register_hook("response", self.forget_refused)
        return request

    def current(self) -> str:
        """A token that is good for a while."""
        with self.lock:
            if time.monotonic() >= self.until:
                self.token, life = fetch_token(self.settings, verify=self.verify)
                self.until = time.monotonic() + life * (1 - MARGIN)
            return self.token

    def forget_refused(
        self, answer: requests.Response, **_: object
    ) -> requests.Response:
        """The answer; a token that was refused is not used again."""
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            with self.lock:
                self.until = 0.0
        return answer


def fetch_token(settings: NessieSettings, *, verify: bool | str) -> tuple[str, float]:
    """A new token, and for how many seconds it is good."""
    where = settings.token_url or ""
    form = {"grant_type": "client_credentials"}
    if settings.scope:
        form["scope"] = settings.scope
    try:
        answer = requests.post(
            where,
            data=form,
            auth=HTTPBasicAuth(settings.user or "", settings.password or ""),
            verify=verify,
            timeout=settings.timeout,
        )
    except requests.exceptions.RequestException as error:
        message = f"no token for Nessie: {where} does not answer"
        raise CatalogError(message, fix="look at RAT_NESSIE_TOKEN_URL") from error
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise CatalogError(f"no token for Nessie: {where} answers {answer.status_code}")
    try:
        said = answer.json()
        return str(said["access_token"]), float(said.get("expires_in") or LIFE)
    except (ValueError, KeyError, TypeError) as error:
        message = f"no token for Nessie: {where} answers {answer.status_code}"
        fix = "look at RAT_NESSIE_TOKEN_URL, RAT_NESSIE_USER, RAT_NESSIE_PASSWORD and RAT_NESSIE_SCOPE"
        raise CatalogError(message, fix=fix) from error
