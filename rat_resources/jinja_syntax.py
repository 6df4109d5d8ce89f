"""Jinja that cannot be parsed: where the mistake is, and what closes it.

Jinja reports where it gave up; an open brace or block is wrong where it was opened.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError

from rat_resources.errors import Problem
from rat_resources.names import nearest

BRACE = re.compile(r"\{\{|\{%|\}\}|%\}")
CLOSING = {"{{": "}}", "{%": "%}"}
TAG = re.compile(r"\{%[-+]?\s*(\w+)([^%]*)")
BLOCKS = ("if", "for", "macro", "call", "filter", "with", "raw", "set", "autoescape")
TAGS = (*BLOCKS, *(f"end{block}" for block in BLOCKS), "else", "elif")
UNKNOWN = re.compile(r"(?:No (filter|test) named|Encountered unknown (tag)) '(\w+)'")
INNERMOST = re.compile(r"needs to be closed is '(\w+)'")


@dataclass(frozen=True)
class Opened:
    """A brace or a block that is opened, and its 1-based line."""

    word: str
    line: int


def syntax_problem(
    error: TemplateSyntaxError,
    *,
    template: str,
    path: str,
    filters: Iterable[str],
    tests: Iterable[str],
) -> Problem:
    """A Jinja syntax error in our words; *template* is what Jinja was given."""
    if found := open_brace(template):
        return Problem(path, found.line, *found.advice)
    message = error.message or ""
    if unknown := UNKNOWN.search(message):
        kind, word = unknown[1] or unknown[2], unknown[3]
        known = {"filter": filters, "test": tests, "tag": TAGS}[kind]
        if kind == "tag" and word in TAGS:
            return Problem(path, error.lineno, *misplaced(word, message=message))
        guess = nearest(word, known)
        what = f"Jinja has no {kind} {word}"
        fix = f"did you mean {guess}?" if guess else "see Jinja's own list"
        return Problem(path, error.lineno, what, fix)
    if "end of template" in message and (block := open_block(template)):
        what = f"{{% {block.word} %}} is opened here and never closed"
        return Problem(path, block.line, what, f"close it with {{% end{block.word} %}}")
    what = f"Jinja cannot parse this: {message.rstrip('.')}"
    return Problem(path, error.lineno, what, "correct the template")


def misplaced(word: str, *, message: str) -> tuple[str, str]:
    """What is wrong with a tag that Jinja knows and did not expect, and what to do."""
    if inner := INNERMOST.search(message):
        what = f"{{% {word} %}} stands inside of {{% {inner[1]} %}}"
        return what, f"close that first, with {{% end{inner[1]} %}}"
    return f"{{% {word} %}} belongs to no block", "remove it, or open the block"


@dataclass(frozen=True)
class Brace:
    """A brace that is not closed as it should be."""

    line: int
    advice: tuple[str, str]


def open_brace(template: str) -> Brace | None:
    """The first brace that is not closed before the next one opens."""
    opened: Opened | None = None
    for mark in BRACE.finditer(template):
        line = template.count("\n", 0, mark.start()) + 1
        if mark[0] not in CLOSING:
            opened = None
        elif opened is None:
            opened = Opened(mark[0], line)
        elif opened.line == line:
            what = f"there is {mark[0]} inside of {opened.word}"
            fix = "inside of braces everything is Jinja: write the name itself"
            return Brace(line, (what, fix))
        else:
            break
    if opened is None:
        return None
    what = f"{opened.word} is opened here and never closed"
    return Brace(opened.line, (what, f"close it with {CLOSING[opened.word]}"))


def open_block(template: str) -> Opened | None:
    """The innermost block that nothing ends."""
    blocks: list[Opened] = []
    for tag in tags(template):
        if tag.word.startswith("end"):
            while blocks and blocks.pop().word != tag.word.removeprefix("end"):
                pass
        elif tag.word in BLOCKS:
            blocks.append(tag)
    return blocks[-1] if blocks else None


def tags(template: str) -> Iterator[Opened]:
    """Every tag in order; a `set` with a value opens nothing."""
    for found in TAG.finditer(template):
        if found[1] != "set" or "=" not in found[2]:
            yield Opened(found[1], template.count("\n", 0, found.start()) + 1)
