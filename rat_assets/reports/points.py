"""Points: the few rows that a chart shows, read from a table of any size.

DuckDB aggregates and cuts, so that a picture of a hundred thousand rows costs no more memory than
one of ten; what was left out is said. Drawing them is `rat_assets.reports.drawing`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from rat_resources.charts import Chart
from rat_resources.errors import QueryError
from rat_resources.lake.sql import literal, quote
from rat_resources.names import LAYERS, nearest

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
NUMBERS = (*INTEGERS, *(f"U{name}" for name in INTEGERS), "FLOAT", "DOUBLE")
NONE = "(none)"  # how a picture spells a name that is NULL
MOST_PANELS = 6
# Layers stand in the order in which rows flow through them, all else by its name.
PANEL_ORDER = (
    f"list_position([{', '.join(map(literal, LAYERS))}], panel) NULLS LAST, panel"
)
MOST_SERIES = {"line": 8, "step": 8, "bar": 5, "scatter": 8}
# What fits beside each other; of names the bars that an author meets at a glance.
MOST_PLACES = {"line": 2000, "step": 2000, "bar": 100, "heatmap": 60}
MOST_BARS = 40
USUAL_BARS = 15
MOST_ROWS = {"heatmap": 40}
MOST_MARKS = {"scatter": 5000, "map": 500}

Place = float | str | datetime
"""Where something is along an axis."""


class Axis(StrEnum):
    """How the values of a column are laid out."""

    TIME = "time"
    NUMBER = "number"
    NAME = "name"


@dataclass(frozen=True)
class Point:
    """One mark of a picture: a point of a line, a bar, a cell, a route."""

    x: Place
    y: Place | None
    panel: str = ""
    series: str = ""
    value: float | None = None
    label: str = ""
    from_x: float | None = None
    from_y: float | None = None
    from_label: str = ""


@dataclass(frozen=True)
class Points:
    """What a chart shows of a table, and what it leaves out."""

    chart: Chart
    points: Sequence[Point]
    x_axis: Axis = Axis.NUMBER
    y_axis: Axis = Axis.NUMBER
    notes: tuple[str, ...] = ()
    problem: str = ""  # why there is nothing to draw
    moments: frozenset[str] = frozenset()  # the columns of times that are UTC's
    span: tuple[datetime, datetime] | None = None  # lines go on to its end


def read_charts(
    connection: DuckDBPyConnection, charts: Sequence[Chart], *, relation: str
) -> tuple[Points, ...]:
    """What *charts* show of the rows of *relation*, which is SQL.

    Of a chart that does not fit the rows, why: a picture is no reason to stop a run.
    """
    found = []
    for chart in charts:
        try:
            found.append(read_points(connection, chart, relation=relation))
        except duckdb.InterruptException:
            raise  # the run is to stop
        except (duckdb.Error, QueryError) as error:
            found.append(Points(chart, (), problem=str(error)))
    return tuple(found)


def read_points(
    connection: DuckDBPyConnection, chart: Chart, *, relation: str
) -> Points:
    """What *chart* shows of the rows of *relation*, which is SQL; QueryError when it cannot."""
    types = column_types(connection, relation)
    for misnamed in find_misnamed(chart, types):
        raise QueryError(misnamed.what, fix=misnamed.fix)
    columns = Columns(types)
    read = read_marks if chart.kind in MOST_MARKS else read_cells
    points, notes = read(connection, chart, columns, relation=relation)
    notes += tuple(missing(connection, chart, columns, relation=relation))
    y_axis = columns.axis(chart.y[0]) if chart.kind == "heatmap" else Axis.NUMBER
    return Points(
        chart, points, columns.axis(chart.x), y_axis, notes, moments=columns.moments
    )


# Which columns.


def column_types(connection: DuckDBPyConnection, relation: str) -> dict[str, str]:
    """The columns of a relation and DuckDB's words for their types."""
    rows = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return {name: kind for name, kind, *_ in rows}


