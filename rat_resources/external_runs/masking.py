"""Masking: documents of strangers as they may be kept, without secrets and within bounds.

What Postgres cannot keep (U+0000, halves of characters, numbers that are none) is replaced as well.
"""

import json
import math
import re
from collections.abc import Sequence

from rat_resources.metadata.base import Json
from rat_resources.metadata.zeros import as_text

MASK = "***"
MOST_BYTES = 256 << 10
MOST_TEXT = 10_000
DEEPEST = 32

SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|pwd$|secret|token|authorization|credential|cookie|private.?key"
    r"|(api|access|auth|session|signing|encryption).?key|connection.?string|^(dsn|auth|bearer)$",
    re.IGNORECASE,
)
# What counts or names them is none.
HARMLESS_KEY = re.compile(
    r"tokens$|token_(count|type)|(count|type|name|id)$", re.IGNORECASE
)
# Each begins with letters of its own and is bounded: a megabyte of text takes no minute.
SECRET_TEXT = re.compile(
    r"(?P<before>://(?:[^\s/@:]{1,200}:)?)[^\s/@]{1,500}(?=@)"
    r"|(?P<scheme>\b(?:bearer|basic)\s{1,4})[a-z0-9+/=._~-]{8,}"
    r"|(?P<key>(?:password|passwd|pwd|secret|token|api[_-]?key)\s{0,4}[=:]\s{0,4}[\"']?)[^\s\"',;&]+",
    re.IGNORECASE,
)


def mask(document: Json, *, secrets: Sequence[str] = ()) -> Json:
    """*document* without what its keys or its texts call a secret, and without these very *secrets*."""
    return masked(document, secrets=tuple(filter(None, secrets)), depth=0)


def masked(value: Json, *, secrets: tuple[str, ...], depth: int) -> Json:
    """One value of a document, *depth* levels down."""
    if isinstance(value, str):
        return mask_text(value, secrets=secrets)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, list):
        return [masked(each, secrets=secrets, depth=depth + 1) for each in value]
    return {
        mask_text(str(key), secrets=secrets): MASK
        if is_secret(str(key)) and each not in (None, "")
        else masked(each, secrets=secrets, depth=depth + 1)
        for key, each in value.items()
    }


def is_secret(key: str) -> bool:
    """Whether what stands under *key* is nobody's business."""
    return bool(SECRET_KEY.search(key)) and not HARMLESS_KEY.search(key)


def mask_text(text: str, *, secrets: Sequence[str] = ()) -> str:
    """*text* as Postgres takes it, without passwords, tokens and these very *secrets*."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return SECRET_TEXT.sub(hide, clean(text))


def hide(match: re.Match[str]) -> str:
    """What stands before a secret, and its mask."""
    before = match["before"] or match["scheme"] or match["key"]
    return f"{before}{MASK}"


def clean(text: str) -> str:
    """*text* as Postgres takes it."""
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    return as_text(text)


def shorten(text: str, *, most: int = MOST_TEXT) -> str:
    """As much of *text* as is worth keeping."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def bound(
    document: dict[str, Json], *, most_bytes: int = MOST_BYTES
) -> dict[str, Json]:
    """*document*, or where it is too large, as many of its small values as fit and its size."""
    size = len(json.dumps(document))
    if size <= most_bytes:
        return document
    kept: dict[str, Json] = {"_truncated": f"this event had {size} bytes"}
    left = most_bytes // 2
    for key, value in document.items():
        left -= len(json.dumps({key: value}))
        if left < 0:
            break
        kept[key] = value
    return kept
