"""Moving landing files aside: to `_processed/` when all readers have them, to `_rejected/` by hand.

Two steps, each safe to repeat: the ledger first says where a file goes (`plan_archive`,
`reject`), and once that is committed `finish_moves` moves it and closes its row. Whatever
stops in between, the next `finish_moves` goes on with it.
"""

import uuid
from collections.abc import Collection

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from rat_resources.errors import LandingError, NotFoundError
from rat_resources.landing import Zone, is_present, lock_zones
from rat_resources.landing_files import files_at
from rat_resources.metadata.landing import (
    ClaimState,
    FileState,
    LandingClaim,
    LandingFile,
)
from rat_resources.names import nearest
from rat_resources.places import Place

PROCESSED = "_processed"
REJECTED = "_rejected"


def plan_archive(tx: Session, zone: Zone, *, readers: Collection[uuid.UUID]) -> int:
    """Mark the files that every one of these pipelines has committed; how many those are."""
    if not readers:
        return 0
    lock_zones(tx, [zone.id])
    committed = (
        select(LandingClaim.file_id)
        .where(
            LandingClaim.pipeline_id.in_(list(readers)),
            LandingClaim.state == ClaimState.COMMITTED,
        )
        .group_by(LandingClaim.file_id)
        .having(func.count() == len(set(readers)))
    )
    files = tx.scalars(
        select(LandingFile).where(
            is_present(zone.id),
            LandingFile.moved_to.is_(None),
            LandingFile.id.in_(committed),
        )
    ).all()
    for file in files:
        folder = last_run(tx, file.id) or "unknown"
        file.moved_to = f"{zone.path}/{PROCESSED}/{folder}/{file.filename}"
    tx.flush()
    return len(files)


def last_run(tx: Session, file_id: uuid.UUID) -> uuid.UUID | None:
    """The run that was the last to commit a file."""
    return tx.scalar(
        select(LandingClaim.run_id)
        .where(LandingClaim.file_id == file_id, LandingClaim.run_id.is_not(None))
        .order_by(LandingClaim.committed_at.desc())
        .limit(1)
    )


def reject(tx: Session, zone: Zone, *, root: Place, name: str) -> str:
    """Mark a file for `_rejected/`; where in the store it goes. LandingError while a run has it."""
    lock_zones(tx, [zone.id])
    file = tx.scalar(
        select(LandingFile).where(
            is_present(zone.id),
            LandingFile.moved_to.is_(None),
            LandingFile.filename == name,
        )
    )
    if file is None:
        raise not_there(tx, zone, name=name)
    reader = tx.scalar(
        select(LandingClaim.run_id).where(
            LandingClaim.file_id == file.id, LandingClaim.state == ClaimState.CLAIMED
        )
    )
    if reader is not None:
        message = f"run {reader} is reading {zone}/{name}"
        raise LandingError(message, fix="wait for its end, or cancel it")
    target = f"{zone.path}/{REJECTED}/{name}"
    if files_at(root, zone.path).is_taken(f"{REJECTED}/{name}"):
        target = f"{zone.path}/{REJECTED}/{file.id}/{name}"
    file.moved_to = target
    # Whoever puts it back wants it tried again.
    tx.execute(
        delete(LandingClaim).where(
            LandingClaim.file_id == file.id, LandingClaim.state == ClaimState.WAITING
        )
    )
    tx.flush()
    return target


def not_there(tx: Session, zone: Zone, *, name: str) -> NotFoundError:
    """That a zone has no such file, and which one was meant."""
    names = tx.scalars(select(LandingFile.filename).where(is_present(zone.id))).all()
    meant = nearest(name, names)
    return NotFoundError(
        f"there is no file {name!r} in landing zone {zone}",
        fix=f"did you mean {meant!r}?" if meant else "",
    )


def finish_moves(tx: Session, zone: Zone, *, root: Place) -> int:
    """Move every marked file of a zone, verified by its hash; how many are where they should be.

    A file that was overwritten meanwhile stays, and the next look finds its new version.
    """
    leaving = select(LandingFile).where(
        is_present(zone.id), LandingFile.moved_to.is_not(None)
    )
    if tx.scalar(leaving.with_only_columns(LandingFile.id).limit(1)) is None:
        return 0
    lock_zones(tx, [zone.id])
    files = tx.scalars(leaving.execution_options(populate_existing=True)).all()
    return sum(finish_move(file, zone=zone, root=root) for file in files)


def finish_move(file: LandingFile, *, zone: Zone, root: Place) -> bool:
    """Move one marked file, or find it moved, and close its row."""
    target = file.moved_to or ""
    is_moved = files_at(root, zone.path).move(
        file.filename,
        target=target.removeprefix(f"{zone.path}/"),
        version=file.version,
        version_id=file.s3_version_id,
    )
    if is_moved:
        is_rejected = target.startswith(f"{zone.path}/{REJECTED}/")
        file.state = FileState.REJECTED if is_rejected else FileState.ARCHIVED
        return True
    file.moved_to = None
    return False
