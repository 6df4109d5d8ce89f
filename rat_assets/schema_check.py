"""The check `schema_change`: the columns that a run changes on main, and who reads them.

It is a test without a query of every table. What changes the write itself tells, by field id; who reads
it the lineage that was published (`rat_resources.impact`). A contract makes it stop the run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter

from rat_assets.computation import Computation
from rat_assets.quality import TestResult
from rat_resources import impact, publications
from rat_resources.errors import RatError
from rat_resources.impact import Reader, Why
from rat_resources.lake.evolution import SchemaChange, compare
from rat_resources.lake.refs import MAIN, IcebergTable
from rat_resources.metadata.quality import Severity, Verdict
from rat_resources.names import TableName
from rat_resources.specs import QualityTest

MOST_NAMED = 5  # readers, in a sentence; the table beside it has all


@dataclass(frozen=True)
class Finding:
    """One column that changes, and what reads it."""

    change: SchemaChange
    readers: Sequence[Reader] = ()
    by_others: bool = False  # on main already, by another engine

    def to_row(self, table: TableName) -> dict[str, str | None]:
        """The finding as a row of a table."""
        direct = [each for each in self.readers if str(table) in each.through]
        further = [each for each in self.readers if each not in direct]
        return {
            "kind": self.change.kind,
            "column": self.change.column,
            "before": self.change.before,
            "after": self.change.after,
            "by": "another engine" if self.by_others else "this run",
            "read by": ", ".join(map(name_reader, direct)),
            "further down": ", ".join(map(name_reader, further)),
        }

    def describe(self, table: TableName) -> str:
        """The finding in words."""
        by = ", by another engine since the last run" if self.by_others else ""
        return f"{self.change}{by}{say_readers(self.readers, table=table)}"


def ask_schema(
    test: QualityTest, work: Computation, *, accepted_by: str = ""
) -> TestResult:
    """Which columns of main a run changes; under a contract that stops it, unless somebody accepts it."""
    started, ran_at = perf_counter(), datetime.now(UTC)
    findings = find(work)
    ours = [each for each in findings if not each.by_others]
    message = "; ".join(each.describe(work.name) for each in findings)
    verdict = Verdict.WARNED if findings else Verdict.PASSED
    if ours and test.severity == Severity.ERROR:
        verdict = Verdict.WARNED if accepted_by else Verdict.FAILED
        message += f"; accepted by {accepted_by}" if accepted_by else CONTRACT
    return TestResult(
        test,
        verdict,
        "",
        round((perf_counter() - started) * 1000),
        ran_at,
        offenders=len(findings),
        sample=[each.to_row(work.name) for each in findings],
        message=message or "no column changes",
    )


CONTRACT = "; contract: enforced lets no run change a column"


def find(work: Computation) -> list[Finding]:
    """The columns that differ from those of the last publication; a table's first are no change."""
    if work.own is None or work.spec.is_view:
        return []
    changes = changed_columns(work)
    others = changed_by_others(work)
    if not changes and not others:
        return []
    read = [each.column for each in (*others, *changes) if each.kind != "added"]
    readers = find_readers(work, read)
    return [
        *(
            Finding(each, readers.get(each.column, ()), by_others=True)
            for each in others
        ),
        *(Finding(each, readers.get(each.column, ())) for each in changes),
    ]


def changed_columns(work: Computation) -> tuple[SchemaChange, ...]:
    """The columns of a table that was there that the run itself changes."""
    if work.own is None or work.written is None or not work.written.changed:
        return ()
    return work.written.schema_changes


def changed_by_others(work: Computation) -> tuple[SchemaChange, ...]:
    """The columns that another engine changed since the last publication, as far as that can be read."""
    if work.own is None:
        return ()
    with work.platform.metadata.transaction() as tx:
        known = publications.published_at(tx, work.name)
    if known is None or known == work.own.metadata_location:
        return ()
    try:
        catalog = work.platform.lake.catalog(MAIN)
        before = catalog.load_table_at(work.name.key, IcebergTable(known, -1))
    except (OSError, RatError):
        return ()  # its files were removed since
    return compare(before.schema(), work.own.schema())


def find_readers(
    work: Computation, columns: Iterable[str]
) -> Mapping[str, Sequence[Reader]]:
    """What reads these columns of the table on main, directly and further down."""
    with work.platform.metadata.transaction() as tx:
        return impact.of_columns(tx, str(work.name), columns=columns)


def say_readers(readers: Sequence[Reader], *, table: TableName) -> str:
    """Who reads a column, those that read it directly first."""
    if not readers:
        return ""
    ordered = sorted(readers, key=lambda each: str(table) not in each.through)
    more = len(ordered) - MOST_NAMED
    named = ", ".join(map(name_reader, ordered[:MOST_NAMED]))
    return f", read by {named}" + (f" and {more} more" if more > 0 else "")


def name_reader(reader: Reader) -> str:
    """A reader, and which of it depends on what it reads."""
    name = reader.node.dataset
    match reader.why:
        case Why.UNTOLD:
            return f"{name} (lineage unknown)"
        case Why.ROWS | Why.TABLE:
            return f"{name} (all rows)"
    return ", ".join(f"{name}.{column}" for column in reader.columns)
