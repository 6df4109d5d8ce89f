"""Drawing: points as a picture. matplotlib takes half a second to import, so nothing else does.

Colours are told apart by colour-blind eyes (Okabe and Ito; sequential blues; red and blue around
zero). No state of matplotlib's outlives a drawing.
"""

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps, dates
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    EngFormatter,
    Formatter,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
)
from PIL import Image

from rat_assets.reports.points import Axis, Point, Points, plain

PALETTE = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # green
    "#CC79A7",  # pink
    "#E69F00",  # orange
    "#56B4E9",  # sky
    "#4D4D4D",  # grey
    "#8C6BB1",  # violet
)
INK, FAINT, LINES = "#1F2933", "#66727F", "#DDE2E7"
# How things end has the same colours in every picture: green is well, red is not.
STATES = {
    **dict.fromkeys(("published", "passed", "success", "succeeded"), "#009E73"),
    **dict.fromkeys(("failed", "failures"), "#D55E00"),
    "error": "#8C6BB1",
    **dict.fromkeys(("warned", "alternations"), "#E69F00"),
    **dict.fromkeys(("unchanged", "skipped"), "#56B4E9"),
    **dict.fromkeys(("cancelled", "canceled"), "#8A94A0"),
    **dict.fromkeys(("unfinished", "running", "never ran"), "#C9CFD6"),
}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a price is no formula
    "axes.edgecolor": LINES,
    "axes.labelcolor": FAINT,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINES,
    "grid.linewidth": 0.8,
    "xtick.color": LINES,
    "ytick.color": LINES,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
TITLE_LENGTH, FOOTER_LENGTH = 80, 135
WIDTH, HEIGHT = 9.0, 5.0  # inches
SHARP = 200  # dots an inch of a file
# Dots an inch and colours of a picture inside metadata: the first that fits is taken. Dagster
# shows it in a dialog four fifths as wide as the window, at its own size, and cuts what is wider.
TRIES = ((108, 128), (108, 32), (84, 32), (60, 32), (48, 16))
NAME_LENGTH = 34
NAME_HEIGHT = 0.165  # inches
FEW_POINTS, MANY_POINTS = 40, 200
FEW_CELLS = 30
WIDEST = 62  # whole numbers, of which none is left out
MOST_LABELS = 30
TAME = 1.5  # how far beyond the rest a value keeps its place
HUGE = 1e12  # beyond it nobody counts the thousands
ALL = 100  # percents
LIGHT = 0.55  # above it, ink on a colour can be read


def draw_file(points: Points, *, source: str) -> bytes:
    """A picture of the points as PNG, sharp enough to print."""
    return drawn(points, source=source).save(SHARP)


def draw_small(points: Points, *, source: str, most: int) -> bytes:
    """A picture of the points as PNG of at most *most* bytes, as sharp as that allows."""
    picture = drawn(points, source=source)
    save = cache(picture.save)
    for dots, colours in TRIES:
        png = reduced(save(dots), colours=colours)
        if len(png) <= most:
            break
    return png


def reduced(png: bytes, *, colours: int) -> bytes:
    """A PNG with a palette: a third of the bytes, and no eye sees it."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        whole = image.convert("RGB")
        # Without dithering, which would cost what the palette saves.
        small = whole.quantize(
            colours, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
        )
        small.save(file, format="PNG", optimize=True)
    return file.getvalue()


class Picture:
    """A figure that is drawn, and can be saved in several sizes."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def save(self, dots: int) -> bytes:
        """The picture as PNG."""
        file = io.BytesIO()
        with styled():
            self.figure.savefig(file, format="png", dpi=dots, facecolor="white")
        return file.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Our style, for as long as something is drawn."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks is a box in a picture, and no news for an operator.
        warnings.simplefilter("ignore")
        yield


