"""Alerts' settings: what it takes to send them, and where they may go, as the environment says.

Sending is `rat_resources.alerts`; that these variables exist is told by `settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rat_resources.errors import SettingsError

VARIABLES = {
    "RAT_UI_URL": "where people open Dagster, for the links of alerts: https://dagster.example.com",
    "RAT_SMTP_URL": "the mail server for alerts: smtp://user:env:NAME@host:587, or smtps://…:465",
    "RAT_SMTP_FROM": "the address that alerts by mail come from",
    "RAT_ALERT_CA": "a file of authorities that vouch for receivers of alerts, besides the usual ones",
    "RAT_ALERT_ALLOW_HOSTS": "receivers of alerts inside the company, by name: hooks.corp,chat.corp",
    "RAT_ALERT_ALLOW_LOOPBACK": "1 lets alerts go to this machine, and there by http: for trials",
}
SCHEMES = ("smtp", "smtps")
YES = ("1", "true", "yes", "on")
NO = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class AlertSettings:
    """What it takes to send alerts."""

    ui_url: str | None = None
    smtp_url: str | None = field(default=None, repr=False)
    smtp_from: str = ""
    ca: str | None = None
    allow_hosts: tuple[str, ...] = ()
    allow_loopback: bool = False

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "AlertSettings":
        """The settings that *environ* holds; SettingsError if they make no sense."""
        hosts = environ.get("RAT_ALERT_ALLOW_HOSTS", "").replace(",", " ").split()
        smtp_url = mail_server(environ.get("RAT_SMTP_URL"))
        return cls(
            ui_url=page(environ.get("RAT_UI_URL")),
            smtp_url=smtp_url,
            smtp_from=mailbox(environ.get("RAT_SMTP_FROM"), smtp_url=smtp_url),
            ca=existing(environ.get("RAT_ALERT_CA")),
            allow_hosts=tuple(host(each) for each in hosts),
            allow_loopback=flag(environ.get("RAT_ALERT_ALLOW_LOOPBACK", "")),
        )

    @property
    def environ(self) -> dict[str, str]:
        """The variables that say the same."""
        values = {
            "RAT_UI_URL": self.ui_url,
            "RAT_SMTP_URL": self.smtp_url,
            "RAT_SMTP_FROM": self.smtp_from,
            "RAT_ALERT_CA": self.ca,
            "RAT_ALERT_ALLOW_HOSTS": ",".join(self.allow_hosts),
            "RAT_ALERT_ALLOW_LOOPBACK": "1" if self.allow_loopback else None,
        }
        return {name: value for name, value in values.items() if value}


def page(url: str | None) -> str | None:
    """Where the pages are; SettingsError if that is no address of pages."""
    if not url:
        return None
    if urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname:
        return url.rstrip("/")
    message = f"RAT_UI_URL={url} is no address of pages"
    raise SettingsError(message, fix="write RAT_UI_URL=https://host")


def mail_server(url: str | None) -> str | None:
    """The mail server; SettingsError, which does not repeat it, if it is none."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        named = parts.scheme in SCHEMES and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        named = False
    if named:
        return url
    message = "RAT_SMTP_URL is no address of a mail server"
    fix = "write smtp://user:env:NAME@host:587 (STARTTLS) or smtps://user:env:NAME@host:465"
    raise SettingsError(message, fix=fix)


def mailbox(address: str | None, *, smtp_url: str | None) -> str:
    """Who the mail comes from; SettingsError if that is no address."""
    if not address and smtp_url is None:
        return ""
    if address and "@" in address.strip("@") and address.isprintable():
        return address.strip()
    message = f"RAT_SMTP_FROM={address or ''} is no address of a mailbox"
    raise SettingsError(message, fix="write RAT_SMTP_FROM=alerts@example.com")


def existing(value: str | None) -> str | None:
    """A file that is there."""
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if path.is_file():
        return str(path)
    message = f"RAT_ALERT_CA={value} is no file"
    raise SettingsError(message, fix="name a PEM file that this process may read")


def host(name: str) -> str:
    """A host that is named and nothing else."""
    if "/" not in name and "*" not in name and "@" not in name:
        return name.lower()
    message = f"RAT_ALERT_ALLOW_HOSTS names {name}, which is no host"
    raise SettingsError(message, fix="write names alone: hooks.corp,chat.corp")


def flag(value: str) -> bool:
    """A yes or a no."""
    word = value.strip().lower()
    if word in (*YES, *NO):
        return word in YES
    message = f"RAT_ALERT_ALLOW_LOOPBACK={value} is neither 1 nor 0"
    raise SettingsError(message, fix="write 1, or unset it")
