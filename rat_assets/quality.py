"""Quality: the tests of a pipeline, run on the branch that its table was just written to.

A test is a query for offenders: none is a pass. What a test is made of is
`rat_resources.templates`; what it said is kept in `rat_resources.metadata.quality`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Timer
from time import perf_counter
from typing import Any

import dagster as dg
import duckdb
from duckdb import DuckDBPyConnection

from rat_assets.commands.display import duration
from rat_assets.entries import as_sql, as_table, fit
from rat_assets.journal import Level
from rat_assets.samples import mask, narrow
from rat_resources.lake.complaints import complaint, is_outage
from rat_resources.lake.rows import sample
from rat_resources.metadata.quality import Severity, Verdict
from rat_resources.metadata.zeros import as_text
from rat_resources.names import TableName, dagster_name
from rat_resources.results import PastResult
from rat_resources.specs import QualityTest

Locate = Callable[[duckdb.Error], str]
"""Finds the author's file and line that an error is about."""

SAMPLE_ROWS = 20
TIME_LIMIT = 60.0
CHECK_BYTES = 40_000


@dataclass(frozen=True)
class TestResult:
    """What one test said."""

    __test__ = False

    test: QualityTest
    verdict: Verdict
    sql: str
    duration_ms: int
    ran_at: datetime
    offenders: int | None = None
    sample: Sequence[Mapping[str, Any]] = ()
    message: str = ""

    @property
    def blocks(self) -> bool:
        """Whether nothing may be published because of it."""
        wrong = self.verdict in (Verdict.FAILED, Verdict.ERROR)
        return wrong and self.test.severity == Severity.ERROR

    @property
    def level(self) -> Level:
        """How loudly the journal says it."""
        if self.verdict == Verdict.PASSED:
            return "info"
        return "error" if self.blocks else "warning"

    @property
    def summary(self) -> str:
        """The result in one line."""
        if self.verdict == Verdict.ERROR:
            return f"{self.test.name}: could not run: {self.message}"
        if self.test.guard:
            return f"{self.test.name}: {self.verdict}, {self.message}"
        found = (
            "no offenders"
            if not self.offenders
            else f"{self.offenders:,} offending {'row' if self.offenders == 1 else 'rows'}"
        )
        return f"{self.test.name}: {self.verdict}, {found}"

    def to_row(self) -> dict[str, Any]:
        """The result as `rat.quality_results` keeps it."""
        return {
            "name": self.test.name,
            "status": str(self.verdict),
            "value": self.offenders,
            "duration_ms": self.duration_ms,
            "ran_at": self.ran_at.isoformat(),
            "message": as_text(self.message),
            "sample": list(self.sample),
            "compiled_sql": as_text(self.sql),
        }

    def to_check(
        self, key: dg.AssetKey, *, place: str, past: Sequence[PastResult] = ()
    ) -> dg.AssetCheckResult:
        """The result as Dagster shows it; *place* says where the tested rows are now."""
        severity = (
            dg.AssetCheckSeverity.ERROR
            if self.test.severity == Severity.ERROR
            and self.verdict != Verdict.WARNED  # somebody accepted it
            else dg.AssetCheckSeverity.WARN
        )
        return dg.AssetCheckResult(
            check_name=dagster_name(self.test.name),
            asset_key=key,
            passed=self.verdict == Verdict.PASSED,
            severity=severity,
            description=f"{self.summary} ({place})",
            metadata=fit([self.metadata(past)], limit=CHECK_BYTES),
        )

    def metadata(self, past: Sequence[PastResult] = ()) -> dict[str, Any]:
        """What a check shows beside its verdict."""
        shown: dict[str, Any] = {"verdict": dg.MetadataValue.text(str(self.verdict))}
        if self.offenders is not None:
            shown["offending_rows"] = dg.MetadataValue.int(self.offenders)
        if self.message:
            word = "error" if self.verdict == Verdict.ERROR else "message"
            shown[word] = dg.MetadataValue.text(self.message)
        if self.sample:
            shown["sample"] = as_table(self.sample)
        shown["severity"] = dg.MetadataValue.text(say_severity(self.test.severity))
        if self.test.remediation and self.verdict != Verdict.ERROR:
            shown["remediation"] = dg.MetadataValue.text(self.test.remediation)
        shown["duration_ms"] = dg.MetadataValue.int(self.duration_ms)
        if past:
            shown["last_runs"] = as_table([describe_past(each) for each in past])
        if self.sql:
            shown["compiled_sql"] = as_sql(self.sql)
        return shown


