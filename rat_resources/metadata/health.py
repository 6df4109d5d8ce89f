"""Health: what people ask of the platform, each question a function of Postgres with an as_of.

Reports, the Grafana dashboard, docs/postgres.md and the benchmark take their questions from here; the
functions are made by the migrations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

Row = dict[str, object]


@dataclass(frozen=True)
class Question:
    """Something that is asked of the platform again and again."""

    name: str  # of the function, with its schema
    meaning: str
    # What it takes beside as_of, and what that is unless somebody says otherwise.
    parameters: Mapping[str, object] = field(default_factory=dict, hash=False)

    def sql(self, given: Mapping[str, object]) -> str:
        """The statement that asks it, with a place for each of what is given."""
        places = ", ".join(f"{name} => :{name}" for name in given)
        return f"SELECT * FROM {self.name}({places})"

    def ask(
        self,
        tx: Session,
        *,
        as_of: datetime | None = None,
        **given: object,
    ) -> list[Row]:
        """The rows of its answer; without *as_of* as of now."""
        values = given if as_of is None else {"as_of": as_of, **given}
        found = tx.execute(text(self.sql(values)), values)
        return [dict(row) for row in found.mappings()]


RUNS_PER_DAY = Question(
    "rat.runs_per_day",
    "how many runs a day ended how, and what share of the ended ones succeeded",
    {"days": 30},
)
SLOWEST_PIPELINES = Question(
    "rat.slowest_pipelines",
    "the pipelines whose runs that wrote something take longest: median, 95th percentile",
    {"days": 30, "top": 20},
)
FLAKIEST_PIPELINES = Question(
    "rat.flakiest_pipelines",
    "the pipelines that fail, those first that go back and forth between failure and success",
    {"days": 30, "top": 20},
)
RECOVERY_TIMES = Question(
    "rat.recovery_times",
    "how long each pipeline takes from its first failure to its next success, in the mean",
    {"days": 30, "top": 20},
)
FRESHNESS = Question(
    "rat.freshness",
    "when each pipeline published last, how often it usually succeeds, and how late it is by that",
)
ROWS_PER_TABLE = Question(
    "rat.rows_per_table",
    "how many rows the largest tables had after each publication",
    {"days": 90, "top": 200},
)
QUALITY_HISTORY = Question(
    "rat.quality_history",
    "what the tests that found fault most often said on each day",
    {"days": 30, "top": 100, "within": None},
)
DAILY_PASS_RATE = Question(
    "rat.daily_pass_rate",
    "what share of the quality results of a namespace passed on each day",
    {"days": 30},
)
PASS_RATE = Question(
    "rat.pass_rate",
    "what share of its quality results each pipeline passed, the worst first",
    {"days": 30},
)
PASS_RATE_OF_NAMESPACES = Question(
    "rat.pass_rate_of_namespaces",
    "what share of its quality results each namespace passed, the worst first",
    {"days": 30},
)
FAILING_TESTS = Question(
    "rat.failing_tests",
    "the tests whose newest result is no pass, and since when",
)
OPEN_ALERTS = Question(
    "rat.open_alerts",
    "which alerts are raised, since when, and whether anybody was told",
)
ALERTS_PER_DAY = Question(
    "rat.alerts_per_day",
    "how many alerts were raised and resolved on each day, by severity",
    {"days": 30},
)
DELIVERIES_BY_STATUS = Question(
    "rat.alert_deliveries_by_status",
    "how far the deliveries of alerts came, by channel",
    {"days": 30},
)
TIME_TO_DELIVER = Question(
    "rat.time_to_deliver",
    "how long it took until somebody was told of an alert, by channel",
    {"days": 30},
)
RAT = (
    RUNS_PER_DAY,
    SLOWEST_PIPELINES,
    FLAKIEST_PIPELINES,
    RECOVERY_TIMES,
    FRESHNESS,
    ROWS_PER_TABLE,
    QUALITY_HISTORY,
    DAILY_PASS_RATE,
    PASS_RATE,
    PASS_RATE_OF_NAMESPACES,
    FAILING_TESTS,
    OPEN_ALERTS,
    ALERTS_PER_DAY,
    DELIVERIES_BY_STATUS,
    TIME_TO_DELIVER,
)

# Clients and their pipelines, ours and those of others; Q1 to Q10 are the questions of CHM's document.

FAILURES_OVER_TIME = Question(
    "chm.failures_over_time",
    "how many runs failed in each bucket of time",
    {"bucket": "day", "since": None, "until": None},
)
LATEST_STATUS = Question(
    "chm.latest_status", "how the latest run of each active pipeline went (Q3)"
)
FAILURES_PER_CLIENT = Question(
    "chm.failures_per_client",
    "how many runs of each client failed in 24 hours and in 7 days",
)
TOP_FLAKY = Question(
    "chm.top_flaky",
    "the pipelines that failed most often in 30 days (Q9)",
    {"top": 20},
)
FAILURE_RATE_BY_PLATFORM = Question(
    "chm.failure_rate_by_platform",
    "what share of the runs failed on each platform",
    {"since": None, "until": None},
)
DURATION_DISTRIBUTION = Question(
    "chm.duration_distribution",
    "how many runs took how long",
    {"since": None, "until": None, "max_duration": 3600, "bucket_count": 10},
)
WEEKLY_RUN_HEALTH = Question(
    "chm.weekly_run_health", "how the runs of each week went (Q1)", {"weeks": 12}
)
CLIENT_RISK = Question(
    "chm.client_risk",
    "what share of its runs failed, by client, in 7 days (Q2)",
)
VENDOR_DEPENDENCY_RISK = Question(
    "chm.vendor_dependency_risk",
    "whether vendors' interfaces fail more than the rest, in 30 days (Q4)",
)
FAILURES_SINCE_YESTERDAY = Question(
    "chm.failures_since_yesterday",
    "how many more runs of each client failed than the day before (Q5)",
)
CLIENT_THROUGHPUT = Question(
    "chm.client_throughput",
    "how many rows each client's runs brought in 30 days, and how evenly (Q6)",
)
FRESHNESS_WATCHLIST = Question(
    "chm.freshness_watchlist",
    "how long ago each active pipeline succeeded, the longest first (Q7)",
)
RELIABILITY_BY_ENVIRONMENT = Question(
    "chm.reliability_by_environment",
    "what share of the runs failed in each environment, in 30 days (Q8)",
)
GOVERNANCE_GAPS = Question(
    "chm.governance_gaps",
    "which pipelines nobody watches, cannot be synced, or run though inactive (Q10)",
    {"recent": timedelta(days=7)},
)
CHM = (
    FAILURES_OVER_TIME,
    LATEST_STATUS,
    FAILURES_PER_CLIENT,
    TOP_FLAKY,
    FAILURE_RATE_BY_PLATFORM,
    DURATION_DISTRIBUTION,
    WEEKLY_RUN_HEALTH,
    CLIENT_RISK,
    VENDOR_DEPENDENCY_RISK,
    FAILURES_SINCE_YESTERDAY,
    CLIENT_THROUGHPUT,
    FRESHNESS_WATCHLIST,
    RELIABILITY_BY_ENVIRONMENT,
    GOVERNANCE_GAPS,
)
# What is asked of one pipeline or client, and so takes its id.
LATEST_RUN = Question("chm.latest_run", "the latest run of a pipeline")
RUN_HISTORY = Question("chm.run_history", "the runs of a pipeline")
CLIENT_SUMMARY = Question("chm.client_summary", "the runs of a client by status")
CLIENT_LATEST = Question("chm.client_latest", "the latest run of each of its pipelines")
LOOKUPS: Mapping[Question, str] = {
    LATEST_RUN: "pipeline_id",
    RUN_HISTORY: "pipeline_id",
    CLIENT_SUMMARY: "client_id",
    CLIENT_LATEST: "client_id",
}

# Jobs and their steps, as the reporting star has them.

JOB_RATES = Question(
    "lakeflow.job_rates",
    "how many runs of each job ended how, and what shares that makes",
    {"days": 7},
)
RATES = Question("lakeflow.rates", "the same over all jobs", {"days": 7})
LOW_SUCCESS_JOBS = Question(
    "lakeflow.low_success_jobs",
    "the jobs that succeed least",
    {"days": 7, "at_least": 5, "top": 15},
)
SUCCESS_DROPS = Question(
    "lakeflow.success_drops",
    "the jobs of which less than a share succeeded just now",
    {"hours": 1, "below": 90},
)
JOB_DURATIONS = Question(
    "lakeflow.job_durations",
    "how long the runs of each job take: mean, percentiles, spread, runs of over an hour",
    {"days": 7, "at_least": 5, "finished": False},
)
OUTLIERS = Question(
    "lakeflow.outliers",
    "the jobs whose longest run is far from what nine in ten need",
    {"days": 7, "at_least": 5, "factor": Decimal("1.5")},
)
SLA_COMPLIANCE = Question(
    "lakeflow.sla_compliance",
    "what share of the successful runs of each job took no longer than so many minutes",
    {"days": 7, "minutes": 60, "at_least": 3},
)
DAILY_TREND = Question(
    "lakeflow.daily_trend",
    "runs, failures and failing jobs of each day, and what they are on average of seven",
    {"days": 30},
)
RETRIES = Question(
    "lakeflow.retries",
    "the days on which a job ran more than once, and whether it succeeded in the end",
    {"days": 7},
)
REPAIRS = Question(
    "lakeflow.repairs",
    "the failures that the very next run of the job made good",
    {"days": 7},
)
RECOVERIES = Question(
    "lakeflow.recoveries",
    "every streak of failures that ended, and how long it lasted",
    {"days": 7},
)
MTTR = Question(
    "lakeflow.mttr",
    "how long each job takes from its first failure to its next success, in the mean",
    {"days": 7},
)
REGRESSIONS = Question(
    "lakeflow.regressions",
    "the jobs that took longer these days than in as many days before",
    {"days": 7, "factor": Decimal("1.2")},
)
SLOW_RUNS = Question(
    "lakeflow.slow_runs",
    "the runs that took far longer than the success before them",
    {"days": 1, "factor": Decimal("1.5"), "over_seconds": 300},
)
SUSPICIOUSLY_FAST_RUNS = Question(
    "lakeflow.suspiciously_fast_runs",
    "the runs that took far less than the success before them",
    {"days": 1, "factor": Decimal("0.5"), "over_seconds": 300},
)
CONSECUTIVE_FAILURES = Question(
    "lakeflow.consecutive_failures",
    "the jobs whose last runs all failed",
    {"streak": 3, "hours": 24},
)
DRIFT = Question(
    "lakeflow.drift",
    "what these days are beside as many days before: runs, rates, seconds",
    {"days": 7},
)
PIPELINE_HEALTH = Question(
    "lakeflow.pipeline_health",
    "how many updates of each pipeline completed, and how long those took",
    {"days": 7},
)
IMPACT = Question(
    "lakeflow.impact",
    "which tables wait for one whose update failed",
    {"days": 1},
)
SLOWEST_TASKS = Question(
    "lakeflow.slowest_tasks",
    "the steps of jobs that take longest",
    {"days": 7, "top": 20},
)
FAILING_TASKS = Question(
    "lakeflow.failing_tasks", "the steps of jobs that fail", {"days": 7}
)
LAKEFLOW = (
    JOB_RATES,
    RATES,
    LOW_SUCCESS_JOBS,
    SUCCESS_DROPS,
    JOB_DURATIONS,
    OUTLIERS,
    SLA_COMPLIANCE,
    DAILY_TREND,
    RETRIES,
    REPAIRS,
    RECOVERIES,
    MTTR,
    REGRESSIONS,
    SLOW_RUNS,
    SUSPICIOUSLY_FAST_RUNS,
    CONSECUTIVE_FAILURES,
    DRIFT,
    PIPELINE_HEALTH,
    IMPACT,
    SLOWEST_TASKS,
    FAILING_TASKS,
)
# What other questions are made of.
PARTS = (
    "rat.failure_streaks",
    "rat.test_results",
    "chm.latest_at",
    "chm.latest_success_at",
    "lakeflow.job_runs",
    "lakeflow.compared_runs",
)

QUESTIONS = (*RAT, *CHM, *LAKEFLOW)
