"""The end of a run: what it took is given back, its branch is dropped, its log is kept.

What ends in a process that died is ended by `rat_resources.reconciliation`.
"""

import shutil
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from rat_assets.computation import Computation
from rat_assets.trial import Trial
from rat_resources import (
    archive,
    landing,
    leases,
    publications,
    publishing,
    runs,
    tasks,
    wishes,
)
from rat_resources.errors import (
    CancelledError,
    CatalogError,
    LostAnswerError,
    MergeConflictError,
    MetadataError,
    OutageError,
    QualityError,
    RatError,
    RetryError,
    StoreError,
)
from rat_resources.lake.complaints import is_outage
from rat_resources.leases import Hold
from rat_resources.metadata.runs import RunStatus
from rat_resources.metadata.zeros import as_text
from rat_resources.outages import outlast

PATIENCE = timedelta(minutes=1)  # with a Postgres that is gone


@dataclass
class Ending:
    """How one attempt ends, from as far as it came."""

    work: Computation
    trial: Trial
    # What comes next when it fails: nothing (None), or another try after a while.
    again_in: timedelta | None
    may_repeat: bool  # whether a conflict is met by the very same once more
    hold: Hold | None = None
    branch: str = ""
    head: str | None = None  # of the branch, when it was last asked for
    was_settled: bool = False  # published before the error, or ended by somebody else

    def undo(self, error: BaseException) -> None:
        """End the run without a publication: give everything back, drop the branch."""
        cancelled = not isinstance(error, Exception) or isinstance(
            error, CancelledError
        )
        status = RunStatus.CANCELLED if cancelled else RunStatus.FAILED
        reason = "cancelled" if cancelled else as_text(describe(error))
        work = self.work
        work.journal.say(reason, level="error")
        # What the run took is not held on to for an outage that ends.
        outlast(
            lambda: self.end_run(error, status, reason=reason),
            patience=PATIENCE,
            during=MetadataError,
        )
        self.clean_up()

    def end_run(self, error: BaseException, status: RunStatus, *, reason: str) -> None:
        """End the run, unless somebody has, or nobody knows yet whether it is published."""
        work = self.work
        with work.platform.metadata.transaction() as tx:
            # In this order, as whoever ends a run that he takes for dead.
            publication = publications.lock(tx, work.run_id)
            if publication is not None and publication.state in publications.UNDECIDED:
                # Its merge may have been done: it keeps what it claimed until somebody found out.
                self.was_settled = True
            elif runs.end(tx, work.run_id, status, error=reason):
                # Only what was locked before the run's row: another one's holder waits for that row.
                if publication is not None:
                    publications.give_up(publication)
                self.end_task(tx, error, reason=reason)
                self.give_back(tx, reason=reason if self.blames_files(error) else None)
            else:
                self.was_settled = True

    def end_task(self, tx: Session, error: BaseException, *, reason: str) -> None:
        """Say of the task whether it is tried again; what merely met a conflict goes on."""
        run_id = self.work.run_id
        if isinstance(error, CancelledError) or not isinstance(error, Exception):
            tasks.cancel(tx, run_id, reason=reason)
        elif not (isinstance(error, MergeConflictError) and self.may_repeat):
            is_final = isinstance(error, QualityError | MergeConflictError)
            again_in = None if is_final else self.again_in
            tasks.fail(tx, run_id, error=reason, again_in=again_in)

    def blames_files(self, error: BaseException) -> bool:
        """Whether the files may be why it failed, and nobody tries them once more."""
        if isinstance(error, QualityError):
            return True
        return (
            self.again_in is None
            and isinstance(error, Exception)
            # Nobody's file makes a server go away.
            and not isinstance(error, RetryError | CatalogError | MetadataError)
            and not is_about_storage(error)
        )

    def give_back(self, tx: Session, *, reason: str | None) -> None:
        """Give back what the run claimed; with a *reason* its files wait for somebody."""
        run_id, trial = self.work.run_id, self.trial
        runs.record_results(
            tx,
            run_id,
            pipeline_id=self.work.pipeline.pipeline_id,
            results=[result.to_row() for result in trial.results],
        )
        if trial.changes:
            runs.note(tx, run_id, changes=trial.changes.to_json())
        landing.release(tx, run_id, failed=reason)
        wishes.finish(tx, run_id, failed=True)

    def tidy(self) -> None:
        """Clean up after a publication, which stands whatever becomes of this."""
        try:
            self.clean_up()
            self.move_archived()
        except Exception as error:  # noqa: BLE001 - to repeat the run would publish twice
            what = f"published, but not all was tidied up: {describe(error)}"
            self.work.journal.say(what, level="warning")

    def clean_up(self) -> None:
        """Drop the branch and the staged files, keep the log, give back the lease."""
        work = self.work
        self.drop_branch()
        shutil.rmtree(work.staging, ignore_errors=True)
        path = self.keep_log()
        with work.platform.metadata.transaction() as tx:
            if self.hold is not None:
                leases.release(tx, self.hold)
            runs.note(
                tx,
                work.run_id,
                logs_s3_path=path,
                logs=work.journal.newest,
                phase_profiles=work.journal.phase_profiles,
            )

    def drop_branch(self) -> None:
        """Delete the branch, if it came that far."""
        if self.branch:
            refs = self.work.platform.lake.refs
            try:
                publishing.drop_branch(refs, self.branch, head=self.head)
            except (CatalogError, LostAnswerError) as error:
                what = f"its branch is left to the reconciler: {error}"
                self.work.journal.say(what, level="warning")

    def keep_log(self) -> str | None:
        """Keep the whole log in the store; its key, or None where the store takes no more."""
        work = self.work
        path = f"_logs/{work.name.namespace}/{work.run_id}.jsonl"
        try:
            work.platform.store.write(path, work.journal.as_text())
        except StoreError as error:
            # What the run has to give back matters more than its log.
            what = f"only its newest lines are kept: {error}"
            work.journal.say(what, level="warning")
            return None
        return path

    def move_archived(self) -> None:
        """Move what this publication let go; what a crash leaves here, the landing sensor moves."""
        platform = self.work.platform
        for zone in {file.zone.id: file.zone for file in self.work.files}.values():
            with platform.metadata.transaction() as tx:
                archive.finish_moves(tx, zone, root=platform.store.root)


def is_about_storage(error: BaseException | None) -> bool:
    """Whether *error*, by itself or by its cause, is that the storage was gone."""
    if error is None:
        return False
    known = isinstance(error, OutageError) or is_outage(error)
    return known or is_about_storage(error.__cause__)


def describe(error: BaseException) -> str:
    """An error as a run's row keeps it."""
    if isinstance(error, RatError):
        return str(error)
    return f"{type(error).__name__}: {error}"
