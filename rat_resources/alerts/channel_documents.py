"""Channel documents: where somebody wants to hear of it, type by type and field by field.

    slack      webhook_url*                      channel
    email      to                                subject_template
    webhook    url                               headers, method (POST), secret*
    sms        phone_number, account_sid,        from_number or messaging_service_sid, url
               auth_token*
    pagerduty  routing_key*                      dedup_key, url

A field with a star is a secret: it is written `env:NAME`, and only that name is ever kept. Each takes
`where` (which events), `max_delivery_age`, `group_by` with `group_wait`, and `quiet_hours` as well. What
they mean when an event comes is `routing`; reading fields is `readers`.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from rat_resources.alerts.condition_documents import KINDS
from rat_resources.alerts.definitions import Severity
from rat_resources.alerts.readers import (
    LONGEST_TEXT,
    choice,
    entries_of,
    listed,
    mapping,
    merged,
    open_or_secret,
    secret,
    span,
    word,
    words,
)
from rat_resources.configuration import time_zone
from rat_resources.names import nearest
from rat_resources.values import (
    Located,
    MappingReader,
    Reader,
    UnfitError,
    is_mapping,
)

STATES = ("firing", "resolved", "test")
GROUPS = ("cause", "definition", "table", "namespace", "severity")
FIELDS = ("severity", "namespace", "dataset", "kind", "state", "definition")
LABELS = "labels."
MOST_ADDRESSES = 50
ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9.-]{1,189}")
PHONE = re.compile(r"\+[1-9]\d{6,14}")
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
SECRET_HEADER = re.compile(
    r"auth|token|key|secret|cookie|password|signature", re.IGNORECASE
)
SENDERS = ("from_number", "messaging_service_sid")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read_channels(located: Located, namespace: str = "") -> dict[str, Any]:
    """The channels as they are kept; UnfitError names every field that is wrong."""
    if not is_mapping(located):
        what, fix = "this is no mapping", f"write one of {', '.join(CHANNELS)}"
        raise UnfitError(what, fix, line=located.line)
    found: list[UnfitError] = []
    channels = {}
    for name, each in entries_of(located).items():
        try:
            channels[name] = read_channel(name, each, namespace)
        except UnfitError as unfit:
            found.append(unfit)
    if found:
        raise UnfitError.of(found)
    return channels


def read_channel(name: str, located: Located, namespace: str) -> dict[str, Any]:
    """The channel of one type; what stands in its place is not repeated, it may be a secret."""
    if name not in CHANNELS:
        guess = nearest(name[:40], CHANNELS)
        known = f"known are {', '.join(CHANNELS)}"
        what = f"{name[:40]} is no channel"
        raise UnfitError(
            what, f"did you mean {guess}?" if guess else known, line=located.line
        )
    readers, required = CHANNELS[name]
    if not is_mapping(located):
        what, fix = f"{name}: this is no mapping", f"write {required[0]}: … below it"
        raise UnfitError(what, fix, line=located.line)
    read = MappingReader(merged(readers, OPTIONS), whole_channel, required)
    try:
        channel: dict[str, Any] = read(located, namespace)
    except UnfitError as unfit:
        raise unfit.under(name, line=located.line) from unfit
    return channel


def whole_channel(values: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The channel, where its fields go together."""
    del namespace
    if "group_wait" in values and "group_by" not in values:
        what = "group_wait says nothing without group_by"
        raise UnfitError(what, f"add group_by: {', '.join(GROUPS)}")
    if "phone_number" in values:
        given = [name for name in SENDERS if name in values]
        if len(given) != 1:
            what = f"{'both' if given else 'none'} of {' and '.join(SENDERS)} given"
            raise UnfitError(what, f"write {SENDERS[0]}: '+4930123456'")
    return values


# Destinations.


def address(located: Located, namespace: str) -> str:
    """An e-mail address, by itself."""
    value: str = word(located, namespace)
    if not ADDRESS.fullmatch(value) or ".." in value:
        what = f"{value[:60]!r} is no e-mail address"
        raise UnfitError(what, "write name@example.com")
    return value


def phone(located: Located, namespace: str) -> str:
    """A telephone number with its country."""
    del namespace
    value = re.sub(r"[ ()-]", "", located.written)
    if not PHONE.fullmatch(value):
        what = "this is no telephone number with its country"
        raise UnfitError(what, "write '+4930123456', in quotes")
    return value


def url(located: Located, namespace: str) -> str:
    """An https address, without a user in it; over http only this machine is reached."""
    value: str = words(LONGEST_TEXT)(located, namespace)
    fix = "write https://host/path"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise UnfitError("this is no address", fix) from error
    if not host or re.search(r"\s", value) or parts.scheme not in ("http", "https"):
        raise UnfitError("this is no address", fix)
    if "@" in parts.netloc:
        what = "a user or a password must not stand in an address"
        raise UnfitError(what, "put it into headers, as env:NAME")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise UnfitError("http is read by everybody on the way", fix)
    return value


