"""Outcomes: conditions on what a run did, not on what rows hold.

`quality`, `volume`, `schema_change` and `run_status`, for a run that publishes and for one that does
not. Conditions on rows are `conditions`; what follows from a match is `matches`.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from statistics import fmean, median, pstdev
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts.conditions import DEVIATIONS, listed
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.matches import Match
from rat_resources.errors import FilterError
from rat_resources.metadata.quality import Verdict
from rat_resources.metadata.runs import RunStatus
from rat_resources.specs import SCHEMA_CHANGE

KINDS = ("quality", "volume", "schema_change", "run_status")
MOST_NAMED = 3  # tests, in a sentence
LAST_RUNS = 20  # whose rows say what is usual, unless the condition does
FEWEST_RUNS = 3  # that say anything
WRONG = {
    "failed": (Verdict.FAILED, Verdict.ERROR),
    "warned": (Verdict.WARNED,),
}


@dataclass(frozen=True)
class Verdicts:
    """What one test said in a run."""

    name: str
    status: str
    offenders: int | None = None
    message: str = ""
    sample: Sequence[Mapping[str, Any]] = ()  # personal columns are masked
    remediation: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    run_id: uuid.UUID
    pipeline_id: uuid.UUID
    table: str
    status: str
    error: str = ""
    rows_written: int = 0
    unchanged: bool = False
    columns: Sequence[Mapping[str, Any]] = ()  # kind, column, before, after
    results: Sequence[Verdicts] = field(default_factory=list)


def look(tx: Session, definition: Definition, outcome: Outcome) -> list[Match] | None:
    """What a definition finds in what a run did; None where that says nothing of it."""
    match definition.kind:
        case "quality":
            return [*tests(tx, definition, outcome)]
        case "run_status":
            return [*statuses(definition, outcome)]
        case "schema_change":
            return None if outcome.unchanged else [*columns(definition, outcome)]
        case "volume" if outcome.status == RunStatus.SUCCESS and not outcome.unchanged:
            return [*volume(tx, definition, outcome)]
    return None


# Tests.


def tests(tx: Session, definition: Definition, outcome: Outcome) -> Iterator[Match]:
    """The tests that said what a definition waits for, so many times in a row."""
    said = definition.condition
    wrong = WRONG[said.get("status") or "failed"]
    times = int(said.get("times") or 1)
    for each in outcome.results:
        if each.status not in wrong or not is_about(definition, each):
            continue
        if times > 1 and not was_wrong(
            tx, each.name, outcome, wrong=wrong, times=times
        ):
            continue
        rows = each.offenders and each.name != SCHEMA_CHANGE
        found = f"{each.offenders:,} offending rows" if rows else each.message
        again = f", {times} times in a row" if times > 1 else ""
        yield Match(
            f"the test {each.name} of {outcome.table} {each.status}{again}"
            + (f": {found}" if found else ""),
            subject={"test": each.name},
            key=each.name,
            figures={
                "status": each.status,
                "offenders": each.offenders,
                "times": times,
            },
            rows=each.sample,
            rows_matching=each.offenders,
            identity=str(outcome.run_id),
            remediation=each.remediation,
        )


def is_about(definition: Definition, test: Verdicts) -> bool:
    """Whether a definition waits for a test; for columns that may change it does by name alone.

    They have alerts of their own.
    """
    named = definition.condition.get("test")
    if test.name == SCHEMA_CHANGE and test.status in WRONG["warned"]:
        return bool(named == test.name)
    return named in (None, "*", test.name)


def was_wrong(
    tx: Session,
    test: str,
    outcome: Outcome,
    *,
    wrong: Sequence[str],
    times: int,
) -> bool:
    """Whether a test was wrong in the runs before, too, so often in all."""
    before = tx.scalars(
        RESULTS,
        {
            "pipeline_id": outcome.pipeline_id,
            "test": test,
            "run_id": outcome.run_id,
            "number": times - 1,
        },
    ).all()
    return len(before) == times - 1 and all(each in wrong for each in before)


# Of a run that is over: what came before it.
RESULTS = text("""
    SELECT result.status
    FROM rat.quality_results AS result
    JOIN rat.quality_tests AS test ON test.id = result.test_id
    WHERE test.pipeline_id = :pipeline_id
        AND test.name = :test
        AND result.run_id <> :run_id
        AND result.ran_at < coalesce(
            (SELECT min(ran_at) FROM rat.quality_results WHERE run_id = :run_id), 'infinity'
        )
    ORDER BY result.ran_at DESC, result.id DESC
    LIMIT :number
