"""The platform's own reports: what Postgres knows, as assets with pictures.

A report is a query of ours and the charts of its rows; one more of them is one more entry of
`REPORTS`. When they are refreshed is `rat_sensors.reports`, how they are drawn `drawing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa
from sqlalchemy import text

from rat_assets.entries import as_sql
from rat_assets.reports.pictures import show_charts, show_numbers
from rat_assets.reports.points import Points, read_charts, said_cut
from rat_resources.charts import MOST_CHARTS, Chart
from rat_resources.names import dagster_name
from rat_resources.platform import Platform

GROUP = dagster_name("platform/reports")


@dataclass(frozen=True)
class Report:
    """A question about the platform, and the pictures that answer it."""

    name: str
    title: str
    description: str
    query: str  # of Postgres
    charts: tuple[Chart, ...]
    each: str = ""  # a column: every value of it has charts of its own
    days: int = 0  # which lines show, up to now; 0: those of their points

    @property
    def key(self) -> dg.AssetKey:
        """The asset that it is."""
        return dg.AssetKey(["platform", "report", self.name])

    def span(self, now: datetime) -> tuple[datetime, datetime] | None:
        """From when to when its lines go."""
        end = now.astimezone(UTC).replace(tzinfo=None)  # as places along an axis are
        return (end - timedelta(days=self.days), end) if self.days else None


ROWS_PER_TABLE = Report(
    "rows_per_table",
    "Rows per table over time",
    "How many rows each table had after each publication of the last 90 days, up to now.",
    """\
WITH publications AS (
    SELECT
        pipelines.namespace,
        pipelines.layer,
        pipelines.name AS "table",
        runs.finished_at,
        runs.rows_total
    FROM rat.runs
    JOIN rat.pipelines ON pipelines.id = runs.pipeline_id
    -- A view has no snapshot, and no rows of its own.
    WHERE runs.status = 'success' AND runs.snapshot_id IS NOT NULL
),

ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY namespace, layer, "table" ORDER BY finished_at DESC
        ) AS age
    FROM publications
)

SELECT
    namespace,
    layer,
    "table",
    finished_at,
    rows_total
FROM ranked
-- The newest of a table holds until now, however old it is.
WHERE age = 1 OR finished_at > now() - INTERVAL '90 days'
ORDER BY
    namespace,
    layer,
    "table",
    finished_at
""",
    charts=(
        Chart(
            "Rows per table over time",
            "step",
            x="finished_at",
            y=("rows_total",),
            series="table",
            panels="layer",
            aggregate="max",  # of two publications in one moment
            unit="rows",
            scale="log",
        ),
    ),
    each="namespace",
    days=90,
)
REPORTS: Mapping[str, Report] = {each.name: each for each in (ROWS_PER_TABLE,)}


def report_assets() -> list[dg.AssetsDefinition]:
    """Every report as an asset."""
    return [report_asset(each) for each in REPORTS.values()]


def report_asset(report: Report) -> dg.AssetsDefinition:
    """A report as an asset, which a run of it draws anew."""

    @dg.asset(
        key=report.key,
        description=report.description,
        group_name=GROUP,
        kinds={"report", "postgres"},
        metadata={"query": as_sql(report.query)},
        required_resource_keys={"platform"},
    )
    def refresh(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        charts = read_report(context.resources.platform, report)
        source = f"report {report.name}"
        return dg.MaterializeResult(
            metadata={
                **show_charts(charts, source=source, log=context.log),
                **show_numbers(charts),
            }
        )

    return refresh


def read_report(whole: Platform, report: Report) -> tuple[Points, ...]:
    """What a report's charts show now."""
    with whole.metadata.transaction() as tx:
        rows = [dict(each) for each in tx.execute(text(report.query)).mappings()]
    if not rows:
        return tuple(Points(chart, ()) for chart in report.charts)
    parts: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        parts.setdefault(str(row[report.each]) if report.each else "", []).append(row)
    shown = list(parts)[: max(1, MOST_CHARTS // len(report.charts))]
    span = report.span(datetime.now(UTC))
    notes = said_cut(len(shown), len(parts), f"{report.each}s")
    return tuple(
        replace(points, notes=(*points.notes, *notes), span=span)
        for part in shown
        for points in read_part(whole, titled(report.charts, part), rows=parts[part])
    )


def titled(charts: Sequence[Chart], part: str) -> list[Chart]:
    """Charts that say which part of a report they show."""
    return [
        replace(chart, title=f"{chart.title}: {part}") if part else chart
        for chart in charts
    ]


def read_part(
    whole: Platform, charts: Sequence[Chart], *, rows: list[dict[str, object]]
) -> tuple[Points, ...]:
    """What charts show of some rows."""
    with whole.lake.connect() as connection:
        connection.register("report", pa.Table.from_pylist(rows))
        return read_charts(connection, charts, relation="report")
