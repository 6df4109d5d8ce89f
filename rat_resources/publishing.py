"""Publishing: an intent's branch becomes part of main and its facts true, whoever dies meanwhile.

With a keeper of refs that lives in Postgres the merge and the facts are one transaction. With a server
the merge comes between two, and a publication whose merge may have been sent is never sent again: its
branch is deleted, so that no merge of it can arrive any more, and once one that was under way is
surely over, main's log tells what became of it (`settle`).
"""

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from sqlalchemy.orm import Session

from rat_resources import faults, leases, publications, runs, tasks
from rat_resources.errors import (
    CatalogError,
    ConflictError,
    LeaseLostError,
    LostAnswerError,
    MergeConflictError,
    MetadataError,
    NotFoundError,
)
from rat_resources.lake.refs import MAIN, MergeResult, Refs
from rat_resources.leases import Hold
from rat_resources.metadata import Metadata
from rat_resources.metadata.runs import Publication, PublicationState, Run
from rat_resources.outages import outlast
from rat_resources.tasks import Claim

RUN_ID = "rat.run_id"  # the property of a commit that says whose it is
# How long a run waits for a server that is gone, once its merge may have been sent.
PATIENCE = timedelta(minutes=2)


def publish(
    metadata: Metadata, refs: Refs, run_id: uuid.UUID, *, hold: Hold | None
) -> str | None:
    """Merge the branch of an intent and state its facts; the commit of main, if there is one.

    Without *hold*, somebody else finishes what a dead run intended.
    """
    if refs.transactional:
        return publish_at_once(metadata, refs, run_id, hold=hold)
    return Served(metadata, refs, run_id).publish(hold)


def publish_at_once(
    metadata: Metadata, refs: Refs, run_id: uuid.UUID, *, hold: Hold | None
) -> str | None:
    """Merge and state the facts in one transaction."""
    with metadata.transaction() as tx:
        publication = lock_wanted(tx, run_id, hold=hold)
        if publication.state in publications.DONE:
            return commit_of(tx, run_id)
        # Main is locked from the merge on: what can be stated before is.
        publications.state_versions(tx, publication)
        commit = None
        if brings_news(publication):
            merged = merge(refs, publication, tx=tx)
            commit = merged.hash if merged.was_applied else None
        publications.state_facts(tx, publication, commit=commit)
        faults.point("transaction")
        return commit


def lock_wanted(tx: Session, run_id: uuid.UUID, *, hold: Hold | None) -> Publication:
    """The intent of a run, which is still to be published, held until the transaction ends."""
    # First, as a rollback does: it holds the versions, then what was intended of them.
    runs.refuse_abandoned(tx, run_id)
    publication = publications.lock(tx, run_id)
    if publication is None or publication.state == PublicationState.UNDONE:
        raise LeaseLostError
    if hold is not None and publication.state not in publications.DONE:
        leases.keep(tx, hold)
        run = tx.get_one(Run, run_id)
        runs.refuse_stopped(tx, run.dagster_run_id or "")
    return publication


def commit_of(tx: Session, run_id: uuid.UUID) -> str | None:
    """The commit of main by which a run was published."""
    return tx.get_one(Run, run_id, populate_existing=True).commit


def brings_news(publication: Publication) -> bool:
    """Whether there is anything to merge."""
    return publication.from_hash != publication.expected_main


def merge(
    refs: Refs,
    publication: Publication,
    *,
    tx: Session | None = None,
    dry_run: bool = False,
) -> MergeResult:
    """Merge what was tested into main, within *tx* or by itself, or only ask whether that would do."""
    if not dry_run:
        faults.point("merge_sent")
    merged = refs.merge(
        publication.branch,
        from_hash=publication.from_hash,
        into=MAIN,
        expected_hash=publication.expected_main,
        message=f"publish {publication.branch}",
        properties={RUN_ID: str(publication.run_id)},
        dry_run=dry_run,
        connection=tx,
    )
    if not dry_run:
        faults.point("merge_answered")
    return merged


