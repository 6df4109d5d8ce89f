"""Partners: clients whose API tells the runs of their pipelines, and how it is asked.

The settings stand in `chm.clients.partner`; the token stands in an environment variable, whose name
is all that is kept.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

from rat_resources.errors import PartnerError
from rat_resources.external_runs.recording import Policy
from rat_resources.metadata.base import Json
from rat_resources.names import nearest

TOKEN = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
# What an HTTP header may carry: a line break would be the beginning of another one.
CARRIED = re.compile(r"[!-~]+")
BOUNDS: Mapping[str, tuple[float, float]] = {
    "timeout": (0.1, 600),
    "retries": (0, 20),
    "backoff": (0, 300),
}
SHORTEST = 3
SETTINGS = ("base_url", "token", "timeout", "retries", "backoff", "policy")


@dataclass(frozen=True)
class Partner:
    """Where a client's API is, and how patient we are with it."""

    client: str
    base_url: str
    token_name: str | None = None  # of the variable
    timeout: float = 10
    retries: int = 3
    backoff: float = 1
    policy: Policy = Policy.IGNORE
    token: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, client: str, settings: Json) -> "Partner":
        """The partner that *settings* describe; PartnerError names every field that is wrong."""
        issues = find_issues(settings)
        if issues:
            listed = "; ".join(f"{name}: {issue}" for name, issue in issues.items())
            message = f"the partner settings of client {client} are wrong: {listed}"
            raise PartnerError(message, fix="correct them with the job save_client")
        given = {key: value for key, value in settings.items() if value is not None}
        token = given.pop("token", None)
        given["base_url"] = given["base_url"].rstrip("/")
        if "policy" in given:
            given["policy"] = Policy(given["policy"])
        return cls(client, token_name=token and token.removeprefix("env:"), **given)

    def with_token(self, environ: Mapping[str, str] | None = None) -> "Partner":
        """The partner with its token out of the environment; PartnerError when it is not there."""
        if self.token_name is None:
            return self
        environ = os.environ if environ is None else environ
        token = environ.get(self.token_name, "").strip()
        if not CARRIED.fullmatch(token):
            state = "holds what no HTTP header may carry" if token else "is not set"
            message = f"{self.token_name}, the token of client {self.client}, {state}"
            raise PartnerError(message, fix="set it where Dagster runs its jobs")
        return replace(self, token=token)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be nowhere but in the request."""
        # One of three letters would black out half of what is told.
        return (self.token,) if self.token and len(self.token) > SHORTEST else ()

    def runs_url(self, external_id: str) -> str:
        """Where the runs of a pipeline are."""
        if external_id in {".", ".."}:
            # In a path they mean a folder, however they are spelled.
            message = f"no address can name the external id {external_id!r}"
            raise PartnerError(message, fix="correct it with the job save_pipeline")
        return f"{self.base_url}/pipelines/{quote(external_id, safe='')}/runs"


def find_issues(settings: Json) -> dict[str, str]:
    """What is wrong with a partner's settings, field by field; empty when nothing is."""
    if not isinstance(settings, dict):
        return {"partner": "write an object with base_url and token"}
    issues = {
        name: unknown(name) for name in settings if name not in SETTINGS
    } | find_bad_numbers(settings)
    if why := find_bad_url(settings.get("base_url")):
        issues["base_url"] = why
    named = settings.get("token")
    # What stands there may be the secret itself: it is not repeated.
    if named is not None and not (isinstance(named, str) and TOKEN.fullmatch(named)):
        issues |= {"token": "write env:NAME, the environment variable that holds it"}
    if settings.get("policy") not in (None, *Policy):
        issues["policy"] = f"write one of {', '.join(Policy)}"
    return issues


def unknown(name: str) -> str:
    """That there is no such setting."""
    meant = nearest(name, SETTINGS)
    return f"unknown; did you mean {meant}?" if meant else "unknown"


def find_bad_url(url: Json) -> str:
    """Why no API can be at *url*; empty when one can."""
    how = "write https://host/path"
    if not isinstance(url, str) or not url:
        return how
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        return how
    if "@" in parts.netloc:
        return f"{how}, without a user and a password"
    if parts.query or parts.fragment or not re.fullmatch(r"\S+", url):
        return f"{how}, without ? and # and spaces"
    return "" if named else how


def find_bad_numbers(settings: Mapping[str, Json]) -> dict[str, str]:
    """The numbers that are none, or out of bounds."""
    issues = {}
    for name, (least, most) in BOUNDS.items():
        value = settings.get(name)
        if value is None:
            continue
        kinds: tuple[type, ...] = (int,) if name == "retries" else (int, float)
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        if not fits or not least <= value <= most:
            issues[name] = f"write a number from {least:g} to {most:g}"
    return issues
