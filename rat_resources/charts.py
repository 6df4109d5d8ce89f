"""Charts: what a picture of a table is made of, in its author's words.

How the words are read is `rat_resources.configuration`, how the picture comes about
`rat_assets.reports`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

AGGREGATES = ("sum", "mean", "median", "min", "max", "count")
ORDERS = ("descending", "ascending")
SCALES = ("linear", "log")
MOST_CHARTS = 6  # of one table: every materialization keeps their pictures
# What a kind takes beside title, kind, x, y and unit.
WORDS = {
    "line": ("series", "panels", "aggregate", "limit", "scale"),
    "step": ("series", "panels", "aggregate", "limit", "scale"),
    "bar": ("series", "panels", "aggregate", "order", "limit", "scale"),
    "scatter": ("series", "limit", "scale"),
    "heatmap": ("value", "aggregate"),
    "map": ("from_x", "from_y", "value", "label", "from_label", "limit"),
}
KINDS = tuple(WORDS)
# The kinds whose y may be several columns, each a series of its own.
WIDE = ("line", "step", "bar")


@dataclass(frozen=True)
class Chart:
    """One picture; every word but title, kind and those from aggregate to scale names a column."""

    title: str
    kind: str
    x: str
    y: tuple[str, ...]
    series: str = ""
    panels: str = ""
    value: str = ""
    label: str = ""
    from_x: str = ""
    from_y: str = ""
    aggregate: str = ""  # of rows that share a place; without it there may be none
    order: str = ""  # of bars: by their length, and not by x
    limit: int = 0  # 0: as many as the kind can show
    unit: str = ""  # of what is measured, for people
    scale: str = "linear"
    from_label: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Chart":
        """The chart that `dataclasses.asdict` once wrote."""
        return cls(**{**document, "y": tuple(document["y"])})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        return tuple(dict.fromkeys((self.x, *self.y, *self.measured, *self.names)))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns whose values it writes out."""
        named = (self.series, self.panels, self.label, self.from_label)
        return tuple(each for each in named if each)

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns that must be numbers."""
        if self.kind == "heatmap":
            return (self.value,)
        places = (self.x, self.from_x, self.from_y) if self.kind == "map" else ()
        return tuple(
            name
            for name in (*(() if self.counts else self.y), *places, self.value)
            if name
        )

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns whose single values it shows, and not what many of them come to."""
        places = (self.x, self.from_x, self.from_y)
        measures = () if self.aggregate and self.kind != "heatmap" else self.y
        value = "" if self.aggregate else self.value
        every = (*places, *self.names, *measures, value)
        return tuple(dict.fromkeys(each for each in every if each))

    @property
    def counts(self) -> bool:
        """Whether it counts rows, whatever they hold."""
        return self.aggregate == "count"


def misfits(chart: Chart) -> Iterator[tuple[str, str]]:
    """What does not go together in a chart, each with the way to mend it."""
    kind, takes = chart.kind, WORDS[chart.kind]
    optional = {word for words in WORDS.values() for word in words}
    for word in sorted(optional - set(takes)):
        if getattr(chart, word) not in ("", 0, "linear"):
            others = " or ".join(each for each in KINDS if word in WORDS[each])
            yield f"a {kind} takes no {word}", f"remove it; a {others} does"
    if len(chart.y) > 1 and kind not in WIDE:
        yield f"the y of a {kind} is one column", f"write y: {chart.y[0]}"
    if len(chart.y) > 1 and chart.series:
        what = "several columns as y are series already"
        yield what, "remove series, or write one column as y"
    if kind == "heatmap" and not chart.value:
        yield "a heatmap needs a value", "add value: COLUMN, which colours the cells"
    if bool(chart.from_x) != bool(chart.from_y):
        missing = "from_y" if chart.from_x else "from_x"
        yield f"{missing} is missing", f"add {missing}: COLUMN"
    if kind == "map" and chart.from_label and not chart.from_x:
        yield "from_label names no start", "add from_x: COLUMN and from_y: COLUMN"