@dataclass(frozen=True)
class Misnamed:
    """A column that a chart cannot have."""

    chart: Chart
    column: str
    what: str
    fix: str

    def line(self, config: str) -> int:
        """Where *config* names the column, below the title of its chart."""
        lines = config.splitlines()
        titles = [n for n, line in enumerate(lines) if self.chart.title in line]
        first = titles[0] if titles else 0
        word = re.compile(rf"[:\[,]\s*[\"']?{re.escape(self.column)}\b")
        found = (n for n, line in enumerate(lines[first:], first) if word.search(line))
        return next(found, first) + 1


def find_misnamed(chart: Chart, types: Mapping[str, str]) -> Iterator[Misnamed]:
    """The columns of a chart that a table lacks, or that are no numbers where they must be."""
    for name in chart.columns:
        if name not in types:
            guess = nearest(name, types)
            fix = f"did you mean {guess}?" if guess else f"there is {', '.join(types)}"
            what = f"chart {chart.title!r} names {name}, which is no column"
            yield Misnamed(chart, name, what, fix)
    for name in chart.measured:
        if name in types and axis_of(types[name]) != Axis.NUMBER:
            what = f"chart {chart.title!r} measures {name}, which is {types[name]}"
            yield Misnamed(chart, name, what, "name a column of numbers")


def axis_of(kind: str) -> Axis:
    """How the values of a type are laid out."""
    if kind.startswith(("DATE", "TIMESTAMP")):
        return Axis.TIME
    is_number = kind in NUMBERS or kind.startswith("DECIMAL(")
    return Axis.NUMBER if is_number and not kind.endswith("[]") else Axis.NAME


@dataclass(frozen=True)
class Columns:
    """The columns of a table as SQL that a chart can lay out."""

    types: Mapping[str, str]

    def axis(self, name: str) -> Axis:
        """How a column is laid out."""
        return axis_of(self.types[name])

    @property
    def moments(self) -> frozenset[str]:
        """The columns whose times are moments, wherever one lives."""
        ends = "TIME ZONE"
        return frozenset(
            name for name, kind in self.types.items() if kind.endswith(ends)
        )

    def place(self, name: str) -> str:
        """A column as places on its axis: UTC, numbers, or names, of which NULL is one."""
        match self.axis(name):
            case Axis.TIME if name in self.moments:
                return f"{quote(name)} AT TIME ZONE 'UTC'"
            case Axis.TIME:
                return f"CAST({quote(name)} AS TIMESTAMP)"
            case Axis.NUMBER:
                return self.number(name)
        return self.name(name)

    def number(self, name: str) -> str:
        """A column as numbers that can be drawn."""
        double = f"CAST({quote(name)} AS DOUBLE)"
        return f"CASE WHEN isfinite({double}) THEN {double} END"

    def name(self, name: str) -> str:
        """A column as names; no column is no name."""
        if not name:
            return "''"
        return f"coalesce(CAST({quote(name)} AS VARCHAR), {literal(NONE)})"


# Points that are rows.


def read_marks(
    connection: DuckDBPyConnection, chart: Chart, columns: Columns, *, relation: str
) -> tuple[list[Point], tuple[str, ...]]:
    """The rows of a scatter or a map."""
    numbers = {
        role: columns.number(name) if name else "NULL"
        for role, name in (
            ("value", chart.value),
            ("from_x", chart.from_x),
            ("from_y", chart.from_y),
        )
    }
    x, y = columns.place(chart.x), columns.number(chart.y[0])
    # By hash: the same sample of the same rows, whatever their order.
    order = "value DESC NULLS LAST" if chart.kind == "map" and chart.value else ""
    query = f"""
        WITH marks AS (
            SELECT {x} AS x, {y} AS y, '' AS panel, {columns.name(chart.series)} AS series,
                {numbers["value"]} AS value, {columns.name(chart.label)} AS label,
                {numbers["from_x"]} AS from_x, {numbers["from_y"]} AS from_y,
                {columns.name(chart.from_label)} AS from_label
            FROM {relation}
        ),
        ranked AS (
            SELECT *, count(*) OVER () AS marks,
                dense_rank() OVER (ORDER BY series) AS series_place
            FROM marks
            WHERE x IS NOT NULL AND y IS NOT NULL
                {"AND from_x IS NOT NULL AND from_y IS NOT NULL" if chart.from_x else ""}
        )
        SELECT * EXCLUDE (series_place), max(series_place) OVER () AS all_series
        FROM ranked
        QUALIFY series_place <= {MOST_SERIES.get(chart.kind, 1)}
        ORDER BY {order or "hash(x, y, series)"}, hash(x, y, series)
        LIMIT {bounded(chart.limit, most=MOST_MARKS[chart.kind])}
    """
    rows = connection.execute(query).fetchall()
    points = [Point(*row[:9]) for row in rows]
    if not rows:
        return [], ()
    whole, series = rows[0][9:11]
    notes = said_cut(len(rows), whole, "rows" if chart.kind == "scatter" else "places")
    shown = len({point.series for point in points})
    return points, (*notes, *said_cut(shown, series, plural(chart.series)))