def headers(located: Located, namespace: str) -> dict[str, Any]:
    """HTTP headers; those that sound like a secret are written env:NAME."""
    if not is_mapping(located):
        raise UnfitError("this is no mapping", "write {X-Team: ops}")
    values = mapping(header_name, as_written, form="{X-Team: ops}")(located, namespace)
    entries = entries_of(located)
    for name, each in entries.items():
        if SECRET_HEADER.search(name):
            try:
                secret(each, namespace)
            except UnfitError as unfit:
                raise unfit.under(name, line=each.line) from unfit
    return values


def header_name(located: Located, namespace: str) -> str:
    """The name of an HTTP header."""
    value: str = word(located, namespace)
    if not HEADER.fullmatch(value):
        raise UnfitError("this is no name of an HTTP header", "write X-Team")
    return value


def as_written(located: Located, namespace: str) -> str:
    """The value of a header: one line of text."""
    del namespace
    value = located.value if isinstance(located.value, str) else located.written
    if not value or not value.isascii() or not value.isprintable():
        raise UnfitError("this is no value of a header", "write one line of text")
    return str(value)[:LONGEST_TEXT]


def line(located: Located, namespace: str) -> str:
    """One line of text: no header can be smuggled into a message by it."""
    value: str = word(located, namespace)
    if not value.isprintable():
        raise UnfitError("this is more than one line", "write one")
    return value


# What every channel takes.


def channel_where(located: Located, namespace: str) -> dict[str, Any]:
    """Which events go there: fields that are equal, or one of several."""
    read = mapping(word, listed(word, most=MOST_ADDRESSES), form="{severity: critical}")
    asked = read(located, namespace)
    entries = entries_of(located)
    for name, values in asked.items():
        at = entries[name].line
        if not name.startswith(LABELS) and name not in FIELDS:
            guess = nearest(name, [*FIELDS, "labels"])
            known = f"known are {', '.join(FIELDS)}, {LABELS}NAME"
            dotted = f"{LABELS}NAME" if guess == "labels" else guess
            fix = f"did you mean {dotted}?" if guess else known
            raise UnfitError(f"{name} is no field of an event", fix, line=at)
        for each in values:
            check_value(name, each, at=at)
    return {
        name: values[0] if len(values) == 1 else values
        for name, values in asked.items()
    }


def check_value(name: str, value: str, *, at: int) -> None:
    """UnfitError for a value that no event has."""
    known = {"severity": tuple(Severity), "state": STATES, "kind": (*KINDS, "chm")}
    if name in known and value not in known[name]:
        words = tuple(map(str, known[name]))
        guess = nearest(value, words)
        fix = f"did you mean {guess}?" if guess else f"known are {', '.join(words)}"
        raise UnfitError(f"{name}: {value!r} is not known", fix, line=at)


def clock(located: Located, namespace: str) -> str:
    """A time of day; YAML reads 22:00 as a number."""
    del namespace
    value = located.written.strip()
    if not CLOCK.fullmatch(value):
        what = f"{value[:20]!r} is no time of day"
        raise UnfitError(what, "write '22:00'")
    return value


def quiet(values: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Hours of the day in which nothing is sent but what is bad enough."""
    del namespace
    if values["from"] == values["to"]:
        what = "from and to are the same"
        raise UnfitError(what, "write two times, such as 22:00 and 07:00")
    return {"timezone": "UTC"} | values


OPTIONS: dict[str, Reader] = {
    "where": channel_where,
    "max_delivery_age": span,
    "group_by": listed(choice(GROUPS)),
    "group_wait": span,
    "quiet_hours": MappingReader(
        {
            "from": clock,
            "to": clock,
            "timezone": time_zone,
            "unless_severity": choice(tuple(Severity)),
        },
        quiet,
        ("from", "to"),
        "{from: '22:00', to: '07:00', timezone: Europe/Berlin}",
    ),
}
CHANNELS: Mapping[str, tuple[Mapping[str, Reader], tuple[str, ...]]] = {
    "slack": ({"webhook_url": secret, "channel": line}, ("webhook_url",)),
    "email": (
        {
            "to": listed(open_or_secret(address), most=MOST_ADDRESSES),
            "subject_template": line,
        },
        ("to",),
    ),
    "webhook": (
        {
            "url": open_or_secret(url),
            "headers": headers,
            "method": choice(("POST",)),
            "secret": secret,
        },
        ("url",),
    ),
    "sms": (
        {
            "phone_number": open_or_secret(phone),
            "from_number": open_or_secret(phone),
            "messaging_service_sid": open_or_secret(word),
            "account_sid": open_or_secret(word),
            "auth_token": secret,
            "url": url,
        },
        ("phone_number", "account_sid", "auth_token"),
    ),
    "pagerduty": (
        {"routing_key": secret, "dedup_key": line, "url": url},
        ("routing_key",),
    ),
}
