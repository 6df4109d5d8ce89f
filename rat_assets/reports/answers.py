"""Answers: what a report asks of Postgres, and the charts and rows that answer it.

Which reports there are is `rat_assets.reports.platform`; what can be asked is
`rat_resources.metadata.health`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa

from rat_assets.reports.points import Points, read_charts, said_cut
from rat_resources import runs
from rat_resources.charts import MOST_CHARTS, Chart
from rat_resources.lake.rows import as_json
from rat_resources.metadata.health import Question, Row
from rat_resources.platform import Platform

HOUR = timedelta(hours=1)
NAME = "pipeline"  # the column that says of which pipeline a row is


@dataclass(frozen=True)
class Part:
    """A question of a report, and the pictures of its answer."""

    title: str
    question: Question
    charts: tuple[Chart, ...]
    nothing: str  # what it means when there is nothing to show
    given: Mapping[str, object] = field(default_factory=dict)
    named: tuple[str, ...] = ()  # columns that are shown as one dotted name
    hidden: tuple[str, ...] = ()  # columns that only programs need
    newest_first: bool = False  # of the rows under a picture
    first: tuple[str, object] = ("", None)  # a column: the rows with this value lead
    each: str = ""  # a column: every value of it has charts of its own
    days: int = 0  # which lines show, up to now; 0: those of their points

    def span(self, now: datetime) -> tuple[datetime, datetime] | None:
        """From when to when its lines go."""
        end = now.astimezone(UTC).replace(tzinfo=None)  # as places along an axis are
        return (end - timedelta(days=self.days), end) if self.days else None


@dataclass(frozen=True)
class Report:
    """Questions about the platform that belong together, and the pictures that answer them."""

    name: str
    title: str
    description: str
    parts: tuple[Part, ...]

    @property
    def key(self) -> dg.AssetKey:
        """The asset that it is."""
        return dg.AssetKey(["platform", "report", self.name])


@dataclass(frozen=True)
class Answer:
    """The rows that answer a part of a report, and what its charts show of them."""

    part: Part
    rows: Sequence[Row]
    points: tuple[Points, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see: no rows, or nothing but zeros."""
        measured = {name for chart in self.part.charts for name in chart.y}
        return not any(row[name] for row in self.rows for name in measured)

    @property
    def table(self) -> list[dict[str, object]]:
        """Its rows as JSON has them, those first that people look for."""
        column, value = self.part.first
        rows = sorted(self.rows, key=lambda row: row.get(column) != value)
        if self.part.newest_first:
            rows.reverse()
        return [{name: said(each) for name, each in row.items()} for row in rows]


def answer(whole: Platform, report: Report) -> tuple[Answer, ...]:
    """The answers to every part of a report, all as of one moment."""
    with whole.metadata.transaction() as tx:
        now = runs.database_time(tx)
        found = [
            part.question.ask(tx, as_of=now, **part.given) for part in report.parts
        ]
    return tuple(
        read_answer(whole, part, rows=[shape(part, row) for row in rows], now=now)
        for part, rows in zip(report.parts, found, strict=True)
    )


def read_report(whole: Platform, report: Report) -> tuple[Points, ...]:
    """What all charts of a report show now."""
    return tuple(points for each in answer(whole, report) for points in each.points)


def shape(part: Part, row: Row) -> Row:
    """A row as people read it: the columns of a name as one."""
    name = {NAME: ".".join(str(row[each]) for each in part.named)} if part.named else {}
    left_out = (*part.named, *part.hidden)
    return name | {key: value for key, value in row.items() if key not in left_out}


def read_answer(
    whole: Platform, part: Part, *, rows: Sequence[Row], now: datetime
) -> Answer:
    """An answer with what its charts show; every value of `each` has its own."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row[part.each]) if part.each else "", []).append(row)
    shown = list(groups)[: max(1, MOST_CHARTS // len(part.charts))]
    notes = said_cut(len(shown), len(groups), f"{part.each}s")
    points = tuple(
        replace(found, notes=(*found.notes, *notes), span=part.span(now))
        for group in shown
        for found in read_group(whole, titled(part.charts, group), rows=groups[group])
    )
    empty = tuple(Points(chart, ()) for chart in part.charts)
    return Answer(part, rows, points or empty)


def titled(charts: Sequence[Chart], group: str) -> list[Chart]:
    """Charts that say which part of a report they show."""
    return [
        replace(chart, title=f"{chart.title}: {group}") if group else chart
        for chart in charts
    ]


def read_group(
    whole: Platform, charts: Sequence[Chart], *, rows: Sequence[Row]
) -> tuple[Points, ...]:
    """What charts show of some rows."""
    columns = {name for chart in charts for name in chart.columns}
    drawn = [
        {name: drawable(value) for name, value in row.items() if name in columns}
        for row in rows
    ]
    with whole.lake.connect() as connection:
        connection.register("report", pa.Table.from_pylist(drawn))
        return read_charts(connection, charts, relation="report")


def said(value: object) -> object:
    """A value as people read it: times to the second."""
    match value:
        case datetime():
            return as_json(value.replace(microsecond=0))
        case timedelta():
            return as_json(timedelta(seconds=round(value.total_seconds())))
    return as_json(value)


def drawable(value: object) -> object:
    """A value that a chart can lay out: a time that passed as hours."""
    return value / HOUR if isinstance(value, timedelta) else value
