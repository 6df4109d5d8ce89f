"""After a storm of runs, of which some are cancelled and some are killed, everything still agrees.

RAT_STORM_RUNS says how many turns of running it has; the issue of a release is 300.
"""

import os

from sqlalchemy import text

from rat_resources import audit
from rat_resources.mirror import log
from rat_resources.reconciliation import reconcile
from tests.factories import Shop
from tests.storm import Storm, project

RUNS = int(os.environ.get("RAT_STORM_RUNS", "40"))


def test_a_storm_leaves_no_differences(shop: Shop) -> None:
    shop.publish(project(shop.folder.parent))

    Storm(shop).rage(runs=RUNS)
    reconcile(shop.whole, shop.instance)
    log.catch_up(shop.whole.metadata)
    report = audit.audit(shop.whole)

    assert list(report.lines) == []
    assert {"success", "failed", "cancelled"} <= set(statuses(shop))


def statuses(shop: Shop) -> dict[str, int]:
    """How many runs ended how."""
    with shop.whole.metadata.transaction() as tx:
        counted = text("SELECT status, count(*) AS runs FROM rat.runs GROUP BY 1")
        return {row.status: row.runs for row in tx.execute(counted)}
