"""What a run did, in the words of an alert about it."""

import uuid

from rat_resources.alerts import outcomes
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.outcomes import Outcome, Verdicts
from rat_resources.metadata.runs import RunStatus

FAILED = Definition(
    id=uuid.uuid4(),
    name="failed",
    namespace="shop",
    kind="run_status",
    condition={"kind": "run_status", "statuses": ["failed"]},
)


def failure(*results: Verdicts, error: str) -> Outcome:
    """A run of a table that failed."""
    return Outcome(
        uuid.UUID(int=7),
        uuid.uuid4(),
        "shop.gold.revenue",
        RunStatus.FAILED,
        error=error,
        results=results,
    )


def test_a_run_that_a_test_stopped_is_told_with_its_rows_and_what_to_do() -> None:
    dear = Verdicts(
        "dear", "failed", offenders=41, sample=[{"id": 1}], remediation="Ask Bob"
    )
    warned = Verdicts("other", "warned", offenders=1)
    stopped = "shop.gold.revenue: 1 quality test stopped the publication\n  dear"

    [match] = outcomes.statuses(FAILED, failure(warned, dear, error=stopped))

    assert match.sentence == (
        "shop.gold.revenue failed: 1 quality test stopped the publication (dear)"
    )
    assert (match.rows, match.rows_matching) == ([{"id": 1}], 41)
    assert match.remediation == "Ask Bob"


def test_a_run_that_failed_otherwise_says_where_to_read_why() -> None:
    [match] = outcomes.statuses(FAILED, failure(error="Out of disk\nat line 3"))

    assert match.sentence == "shop.gold.revenue failed: Out of disk"
    assert match.remediation == (
        "`rat runs 00000000-0000-0000-0000-000000000007` shows its log, and what failed"
    )