def describe_past(past: PastResult) -> dict[str, Any]:
    """An earlier result as a row of a table."""
    return {
        "run at": f"{past.ran_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "verdict": past.verdict,
        "offending rows": past.offenders,
        "took": duration(past.duration_ms),
    }


def say_severity(severity: str) -> str:
    """What a severity means."""
    if severity == Severity.ERROR:
        return "error: offending rows stop the publication"
    return "warn: offending rows are reported, and published"


@dataclass
class Bench:
    """Where tests run: a connection on which every table that they name can be read."""

    connection: DuckDBPyConnection
    time_limit: float = TIME_LIMIT
    results: list[TestResult] = field(default_factory=list)
    masked: Collection[str] = ()  # columns whose values no sample shows

    def run(
        self, test: QualityTest, *, sql: str, locate: Locate | None = None
    ) -> TestResult:
        """Run one test; that it cannot run is a result too, and *locate* says where."""
        ran_at, started = datetime.now(UTC), perf_counter()
        offenders: int | None = None
        rows: Sequence[Mapping[str, Any]] = ()
        message = ""
        expired = Event()

        def stop() -> None:
            expired.set()
            self.connection.interrupt()

        late = Timer(self.time_limit, stop)
        late.start()
        try:
            found = sample(self.connection, sql, limit=SAMPLE_ROWS)
            offenders = found.count
            rows = narrow(mask(found.objects, masked=self.masked))
        except duckdb.InterruptException:
            if not expired.is_set():
                raise  # somebody else interrupts: the run is to stop
            message = f"took more than {self.time_limit:g} s; let it read less"
        except duckdb.Error as error:
            if is_outage(error):
                raise complaint(error) from error  # it says nothing of the rows
            where = locate(error) if locate else test.path
            message = f"{where}: {complaint(error)}"
        finally:
            late.cancel()
        return self.keep(
            TestResult(
                test=test,
                verdict=judge(test, offenders=offenders),
                sql=sql,
                duration_ms=round((perf_counter() - started) * 1000),
                ran_at=ran_at,
                offenders=offenders,
                sample=rows,
                message=message,
            )
        )

    def refuse(self, test: QualityTest, *, message: str) -> TestResult:
        """The result of a test that cannot even be asked."""
        return self.keep(
            TestResult(test, Verdict.ERROR, "", 0, datetime.now(UTC), message=message)
        )

    def keep(self, result: TestResult) -> TestResult:
        """Add a result to the others."""
        self.results.append(result)
        return result


def judge(test: QualityTest, *, offenders: int | None) -> Verdict:
    """The verdict on a number of offenders; None: the test could not run."""
    if offenders is None:
        return Verdict.ERROR
    if offenders == 0:
        return Verdict.PASSED
    return Verdict.FAILED if test.severity == Severity.ERROR else Verdict.WARNED


def check_specs(
    tests: Sequence[QualityTest], *, key: dg.AssetKey
) -> list[dg.AssetCheckSpec]:
    """The checks that Dagster shows for a pipeline's tests."""
    return [
        dg.AssetCheckSpec(
            dagster_name(test.name),
            asset=key,
            description=describe_test(test),
            blocking=test.severity == Severity.ERROR,
            metadata={
                "severity": test.severity,
                "remediation": test.remediation or "–",
            },
        )
        for test in tests
    ]


def describe_test(test: QualityTest) -> str:
    """What a test is about, as Markdown: Dagster shows nothing else of it before it ran."""
    parts = [test.description, f"*{say_severity(test.severity)}*"]
    if test.remediation:
        parts.append(f"**What to do:** {test.remediation}")
    return "\n\n".join(part for part in parts if part)


def describe_failure(results: Sequence[TestResult], *, table: TableName) -> str:
    """Why a table was not published, in one line a test."""
    blocking = [f"  {result.summary}" for result in results if result.blocks]
    tests = "1 quality test" if len(blocking) == 1 else f"{len(blocking)} quality tests"
    return "\n".join([f"{table}: {tests} stopped the publication", *blocking])