def drawn(points: Points, *, source: str) -> Picture:
    """The points as a figure."""
    with styled():
        panels = list(dict.fromkeys(point.panel for point in points.points)) or [""]
        width, height = size_of(points, panels)
        title = textwrap.wrap(
            points.chart.title, TITLE_LENGTH, max_lines=2, placeholder=" …"
        )
        bottom, top = 0.34 / height, 1 - (0.22 + 0.26 * len(title)) / height
        layout = ConstrainedLayoutEngine(
            rect=(0.012, bottom, 0.976, top - bottom), hspace=0.06, wspace=0.04
        )
        figure = Figure(figsize=(width, height), layout=layout)
        write_around(figure, points, title="\n".join(title), source=source)
        draw_panels(figure, points, panels=panels)
    return Picture(figure)


def write_around(figure: Figure, points: Points, *, title: str, source: str) -> None:
    """Say above a picture what it shows, and below it of what, and what is left out."""
    height = figure.get_figheight()
    heading: dict[str, Any] = {
        "fontsize": 14,
        "fontweight": "bold",
        "color": INK,
        "va": "top",
    }
    figure.text(0.015, 1 - 0.13 / height, title, **heading)
    footer = shortened(" · ".join([source, *points.notes]), FOOTER_LENGTH)
    small: dict[str, Any] = {"fontsize": 8.5, "color": FAINT, "va": "bottom"}
    figure.text(0.015, 0.1 / height, footer, **small)


def size_of(points: Points, panels: Sequence[str]) -> tuple[float, float]:
    """The width and height of a figure, in inches."""
    count = len(panels)
    if count > 1:
        rows = math.ceil(count / columns_of(count))
        return WIDTH, 0.8 + 1.75 * rows
    if points.chart.kind == "heatmap":
        return WIDTH, min(9.0, max(3.4, 1.9 + 0.26 * len({p.y for p in points.points})))
    if is_sideways(points):
        bars = len({point.x for point in points.points})
        return WIDTH, min(9.0, max(2.4, 1.5 + 0.29 * bars))
    return WIDTH, HEIGHT


def columns_of(panels: int) -> int:
    """How many panels stand side by side."""
    return 1 if panels <= 4 else 2  # noqa: PLR2004 - more would not fit below each other


def draw_panels(figure: Figure, points: Points, *, panels: Sequence[str]) -> None:
    """Every panel, all by one legend and one palette."""
    columns = columns_of(len(panels))
    rows = math.ceil(len(panels) / columns)
    is_shared = points.chart.kind != "bar"
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex="col" if is_shared else False
    )
    axes: list[Axes] = list(grid.flat)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    for panel, one in zip(panels, axes, strict=False):
        inside = [point for point in points.points if point.panel == panel]
        if panel:
            one.set_title(shortened(panel, NAME_LENGTH), fontweight="bold", color=INK)
        if not inside:
            say_nothing(one)
            continue
        DRAWERS[points.chart.kind](one, points, inside)


