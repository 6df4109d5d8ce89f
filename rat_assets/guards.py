"""Guards at work: whether what a run changes is what its pipeline's author allows.

A guard is a test without a query; what it may say is `rat_resources.guards`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from rat_assets.changes import Changes
from rat_assets.quality import TestResult
from rat_resources.guards import Guard, Limit
from rat_resources.metadata.quality import Severity, Verdict
from rat_resources.names import TableName
from rat_resources.specs import QualityTest

LOSSES = ("dropped", "replaced")


def ask_guard(
    test: QualityTest, guard: Guard, changes: Changes | None, *, accepted_by: str = ""
) -> TestResult:
    """What a guard says of *changes*; what somebody accepted warns instead of stopping."""
    found, message = find_offenders(test.guard, guard, changes)
    verdict = Verdict.PASSED
    if found and accepted_by:
        verdict, message = Verdict.WARNED, f"{message}; accepted by {accepted_by}"
    elif found:
        verdict = Verdict.FAILED
    elif found is None:
        verdict = Verdict.WARNED
    now = datetime.now(UTC)
    return TestResult(test, verdict, "", 0, now, offenders=found, message=message)


def was_accepted(result: TestResult) -> bool:
    """Whether somebody let pass what a guard would have stopped."""
    guards = result.test.guard and result.test.severity == Severity.ERROR
    return bool(guards and result.offenders) and not result.blocks


def advise(results: Sequence[TestResult], *, table: TableName) -> str:
    """How a run that only guards stopped is published all the same."""
    if all(result.test.guard for result in results if result.blocks):
        return f"if it is meant: rat run {table} --accept-changes"
    return ""


def find_offenders(
    what: str, guard: Guard, changes: Changes | None
) -> tuple[int | None, str]:
    """How many rows or columns are too many changed, with the figures; None: nobody knows."""
    if changes is None:
        return 0, "nothing changed"
    if changes.is_first:
        return 0, "there was no table to change"
    if what == "columns":
        return find_columns(changes, policy=guard.columns)
    word = what.removeprefix("max_")
    return find_rows(changes, word=word, limit=dict(guard.limits)[word])


def find_rows(changes: Changes, *, word: str, limit: Limit) -> tuple[int | None, str]:
    """The rows that were added, removed or changed, if there are too many."""
    rows = getattr(changes, word)
    if rows is None:
        return None, f"all rows were written anew, so nobody knows which {word}"
    figures = f"{word} {rows:,} of {changes.rows_before:,} rows"
    share = changes.share(rows)
    message = f"{figures}{share and f', {share}'}; allowed {limit}"
    return 0 if limit.allows(rows, before=changes.rows_before) else rows, message


def find_columns(changes: Changes, *, policy: str) -> tuple[int, str]:
    """The columns that should have stayed as they were."""
    found = [
        str(each)
        for each in changes.columns
        if policy == "no_change" or each.kind in LOSSES
    ]
    return len(found), f"{', '.join(found) or 'no such change'}; allowed {policy}"