# Points that rows are put together to.


def read_cells(
    connection: DuckDBPyConnection, chart: Chart, columns: Columns, *, relation: str
) -> tuple[list[Point], tuple[str, ...]]:
    """The points of lines, bars and cells, at most one a place."""
    is_heatmap = chart.kind == "heatmap"
    x_axis = columns.axis(chart.x)
    cells = cells_query(chart, columns, relation=relation)
    most_x = most_places(chart, x_axis)
    most_y = MOST_ROWS["heatmap"]
    query = f"""
        WITH cells AS ({cells}),
        totals AS (
            SELECT *,
                sum(measure) OVER (PARTITION BY x) AS x_total,
                sum(abs(measure)) OVER (PARTITION BY series) AS series_total
            FROM cells
            WHERE x IS NOT NULL
        ),
        ranked AS (
            SELECT *,
                dense_rank() OVER (ORDER BY {x_order(chart, x_axis)}) AS x_place,
                dense_rank() OVER (ORDER BY {PANEL_ORDER}) AS panel_place,
                dense_rank() OVER (
                    PARTITION BY panel ORDER BY series_total DESC NULLS LAST, series
                ) AS series_place,
                dense_rank() OVER (ORDER BY {"y" if is_heatmap else "1"}) AS y_place
            FROM totals
        )
        SELECT x, y, panel, series, measure,
            max(copies) OVER (), max(x_place) OVER (), max(panel_place) OVER (),
            max(series_place) OVER (), max(y_place) OVER ()
        FROM ranked
        QUALIFY x_place <= {most_x}
            AND panel_place <= {MOST_PANELS}
            AND series_place <= {MOST_SERIES.get(chart.kind, 1)}
            AND y_place <= {most_y}
        ORDER BY panel_place, series, {"x_place" if is_ranked(chart, x_axis) else "x"}, y
    """
    rows = connection.execute(query).fetchall()
    if not rows:
        return [], ()
    copies, xs, panels, series, ys = rows[0][5:10]
    if copies > 1 and not chart.aggregate:
        message = f"chart {chart.title!r}: {copies:,} rows share one place"
        raise QueryError(message, fix="add aggregate: sum, mean, median, min or max")
    points = [
        Point(x, y, panel, one_series, value=measure)
        if is_heatmap
        else Point(x, measure, panel, one_series)
        for x, y, panel, one_series, measure, *_ in rows
    ]
    notes = (
        *said_cut(min(xs, most_x), xs, plural(chart.x)),
        *said_cut(min(panels, MOST_PANELS), panels, plural(chart.panels)),
        *said_cut(
            min(series, MOST_SERIES.get(chart.kind, 1)), series, plural(chart.series)
        ),
        *(said_cut(min(ys, most_y), ys, plural(chart.y[0])) if is_heatmap else ()),
    )
    return points, notes


def cells_query(chart: Chart, columns: Columns, *, relation: str) -> str:
    """A query for one row a place: x, y, panel, series, measure, and how many rows it was."""
    x, panel = columns.place(chart.x), columns.name(chart.panels)
    if chart.kind == "heatmap":
        measures = [(columns.place(chart.y[0]), "''", chart.value)]
    elif len(chart.y) > 1:
        measures = [("NULL", literal(plain(name)), name) for name in chart.y]
    else:
        measures = [("NULL", columns.name(chart.series), chart.y[0])]
    return " UNION ALL ".join(
        f"SELECT {x} AS x, {y} AS y, {panel} AS panel, {series} AS series, "
        f"{measured(chart, columns, name)} AS measure, count(*) AS copies "
        f"FROM {relation} GROUP BY ALL"
        for y, series, name in measures
    )