def say_nothing(axes: Axes) -> None:
    """An empty picture that says so."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no rows yet", ha="center", va="center", color=FAINT, size=14)


# The kinds.


def draw_lines(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """A line a series, with its name at its end."""
    names = series_of(inside)
    style = "steps-post" if points.chart.kind == "step" else "default"
    places = positions(points, inside)
    for number, name in enumerate(names):
        mine = [point for point in inside if point.series == name]
        xs = [places(point.x) for point in mine]
        ys = [as_number(point.y) for point in mine]
        marked = list(range(len(mine))) if len(mine) <= FEW_POINTS else []
        if points.span and ys:
            xs, ys = [*xs, points.span[1]], [*ys, ys[-1]]
        axes.plot(
            xs,
            ys,
            color=PALETTE[number % len(PALETTE)],
            linewidth=1.7 if len(mine) <= MANY_POINTS else 1.1,
            marker="o",
            markevery=marked,
            markersize=3.5,
            drawstyle=style,
            label=shortened(name, NAME_LENGTH),
        )
    axes.margins(x=0.015)
    begin_span(axes, points)
    widen_moment(axes, points, inside)
    lay_out_x(axes, points, inside)
    lay_out_y(axes, points)
    if len(names) > 1 or names[0]:
        name_lines(axes, inside, names=names)


def begin_span(axes: Axes, points: Points) -> None:
    """Show nothing from before the span that is asked for."""
    if points.span:
        start = dates.date2num(points.span[0])  # type: ignore[no-untyped-call]
        axes.set_xlim(left=max(start, axes.get_xlim()[0]))


def widen_moment(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """Show a day around a single time, and not the years that fit a picture."""
    times = {point.x for point in inside if point.y is not None}
    if points.x_axis == Axis.TIME and len(times) == 1 and not points.span:
        (one,) = times
        half = timedelta(hours=12)
        axes.set_xlim(*(dates.date2num(each) for each in (one - half, one + half)))  # type: ignore[no-untyped-call, operator]


def name_lines(axes: Axes, inside: Sequence[Point], *, names: Sequence[str]) -> None:
    """Name each line beside its end, in its colour; names that would touch move apart."""
    last = {point.series: point for point in inside if point.y is not None}
    ends = {
        name: axes.transData.transform((axes.get_xlim()[1], as_number(last[name].y)))[1]
        for name in names
        if name in last
    }
    low, high = (axes.transAxes.transform((0, each))[1] for each in (0, 1))
    height = (high - low) / axes.figure.get_dpi()
    shares = [(end - low) / (high - low) for end in ends.values()]
    for name, share in zip(
        ends, spread(shares, gap=NAME_HEIGHT / max(height, 0.1)), strict=True
    ):
        axes.annotate(
            shortened(name, NAME_LENGTH),
            (1.01, share),
            xycoords="axes fraction",
            va="center",
            fontsize=9,
            color=PALETTE[names.index(name) % len(PALETTE)],
        )


def spread(heights: Sequence[float], *, gap: float) -> list[float]:
    """Heights moved apart until each two are at least *gap* from each other, none too low."""
    order = sorted(range(len(heights)), key=lambda n: heights[n], reverse=True)
    moved = list(heights)
    for above, below in pairwise(order):
        moved[below] = min(moved[below], moved[above] - gap)
    too_low = max(0.0, -min(moved, default=0.0))
    for below, above in pairwise(reversed(order)):
        moved[below] = max(moved[below], 0.0) if too_low else moved[below]
        moved[above] = max(moved[above], moved[below] + gap)
    return moved


def add_legend(axes: Axes, names: Sequence[str]) -> None:
    """Name the colours above a picture."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(len(names), 5),
        borderaxespad=0.3,
        handlelength=1.2,
        columnspacing=1.2,
    )