""")


# Runs.


def statuses(definition: Definition, outcome: Outcome) -> Iterator[Match]:
    """The end of a run, if a definition waits for such a one."""
    if outcome.status not in listed(definition.condition.get("statuses")):
        return
    wrong = [each for each in outcome.results if each.status in WRONG["failed"]]
    first = wrong[0] if wrong else Verdicts("", "")
    why = outcome.error.strip().partition("\n")[0].removeprefix(f"{outcome.table}: ")
    why = f": {why}" if why else ""
    if wrong:
        why += f" ({', '.join(each.name for each in wrong[:MOST_NAMED])})"
    see = f"`rat runs {outcome.run_id}` shows its log, and what failed"
    word = "succeeded" if outcome.status == RunStatus.SUCCESS else outcome.status
    was = "was " if outcome.status == RunStatus.CANCELLED else ""
    yield Match(
        f"{outcome.table} {was}{word}{why}",
        subject={"pipeline": outcome.table},
        key=outcome.table,
        figures={"status": outcome.status, "rows_written": outcome.rows_written},
        rows=first.sample,
        rows_matching=first.offenders,
        remediation=first.remediation
        or (see if outcome.status == RunStatus.FAILED else ""),
        identity=str(outcome.run_id),
        # It is over with the next run that succeeds; a success is never over.
        lasts=outcome.status != RunStatus.SUCCESS,
    )


def watches(definition: Definition, table: str) -> bool:
    """Whether a definition is about the runs of a pipeline."""
    said = listed(definition.condition.get("pipelines"))
    patterns = [str(each) for each in said] or [str(definition.table or "*")]
    return any(fnmatchcase(table, filled(each)) for each in patterns)


def filled(pattern: str) -> str:
    """A pattern of three parts: what is left out may be anything."""
    parts = pattern.split(".")
    return ".".join([*parts, *["*"] * (3 - len(parts))])


# Columns.


def columns(definition: Definition, outcome: Outcome) -> Iterator[Match]:
    """The columns that changed, of those that a definition is about."""
    said = definition.condition
    names = {str(each).casefold() for each in listed(said.get("columns"))}
    kinds = set(listed(said.get("kinds")))
    found = [
        each
        for each in outcome.columns
        if (not names or str(each["column"]).casefold() in names)
        and (not kinds or each["kind"] in kinds)
    ]
    if not found:
        return
    words = ", ".join(f"{each['kind']} {each['column']}" for each in found)
    have = "changed" if outcome.status == RunStatus.SUCCESS else "would have changed"
    yield Match(
        f"the columns of {outcome.table} {have}: {words}",
        figures={"changes": [dict(each) for each in found]},
        lasts=False,
    )


# Rows.


def volume(tx: Session, definition: Definition, outcome: Outcome) -> Iterator[Match]:
    """The number of rows that a run wrote, if it is outside of what is usual."""
    said = definition.condition
    number = int(said.get("last_runs") or LAST_RUNS)
    usual = [
        int(each)
        for each in tx.scalars(
            WRITTEN,
            {
                "pipeline_id": outcome.pipeline_id,
                "run_id": outcome.run_id,
                "number": number,
            },
        )
    ]
    if len(usual) < min(number, FEWEST_RUNS):
        return
    low, high = usual_range(said, usual)
    if low <= outcome.rows_written <= high:
        return
    yield Match(
        f"a run of {outcome.table} wrote {outcome.rows_written:,} rows, which is outside"
        f" of {low:,.0f} to {high:,.0f}, as usual in the last {len(usual)} runs",
        figures={
            "rows": outcome.rows_written,
            "low": low,
            "high": None if high == float("inf") else high,
            "mean": fmean(usual),
            "last_runs": len(usual),
        },
    )


def usual_range(said: Mapping[str, Any], usual: Sequence[int]) -> tuple[float, float]:
    """The fewest and the most rows that are usual: by factors of the median, else by deviations."""
    low, high = said.get("low"), said.get("high")
    if low is None and high is None:
        far = float(said.get("k") or DEVIATIONS) * pstdev(usual)
        return max(0.0, fmean(usual) - far), fmean(usual) + far
    middle = median(usual)
    try:
        return (
            0.0 if low is None else float(low) * middle,
            float("inf") if high is None else float(high) * middle,
        )
    except (TypeError, ValueError) as error:
        message = f"its condition makes no sense: {error}"
        raise FilterError(message, fix="write low and high as factors") from error


WRITTEN = text("""
    SELECT rows_written
    FROM rat.runs
    WHERE pipeline_id = :pipeline_id
        AND status = 'success'
        AND NOT unchanged
        AND rows_written IS NOT NULL
        AND id <> :run_id
    ORDER BY finished_at DESC
    LIMIT :number
""")
