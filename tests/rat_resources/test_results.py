"""Results: a test's last runs are found at once, however many there were."""

import uuid
from datetime import UTC, datetime, timedelta

from rat_resources.metadata import Metadata
from rat_resources.metadata.quality import QualityResult, QualityTest, Verdict
from rat_resources.results import RUNS, recent_results
from tests.rat_resources.rows import make_pipeline, make_run

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_newest_results_of_each_test_are_found(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        tests = [
            QualityTest(id=uuid.uuid4(), pipeline_id=pipeline_id, name=name)
            for name in ("often", "once", "never")
        ]
        tx.add_all(tests)
        tx.flush()
        for number in range(RUNS + 3):
            run_id = make_run(tx, pipeline_id)
            for test in tests[: 2 if number == 0 else 1]:
                tx.add(
                    QualityResult(
                        test_id=test.id,
                        run_id=run_id,
                        status=Verdict.FAILED,
                        value=number,
                        duration_ms=number,
                        ran_at=START + timedelta(days=number),
                    )
                )
            tx.flush()

        found = recent_results(tx, pipeline_id)

    assert [each.offenders for each in found["often"]] == list(range(12, 2, -1))
    assert [each.offenders for each in found["once"]] == [0]
    assert "never" not in found