def draw_bars(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """Bars; names lie, so that they can be read, and times and numbers stand."""
    names = series_of(inside)
    xs = list(dict.fromkeys(point.x for point in inside))
    if not is_sideways(points) and not points.chart.order:
        xs = ordered(xs)
    # Parts of a sum lie on each other; anything else stands side by side.
    stacked = points.chart.aggregate in ("sum", "count")
    thickness = 0.78 if stacked else 0.78 / len(names)
    base = np.zeros(len(xs))
    for number, name in enumerate(names):
        found = {point.x: point.y for point in inside if point.series == name}
        lengths = np.array([found.get(x) or 0.0 for x in xs], dtype=float)
        offset = 0.0 if stacked else (number - (len(names) - 1) / 2) * thickness
        at = np.arange(len(xs)) + offset
        look: dict[str, Any] = {
            "color": colour_of(name, names),
            "label": shortened(name, NAME_LENGTH),
            "edgecolor": "white",
            "linewidth": 0.6,
        }
        if is_sideways(points):
            axes.barh(at, lengths, thickness, left=base if stacked else 0, **look)
        else:
            axes.bar(at, lengths, thickness, bottom=base if stacked else 0, **look)
        base += lengths
    lay_out_bars(axes, points, xs)
    if len(names) > 1 or names[0]:
        add_legend(axes, names)
    if len(names) == 1 and is_sideways(points):
        label_bars(axes, base)


def colour_of(name: str, names: Sequence[str]) -> str:
    """The colour of a series: that of its state, where all are states."""
    if all(each in STATES for each in names):
        return STATES[name]
    return PALETTE[names.index(name) % len(PALETTE)]


def lay_out_bars(axes: Axes, points: Points, xs: Sequence[Any]) -> None:
    """The names and the measure of bars."""
    if is_sideways(points):
        labels = [place_text(x, points.x_axis) for x in xs]
        axes.set_yticks(np.arange(len(xs)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(measure_of(points))
        axes.set_xscale(scale_of(points))
        lay_out_numbers(axes.xaxis, scale=points.chart.scale)
        count_whole(axes.xaxis, points)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(y=0.01)
        return
    shown = max(1, math.ceil(len(xs) / 16))
    axes.set_xticks(np.arange(len(xs))[::shown], name_bars(xs[::shown], points.x_axis))
    axes.set_xlabel(plain(points.chart.x))
    axes.grid(visible=False, axis="x")
    lay_out_y(axes, points)


def name_bars(xs: Sequence[Any], axis: Axis) -> list[str]:
    """What stands below bars; of times the month and the year once."""
    if axis == Axis.TIME:
        return name_times(xs)
    return [place_text(x, axis) for x in xs]


def label_bars(axes: Axes, lengths: Any) -> None:  # noqa: ANN401 - an array of numpy
    """The number at the end of each bar, where there is one series."""
    texts = [f" {number_text(length)}" for length in lengths]
    axes.bar_label(axes.containers[0], texts, fontsize=9, color=INK)  # type: ignore[arg-type]
    axes.margins(x=0.09)


def draw_scatter(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """A dot a row."""
    names = series_of(inside)
    places = positions(points, inside)
    crowd = max(0.25, min(0.85, 60 / math.sqrt(len(inside) + 1)))
    for number, name in enumerate(names):
        mine = [point for point in inside if point.series == name]
        axes.scatter(
            [places(point.x) for point in mine],
            [as_number(point.y) for point in mine],
            s=18,
            alpha=crowd,
            color=PALETTE[number % len(PALETTE)],
            linewidths=0,
            label=shortened(name, NAME_LENGTH),
        )
    lay_out_x(axes, points, inside)
    lay_out_y(axes, points)
    if len(names) > 1 or names[0]:
        add_legend(axes, names)


def draw_heatmap(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """A cell a pair, coloured by its value; few cells show it too."""
    xs = ordered({point.x for point in inside if point.value is not None})
    ys = ordered({point.y for point in inside if point.y is not None})
    cells = np.full((len(ys), len(xs)), np.nan)
    for point in inside:
        if point.value is not None and point.y is not None:
            cells[ys.index(point.y), xs.index(point.x)] = point.value
    shades = Shades.of(cells[~np.isnan(cells)])
    axes.pcolormesh(
        np.ma.masked_invalid(cells),
        cmap=shades.colours,
        norm=shades.norm,
        edgecolors="white",
        linewidth=1.2 if len(xs) <= FEW_CELLS else 0,
    )
    axes.grid(visible=False)
    axes.invert_yaxis()
    label_cells(axes, cells, shades=shades)
    shown = max(1, math.ceil(len(xs) / 24))
    names = [shortened(place_text(x, points.x_axis), 14) for x in xs]
    axes.set_xticks((np.arange(len(xs)) + 0.5)[::shown], names[::shown])
    if points.x_axis == Axis.NAME and max(map(len, names)) > 4:  # noqa: PLR2004 - they would touch
        axes.tick_params(axis="x", rotation=35)
    axes.set_yticks(
        np.arange(len(ys)) + 0.5,
        [shortened(place_text(y, points.y_axis), NAME_LENGTH) for y in ys],
    )
    axes.tick_params(length=0)
    axes.set_xlabel(plain(points.chart.x))
    for spine in axes.spines.values():
        spine.set_visible(False)
    shades.explain(axes, points)


def label_cells(axes: Axes, cells: Any, *, shades: "Shades") -> None:  # noqa: ANN401 - an array of numpy
    """The value in each cell, where there is room for it."""
    rows, columns = cells.shape
    if columns > 20 or rows > FEW_CELLS:  # noqa: PLR2004 - three digits are as wide
        return
    for (row, column), value in np.ndenumerate(cells):
        if np.isnan(value):
            continue
        red, green, blue, _ = shades(value)
        is_light = 0.299 * red + 0.587 * green + 0.114 * blue > LIGHT
        axes.text(
            column + 0.5,
            row + 0.5,
            cell_text(value),
            ha="center",
            va="center",
            fontsize=8,
            color=INK if is_light else "white",
        )


def draw_map(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """Places, and the shortest ways over the globe that lead to them; no tiles, no network."""
    values = np.array([math.nan if p.value is None else p.value for p in inside])
    known = values[~np.isnan(values)]
    shades = Shades.of(known, palest=0.25)
    for point, value in reversed(list(zip(inside, values, strict=True))):
        colour = "#9AA5B1" if np.isnan(value) else shades(value)
        weight = 0.5 if np.isnan(value) else share(value, known)
        if point.from_x is not None and point.from_y is not None:
            xs, ys = great_circle(
                (point.from_x, point.from_y), (as_number(point.x), as_number(point.y))
            )
            axes.plot(
                xs, ys, color=colour, linewidth=0.5 + 2.2 * weight, alpha=0.85, zorder=2
            )
        axes.plot(
            [as_number(point.x)],
            [as_number(point.y)],
            "o",
            color=colour,
            markersize=3.5 + 4 * weight,
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=3,
        )
    for x, y in {(p.from_x, p.from_y) for p in inside}:
        axes.plot(
            [as_number(x)], [as_number(y)], "o", color=INK, markersize=4, zorder=4
        )
    lay_out_map(axes, inside)
    label_places(axes, inside)
    if len(known):
        shades.explain(axes, points)


def lay_out_map(axes: Axes, inside: Sequence[Point]) -> None:
    """Degrees as they look at this latitude, named as on a globe."""
    ys = [as_number(point.y) for point in inside]
    middle = math.radians((min(ys) + max(ys)) / 2)
    axes.set_aspect(1 / max(0.2, math.cos(middle)), adjustable="datalim")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: degrees(x, "E", "W")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: degrees(y, "N", "S")))
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(labelcolor=FAINT, labelsize=8, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.margins(0.06)


def label_places(axes: Axes, inside: Sequence[Point]) -> None:
    """The names of the greatest places, as far as they do not lie on each other."""
    canvas = FigureCanvasAgg(axes.figure)  # type: ignore[arg-type]
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    taken: list[Any] = []
    seen: set[str] = set()
    for point in inside:
        if len(taken) >= MOST_LABELS or not point.label or point.label in seen:
            continue
        seen.add(point.label)
        text = axes.annotate(
            shortened(point.label, 26),
            (as_number(point.x), as_number(point.y)),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
        box = text.get_window_extent(renderer).expanded(1.02, 1.1)
        if any(box.overlaps(other) for other in taken):
            text.remove()
            continue
        taken.append(box)


DRAWERS = {
    "line": draw_lines,
    "step": draw_lines,
    "bar": draw_bars,
    "scatter": draw_scatter,
    "heatmap": draw_heatmap,
    "map": draw_map,
}


# Axes.

# How times are named that are all whole years, months and so on: the time, and what it is part of.
TIME_FORMS: Sequence[tuple[Callable[[datetime], bool], str, str]] = (
    (lambda t: t == datetime(t.year, 1, 1), "%Y", ""),  # noqa: DTZ001 - as places are
    (lambda t: t == datetime(t.year, t.month, 1), "%b", "%Y"),  # noqa: DTZ001 - likewise
    (lambda t: not (t.hour or t.minute or t.second or t.microsecond), "%-d", "%b %Y"),
    (lambda t: not (t.second or t.microsecond), "%H:%M", "%-d %b %Y"),
    (lambda t: not t.microsecond, "%H:%M:%S", "%-d %b %Y"),
)


def lay_out_x(axes: Axes, points: Points, inside: Sequence[Point]) -> None:
    """Dates as dates, numbers as numbers, names as names."""
    match points.x_axis:
        case Axis.TIME:
            locator = dates.AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(Times())
            place = axes.get_subplotspec()
            if points.chart.x in points.moments and place and place.is_last_row():
                axes.set_xlabel("UTC")
        case Axis.NUMBER:
            lay_out_numbers(axes.xaxis, scale="linear")
            axes.set_xlabel(plain(points.chart.x))
        case Axis.NAME:
            names = list(dict.fromkeys(str(point.x) for point in inside))
            shown = max(1, math.ceil(len(names) / 16))
            axes.set_xticks(
                range(0, len(names), shown),
                [shortened(name, 14) for name in names[::shown]],
                rotation=30 if max(map(len, names)) > 5 else 0,  # noqa: PLR2004 - short ones fit
            )
            axes.set_xlabel(plain(points.chart.x))
    axes.grid(visible=False, axis="x")


class Times(Formatter):
    """Names times by their finest part, and below the first and each change what that is part of."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """A time by itself."""
        del pos
        return place_text(naive(x), Axis.TIME)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """The names of ticks; what lies outside of the picture begins nothing."""
        assert self.axis is not None  # noqa: S101 - it names the ticks of one
        low, high = sorted(self.axis.get_view_interval())
        inside = [naive(value) for value in values if low <= value <= high]
        before = len([value for value in values if value < low])
        after = len(values) - before - len(inside)
        return [""] * before + name_times(inside) + [""] * after


def naive(value: float) -> datetime:
    """A time of matplotlib's as all of ours are."""
    found: datetime = dates.num2date(value)  # type: ignore[no-untyped-call]
    exact = found.replace(tzinfo=None) + timedelta(microseconds=500)
    return exact.replace(microsecond=exact.microsecond // 1000 * 1000)


def name_times(times: Sequence[datetime]) -> list[str]:
    """Times by their finest part: 14:30, a day, a month or a year, each with the rest below it once."""
    part, rest = next(
        (form for is_whole, *form in TIME_FORMS if all(map(is_whole, times))),
        ("%H:%M:%S.%f", "%-d %b %Y"),
    )
    names, said = [], ""
    for time in times:
        whole = f"{time:{rest}}" if rest else ""
        name = f"{time:{part}}"[: -3 if part.endswith("%f") else None]
        names.append(f"{name}\n{whole}" if whole != said else name)
        said = whole
    return names


def lay_out_y(axes: Axes, points: Points) -> None:
    """What is measured, from zero where that hides nothing."""
    axes.set_yscale(scale_of(points))
    low, high = axes.dataLim.intervaly
    if scale_of(points) == "log" and 0 < low <= high < math.inf:
        # Whole powers of ten, so that there are names on the axis.
        first = math.floor(math.log10(low))
        last = max(first + 1, math.ceil(math.log10(high)))
        axes.set_ylim(10.0**first, 10.0**last)
    lay_out_numbers(axes.yaxis, scale=points.chart.scale)
    count_whole(axes.yaxis, points)
    axes.set_ylabel(measure_of(points))
    keep_percents(axes, points)
    low, high = axes.get_ylim()
    is_flat = 0 < low < high / 2
    if points.chart.scale == "linear" and points.chart.kind != "scatter" and is_flat:
        axes.set_ylim(bottom=0)
    if points.chart.scale == "linear" and low < 0 < high:
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1)


def scale_of(points: Points) -> Literal["linear", "log", "symlog"]:
    """The scale of what is measured; one in powers of ten begins at one where there is a zero."""
    if points.chart.scale == "linear":
        return "linear"
    known = (point.y for point in points.points if isinstance(point.y, float))
    return "log" if all(y > 0 for y in known) else "symlog"


def lay_out_numbers(axis: Any, *, scale: str) -> None:  # noqa: ANN401 - either axis
    """Numbers with their thousands set apart, or short where they are powers of ten."""
    if scale == "log":
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())
        return
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))


def count_whole(axis: Any, points: Points) -> None:  # noqa: ANN401 - either axis
    """Name no halves of what is counted."""
    ys = [point.y for point in points.points if point.y is not None]
    if points.chart.scale == "linear" and ys and all(map(is_whole, ys)):
        axis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))


def keep_percents(axes: Axes, points: Points) -> None:
    """Show no percents above a hundred where there are none, and one alone from zero."""
    ys = [point.y for point in points.points if isinstance(point.y, float)]
    if not points.chart.unit.startswith("%") or not ys or max(ys) > ALL:
        return
    low, high = axes.get_ylim()
    bottom = 0.0 if min(ys) == max(ys) else max(0.0, low)
    axes.set_ylim(bottom, min(high, ALL + (ALL - bottom) / 30))


def measure_of(points: Points) -> str:
    """What is measured, and in which unit."""
    chart = points.chart
    return chart.unit or (plain(chart.y[0]) if len(chart.y) == 1 else "")


def positions(points: Points, inside: Sequence[Point]) -> Any:  # noqa: ANN401 - a function of places
    """Where a place lies along x: names stand side by side in their order."""
    if points.x_axis != Axis.NAME:
        return lambda x: x
    names = list(dict.fromkeys(str(point.x) for point in inside))
    return names.index


def series_of(inside: Sequence[Point]) -> list[str]:
    """The series, in their order."""
    return list(dict.fromkeys(point.series for point in inside))


def ordered(places: Iterable[Any]) -> list[Any]:
    """Places in their natural order, whole numbers without gaps."""
    found = sorted(places, key=lambda place: (isinstance(place, str), place))
    if not found or not all(is_whole(place) for place in found):
        return found
    low, high = int(found[0]), int(found[-1])
    return list(map(float, range(low, high + 1))) if high - low < WIDEST else found


def is_whole(place: object) -> bool:
    """Whether a place is a whole number."""
    return isinstance(place, float) and place.is_integer()


def is_sideways(points: Points) -> bool:
    """Whether bars lie: names are read from left to right."""
    return points.chart.kind == "bar" and points.x_axis == Axis.NAME


# Colours.


@dataclass(frozen=True)
class Shades:
    """A palette for values: light to dark, or blue and red around zero."""

    colours: Colormap
    norm: Normalize
    low: float  # a palette around zero is as wide on both sides, and used on one
    high: float
    extend: Literal["neither", "min", "max", "both"]

    @classmethod
    def of(cls, values: Any, *, palest: float = 0.0) -> "Shades":  # noqa: ANN401 - an array of numpy
        """The shades of *values*; *palest* leaves out what no thin line can be drawn in."""
        low, high, extend = range_of(values)
        if low < 0 < high:
            wide = max(-low, high)
            return cls(
                colormaps["RdBu_r"], TwoSlopeNorm(0, -wide, wide), low, high, extend
            )
        shades = colormaps["YlGnBu"](np.linspace(palest, 1, 256))
        return cls(ListedColormap(shades), Normalize(low, high), low, high, extend)

    def __call__(self, value: float) -> Any:  # noqa: ANN401 - matplotlib's red, green, blue and alpha
        """The colour of one value."""
        return self.colours(self.norm(value))

    def explain(self, axes: Axes, points: Points) -> None:
        """Draw what the shades mean beside a picture."""
        bar = axes.figure.colorbar(
            ScalarMappable(norm=self.norm, cmap=self.colours),
            ax=axes,
            pad=0.015,
            aspect=30,
            shrink=0.9,
            extend=self.extend,
        )
        bar.outline.set_visible(False)
        bar.set_label(points.chart.unit or plain(points.chart.value))
        bar.ax.set_ylim(self.low, self.high)
        lay_out_numbers(bar.ax.yaxis, scale="linear")


def range_of(values: Any) -> tuple[float, float, Any]:  # noqa: ANN401 - an array of numpy
    """From where to where shades go: one wild value must not make all others look alike."""
    if not len(values):
        return 0.0, 1.0, "neither"
    least, most = float(values.min()), float(values.max())
    low, high = (float(each) for each in np.percentile(values, [2, 98]))
    low = least if least > high - TAME * (high - low) else low
    high = most if most < low + TAME * (high - low) else high
    if low == high:
        return low, low + 1, "neither"
    wild = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    return low, high, wild.get((least < low, most > high), "both")


def share(value: float, known: Any) -> float:  # noqa: ANN401 - an array of numpy
    """How far a value is between the least and the greatest."""
    low, high = known.min(), known.max()
    return 0.5 if low == high else float((value - low) / (high - low))


# The globe.


def great_circle(
    start: tuple[float, float], end: tuple[float, float], *, steps: int = 40
) -> tuple[list[float], list[float]]:
    """The shortest way from one place to another, as longitudes and latitudes."""
    (a, b), (c, d) = (map(math.radians, each) for each in (start, end))
    first = np.array(
        [math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)]
    )
    last = np.array([math.cos(d) * math.cos(c), math.cos(d) * math.sin(c), math.sin(d)])
    angle = math.acos(float(np.clip(first @ last, -1, 1)))
    if angle < 1e-9:  # noqa: PLR2004 - the same place
        return [start[0], end[0]], [start[1], end[1]]
    along = np.linspace(0, 1, steps)[:, None]
    way = np.sin((1 - along) * angle) * first + np.sin(along * angle) * last
    way /= math.sin(angle)
    longitudes = np.degrees(np.arctan2(way[:, 1], way[:, 0]))
    latitudes = np.degrees(np.arcsin(np.clip(way[:, 2], -1, 1)))
    return unbroken(list(map(float, longitudes))), list(map(float, latitudes))


