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


def show_charts(
    charts: Sequence[Points], *, source: str, log: logging.Logger
) -> dict[str, dg.MetadataValue[Any]]:
    """Each chart as an entry of metadata, or why there is none; never an error."""
    shown: dict[str, dg.MetadataValue[Any]] = {}
    for points in charts:
        title = points.chart.title
        if points.problem:
            shown[f"chart: {title}"] = dg.MetadataValue.text(points.problem)
            continue
        try:
            picture = dg.MetadataValue.md(as_markdown(points, source))
            shown[f"chart: {title} (click to open)"] = picture
        except Exception as error:  # noqa: BLE001 - what stands on main is not undone for a picture
            what = f"could not be drawn: {type(error).__name__}: {error}"
            log.warning(f"chart {title!r} {what}")
            shown[f"chart: {title}"] = dg.MetadataValue.text(what)
    return shown


def show_numbers(charts: Sequence[Points]) -> dict[str, dg.MetadataValue[Any]]:
    """The first numbers of each chart."""
    tables = {each.chart.title: numbers(each, limit=NUMBER_ROWS) for each in charts}
    return {
        f"numbers: {title}": as_table(
            [{name: as_json(value) for name, value in row.items()} for row in rows]
        )
        for title, rows in tables.items()
        if rows
    }


def as_markdown(points: Points, source: str) -> str:
    """A chart as Markdown that holds its picture."""
    # matplotlib takes half a second that only those who draw should wait.
    from rat_assets.reports.drawing import draw_small  # noqa: PLC0415

    png = draw_small(points, source=source, most=PICTURE_BYTES)
    # Brackets would end the text that stands for the picture, and a backslash keep it open.
    alt = points.chart.title.translate({ord("["): "(", ord("]"): ")", ord("\\"): "/"})
    return f"![{alt}](data:image/png;base64,{b64encode(png).decode()})"


def as_file(points: Points, *, source: str) -> bytes:
    """A chart as a PNG to keep."""
    from rat_assets.reports.drawing import draw_file  # noqa: PLC0415

    return draw_file(points, source=source)