@dataclass(frozen=True)
class Served:
    """A publication whose merge is a server's, as the one process goes through it that may send it."""

    metadata: Metadata
    refs: Refs
    run_id: uuid.UUID

    def publish(self, hold: Hold | None) -> str | None:
        """Send the merge once, and state the facts; the commit of main, if there is one."""
        with self.metadata.transaction() as tx:
            publication = tx.get(Publication, self.run_id)
        if publication is None:
            raise LeaseLostError
        if not brings_news(publication):
            return publish_at_once(self.metadata, self.refs, self.run_id, hold=hold)
        self.rehearse(publication, hold=hold)
        if self.begin(hold) in publications.DONE:
            return self.learn()
        try:
            return self.state(self.send(publication))
        except (ConflictError, CatalogError, ValueError) as error:
            # The server said no, or never heard of it.
            self.take_back(error)
        except NotFoundError as error:
            # Somebody gave it up and deleted the branch, or even finished it.
            commit = self.learn()
            if commit is None:
                self.take_back(error)
            return commit
        except LostAnswerError as error:
            return self.find_out(error)

    def rehearse(self, publication: Publication, *, hold: Hold | None) -> None:
        """Fail where stating the facts would, or the merge, which cannot be taken back."""
        with self.metadata.transaction() as tx:
            locked = lock_wanted(tx, self.run_id, hold=hold)
            if locked.state in publications.DONE:
                return
            publications.state_versions(tx, locked)
            publications.state_facts(tx, locked, commit=None)
            tx.rollback()
        faults.point("dry_run")
        foreseen = merge(self.refs, publication, dry_run=True)
        if foreseen.conflicts:
            raise MergeConflictError(foreseen.conflicts)

    def begin(self, hold: Hold | None) -> str:
        """intended → merging, while the run is wanted and ours: from now on it may be on main."""
        with self.metadata.transaction() as tx:
            publication = lock_wanted(tx, self.run_id, hold=hold)
            if publication.state == PublicationState.INTENDED:
                if "task" in publication.facts:
                    tasks.keep(tx, Claim.from_json(publication.facts["task"]))
                publication.state = PublicationState.MERGING
                publication.sent_at = runs.database_time(tx)
            elif publication.state not in publications.DONE:
                raise LeaseLostError  # somebody gives it up
            return publication.state

    def send(self, publication: Publication) -> str | None:
        """The commit that the merge made; None: there was nothing to merge."""
        merged = merge(self.refs, publication)
        # A merge that was done before is answered with whatever is main's head by now.
        return (
            merged.hash if merged.was_applied else find_commit(self.refs, publication)
        )

    def state(self, commit: str | None) -> str | None:
        """Make an intent true whose merge was done, however long Postgres is gone."""
        return outlast(
            lambda: make_true(self.metadata, self.run_id, commit=commit),
            patience=PATIENCE,
            during=MetadataError,
        )

    def learn(self) -> str | None:
        """The commit by which somebody else published it; LeaseLostError if it was given up."""
        with self.metadata.transaction() as tx:
            publication = publications.lock(tx, self.run_id)
            if publication is None or publication.state in publications.GIVEN_UP:
                raise LeaseLostError
            return commit_of(tx, self.run_id)

    def take_back(self, error: Exception) -> NoReturn:
        """merging → intended, since the merge was surely not done; then *error*."""
        with self.metadata.transaction() as tx:
            publication = publications.lock(tx, self.run_id)
            if publication is None or publication.state in publications.GIVEN_UP:
                raise LeaseLostError from error
            if publication.state == PublicationState.MERGING:
                publication.state = PublicationState.INTENDED
                publication.sent_at = None
        raise error

    def find_out(self, error: LostAnswerError) -> str | None:
        """The commit of a merge whose answer was lost; LostAnswerError where it was not done."""
        state = self.try_to_settle()
        if state in publications.DONE:
            return self.learn()
        if state == PublicationState.UNDONE:
            message = "the server's answer to the merge was lost; it was not done"
            raise LostAnswerError(message, fix="run it again") from error
        message = "the server's answer to the merge was lost; nobody knows yet whether it was done"
        raise LostAnswerError(message, fix="`rat reconcile` finds out") from error

    def try_to_settle(self) -> str | None:
        """How the publication was settled; None while the servers cannot be asked, for too long."""
        gone = (CatalogError, LostAnswerError, MetadataError)
        try:
            return outlast(
                lambda: settle(
                    self.metadata, self.refs, self.run_id, patience=PATIENCE
                ),
                patience=PATIENCE,
                during=gone,
            )
        except gone:
            return None


def settle(
    metadata: Metadata, refs: Refs, run_id: uuid.UUID, *, patience: timedelta
) -> str:
    """Find out what became of a merge that may have been sent, and make that true.

    The state afterwards; still `undoing` where that takes longer than *patience*. What the run had
    claimed is not given back here, and must not be before.
    """
    with metadata.transaction() as tx:
        publication = publications.lock(tx, run_id)
        if publication is None or publications.give_up(publication):
            return publication.state if publication else PublicationState.UNDONE
    commit = find_commit(refs, publication)
    if commit is None:
        drop_branch(refs, publication.branch)
        left = time_left(metadata, refs, run_id)
        if left > patience:
            return PublicationState.UNDOING
        time.sleep(max(0.0, left.total_seconds()))
        commit = find_commit(refs, publication)
    if commit is not None:
        make_true(metadata, run_id, commit=commit)
        return PublicationState.PUBLISHED
    with metadata.transaction() as tx:
        return publications.undo_settled(tx, run_id)


def find_commit(refs: Refs, publication: Publication) -> str | None:
    """The commit of main by which a publication was merged, if it was."""
    wanted = str(publication.run_id)
    for commit in refs.history(MAIN, until=publication.expected_main):
        if commit.properties.get(RUN_ID) == wanted:
            return commit.hash
    return None


def drop_branch(refs: Refs, name: str, *, head: str | None = None) -> None:
    """Delete a branch, whose commits stay, so that nothing can merge it any more.

    A *head* that it probably still has saves the question for it.
    """
    while True:
        try:
            refs.delete(name, expected_hash=head or refs.head(name))
        except NotFoundError:
            return
        except ConflictError:
            head = None  # somebody committed to it meanwhile
            continue
        return


def time_left(metadata: Metadata, refs: Refs, run_id: uuid.UUID) -> timedelta:
    """How long a merge may still arrive whose branch is gone; counted from when that was first seen."""
    with metadata.transaction() as tx:
        publication = publications.lock(tx, run_id)
        now = runs.database_time(tx)
        if publication is None or publication.state != PublicationState.UNDOING:
            return timedelta(0)
        publication.cut_off_at = publication.cut_off_at or now
        return publication.cut_off_at + refs.latest_merge - now


def make_true(
    metadata: Metadata, run_id: uuid.UUID, *, commit: str | None
) -> str | None:
    """State the facts of what is on main by *commit*, unless somebody has; the commit."""
    with metadata.transaction() as tx:
        publication = publications.lock(tx, run_id)
        if publication is None or publication.state == PublicationState.UNDONE:
            raise LeaseLostError
        if publication.state in publications.DONE:
            return commit_of(tx, run_id)
        publications.state_versions(tx, publication, is_merged=True)
        publications.state_facts(tx, publication, commit=commit)
        faults.point("transaction")
        return commit
