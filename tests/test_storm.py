"""After a storm of runs, of which some are cancelled and some are killed, everything still agrees.

RAT_STORM_RUNS says how many runs it has at least, RAT_STORM_SEED which one it is; the one before a
release has 300.
"""

import os

from sqlalchemy import text

from rat_resources import audit
from rat_resources.mirror import log
from rat_resources.reconciliation import reconcile
from tests import storm
from tests.factories import Shop

RUNS = int(os.environ.get("RAT_STORM_RUNS", "40"))
SEED = int(os.environ.get("RAT_STORM_SEED", "1"))
KINDS = """
SELECT
    concat_ws(
        ', ',
        'run ' || status,
        CASE WHEN unchanged AND status = 'success' THEN 'nothing new' END,
        CASE WHEN attempt > 1 THEN 'tried again' END,
        CASE WHEN status = 'failed' THEN rtrim(left(split_part(error, E'\\n', 1), 50)) END
    ) AS kind,
    count(*) AS times
FROM rat.runs GROUP BY 1
UNION ALL
SELECT concat_ws(' ', 'Dagster run of', pipeline_name, lower(status)), count(*)
FROM dagster.runs GROUP BY 1
UNION ALL
SELECT 'release', count(*) FROM rat.releases
UNION ALL
SELECT 'external run ' || run.status, count(*)
FROM chm.runs AS run JOIN chm.pipelines AS pipeline ON pipeline.id = run.pipeline_id
WHERE pipeline.origin = 'external' GROUP BY 1
UNION ALL
SELECT 'rejected event', count(*) FROM rat.rejected_events
ORDER BY 1
"""


def test_a_storm_leaves_no_differences(shop: Shop) -> None:
    shop.publish(storm.project(shop.folder.parent))
    # Without these tables, what its test shall stop might never come that far.
    shop.land("first.csv", "id,customer,amount\n1,ann,10\n")
    assert shop.run(*storm.CHAIN).succeeded

    storm.rage(shop, runs=RUNS, seed=SEED)
    reconcile(shop.whole, shop.instance)
    log.catch_up(shop.whole.metadata)
    report = audit.audit(shop.whole)
    counted = kinds(shop)

    print(*(f"{times:6} {kind}" for kind, times in counted.items()), sep="\n")  # noqa: T201
    assert list(report.lines) == []
    for word in ("success", "tried again", "cancelled", "died", "quality test"):
        assert any(word in kind for kind in counted), word


def kinds(shop: Shop) -> dict[str, int]:
    """How many there are of each kind of what happened."""
    with shop.whole.metadata.transaction() as tx:
        return {row.kind: row.times for row in tx.execute(text(KINDS))}
