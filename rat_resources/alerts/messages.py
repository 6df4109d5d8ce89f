"""Messages: what a delivery says, before a channel gives it its form.

What stands in an event may come from anywhere: every text is one line without control characters and
of bounded length, every list is bounded, and what is no such thing as it should be is left out.
Escaping is the channel's: each has its own.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

LONGEST_LINE = 300
LONGEST_CELL = 80
LONGEST_TEXT = 2_000
MOST_ROWS = 5
MOST_COLUMNS = 12
MOST_FACTS = 20
MOST_TOLD = 10  # of a group; the others are counted
SEVERITIES = ("info", "warning", "critical")
STATES = ("firing", "resolved", "test")


def line(value: Any, *, most: int = LONGEST_LINE) -> str:  # noqa: ANN401 - JSON, right or wrong
    """A value as one line that says nothing but what is seen of it."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    # What comes behind is cut anyway, and a megabyte need not be looked through.
    said = "" if value is None else str(value)[: 4 * most]
    if len(said) <= most and said.isprintable() and "  " not in said:
        return said.strip()
    if not said.isprintable():
        said = "".join(each if each.isprintable() else " " for each in said)
    said = " ".join(said.split())
    return said if len(said) <= most else f"{said[: most - 1]}…"


def facts_of(value: Any, *, most: int = MOST_FACTS) -> dict[str, str]:  # noqa: ANN401 - JSON, right or wrong
    """An object as names and lines."""
    if not isinstance(value, Mapping):
        return {}
    items = list(value.items())[:most]
    return {line(key, most=LONGEST_CELL): line(each) for key, each in items}


@dataclass(frozen=True)
class Told:
    """One event, as a message tells it."""

    event_id: uuid.UUID
    title: str
    severity: str = "warning"
    state: str = "firing"
    at: datetime | None = None
    kind: str = ""
    definition: str = ""
    table: str = ""
    pipeline: str = ""
    run_id: str = ""
    dagster_run_id: str = ""
    since: str = ""
    cause: str = ""
    owner: str = ""
    description: str = ""
    remediation: str = ""
    resolves: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    subject: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Mapping[str, str]] = ()
    rows_matching: int | None = None

    @classmethod
    def read(
        cls,
        event_id: uuid.UUID,
        payload: Any,  # noqa: ANN401 - JSON, right or wrong
        *,
        severity: str | None = None,
        at: datetime | None = None,
    ) -> Self:
        """What an event's row tells, whoever wrote it."""
        said = payload if isinstance(payload, Mapping) else {}
        words = {
            name: line(said.get(name))
            for name in (
                *("kind", "definition", "table", "pipeline", "run_id"),
                *("dagster_run_id", "since", "cause", "resolves"),
                "owner",
            )
        }
        rows, matching = said.get("rows"), said.get("rows_matching")
        rows = rows if isinstance(rows, list) else []
        return cls(
            event_id,
            line(said.get("title")) or "something happened",
            severity=severity if severity in SEVERITIES else "warning",
            state=said["state"] if said.get("state") in STATES else "firing",
            at=at,
            description=line(said.get("description"), most=LONGEST_TEXT),
            remediation=line(said.get("remediation"), most=LONGEST_TEXT),
            labels=facts_of(said.get("labels")),
            subject=facts_of(said.get("subject")),
            figures=facts_of(said.get("figures")),
            rows=[cells for each in rows[:MOST_ROWS] if (cells := cells_of(each))],
            rows_matching=matching if isinstance(matching, int) else None,
            **words,
        )

    @property
    def word(self) -> str:
        """How it is called at a glance."""
        return self.severity if self.state == "firing" else self.state

    @property
    def facts(self) -> dict[str, str]:
        """Where, since when, and the figures."""
        matching = "" if self.rows_matching is None else f"{self.rows_matching:,}"
        figures = dict(self.figures)
        if figures.get("rows") == str(self.rows_matching):
            del figures["rows"]  # it is said already
        found = {
            "alert": self.definition,
            "table": self.table,
            "pipeline": "" if self.pipeline == self.table else self.pipeline,
            "run": self.run_id,
            "owner": self.owner,
            "since": moment(self.since, otherwise=self.at),
            **self.subject,
            **figures,
            "rows that match": matching,
        }
        return {name: value for name, value in found.items() if value}

    def to_json(self) -> dict[str, Any]:
        """The event as a receiver that is a program reads it."""
        document = {
            name: getattr(self, name)
            for name in (
                *("title", "severity", "state", "kind", "definition", "table"),
                *("pipeline", "run_id", "dagster_run_id", "since", "cause"),
                *(
                    "owner",
                    "description",
                    "remediation",
                    "resolves",
                    "labels",
                    "subject",
                    "figures",
                ),
                *("rows", "rows_matching"),
            )
        }
        told = {"id": str(self.event_id), **document}
        at = self.at and self.at.isoformat()
        return {"event_time": at} | {
            name: value for name, value in told.items() if value not in ("", None)
        }


