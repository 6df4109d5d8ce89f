"""Health: what people ask of the platform, each question a function of Postgres with an as_of.

Reports, the Grafana dashboard, docs/postgres.md and the benchmark take their questions from here; the
functions are made by the migrations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
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
    parameters: Mapping[str, object] = field(default_factory=dict)

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
    "what each quality test said on each day",
    {"days": 30},
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
RAT = (
    RUNS_PER_DAY,
    SLOWEST_PIPELINES,
    FLAKIEST_PIPELINES,
    FRESHNESS,
    ROWS_PER_TABLE,
    QUALITY_HISTORY,
    DAILY_PASS_RATE,
    PASS_RATE,
    PASS_RATE_OF_NAMESPACES,
    FAILING_TESTS,
)

# Jobs and their steps, as the reporting star has them.

JOB_RATES = Question(
    "lakeflow.job_rates",
    "how many runs of each job ended how, and what shares that makes",
    {"days": 30},
)
RATES = Question("lakeflow.rates", "the same over all jobs", {"days": 30})
LOW_SUCCESS_JOBS = Question(
    "lakeflow.low_success_jobs",
    "the jobs that succeed least",
    {"days": 30, "at_least": 5, "top": 15},
)
SUCCESS_DROPS = Question(
    "lakeflow.success_drops",
    "the jobs of which less than a share succeeded just now",
    {"hours": 1, "below": 90},
)
JOB_DURATIONS = Question(
    "lakeflow.job_durations",
    "how long the runs of each job take: mean, percentiles, spread, runs of over an hour",
    {"days": 30, "at_least": 5, "finished": False},
)
OUTLIERS = Question(
    "lakeflow.outliers",
    "the jobs whose longest run is far from what nine in ten need",
    {"days": 30, "at_least": 5, "factor": Decimal("1.5")},
)
SLA_COMPLIANCE = Question(
    "lakeflow.sla_compliance",
    "what share of the successful runs of each job took no longer than so many minutes",
    {"days": 30, "minutes": 60, "at_least": 3},
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
    {"days": 30},
)
MTTR = Question(
    "lakeflow.mttr",
    "how long each job takes from its first failure to its next success, in the mean",
    {"days": 30},
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
# What other questions are made of: a row for every run of a window.
PARTS = ("lakeflow.job_runs", "lakeflow.compared_runs")

CHM: tuple[Question, ...] = ()

QUESTIONS = (*RAT, *CHM, *LAKEFLOW)
