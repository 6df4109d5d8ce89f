"""A SQL template cut into comments and the rest, without parsing it."""

import re
from collections.abc import Iterator

JINJA = r"\{\{.*?\}\}|\{%.*?%\}|\{\#.*?\#\}"
TOKEN = re.compile(
    rf"""
    (?P<jinja> {JINJA} )
  | (?P<line> --[^\n]* )
  | (?P<block> /\* )
  | (?P<text> [eE]'(?: {JINJA} | \\. | '' | [^'\\] )*'
            | '(?: {JINJA} | '' | [^'] )*'
            | "(?: {JINJA} | "" | [^"] )*"
            | (?P<dollar> \$\w*\$ ) .*? (?P=dollar) )
  | (?P<other> \w+ | . )
    """,
    re.DOTALL | re.VERBOSE,
)


def tokens(template: str) -> Iterator[tuple[str, str]]:
    """Cut *template* into comments and the rest."""
    position = 0
    while match := TOKEN.match(template, position):
        position = match.end()
        if match["block"]:
            position = end_of_block(template, match.end())
        kind = "comment" if match["line"] or match["block"] else "code"
        yield kind, template[match.start() : position]


def end_of_block(template: str, position: int) -> int:
    """Where the block comment ends whose `/*` ends at *position*; they nest, as in Postgres."""
    depth = 1
    for mark in re.finditer(r"/\*|\*/", template[position:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return position + mark.end()
    return len(template)
