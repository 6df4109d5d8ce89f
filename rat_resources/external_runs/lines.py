"""Lines: a file of events, a JSON object a line, read in bounded memory.

A line that is none is told with its number, and the next one follows; a byte order mark, carriage
returns and empty lines do no harm. What each line says of a run is `events`.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from rat_resources.errors import EventError
from rat_resources.external_runs.events import RunEvent, kind, read_event
from rat_resources.external_runs.masking import clean, mask_text, shorten
from rat_resources.external_runs.rejects import LONGEST_RAW, Reject
from rat_resources.metadata.base import Json
from rat_resources.metadata.chm import OURS_SUFFIX, Environment, PipelineType, Platform
from rat_resources.names import nearest

MOST_BYTES = 4 << 20  # of one line
LONGEST_NAME = 255
GZIP = b"\x1f\x8b"
MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Named:
    """The pipeline that a line is about, and what it is should nobody know it yet."""

    client: str
    pipeline: str
    platform: str = Platform.CUSTOM
    pipeline_type: str = PipelineType.INGESTION
    environment: str = Environment.PROD

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same pipeline."""
        return self.client, self.pipeline

    def __str__(self) -> str:
        return f"{self.client}/{self.pipeline}"


@dataclass(frozen=True)
class Line:
    """A line that tells of a run."""

    number: int
    raw: Json
    named: Named
    event: RunEvent


def read_lines(path: Path, *, after: int = 0) -> Iterator[Line | Reject]:
    """What each line tells, or why it tells nothing, from the one behind line *after*."""
    with open_lines(path) as opened:
        yield from (
            read_line(number, content)
            for number, content in numbered(opened)
            if number > after
        )


def open_lines(path: Path) -> IO[bytes]:
    """The lines of a file, compressed or not, whatever it is called."""
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP)) == GZIP
    return cast("IO[bytes]", gzip.open(path)) if is_packed else path.open("rb")


def numbered(file: IO[bytes]) -> Iterator[tuple[int, bytes | EventError]]:
    """Every line that is not empty, with its number; where it cannot be read, why."""
    number = 0
    while True:
        number += 1
        try:
            content = next_line(file)
        except (OSError, EOFError, zlib.error) as error:
            # What comes behind is lost in any case, and the lines before it are good.
            yield number, EventError(f"the file breaks off here: {error}")
            return
        if not content:
            return
        if number == 1:
            content = content.removeprefix(MARK)
        if content.strip():
            yield number, content


def next_line(file: IO[bytes]) -> bytes:
    """The next line; of one that is too long more than its beginning is not kept in memory."""
    content = file.readline(MOST_BYTES + 1)
    if len(content) <= MOST_BYTES:
        return content
    rest = content
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(MOST_BYTES)
    return content


def read_line(number: int, content: bytes | EventError) -> Line | Reject:
    """What one line tells, or why it tells nothing."""
    if isinstance(content, EventError):
        return Reject(content.message, "", number)
    try:
        raw = parse(content)
    except EventError as error:
        text = content[:LONGEST_RAW].decode(errors="replace").strip()
        return Reject(error.message, mask_text(text), number)
    try:
        return Line(number, raw, read_named(raw), read_event(raw))
    except EventError as error:
        return Reject.of(raw, error.message, line=number)


def parse(content: bytes) -> Json:
    """The JSON of a line; EventError where it is none."""
    if len(content) > MOST_BYTES:
        message = f"the line has more than {MOST_BYTES >> 20} MB"
        raise EventError(message)
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        message = f"the line is not UTF-8 at its byte {error.start + 1}"
        raise EventError(message) from error
    except json.JSONDecodeError as error:
        message = f"the line is no JSON: {error.msg} at its character {error.pos + 1}"
        raise EventError(message) from error
    except (ValueError, RecursionError) as error:
        message = "the line holds a number or a nesting that is too large"
        raise EventError(message) from error


def read_named(raw: Json) -> Named:
    """The pipeline that an event names."""
    if not isinstance(raw, dict):
        message = f"an event is a JSON object, and this is {kind(raw)}"
        raise EventError(message)
    pipeline = read_name(raw, "pipeline")
    if pipeline.endswith(OURS_SUFFIX):
        message = f"no pipeline of others may be called …{OURS_SUFFIX}"
        raise EventError(message)
    return Named(
        client=read_name(raw, "client"),
        pipeline=pipeline,
        platform=read_word(raw, "platform", Platform) or Platform.CUSTOM,
        pipeline_type=read_word(raw, "pipeline_type", PipelineType)
        or PipelineType.INGESTION,
        environment=read_word(raw, "environment", Environment) or Environment.PROD,
    )


def read_name(raw: dict[str, Json], key: str) -> str:
    """The name of a client or a pipeline."""
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        message = f"there is no {key}" if not value else f"{key} is {kind(value)}"
        raise EventError(message)
    name = clean(value).strip()
    if len(name) > LONGEST_NAME:
        message = f"{key} has more than {LONGEST_NAME} characters"
        raise EventError(message)
    return name


def read_word(
    raw: dict[str, Json],
    key: str,
    words: type[Platform | PipelineType | Environment],
) -> str | None:
    """One of some words, or none."""
    value = raw.get(key)
    if value is None or value == "":
        return None
    word = str(value).strip().lower()
    known = [each.value for each in words]
    if word in known:
        return word
    meant = nearest(word, known)
    message = f"{key} is none of {', '.join(known)}: {shorten(str(value), most=60)!r}"
    raise EventError(message, fix=f"did you mean {meant}?" if meant else "")
