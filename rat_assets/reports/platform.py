"""The platform's own reports: what Postgres knows, as assets with pictures.

One more of them is one more entry of `REPORTS`. When they are refreshed is `rat_sensors.reports`, how
they are read `answers`, how they are drawn `drawing`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from rat_assets.entries import as_sql, as_table
from rat_assets.reports.answers import Answer, Part, Report, answer
from rat_assets.reports.pictures import show_charts
from rat_resources.charts import Chart
from rat_resources.metadata import health
from rat_resources.names import dagster_name

GROUP = dagster_name("platform/reports")
TABLE = ("namespace", "layer", "pipeline")

ROWS_PER_TABLE = Report(
    "rows_per_table",
    "Rows per table over time",
    "How many rows the largest tables had after each publication of the last 90 days, up to now.",
    (
        Part(
            "Rows per table",
            health.ROWS_PER_TABLE,
            (
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
            nothing="no table was published yet",
            each="namespace",
            days=90,
        ),
    ),
)
PLATFORM_HEALTH = Report(
    "platform_health",
    "Platform health",
    "How runs end, how fast they are, and which pipelines keep failing.",
    (
        Part(
            "Runs per day",
            health.RUNS_PER_DAY,
            (
                Chart(
                    "Runs per day, by how they ended",
                    "bar",
                    x="day",
                    y=("published", "unchanged", "failed", "cancelled", "unfinished"),
                    aggregate="sum",
                    unit="runs",
                ),
                Chart(
                    "Success rate of the runs that ended on a day",
                    "line",
                    x="day",
                    y=("success_rate",),
                    unit="% of runs",
                ),
            ),
            nothing="nothing ran in the last 30 days",
            newest_first=True,
        ),
        Part(
            "Slowest pipelines",
            health.SLOWEST_PIPELINES,
            (
                Chart(
                    "Slowest pipelines: median and 95th percentile of 30 days",
                    "bar",
                    x="pipeline",
                    y=("p50_seconds", "p95_seconds"),
                    order="descending",
                    unit="seconds",
                ),
            ),
            nothing="no run wrote anything in the last 30 days",
            named=TABLE,
        ),
        Part(
            "Flakiest pipelines",
            health.FLAKIEST_PIPELINES,
            (
                Chart(
                    "Pipelines that fail, in 30 days",
                    "bar",
                    x="pipeline",
                    y=("failures", "alternations"),
                    order="descending",
                    unit="runs",
                ),
            ),
            nothing="no run failed in the last 30 days",
            named=TABLE,
        ),
        Part(
            "Time to recover",
            health.RECOVERY_TIMES,
            (
                Chart(
                    "From the first failure to the next success, mean of 30 days",
                    "bar",
                    x="pipeline",
                    y=("mttr_seconds",),
                    unit="seconds",
                ),
            ),
            nothing="no pipeline recovered from a failure in the last 30 days",
            named=TABLE,
        ),
    ),
)
CLIENT_HEALTH = Report(
    "client_health",
    "Client health",
    "How the pipelines of each client do: ours by namespace, and those that run elsewhere.",
    (
        Part(
            "Latest status",
            health.LATEST_STATUS,
            (
                Chart(
                    "Pipelines by the status of their latest run",
                    "bar",
                    x="client",
                    y=("latest_status",),
                    series="latest_status",
                    aggregate="count",
                    unit="pipelines",
                ),
            ),
            nothing="no active pipeline has run yet",
            hidden=("run_id", "pipeline_id"),
            first=("latest_status", "failed"),
        ),
        Part(
            "Failures",
            health.FAILURES_PER_CLIENT,
            (
                Chart(
                    "Failed runs of the last 24 hours and of the last 7 days",
                    "bar",
                    x="client",
                    y=("failed_24h", "failed_7d"),
                    unit="runs",
                ),
            ),
            nothing="no run failed in the last 7 days",
        ),
        Part(
            "Risk",
            health.CLIENT_RISK,
            (
                Chart(
                    "Share of runs that failed in the last 7 days",
                    "bar",
                    x="client",
                    y=("failure_rate_pct",),
                    unit="% of runs",
                ),
            ),
            nothing="no run failed in the last 7 days",
        ),
        Part(
            "Freshness",
            health.FRESHNESS_WATCHLIST,
            (
                Chart(
                    "Time since the last success",
                    "bar",
                    x="pipeline",
                    y=("success_age",),
                    unit="hours",
                ),
            ),
            nothing="no active pipeline has succeeded yet",
            named=("client", "pipeline"),
        ),
    ),
)
QUALITY = Report(
    "quality",
    "Quality",
    "What share of the quality results passes, and which tests do not.",
    (
        Part(
            "Pass rate",
            health.DAILY_PASS_RATE,
            (
                Chart(
                    "Quality results that passed, a day",
                    "line",
                    x="day",
                    y=("pass_rate",),
                    series="namespace",
                    unit="% of results",
                ),
            ),
            nothing="no test ran in the last 30 days",
            newest_first=True,
        ),
        Part(
            "Pass rate of pipelines",
            health.PASS_RATE,
            (
                Chart(
                    "Quality results of 30 days",
                    "bar",
                    x="pipeline",
                    y=("passed", "failed", "warned", "error"),
                    aggregate="sum",
                    unit="results",
                ),
            ),
            nothing="no test ran in the last 30 days",
            named=TABLE,
        ),
        Part(
            "Failing tests",
            health.FAILING_TESTS,
            (
                Chart(
                    "Tests whose newest result is no pass",
                    "bar",
                    x="pipeline",
                    y=("test",),
                    series="status",
                    aggregate="count",
                    unit="tests",
                ),
            ),
            nothing="every test passed when it ran last",
            named=TABLE,
        ),
    ),
)
ALERTS = Report(
    "alerts",
    "Alerts",
    "Which alerts are raised, how many came, who was told, and how fast.",
    (
        Part(
            "Open alerts",
            health.OPEN_ALERTS,
            (
                Chart(
                    "Alerts that are raised now",
                    "bar",
                    x="alert",
                    y=("since",),
                    series="severity",
                    aggregate="count",
                    unit="alerts",
                ),
            ),
            nothing="no alert is raised",
            hidden=("definition_id", "event_id"),
        ),
        Part(
            "Alerts per day",
            health.ALERTS_PER_DAY,
            (
                Chart(
                    "Alerts raised a day, by severity",
                    "bar",
                    x="day",
                    y=("critical", "warning", "info"),
                    aggregate="sum",
                    unit="alerts",
                ),
            ),
            nothing="no alert was raised in the last 30 days",
            newest_first=True,
        ),
        Part(
            "Deliveries by state",
            health.DELIVERIES_BY_STATUS,
            (
                Chart(
                    "Deliveries of 30 days, by how far they came",
                    "bar",
                    x="channel",
                    y=("deliveries",),
                    series="status",
                    aggregate="sum",
                    unit="deliveries",
                ),
            ),
            nothing="nobody had to be told of anything in the last 30 days",
            first=("status", "failed"),
        ),
        Part(
            "Time to deliver",
            health.TIME_TO_DELIVER,
            (
                Chart(
                    "From an event to its delivery: median and 95th percentile of 30 days",
                    "bar",
                    x="channel",
                    y=("p50_seconds", "p95_seconds"),
                    unit="seconds",
                ),
            ),
            nothing="nothing was delivered in the last 30 days",
        ),
    ),
)
REPORTS: Mapping[str, Report] = {
    each.name: each
    for each in (ALERTS, CLIENT_HEALTH, PLATFORM_HEALTH, QUALITY, ROWS_PER_TABLE)
}


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
        metadata=dict(show_questions(report)),
        required_resource_keys={"platform"},
    )
    def refresh(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        shown: dict[str, dg.MetadataValue[Any]] = {}
        for found in answer(context.resources.platform, report):
            shown |= show_answer(found, source=f"report {report.name}", context=context)
        return dg.MaterializeResult(metadata=shown)

    return refresh


def show_questions(report: Report) -> Iterator[tuple[str, dg.MetadataValue[Any]]]:
    """What a report asks, as people may ask it themselves."""
    for part in report.parts:
        yield f"query: {part.title}", as_sql(part.question.sql({}))


def show_answer(
    found: Answer, *, source: str, context: dg.AssetExecutionContext
) -> dict[str, dg.MetadataValue[Any]]:
    """The pictures of an answer and the rows under them, or what it means that there are none."""
    title = found.part.title
    if found.is_empty:
        return {title: dg.MetadataValue.text(found.part.nothing)}
    pictures = show_charts(found.points, source=source, log=context.log)
    return {name.removeprefix("chart: "): each for name, each in pictures.items()} | {
        f"{title}: numbers": as_table(found.table)
    }
