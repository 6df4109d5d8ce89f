"""Records: what maintenance did, and which versions of a table hold the same rows because of it.

The row stands before the merge, so that anybody can find out what became of it (`settle`). With a
keeper of refs that lives in Postgres the merge and its end are one transaction.
"""

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from rat_resources import faults, leases, runs
from rat_resources.errors import LeaseLostError
from rat_resources.lake.refs import MAIN, Refs
from rat_resources.leases import Hold
from rat_resources.metadata import Metadata, audit
from rat_resources.metadata.maintenance import Maintenance, MaintenanceState
from rat_resources.names import TableName
from rat_resources.publishing import drop_branch

ABANDONED = timedelta(minutes=10)  # a merge that was intended so long ago is nobody's
MAINTENANCE = "rat.maintenance"  # the property of a commit that says whose it is


def intend(tx: Session, row: Maintenance) -> uuid.UUID:
    """Write what shall be merged, and which rows its metadata file holds; its id."""
    row.original_location, row.original_snapshot = tx.execute(
        text("""
            SELECT rat.published_location(:location),
                rat.published_snapshot(CAST(:snapshot AS bigint))
        """),
        {"location": row.location_before, "snapshot": row.snapshot_before},
    ).one()
    tx.add(row)
    tx.flush()
    return row.id


def merge(
    metadata: Metadata, refs: Refs, row_id: uuid.UUID, *, hold: Hold | None
) -> str:
    """Merge what was intended, and write down that it was; the commit of main.

    ConflictError where somebody else was faster, LeaseLostError where somebody gave it up.
    """
    with metadata.transaction() as tx:
        row = lock_wanted(tx, row_id, hold=hold)
        if refs.transactional:
            commit = send(refs, row, tx=tx)
            finish(tx, row, commit=commit)
            faults.point("transaction")
            return commit
    commit = send(refs, row)
    finish_locked(metadata, row_id, commit=commit)
    return commit


def lock_wanted(tx: Session, row_id: uuid.UUID, *, hold: Hold | None) -> Maintenance:
    """A row that is still to be merged, held until the transaction ends."""
    row = lock(tx, row_id)
    if row.state != MaintenanceState.INTENDED:
        raise LeaseLostError
    if hold is not None:
        leases.keep(tx, hold)
    return row


def send(refs: Refs, row: Maintenance, *, tx: Session | None = None) -> str:
    """Merge the branch of a row into main, once; the commit."""
    faults.point("merge_sent")
    merged = refs.merge(
        row.branch,
        from_hash=row.from_hash,
        expected_hash=row.expected_main,
        message=f"maintain {table_of(row)}",
        properties={MAINTENANCE: str(row.id)},
        connection=tx,
    )
    faults.point("merge_answered")
    return merged.hash


def finish_locked(metadata: Metadata, row_id: uuid.UUID, *, commit: str) -> None:
    """intended → merged, unless somebody else has found out."""
    with metadata.transaction() as tx:
        row = lock(tx, row_id)
        if row.state != MaintenanceState.MERGED:
            finish(tx, row, commit=commit)
            faults.point("transaction")


def finish(tx: Session, row: Maintenance, *, commit: str) -> None:
    """Write down that a locked row is on main, and where the table's metadata is by now."""
    row.state = MaintenanceState.MERGED
    row.commit = commit
    row.finished_at = func.clock_timestamp()
    tx.flush()
    tx.execute(MOVE, {"id": row.id})
    audit.record(
        tx,
        "table.maintain",
        resource=str(table_of(row)),
        user=row.user_id,
        detail=describe(row),
    )


# Where somebody has published since, their word is newer.
MOVE = text("""
    UPDATE rat.iceberg_tables AS known
    SET metadata_location = done.metadata_location,
        snapshot_id = done.snapshot_id,
        size_bytes = done.size_bytes
    FROM rat.maintenance AS done
    WHERE done.id = :id
        AND (known.namespace, known.layer, known.name) = (done.namespace, done.layer, done.name)
        AND known.metadata_location = done.location_before
""")


