"""YAML that cannot be parsed: where the mistake is, in words that say what to change.

PyYAML reports where it gave up; an open quote or bracket is wrong where it was opened.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

import yaml
from yaml.reader import ReaderError

from rat_resources.errors import Problem

QUOTES = "put quotes around the value"


@dataclass(frozen=True)
class Position:
    """Where PyYAML gave up: a 0-based line and column, and the text of the line."""

    line: int
    column: int
    content: str


def yaml_problem(error: yaml.YAMLError, *, text: str, path: str) -> Problem:
    """A YAML syntax error in our words."""
    line, what, fix = explain(error, text)
    return Problem(path, line + 1, what, fix)


def explain(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    """The 0-based line of a mistake, what is wrong there, and what to change."""
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position)
        what = f"YAML allows no character U+{ord_of(error.character):04X}"
        return line, what, "remove it"
    at = position(getattr(error, "problem_mark", None), text)
    return (
        explain_opened(error, text)
        or explain_line(error, text, at=at)
        or (
            at.line,
            f"this is no YAML: {said(error)}",
            "check the indentation, the colons and the quotes",
        )
    )


def ord_of(character: str | int) -> int:
    """The code of a character, which PyYAML gives as one or the other."""
    return character if isinstance(character, int) else ord(character)


def said(error: yaml.YAMLError) -> str:
    """PyYAML's own words."""
    return getattr(error, "problem", None) or str(error).partition("\n")[0]


def explain_opened(error: yaml.YAMLError, text: str) -> tuple[int, str, str] | None:
    """The mistake of something that is opened and never closed, or opened by mistake."""
    context = getattr(error, "context", None) or ""
    opened = position(getattr(error, "context_mark", None), text)
    sign = opened.content[opened.column : opened.column + 1]
    if "quoted scalar" in context:
        return opened.line, "a quote is opened here and never closed", "close it"
    if "flow" in context and sign:
        return opened.line, f"a {sign} is opened here and never closed", "close it"
    if "scanning an alias" in context:
        return opened.line, f"a value cannot start with {sign}", QUOTES
    return None


def explain_line(
    error: yaml.YAMLError, text: str, *, at: Position
) -> tuple[int, str, str] | None:
    """The mistake of the line in which PyYAML gave up."""
    words = said(error)
    sign = at.content[at.column : at.column + 1]
    if "another document" in words:
        return at.line, "a second document begins here", "remove the line ---"
    if "'\\t'" in words:
        return at.line, "this line is indented with a tab", "indent with blanks"
    if "cannot start any token" in words:
        return at.line, f"a value cannot start with {sign}", QUOTES
    if "mapping values" in words:
        return at.line, *stray_colon(at)
    return before_quoted(text, at) if "<scalar>" in words else None


def position(mark: yaml.Mark | None, text: str) -> Position:
    """A mark with its line's text."""
    if mark is None:
        return Position(0, 0, "")
    lines = text.split("\n")
    content = lines[mark.line] if mark.line < len(lines) else ""
    return Position(mark.line, mark.column, content)


def stray_colon(at: Position) -> tuple[str, str]:
    """A colon where YAML expects none: inside a value, or below a line that has none."""
    if re.search(r":\s.*:(\s|$)", at.content):
        return "a value holds a colon", QUOTES
    what = "this line does not fit the one before it"
    return what, "write key: value in both, starting in the same column"


def before_quoted(text: str, at: Position) -> tuple[int, str, str] | None:
    """A text in quotes that ended before it should: in its line, or in a later one."""
    last = None
    with suppress(yaml.YAMLError):
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            start, end = token.start_mark, token.end_mark
            if (start.line, start.column) >= (at.line, at.column):
                break
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
                last = (start.line, end.line)
    if last is None or last[1] != at.line:
        return None
    line, end_line = last
    if end_line > line:
        what = f"a quote is opened here and closed in line {end_line + 1} only"
        return line, what, "close it where the value ends"
    what = "the value goes on after its closing quote"
    return line, what, "inside single quotes, write a quote twice: ''"
