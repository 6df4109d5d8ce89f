"""Pictures: they decode, they are not blank, they are small, and no table breaks them."""

import io
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pytest
from matplotlib import dates
from PIL import Image

from rat_assets.reports.drawing import (
    PALETTE,
    STATES,
    colour_of,
    draw_file,
    draw_small,
    drawn,
    great_circle,
    spread,
)
from rat_assets.reports.pictures import PICTURE_BYTES
from rat_assets.reports.points import Points, read_points
from rat_resources.charts import KINDS, Chart

ROWS = """
    SELECT
        range % 24 AS hour,
        'Carrier ' || (range // 24) AS carrier,
        DATE '2013-01-01' + range::INTEGER AS day,
        sin(range / 20) * 40 + 10 AS delay,
        1 + range AS flights,
        40 + (range % 9) AS latitude,
        -120 + range % 50 AS longitude,
        -74 AS from_longitude,
        40.7 AS from_latitude
    FROM range({count})
"""
WORDS: dict[str, dict[str, Any]] = {
    "line": {"x": "day", "y": ("delay",), "series": "carrier"},
    "step": {"x": "day", "y": ("flights",), "panels": "carrier", "scale": "log"},
    "bar": {"x": "carrier", "y": ("flights",), "aggregate": "sum"},
    "scatter": {"x": "flights", "y": ("delay",)},
    "heatmap": {"x": "hour", "y": ("carrier",), "value": "delay"},
    "map": {
        "x": "longitude",
        "y": ("latitude",),
        "from_x": "from_longitude",
        "from_y": "from_latitude",
        "value": "flights",
        "label": "carrier",
    },
}


def points_of(kind: str, *, count: int = 240, **words: Any) -> Points:  # noqa: ANN401 - the fields of Chart
    """What a chart of a kind shows of some rows."""
    made = Chart("A title", kind, **(WORDS[kind] | words))
    return read_points(duckdb.connect(), made, relation=f"({ROWS.format(count=count)})")


