"""Zeros: the one character, U+0000, that rows may hold and Postgres keeps in no text and no JSON.

In its place stands the sign for it, ␀, or a run could not be ended for what its rows hold.
"""

import json
import re

ZERO, SIGN = "\0", "\N{SYMBOL FOR NULL}"
# After an even number of backslashes, or it would be the text of an escape.
ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def as_json(value: object) -> str:
    """A document that Postgres takes."""
    document = json.dumps(value)
    return ESCAPED.sub(r"\1\\u2400", document)


def as_text(text: str) -> str:
    """A text that Postgres takes."""
    return text.replace(ZERO, SIGN)
