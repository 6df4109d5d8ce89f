"""Pictures: charts as Dagster shows them, and as files.

Dagster shows a picture inside Markdown, behind a click. Its metadata is kept twice in Postgres, so a
picture is small, its numbers are the first rows, and a table has a few of them.
"""

import logging
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import dagster as dg

from rat_assets.entries import as_table
from rat_assets.reports.points import Points, numbers
from rat_resources.lake.rows import as_json

PICTURE_BYTES = 50_000
NUMBER_ROWS = 20
OPEN = "(open it: Show Markdown)"


def show_charts(
    charts: Sequence[Points], *, source: str, log: logging.Logger
) -> dict[str, dg.MetadataValue[Any]]:
    """Each chart as an entry of metadata, and its numbers as another; never an error."""
    shown: dict[str, dg.MetadataValue[Any]] = {}
    for points in charts:
        title = points.chart.title
        try:
            shown |= show_chart(points, source=source)
        except Exception as error:  # noqa: BLE001 - what stands on main is not undone for a picture
            what = f"could not be drawn: {type(error).__name__}: {error}"
            log.warning(f"chart {title!r} {what}")
            shown[f"chart: {title}"] = dg.MetadataValue.text(what)
    return shown


def show_chart(points: Points, *, source: str) -> dict[str, dg.MetadataValue[Any]]:
    """A chart and its first numbers, or why there is none."""
    title = points.chart.title
    if points.problem:
        return {f"chart: {title}": dg.MetadataValue.text(points.problem)}
    shown: dict[str, dg.MetadataValue[Any]] = {
        f"chart: {title} {OPEN}": dg.MetadataValue.md(as_markdown(points, source))
    }
    rows = [
        {name: as_json(value) for name, value in row.items()}
        for row in numbers(points, limit=NUMBER_ROWS)
    ]
    if rows:
        shown[f"numbers: {title}"] = as_table(rows)
    return shown


def as_markdown(points: Points, source: str) -> str:
    """A chart as Markdown that holds its picture."""
    # matplotlib takes half a second that only those who draw should wait.
    from rat_assets.reports.drawing import draw_small  # noqa: PLC0415

    png = draw_small(points, source=source, most=PICTURE_BYTES)
    # Brackets would end the text that stands for the picture.
    alt = points.chart.title.translate({ord("["): "(", ord("]"): ")"})
    return f"![{alt}](data:image/png;base64,{b64encode(png).decode()})"


def as_file(points: Points, *, source: str) -> bytes:
    """A chart as a PNG to keep."""
    from rat_assets.reports.drawing import draw_file  # noqa: PLC0415

    return draw_file(points, source=source)
