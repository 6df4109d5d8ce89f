"""Annotations: `-- @key: value` lines at the top of a pipeline or a quality test.

Only the leading comment block counts; blank lines and plain comments may stand in it. What the
keys mean is `rat_resources.configuration`.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rat_resources.errors import Problem
from rat_resources.names import nearest

MARKS = {"sql": "--", "python": "#"}
WELL_FORMED = re.compile(r"@(\w+):\s*(\S.*)")
KEY = re.compile(r"@\s*([\w-]*)")


@dataclass(frozen=True)
class Annotation:
    """One `@key: value` with the line that it stands on."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class Header:
    """What the leading comment block of a file says."""

    annotations: tuple[Annotation, ...]
    problems: tuple[Problem, ...]


def read_header(
    text: str, *, path: str, language: str, known: Collection[str]
) -> Header:
    """Read the annotations of a file; what cannot be meant as written is a problem."""
    mark = MARKS[language]
    found: dict[str, Annotation] = {}
    problems: list[Problem] = []
    for line, comment in leading_comments(text, mark=mark):
        if not comment.startswith("@"):
            continue
        match = WELL_FORMED.fullmatch(comment)
        if match is None:
            problems.append(
                malformed(comment, path=path, line=line, mark=mark, known=known)
            )
            continue
        annotation = Annotation(match[1], match[2].strip(), line)
        if annotation.key not in known:
            problems.append(
                unknown_key(f"@{annotation.key}", path=path, line=line, known=known)
            )
        elif annotation.key in found:
            problems.append(
                Problem(
                    path,
                    line,
                    f"@{annotation.key} stands here a second time",
                    f"keep this one or the one in line {found[annotation.key].line}",
                )
            )
        else:
            found[annotation.key] = annotation
    problems += late_annotations(text, path=path, mark=mark, known=known)
    return Header(tuple(found.values()), tuple(problems))


def leading_comments(text: str, *, mark: str) -> Iterator[tuple[int, str]]:
    """The comments before the first line of code, each with its line."""
    for line, content in enumerate(text.splitlines(), start=1):
        stripped = content.strip().removeprefix("\ufeff")
        if stripped and not stripped.startswith(mark):
            return
        if stripped:
            yield line, stripped.removeprefix(mark).strip()


def late_annotations(
    text: str, *, path: str, mark: str, known: Collection[str]
) -> Iterator[Problem]:
    """Annotations that come after the first line of code, where nobody reads them."""
    lines = text.splitlines()
    first_code = next(
        (n for n, content in enumerate(lines) if is_code(content, mark=mark)),
        len(lines),
    )
    for line, content in enumerate(lines[first_code:], start=first_code + 1):
        if not content.strip().startswith(mark):
            continue
        match = WELL_FORMED.fullmatch(content.strip().removeprefix(mark).strip())
        if match and match[1] in known:
            yield Problem(
                path,
                line,
                f"@{match[1]} comes after the first line of code, where it has no effect",
                "move it to the comment block at the top of the file",
            )


def is_code(line: str, *, mark: str) -> bool:
    """Whether *line* ends the leading comment block."""
    stripped = line.strip().removeprefix("\ufeff")
    return bool(stripped) and not stripped.startswith(mark)


def malformed(
    comment: str, *, path: str, line: int, mark: str, known: Collection[str]
) -> Problem:
    """The problem of a comment that starts like an annotation and is none."""
    word = KEY.match(comment)
    key = word[1] if word else ""
    key = nearest(key.replace("-", "_"), known) or key or "key"
    return Problem(
        path,
        line,
        f"{comment!r} is no annotation",
        f"write {mark} @{key}: value",
    )


def unknown_key(shown: str, *, path: str, line: int, known: Collection[str]) -> Problem:
    """The problem of a key that means nothing, with the one that was probably meant."""
    key = shown.removeprefix("@")
    guess = nearest(key, known) or nearest(key.lower(), known)
    prefix = "@" if shown.startswith("@") else ""
    fix = (
        f"did you mean {prefix}{guess}?"
        if guess
        else f"known are {', '.join(sorted(known))}"
    )
    return Problem(path, line, f"{shown} is not known", fix)