def decode(png: bytes) -> Image.Image:
    """A picture, read whole."""
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def ink(png: bytes) -> float:
    """The share of a picture, below its title, that is not white."""
    pixels = np.asarray(decode(png).convert("L"))
    return float((pixels[pixels.shape[0] // 6 :] < 250).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_in_metadata_is_small_and_not_blank(kind: str) -> None:
    png = draw_small(points_of(kind), source="a.b.c", most=PICTURE_BYTES)

    assert len(png) <= PICTURE_BYTES
    assert 700 <= decode(png).width <= 1000
    assert ink(png) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_a_picture_that_says_so(kind: str) -> None:
    png = draw_small(points_of(kind, count=0), source="a.b.c", most=PICTURE_BYTES)

    assert 0 < ink(png) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_a_picture(kind: str) -> None:
    png = draw_small(points_of(kind, count=1), source="a.b.c", most=PICTURE_BYTES)

    assert ink(png) > 0.002


def test_a_file_is_sharper_than_metadata() -> None:
    points = points_of("bar")

    file = decode(draw_file(points, source="a.b.c"))

    assert file.width == 1800


def test_a_picture_gives_up_sharpness_where_it_must() -> None:
    points = points_of("scatter", count=5000)

    png = draw_small(points, source="a.b.c", most=15_000)

    assert len(png) <= 15_000


@pytest.mark.parametrize(
    "title",
    ["Costs in $ and more $", "Zürich – 東京 ✈ \x07", "long " * 90, r"\frac{1}{2} {x}"],
)
def test_a_title_is_drawn_as_it_is(title: str) -> None:
    points = points_of("bar")

    png = draw_small(
        replace(points, chart=replace(points.chart, title=title)),
        source=title,
        most=PICTURE_BYTES,
    )

    assert ink(png) > 0.01


@pytest.mark.parametrize("value", ["NULL", "0", "-5", "1e300", "'NaN'::DOUBLE"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_of_any_size_can_be_drawn(kind: str, value: str) -> None:
    words = WORDS[kind]
    rows = f"SELECT * REPLACE ({value} AS flights, {value} AS delay) FROM ({ROWS.format(count=3)})"
    wanted = Chart("A title", kind, **words)

    points = read_points(duckdb.connect(), wanted, relation=f"({rows})")

    assert draw_small(points, source="a.b.c", most=PICTURE_BYTES)


@pytest.mark.parametrize(
    ("step", "count", "names"),
    [
        (
            "1 HOUR",
            24,
            ["00:00\n1 Jan 2013", "04:00", "08:00", "12:00", "16:00", "20:00"],
        ),
        ("1 DAY", 8, ["1\nJan 2013", "2", "3", "4", "5", "6", "7", "8"]),
        ("1 DAY", 31, ["1\nJan 2013", "8", "15", "22"]),
        ("1 DAY", 59, ["1\nJan 2013", "15", "1\nFeb 2013", "15"]),
        ("7 DAY", 53, ["Jan\n2013", "Mar", "May", "Jul", "Sep", "Nov", "Jan\n2014"]),
    ],
)
def test_times_are_named_by_what_they_are_part_of(
    step: str, count: int, names: list[str]
) -> None:
    query = f"(SELECT TIMESTAMP '2013-01-01' + range * INTERVAL {step} AS t, range AS n FROM range({count}))"
    chart = Chart("T", "line", x="t", y=("n",))

    picture = drawn(read_points(duckdb.connect(), chart, relation=query), source="s")

    axis = picture.figure.axes[0].xaxis
    said = axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs()))
    assert [name for name in said if name] == names


def test_a_line_goes_on_to_the_end_of_its_span() -> None:
    query = "(SELECT DATE '2013-01-01' + range::INTEGER AS t, range AS n FROM range(9))"
    chart = Chart("T", "step", x="t", y=("n",))
    points = read_points(duckdb.connect(), chart, relation=query)
    start, end = datetime(2013, 1, 5), datetime(2013, 2, 1)  # noqa: DTZ001 - as places are

    axes = drawn(replace(points, span=(start, end)), source="s").figure.axes[0]

    line = axes.lines[0]
    assert line.get_xdata()[-1] == end  # type: ignore[index]
    assert line.get_ydata()[-1] == 8  # type: ignore[index]
    assert axes.get_xlim()[0] == dates.date2num(start)  # type: ignore[no-untyped-call]


def test_states_have_the_same_colours_everywhere() -> None:
    assert colour_of("failed", ["passed", "failed"]) == STATES["failed"]
    assert colour_of("failed", ["failed", "red"]) == PALETTE[0]


def test_bars_of_days_name_the_month_once() -> None:
    query = "(SELECT DATE '2013-01-30' + range::INTEGER AS t, range AS n FROM range(4))"
    chart = Chart("T", "bar", x="t", y=("n",))

    axes = drawn(read_points(duckdb.connect(), chart, relation=query), source="s")

    names = [each.get_text() for each in axes.figure.axes[0].get_xticklabels()]
    assert names == ["30\nJan 2013", "31", "1\nFeb 2013", "2"]


def test_percents_end_at_a_hundred() -> None:
    query = "(SELECT range AS t, 95 + range % 6 AS n FROM range(9))"
    chart = Chart("T", "line", x="t", y=("n",), unit="% of runs")

    axes = drawn(read_points(duckdb.connect(), chart, relation=query), source="s")

    low, high = axes.figure.axes[0].get_ylim()
    assert 90 < low < 95
    assert 100 < high < 101


def test_a_single_day_is_no_span_of_years() -> None:
    query = "(SELECT DATE '2013-01-30' AS t, 1 AS n)"
    chart = Chart("T", "line", x="t", y=("n",))

    axes = drawn(read_points(duckdb.connect(), chart, relation=query), source="s")

    low, high = axes.figure.axes[0].get_xlim()
    assert high - low == 1


def test_names_that_would_touch_move_apart() -> None:
    moved = spread([0.5, 0.49, 0.9, 0.01, 0.0], gap=0.1)

    order = sorted(moved, reverse=True)
    assert min(order) >= 0
    assert all(a - b >= 0.1 - 1e-9 for a, b in pairwise(order))
    assert moved[2] == 0.9


def test_the_way_over_the_date_line_is_not_broken() -> None:
    longitudes, latitudes = great_circle((170.0, 35.0), (-120.0, 37.0))

    steps = np.diff(longitudes)
    assert (np.abs(steps) < 10).all()
    assert max(latitudes) > 40
