"""Expiring: a table forgets old snapshots and old metadata files; every file of them stays."""

from pyiceberg.table import Table
from pyiceberg.table.update.snapshot import ExpireSnapshots

from rat_resources.lake.target import open_target
from rat_resources.maintenance.plans import LOG_KEPT, TablePlan

LOG_LENGTH = "write.metadata.previous-versions-max"


def expire(table: Table, plan: TablePlan) -> Table:
    """Forget what the plan says is over its time, by metadata alone; the table as it is then."""
    known = {each.snapshot_id for each in table.metadata.snapshots}
    gone = [each for each in plan.expired if each in known]
    if not gone and not plan.log_entries:
        return table
    target = open_target(table)
    if gone:
        ExpireSnapshots(target.transaction).by_ids(gone).commit()
    if plan.log_entries:
        # Every later commit then leaves out what is older.
        target.transaction.set_properties({LOG_LENGTH: str(LOG_KEPT)})
    committed = target.commit(added=(), removed=())
    return committed if committed is not None else table