def moment(written: str, *, otherwise: datetime | None) -> str:
    """A time as people read it; what is none, as it is written."""
    try:
        at = datetime.fromisoformat(written) if written else otherwise
    except ValueError:
        return written
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S UTC}" if at else ""


def cells_of(row: Any) -> dict[str, str]:  # noqa: ANN401 - JSON, right or wrong
    """A row as names and short cells."""
    if not isinstance(row, Mapping):
        return {}
    return {
        line(key, most=LONGEST_CELL): line(each, most=LONGEST_CELL)
        for key, each in list(row.items())[:MOST_COLUMNS]
    }


@dataclass(frozen=True)
class Message:
    """What one delivery says: of one event, or of all that are told together."""

    id: str  # of the delivery, and the receiver's key to know it again by
    told: Sequence[Told]
    total: int = 1  # events, of which `told` may be the first
    ui: str | None = None  # where Dagster's pages are
    org: str = "default"
    thread: str = ""  # what a resolution and what it resolves have in common
    is_short: bool = False

    @property
    def first(self) -> Told:
        """The event that speaks for all."""
        return self.told[0]

    @property
    def severity(self) -> str:
        """The worst of what is told."""
        return max((each.severity for each in self.told), key=SEVERITIES.index)

    @property
    def state(self) -> str:
        """Whether something is wrong, or no longer, or only tried."""
        return self.first.state

    @property
    def headline(self) -> str:
        """All of it in a line."""
        word = self.severity if self.state == "firing" else self.state
        more = f" (and {self.total - 1:,} more)" if self.total > 1 else ""
        return f"[{word}] {self.first.title}{more}"

    @property
    def sections(self) -> list["Section"]:
        """What there is to say, one part an event."""
        return [Section.of(each, whole=self) for each in self.told]

    @property
    def left_out(self) -> int:
        """How many events are only counted."""
        return self.total - len(self.told)

    def shortened(self) -> "Message":
        """The same without what makes it long."""
        bare = replace(
            self.first,
            rows=(),
            figures=dict(list(self.first.figures.items())[:3]),
            labels={},
            description=line(self.first.description, most=LONGEST_LINE),
            remediation=line(self.first.remediation, most=LONGEST_LINE),
        )
        return replace(self, told=(bare,), is_short=True)

    def links(self, told: Told) -> dict[str, str]:
        """Where Dagster shows what an event is about."""
        if self.ui is None:
            return {}
        base, table = self.ui.rstrip("/"), told.table or told.pipeline
        path = "/".join(quote(part, safe="") for part in table.split("."))
        run = quote(told.dagster_run_id, safe="")
        return {
            **({"table": f"{base}/assets/{path}"} if table else {}),
            **({"run": f"{base}/runs/{run}"} if run else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """The message as a receiver that is a program reads it."""
        return {
            "id": self.id,
            "org": self.org,
            "headline": self.headline,
            "severity": self.severity,
            "state": self.state,
            "count": self.total,
            "events": [
                each.to_json() | {"links": self.links(each)} for each in self.told
            ],
        }


@dataclass(frozen=True)
class Section:
    """An event in the parts that every channel gives its own form."""

    title: str
    description: str
    facts: Mapping[str, str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    remediation: str
    links: Mapping[str, str]

    @classmethod
    def of(cls, told: Told, *, whole: Message) -> Self:
        """The parts of an event."""
        columns = list(dict.fromkeys(key for row in told.rows for key in row))
        columns = columns[:MOST_COLUMNS]
        return cls(
            f"[{told.word}] {told.title}",
            told.description,
            told.facts,
            columns,
            [[row.get(column, "") for column in columns] for row in told.rows],
            told.remediation,
            whole.links(told),
        )

    @property
    def grid(self) -> list[str]:
        """The rows under their columns, a line each."""
        if not self.rows:
            return []
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return [
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in lines
        ]

    @property
    def plain(self) -> str:
        """The parts as plain text."""
        lines = [
            self.title,
            *([self.description] if self.description else []),
            *(f"{name}: {value}" for name, value in self.facts.items()),
        ]
        if self.rows:
            lines += ["", *self.grid]
        if self.remediation:
            lines += ["", f"What to do: {self.remediation}"]
        if self.links:
            lines += ["", *(f"{name}: {url}" for name, url in self.links.items())]
        return "\n".join(lines)


def plain_text(message: Message) -> str:
    """All of a message as plain text."""
    parts = [section.plain for section in message.sections]
    if message.left_out:
        parts.append(f"… and {message.left_out:,} more")
    return "\n\n".join(parts)
