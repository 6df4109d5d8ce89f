"""Nessie's settings: where the server is and how to speak to it, as the environment says.

The server itself is `lake.nessie_server`; that these variables exist is told by `settings`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from rat_resources.errors import SettingsError

VARIABLES = {
    "RAT_NESSIE_URL": "a Nessie server that keeps the branches; without it Postgres does",
    "RAT_NESSIE_BRANCH": "the branch of that server that this RAT publishes to",
    "RAT_NESSIE_TIMEOUT": "seconds that Nessie may take to answer, and may be gone",
    "RAT_NESSIE_TOKEN": "a bearer token for Nessie",
    "RAT_NESSIE_USER": "the user for Nessie; an OAuth2 client's id with RAT_NESSIE_TOKEN_URL",
    "RAT_NESSIE_PASSWORD": "that user's password; an OAuth2 client's secret",
    "RAT_NESSIE_TOKEN_URL": "where an OAuth2 client gets its tokens for Nessie",
    "RAT_NESSIE_SCOPE": "the scope that an OAuth2 client asks for",
    "RAT_NESSIE_CA": "a file of the authorities that vouch for Nessie's certificate; none: unchecked",
    "RAT_NESSIE_CERT": "a file with a client certificate and its key for Nessie",
}
SECRETS = ("RAT_NESSIE_TOKEN", "RAT_NESSIE_PASSWORD")
MAIN = "main"
TIMEOUT = 20.0
UNCHECKED = "none"
BRANCH = re.compile(r"[A-Za-z](?:(?!\.\.)[A-Za-z0-9./_-])*(?<![./])")


@dataclass(frozen=True)
class NessieSettings:
    """How a Nessie server is reached."""

    url: str  # without /api/…, and without a slash at its end
    branch: str = MAIN
    timeout: float = TIMEOUT  # seconds
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token_url: str | None = None
    scope: str | None = None
    ca: str | None = None  # a file, or UNCHECKED
    certificate: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "NessieSettings | None":
        """The settings that *environ* holds, None without a URL; SettingsError if they make no sense."""
        if not environ.get("RAT_NESSIE_URL"):
            return None
        url, user, password = server_url(environ["RAT_NESSIE_URL"])
        return cls(
            url=url,
            branch=branch_name(environ.get("RAT_NESSIE_BRANCH") or MAIN),
            timeout=seconds(environ.get("RAT_NESSIE_TIMEOUT")),
            token=environ.get("RAT_NESSIE_TOKEN") or None,
            user=environ.get("RAT_NESSIE_USER") or user,
            password=environ.get("RAT_NESSIE_PASSWORD") or password,
            token_url=environ.get("RAT_NESSIE_TOKEN_URL") or None,
            scope=environ.get("RAT_NESSIE_SCOPE") or None,
            ca=certificates("RAT_NESSIE_CA", environ, besides=UNCHECKED),
            certificate=certificates("RAT_NESSIE_CERT", environ),
        ).checked()

    def checked(self) -> "NessieSettings":
        """These settings; SettingsError if they contradict each other."""
        if self.token and (self.user or self.token_url):
            message = "RAT_NESSIE_TOKEN and RAT_NESSIE_USER or RAT_NESSIE_TOKEN_URL are two ways to log in"
            raise SettingsError(message, fix="set only one of them")
        if self.token_url and not (self.user and self.password):
            message = "RAT_NESSIE_TOKEN_URL is set, and there is no client to ask it"
            raise SettingsError(
                message,
                fix="set RAT_NESSIE_USER to the client's id and RAT_NESSIE_PASSWORD to its secret",
            )
        if self.user and self.password is None:
            message = f"there is no password for the user {self.user} of Nessie"
            raise SettingsError(message, fix="set RAT_NESSIE_PASSWORD")
        return self

    @property
    def environ(self) -> dict[str, str]:
        """The variables that say the same."""
        values = {
            "RAT_NESSIE_URL": self.url,
            "RAT_NESSIE_BRANCH": self.branch,
            "RAT_NESSIE_TIMEOUT": f"{self.timeout:g}",
            "RAT_NESSIE_TOKEN": self.token,
            "RAT_NESSIE_USER": self.user,
            "RAT_NESSIE_PASSWORD": self.password,
            "RAT_NESSIE_TOKEN_URL": self.token_url,
            "RAT_NESSIE_SCOPE": self.scope,
            "RAT_NESSIE_CA": self.ca,
            "RAT_NESSIE_CERT": self.certificate,
        }
        return {name: value for name, value in values.items() if value}

    @property
    def shown(self) -> dict[str, str]:
        """The same with every secret masked."""
        return {
            name: "***" if name in SECRETS else value
            for name, value in self.environ.items()
        }


def server_url(value: str) -> tuple[str, str | None, str | None]:
    """Where the server is, whatever was written behind it, and who logs in if the URL says so."""
    parts = urlsplit(value.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        message = "RAT_NESSIE_URL is no address of a Nessie server"
        raise SettingsError(
            message, fix="write RAT_NESSIE_URL=http://host:19120 (or https://…)"
        )
    host = parts.netloc.rpartition("@")[2]
    path = re.sub(r"/api(/v\d+)?/*$", "", parts.path.rstrip("/"))
    plain = urlunsplit((parts.scheme, host, path.rstrip("/"), "", ""))
    user, password = (
        each and unquote(each) for each in (parts.username, parts.password)
    )
    return plain, user, password


def branch_name(name: str) -> str:
    """*name*, if a branch on a Nessie server may be called that."""
    if BRANCH.fullmatch(name) is None:
        message = f"RAT_NESSIE_BRANCH={name} can be no branch"
        raise SettingsError(
            message, fix="write a letter, then letters, digits and . _ / -, without .."
        )
    return name


def seconds(value: str | None) -> float:
    """A time-out; SettingsError if it is none."""
    try:
        number = float(value or TIMEOUT)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        message = f"RAT_NESSIE_TIMEOUT={value} is no number of seconds"
        raise SettingsError(message, fix=f"write RAT_NESSIE_TIMEOUT={TIMEOUT:g}")
    return number


def certificates(
    variable: str, environ: Mapping[str, str], *, besides: str | None = None
) -> str | None:
    """The file that *variable* names, which is there; or the one word that it may say instead."""
    value = environ.get(variable)
    if not value or value == besides:
        return value or None
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        message = f"{variable}={value} is no file"
        raise SettingsError(message, fix="name a PEM file that this process may read")
    return str(path)