def unbroken(longitudes: list[float]) -> list[float]:
    """Longitudes that go on beyond 180° where the way does."""
    turned, offset = longitudes[:1], 0.0
    for before, after in pairwise(longitudes):
        offset += 360 * ((before - after > 180) - (after - before > 180))  # noqa: PLR2004 - half a turn
        turned.append(after + offset)
    return turned


def degrees(angle: float, positive: str, negative: str) -> str:
    """An angle as a globe writes it."""
    side = positive if angle > 0 else negative if angle < 0 else ""
    return f"{abs(angle):g}°{side}"


# Words.


def as_number(place: object) -> float:
    """A number, or a gap where there is none."""
    return place if isinstance(place, float) else math.nan


def place_text(place: object, axis: Axis) -> str:
    """A place as a tick names it."""
    if isinstance(place, datetime):
        is_day = not (place.hour or place.minute or place.second)
        return f"{place:%Y-%m-%d}" if is_day else f"{place:%Y-%m-%d %H:%M}"
    if axis == Axis.NUMBER and isinstance(place, float):
        return number_text(place)
    return shortened(str(place), NAME_LENGTH)


def number_text(value: float) -> str:
    """A number with its thousands set apart and no more digits than it needs."""
    if abs(value) >= HUGE:
        return f"{value:.3g}"
    if value == round(value):
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(digits, 6)}f}".rstrip("0").rstrip(".")


def cell_text(value: float) -> str:
    """A number as it fits into a cell."""
    if abs(value) >= 10_000:  # noqa: PLR2004 - five digits do not
        return EngFormatter(places=0, sep="")(value)
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"  # noqa: PLR2004 - two digits do


def shortened(text: str, length: int) -> str:
    """A text on one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
