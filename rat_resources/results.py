"""Results: what the quality tests of a pipeline said in its last runs."""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from rat_resources.metadata.quality import QualityResult, QualityTest

RUNS = 10


@dataclass(frozen=True)
class PastResult:
    """What one test said in one run."""

    ran_at: datetime
    verdict: str
    offenders: int | None
    duration_ms: int | None


def recent_results(
    tx: Session, pipeline_id: uuid.UUID
) -> Mapping[str, Sequence[PastResult]]:
    """The last results of every test of a pipeline, the newest first, by the test's name."""
    newest = (
        select(QualityResult)
        .where(QualityResult.test_id == QualityTest.id)
        .order_by(QualityResult.ran_at.desc())
        .limit(RUNS)
        .lateral()
    )
    rows = tx.execute(
        select(
            QualityTest.name,
            newest.c.ran_at,
            newest.c.status,
            newest.c.value,
            newest.c.duration_ms,
        )
        .join(newest, true())
        .where(QualityTest.pipeline_id == pipeline_id, QualityTest.active)
        .order_by(QualityTest.name, newest.c.ran_at.desc())
    )
    found: dict[str, list[PastResult]] = defaultdict(list)
    for name, ran_at, status, value, duration_ms in rows:
        offenders = None if value is None else int(value)
        found[name].append(PastResult(ran_at, status, offenders, duration_ms))
    return found
