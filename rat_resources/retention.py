"""Retention: how long what was told is kept, for the platform, a namespace or one pipeline.

`RAT_RETENTION` says it for all, `{ns}/retention.yaml` in the store for a namespace, `retention` in a
`config.yaml` for a pipeline; the nearer one counts. Removing what is older is `rat_resources.janitor`.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.annotations import unknown_key
from rat_resources.errors import NotFoundError, Problem, SettingsError
from rat_resources.names import nearest
from rat_resources.store import Store
from rat_resources.values import (
    Located,
    MappingReader,
    UnfitError,
    read_yaml,
    shown,
)

FOREVER = "forever"
SPAN = re.compile(r"(\d{1,6})\s*([hdwy])")
UNITS = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
HOW_TO_WRITE_IT = f"write 90d, 12h, 8w, 2y or {FOREVER}"
# A run that goes on, and somebody who reads, need longer than nothing.
AT_LEAST = {"history": timedelta(days=1), "unused": timedelta(days=1)}
# What a namespace and what a pipeline may say; the rest is the platform's alone.
OF_NAMESPACE = ("runs", "logs", "processed", "snapshots")
OF_PIPELINE = ("runs", "logs", "snapshots")


@dataclass(frozen=True)
class Retention:
    """How long each kind of thing is kept; None: for ever."""

    runs: timedelta | None = timedelta(days=90)  # Dagster's runs, with their events
    logs: timedelta | None = timedelta(days=30)  # what runs said and printed
    ticks: timedelta | None = timedelta(days=30)  # of sensors and schedules
    processed: timedelta | None = timedelta(days=30)  # in zones with `auto_purge`
    audit: timedelta | None = timedelta(days=365)  # who did what
    drafts: timedelta | None = timedelta(days=1)  # half of a file, left by a crash
    history: timedelta | None = timedelta(days=30)  # commits of main, with their tables
    backups: timedelta | None = timedelta(days=90)  # and the files that they need
    unused: timedelta | None = timedelta(days=2)  # files that nothing needs any more
    snapshots: timedelta | None = timedelta(days=7)  # that a table still names


WORDS = tuple(each.name for each in fields(Retention))


@dataclass(frozen=True)
class PipelineRetention:
    """What a `config.yaml` says, as it was written; empty: as for its namespace."""

    runs: str = ""
    logs: str = ""
    snapshots: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "PipelineRetention":
        """What `dataclasses.asdict` once wrote."""
        return cls(**document)

    def __str__(self) -> str:
        said = [f"{key} {getattr(self, key)}" for key in OF_PIPELINE]
        return ", ".join(each for each in said if not each.endswith(" ")) or "nothing"


def parse_span(written: str) -> timedelta | None:
    """The span of time that is written, None for ever; ValueError when it is none."""
    if written == FOREVER:
        return None
    if not (found := SPAN.fullmatch(written)):
        raise ValueError(written)
    return int(found[1]) * UNITS[found[2]]


def read_span(located: Located, namespace: str = "") -> str:
    """A span of time, as it is written."""
    del namespace
    written = located.written.strip()
    try:
        parse_span(written)
    except ValueError as error:
        what = f"{shown(located)} is no span of time"
        raise UnfitError(what, HOW_TO_WRITE_IT) from error
    return written


def make_retention(values: dict[str, Any], namespace: str) -> PipelineRetention:
    """A retention that says something."""
    del namespace
    if not values:
        raise UnfitError("it says nothing", "write {logs: 30d}")
    return PipelineRetention(**values)


read_retention = MappingReader(
    dict.fromkeys(OF_PIPELINE, read_span), make_retention, form="{logs: 30d}"
)


def of_platform(written: str) -> Retention:
    """What `RAT_RETENTION` says; SettingsError names the word that makes no sense."""
    spans: dict[str, timedelta | None] = {}
    for each in filter(None, re.split(r"[,\s]+", written)):
        word, _, span = each.partition("=")
        if word not in WORDS:
            guess = nearest(word, WORDS)
            message = f"RAT_RETENTION: {word} is nothing that is kept"
            fix = f"did you mean {guess}?" if guess else f"write {', '.join(WORDS)}"
            raise SettingsError(message, fix=fix)
        try:
            spans[word] = parse_span(span)
        except ValueError as error:
            message = f"RAT_RETENTION: {each} names no span of time"
            raise SettingsError(message, fix=HOW_TO_WRITE_IT) from error
        refuse_short(word, spans[word])
    return replace(Retention(), **spans)


def refuse_short(word: str, span: timedelta | None) -> None:
    """SettingsError for a span in which somebody may still be at what would go."""
    least = AT_LEAST.get(word)
    if least is not None and span is not None and span < least:
        message = f"RAT_RETENTION: {word} is too short"
        raise SettingsError(message, fix=f"write {word}={least.days}d or more")


def read_namespace(
    content: str, *, path: str, problems: list[Problem]
) -> Mapping[str, str]:
    """What a `retention.yaml` says; what is wrong with it goes to *problems*."""
    said: dict[str, str] = {}
    for key, value in read_yaml(content, path=path, problems=problems):
        if key not in OF_NAMESPACE:
            problems.append(
                unknown_key(key, path=path, line=value.line, known=OF_NAMESPACE)
            )
            continue
        try:
            said[key] = read_span(value)
        except UnfitError as unfit:
            line = unfit.line or value.line
            problems.append(Problem(path, line, f"{key}: {unfit.what}", unfit.fix))
    return said


def namespace_key(namespace: str) -> str:
    """Where the store keeps what is said of a namespace."""
    return f"{namespace}/retention.yaml"


# Who says what.


@dataclass(frozen=True)
class Policy:
    """How long everything is kept, whoever said so."""

    platform: Retention
    namespaces: Mapping[str, Retention] = field(default_factory=dict)
    pipelines: Mapping[uuid.UUID, Retention] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def cutoff(self, word: str, *, now: datetime) -> datetime | None:
        """What is older goes, where nobody nearer says otherwise; None: nothing goes."""
        return before(getattr(self.platform, word), now=now)

    def cutoffs(
        self, word: str, *, now: datetime
    ) -> Mapping[uuid.UUID, datetime | None]:
        """The same of each pipeline of which something else is said."""
        return {
            pipeline_id: before(getattr(each, word), now=now)
            for pipeline_id, each in self.pipelines.items()
        }

    def of_table(self, namespace: str, pipeline_id: uuid.UUID | None) -> Retention:
        """How long the things of a table are kept; without a pipeline its namespace says so."""
        nearer = self.of_namespace(namespace)
        return (
            nearer if pipeline_id is None else self.pipelines.get(pipeline_id, nearer)
        )

    def of_namespace(self, namespace: str) -> Retention:
        """How long the things of a namespace are kept."""
        return self.namespaces.get(namespace, self.platform)


def before(span: timedelta | None, *, now: datetime) -> datetime | None:
    """The moment so long ago."""
    return None if span is None else now - span


def as_text(moment: datetime | None) -> str:
    """A moment as Postgres reads it; none is before all others."""
    return "-infinity" if moment is None else moment.isoformat()


def read_policy(tx: Session, store: Store, *, platform: Retention) -> Policy:
    """What is said now; of a namespace whose file cannot be read nothing goes."""
    problems: list[Problem] = []
    namespaces: dict[str, Retention] = {}
    for namespace in tx.scalars(NAMESPACES):
        found: list[Problem] = []
        said = said_of_namespace(store, namespace, found)
        if found:
            namespaces[namespace] = keep_all(platform)
        elif said:
            namespaces[namespace] = overruled(platform, said)
        problems += found
    pipelines = dict(said_of_pipelines(tx, namespaces, platform=platform))
    return Policy(platform, namespaces, pipelines, tuple(map(str, problems)))


NAMESPACES = text("SELECT name FROM rat.namespaces ORDER BY name")


def said_of_namespace(
    store: Store, namespace: str, problems: list[Problem]
) -> Mapping[str, str]:
    """What the store says of a namespace."""
    key = namespace_key(namespace)
    try:
        content = store.read(key).decode(errors="replace")
    except NotFoundError:
        return {}
    return read_namespace(content, path=key, problems=problems)


def overruled(of: Retention, said: Mapping[str, str]) -> Retention:
    """*of*, with what is *said* nearer."""
    return replace(
        of, **{key: parse_span(value) for key, value in said.items() if value}
    )


def keep_all(of: Retention) -> Retention:
    """*of*, with nothing of a namespace going."""
    return replace(of, **dict.fromkeys(OF_NAMESPACE, None))


def said_of_pipelines(
    tx: Session, namespaces: Mapping[str, Retention], *, platform: Retention
) -> Iterator[tuple[uuid.UUID, Retention]]:
    """The retention of each pipeline that is not the platform's."""
    for pipeline_id, namespace, said in tx.execute(SAID):
        nearer = namespaces.get(namespace, platform)
        if said or nearer is not platform:
            yield pipeline_id, overruled(nearer, said or {})


SAID = text("""
    SELECT pipeline.id, pipeline.namespace, newest.said
    FROM rat.pipelines AS pipeline
    LEFT JOIN LATERAL (
        SELECT version.spec #> '{config,retention}' AS said
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS newest ON true
""")