def describe(row: Maintenance) -> str:
    """What was done, in words."""
    said = []
    if row.files_before:
        said.append(f"{row.files_before:,} files became {row.files_after:,}")
    if row.dead_rows:
        said.append(f"{row.dead_rows:,} dead rows left out")
    if row.snapshots:
        said.append(f"{row.snapshots:,} snapshots forgotten")
    if row.metadata_files:
        said.append(f"{row.metadata_files:,} metadata files forgotten")
    return ", ".join(said)


def commit_of(metadata: Metadata, row_id: uuid.UUID) -> str | None:
    """The commit of main that a row became, if it did."""
    with metadata.transaction() as tx:
        return lock(tx, row_id).commit


def lock(tx: Session, row_id: uuid.UUID) -> Maintenance:
    """A row, held until the transaction ends, so that only one finishes or undoes it."""
    return tx.get_one(Maintenance, row_id, with_for_update=True, populate_existing=True)


def table_of(row: Maintenance) -> TableName:
    """The table of a row."""
    return TableName(row.namespace, row.layer, row.name)


# What a process that died left.


def left(
    tx: Session, *, table: TableName | None = None, since: timedelta = timedelta(0)
) -> list[uuid.UUID]:
    """The rows of nobody who is at it, as far as their age tells, the oldest first."""
    wanted = (
        select(Maintenance.id)
        .where(
            Maintenance.state == MaintenanceState.INTENDED,
            Maintenance.created_at <= func.clock_timestamp() - since,
        )
        .order_by(Maintenance.created_at)
    )
    if table is not None:
        wanted = wanted.where(
            Maintenance.namespace == table.namespace,
            Maintenance.layer == table.layer,
            Maintenance.name == table.name,
        )
    return list(tx.scalars(wanted))


def settle(metadata: Metadata, refs: Refs, row_id: uuid.UUID) -> Iterator[str]:
    """Find out what became of a merge that may have been sent, and make that true; what, in words.

    It waits until a merge that is under way is surely over.
    """
    with metadata.transaction() as tx:
        row = lock(tx, row_id)
        if row.state != MaintenanceState.INTENDED:
            return
    commit = None if refs.transactional else find_commit(refs, row)
    if commit is None:
        drop_branch(refs, row.branch)
        if not refs.transactional:
            time.sleep(time_left(metadata, refs, row_id))
            commit = find_commit(refs, row)
    if commit is not None:
        finish_locked(metadata, row_id, commit=commit)
        yield f"maintenance of {table_of(row)}: its process is gone, but had merged"
        return
    with metadata.transaction() as tx:
        row = lock(tx, row_id)
        if row.state == MaintenanceState.INTENDED:
            row.state = MaintenanceState.UNDONE
            row.finished_at = func.clock_timestamp()
            yield f"maintenance of {table_of(row)}: its process is gone; undone"


def find_commit(refs: Refs, row: Maintenance) -> str | None:
    """The commit of main by which a row was merged, if it was."""
    for commit in refs.history(MAIN, until=row.expected_main):
        if commit.properties.get(MAINTENANCE) == str(row.id):
            return commit.hash
    return None


def time_left(metadata: Metadata, refs: Refs, row_id: uuid.UUID) -> float:
    """How many seconds a merge may still arrive whose branch is gone."""
    with metadata.transaction() as tx:
        row = lock(tx, row_id)
        now = runs.database_time(tx)
        row.cut_off_at = row.cut_off_at or now
        return max(0.0, (row.cut_off_at + refs.latest_merge - now).total_seconds())


def give_up(metadata: Metadata, row_id: uuid.UUID) -> None:
    """intended → undone, since its merge was surely not done."""
    with metadata.transaction() as tx:
        row = lock(tx, row_id)
        if row.state == MaintenanceState.INTENDED:
            row.state = MaintenanceState.UNDONE
            row.finished_at = func.clock_timestamp()
