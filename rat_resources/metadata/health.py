"""Health: what people ask of the platform, each question a function of Postgres with an as_of.

Reports, the Grafana dashboard, docs/postgres.md and the benchmark take their questions from here; the
functions are made by the migrations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

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
    {"days": 30, "most": 20},
)
FLAKIEST_PIPELINES = Question(
    "rat.flakiest_pipelines",
    "the pipelines that fail, those first that go back and forth between failure and success",
    {"days": 30, "most": 20},
)
FRESHNESS = Question(
    "rat.freshness",
    "when each pipeline published last, how often it usually succeeds, and how late it is by that",
)
ROWS_PER_TABLE = Question(
    "rat.rows_per_table",
    "how many rows the largest tables had after each publication",
    {"days": 90, "most": 200},
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
QUESTIONS = (
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