def measured(chart: Chart, columns: Columns, name: str) -> str:
    """What a place measures, of the rows that share it."""
    if chart.counts:
        return f"CAST(count({quote(name)}) AS DOUBLE)"
    return f"{chart.aggregate or 'any_value'}({columns.number(name)})"


def most_places(chart: Chart, axis: Axis) -> int:
    """How many values of x a chart shows."""
    if chart.kind == "bar" and axis == Axis.NAME:
        return bounded(chart.limit or USUAL_BARS, most=MOST_BARS)
    return bounded(chart.limit, most=MOST_PLACES[chart.kind])


def is_ranked(chart: Chart, axis: Axis) -> bool:
    """Whether bars stand by their length: where they are names, or their author says so."""
    return chart.kind == "bar" and (bool(chart.order) or axis == Axis.NAME)


def x_order(chart: Chart, axis: Axis) -> str:
    """Which values of x come first, and stay when there are too many: of times the newest."""
    if is_ranked(chart, axis):
        direction = "ASC" if chart.order == "ascending" else "DESC"
        return f"x_total {direction} NULLS LAST, x"
    return "x DESC" if axis == Axis.TIME else "x"


# What is left out.


def missing(
    connection: DuckDBPyConnection, chart: Chart, columns: Columns, *, relation: str
) -> Iterator[str]:
    """The rows that have no place because a column is NULL or no number."""
    names = [chart.x]
    if chart.kind in ("heatmap", "scatter", "map"):
        names += [*chart.y, *((chart.from_x, chart.from_y) if chart.from_x else ())]
    conditions = " OR ".join(f"{columns.place(name)} IS NULL" for name in names)
    query = f"SELECT count(*) FROM {relation} WHERE {conditions}"
    (count,) = connection.execute(query).fetchall()[0]
    if count:
        rows = "1 row" if count == 1 else f"{count:,} rows"
        what = plain(chart.x) if len(names) == 1 else "a place"
        yield f"{rows} without {what} left out"


def said_cut(shown: int, whole: int, noun: str) -> tuple[str, ...]:
    """That only a part is shown, if so."""
    return (f"{shown:,} of {whole:,} {noun}",) if shown < whole else ()


def bounded(limit: int, *, most: int) -> int:
    """What an author asks for, as far as it fits."""
    return min(limit or most, most)


def plain(name: str) -> str:
    """A column's name as people read it."""
    return name.replace("_", " ").strip()


def plural(name: str) -> str:
    """Several of what a column names."""
    word = plain(name)
    return word if word.endswith("s") or not word else f"{word}s"


def numbers(points: Points, *, limit: int) -> list[dict[str, Any]]:
    """The first points as rows of a table, under the names of their columns."""
    chart = points.chart
    named = {
        "panel": chart.panels,
        "series": chart.series or ("series" if len(chart.y) > 1 else ""),
        "x": chart.x,
        "y": chart.y[0] if len(chart.y) == 1 else "value",
        "value": chart.value,
        "label": chart.label,
    }
    if chart.kind == "map":
        named = name_ends(chart) | {"value": chart.value}
    roles = {role: name for role, name in named.items() if name}
    return [
        {
            name: shown(getattr(point, role), is_moment=name in points.moments)
            for role, name in roles.items()
        }
        for point in points.points[:limit]
    ]


def name_ends(chart: Chart) -> dict[str, str]:
    """What tells the rows of a map apart: where each begins and ends, by name if it has one."""
    start = (
        {"from_label": chart.from_label}
        if chart.from_label
        else {"from_x": chart.from_x, "from_y": chart.from_y}
    )
    end = {"label": chart.label} if chart.label else {"x": chart.x, "y": chart.y[0]}
    return start | end


def shown(value: object, *, is_moment: bool) -> object:
    """A value as people read it: a moment with its zone."""
    if is_moment and isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return whole(value)


def whole(value: object) -> object:
    """A value; a whole number without the point that drawing needs."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
