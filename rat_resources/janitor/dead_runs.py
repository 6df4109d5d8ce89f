"""What dead runs left: themselves, with what they claimed, their branches and their staging.

What is dead, and how it is undone, is `rat_resources.reconciliation`; here it is only counted.
"""

import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import func, select

from rat_resources import reconciliation
from rat_resources.errors import NotFoundError
from rat_resources.external_runs import staging as external
from rat_resources.janitor.chores import Batch, Chore, Scene
from rat_resources.lake import asides, spilling
from rat_resources.lake.refs import Reference
from rat_resources.metadata.landing import ClaimState, LandingClaim
from rat_resources.metadata.runs import FINAL, Run


def find_dead(scene: Scene) -> Iterator[Batch]:
    """Each dead run, with the files that it claimed."""
    for run_id in dead(scene):
        claimed = select(func.count()).where(
            LandingClaim.run_id == run_id, LandingClaim.state == ClaimState.CLAIMED
        )
        with scene.whole.metadata.transaction() as tx:
            counts = {"dead_runs": 1, "claimed_files": tx.scalar(claimed) or 0}
        yield Batch(counts, partial(end, scene, run_id))


def dead(scene: Scene) -> list[uuid.UUID]:
    """The runs that nobody works on any more."""
    with scene.whole.metadata.transaction() as tx:
        return [
            run.id
            for run in reconciliation.unfinished(tx)
            if reconciliation.is_dead_run(tx, run)
        ]


def end(scene: Scene, run_id: uuid.UUID) -> None:
    """Undo a dead run."""
    for _ in reconciliation.end_dead_run(scene.whole, run_id):
        pass


def find_branches(scene: Scene) -> Iterator[Batch]:
    """Each branch of a run that has ended, or would have if it had not died, and of nobody."""
    refs, died = scene.whole.lake.refs, {*dead(scene)}
    for reference in list(refs.references(prefix=reconciliation.RUN_BRANCHES)):
        owner = reconciliation.BranchOwner.of(reference.name)
        if owner is None:
            continue
        if owner.run_id in died or reconciliation.has_ended(scene.whole, owner):
            yield Batch({"branches": 1}, partial(drop, scene, reference))
    for reference in asides.left(refs, now=scene.now):
        yield Batch({"branches": 1}, partial(drop, scene, reference))


def drop(scene: Scene, reference: Reference) -> None:
    """Delete a branch, unless somebody was faster or it moved."""
    try:
        scene.whole.lake.refs.delete(reference.name, expected_hash=reference.hash)
    except NotFoundError:
        return


def find_staging(scene: Scene) -> Iterator[Batch]:
    """Each folder that a run, a reader of external runs or a DuckDB has left."""
    died = {*dead(scene)}
    for folder in folders(scene.whole.staging):
        run_id = reconciliation.as_uuid(folder.name)
        if run_id is not None and (run_id in died or has_ended(scene, run_id)):
            yield Batch({"staging_folders": 1}, partial(remove_folder, folder))
    for folder in external.left(scene.whole.staging):
        yield Batch({"staging_folders": 1}, partial(remove_folder, folder))
    for folder in spilling.left(scene.whole.lake.spill):
        yield Batch({"spill_folders": 1}, partial(remove_folder, folder))


def folders(root: Path) -> list[Path]:
    """What is in a folder, in order; nothing is in one that does not exist."""
    return sorted(root.iterdir()) if root.is_dir() else []


def has_ended(scene: Scene, run_id: uuid.UUID) -> bool:
    """Whether a run ended; one that nobody knows never began."""
    with scene.whole.metadata.transaction() as tx:
        run = tx.get(Run, run_id)
        return run is None or run.status in FINAL


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; whoever is faster is welcome."""
    shutil.rmtree(folder, ignore_errors=True)


CHORES = (
    Chore("dead runs", ("dead_runs", "claimed_files"), find_dead),
    Chore("branches of dead runs", ("branches",), find_branches),
    Chore("staging", ("staging_folders", "spill_folders"), find_staging),
)
