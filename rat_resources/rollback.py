"""Rolling back: what was published at an earlier release is published again, all of it at once.

A new release whose pipelines are those of the earlier one: changed ones get that version's files
again, those created since leave, those retired since come back; its alerts likewise. Trace's pointers
move with it, to the very generations that were served then. Nothing is computed: tables stay on main
as their last publication left them. What the later releases brought is abandoned: none of its runs
publishes, not even what it had intended to.
Going back with a single pipeline is `releases.roll_back`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from rat_resources import publications, releases, retirement
from rat_resources.alerts import releases as alert_releases
from rat_resources.alerts.releases import AlertChanges
from rat_resources.errors import AuthorError, NotFoundError, Problem
from rat_resources.metadata import Metadata
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion
from rat_resources.metadata.pipelines import Release as ReleaseRow
from rat_resources.mirror.dags import cancel_abandoned
from rat_resources.names import TableName
from rat_resources.releases import Change, Check, PublishedPipeline, Release
from rat_resources.specs import Parsed, parse_pipeline, pipeline_folder
from rat_resources.store import Store
from rat_resources.trees import Tree

LISTED = 10  # of the releases that can be had


class PrunedError(AuthorError):
    """A release is not wholly there any more."""


@dataclass(frozen=True)
class Difference:
    """What must happen for an earlier release to be current again."""

    restored: tuple[
        Parsed, ...
    ]  # as they were, where they are otherwise now or retired
    retired: tuple[TableName, ...]  # created since
    unchanged: tuple[TableName, ...]


def roll_back(
    metadata: Metadata,
    store: Store,
    to: int,
    *,
    message: str = "",
    published_by: str = "",
    check: Check = releases.no_problems,
    table_exists: Callable[[TableName], bool] = releases.no_table,
    pinned: Collection[int] = (),
    dry_run: bool = False,
) -> Release:
    """Make what release *to* held current again, by a new release; or only say what that would change.

    Assets written by hand follow their code and stay as they are. The store's folders follow,
    unless they hold a draft. An error when the release is not there, or not wholly any more.
    """
    with metadata.transaction() as tx:
        number = releases.lock_pointer(tx)
        refuse_unknown(tx, to, current=number)
        before = {each.spec.table: each for each in releases.load(tx)}
        found = compare(tx, store, to, before=before)
        warnings = validate(
            tx, found, before=before, check=check, table_exists=table_exists
        )
        alerts = alert_releases.go_back(tx, to)
        if dry_run:
            foreseen = foresee(number, found, before=before, alerts=alerts)
            return replace(foreseen, warnings=warnings)
        drafts = draft_folders(store, found, before=before)
        files = alert_releases.without_drafts(tx, store, alerts)
        change = Change(
            message=message or f"Rollback to release {to}",
            published_by=published_by,
            action="release.rollback",
            pinned=pinned,
        )
        release = releases.make_current(
            tx,
            store,
            change,
            number=number,
            parsed=found.restored,
            before=before,
            retired=found.retired,
            alerts=alerts,
        )
        if release.is_new:
            abandon(tx, since=to, by=release.number)
            publications.undo_abandoned(tx, by=release.number)
            cancel_abandoned(tx, reason=f"release {number} was rolled back to {to}")
        write_folders(tx, store, found, drafts=drafts)
        alert_releases.copy_files(store, files)
    return replace(release, unchanged=found.unchanged, warnings=warnings)


def refuse_unknown(tx: Session, to: int, *, current: int) -> None:
    """NotFoundError, with the releases that there are, of one that there is not."""
    if to == current or (to < current and tx.get(ReleaseRow, to) is not None):
        return
    raise NotFoundError(f"there is no release {to}", fix=what_there_is(tx))


def what_there_is(tx: Session) -> str:
    """The newest releases, in words."""
    newest = select(ReleaseRow.number).order_by(ReleaseRow.number.desc())
    numbers = tx.scalars(newest.limit(LISTED + 1)).all()
    if not numbers:
        return "nothing was published yet"
    listed = ", ".join(map(str, reversed(numbers[:LISTED])))
    return f"there is {'… ' if len(numbers) > LISTED else ''}{listed}; `rat rollback` lists them"


def compare(
    tx: Session,
    store: Store,
    to: int,
    *,
    before: Mapping[TableName, PublishedPipeline],
) -> Difference:
    """What tells release *to* from what is published, leaving out what is written by hand."""
    refuse_pruned(tx, to)
    then = {each.spec.table: each for each in releases.load(tx, release=to)}
    ours = {table for table, each in before.items() if not each.spec.hand_written}
    wanted = {table: each for table, each in then.items() if not each.spec.hand_written}
    same = {
        table
        for table in ours & wanted.keys()
        if (wanted[table].files, wanted[table].spec)
        == (before[table].files, before[table].spec)
    }
    restored = (
        parse_pipeline(releases.read_source(store, wanted[table]))
        for table in sorted(wanted.keys() - same)
    )
    return Difference(
        tuple(restored),
        retired=tuple(sorted(ours - wanted.keys())),
        unchanged=tuple(sorted(same)),
    )


# A pipeline was there when the release was made, and the version that it had then is known: the
# newest up to the release, if no version between it and the next one was pruned.
PRUNED = """
    SELECT
        target.number,
        array_agg(concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name)
            ORDER BY pipeline.namespace, pipeline.layer, pipeline.name) AS pipelines
    FROM rat.releases AS target
    JOIN rat.pipelines AS pipeline ON pipeline.created_at <= target.created_at
    LEFT JOIN rat.retired_pipelines AS retired
        ON retired.pipeline_id = pipeline.id AND retired.release_number <= target.number
    LEFT JOIN LATERAL (
        SELECT
            max(version_number) FILTER (WHERE release_number <= target.number) AS held,
            min(version_number) FILTER (WHERE release_number > target.number) AS next
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id
    ) AS kept ON true
    WHERE retired.pipeline_id IS NULL
        AND (kept.held IS NULL OR kept.next > kept.held + 1)
        AND target.number BETWEEN :first AND :last
        AND NOT EXISTS (
            SELECT FROM rat.pipeline_versions AS version
            WHERE version.pipeline_id = pipeline.id AND version.spec ->> 'hand_written' <> ''
        )
    GROUP BY target.number
"""


def pruned(tx: Session, *, first: int, last: int) -> dict[int, list[str]]:
    """The releases of a range that are not wholly there, with the pipelines that they lack."""
    rows = tx.execute(text(PRUNED), {"first": first, "last": last})
    return {number: pipelines for number, pipelines in rows}


def refuse_pruned(tx: Session, to: int) -> None:
    """PrunedError when versions of release *to* were pruned, with the nearest release that is whole."""
    lost = pruned(tx, first=to, last=to)
    if not lost:
        return
    later = select(ReleaseRow.number).where(ReleaseRow.number > to)
    numbers = tx.scalars(later.order_by(ReleaseRow.number)).all()
    gone = pruned(tx, first=to, last=numbers[-1]) if numbers else {}
    whole = next((each for each in numbers if each not in gone), None)
    names = ", ".join(lost[to])
    raise PrunedError(
        f"release {to} is no longer whole: the versions that it had of {names} were pruned",
        fix=f"the earliest after it that can be restored is {whole}",
    )


def validate(
    tx: Session,
    found: Difference,
    *,
    before: Mapping[TableName, PublishedPipeline],
    check: Check,
    table_exists: Callable[[TableName], bool],
) -> tuple[Problem, ...]:
    """The warnings; an error when what would be published does not fit together."""
    after = {
        table: each for table, each in before.items() if table not in found.retired
    }
    tree = Tree(sources=tuple(each.source for each in found.restored))
    warnings = releases.validate(
        tx,
        tree,
        found.restored,
        before=after,
        check=check,
        table_exists=lambda table: table not in found.retired and table_exists(table),
    )
    restored = {
        each.spec.table: PublishedPipeline.draft(
            each.spec, before=before.get(each.spec.table)
        )
        for each in found.restored
    }
    leaving = {table: before[table] for table in found.retired}
    retirement.refuse_read(found.retired, after | restored | leaving)
    return warnings


def foresee(
    number: int,
    found: Difference,
    *,
    before: Mapping[TableName, PublishedPipeline],
    alerts: AlertChanges,
) -> Release:
    """What a rollback would come to."""
    restored = [each.spec.table for each in found.restored]
    is_new = bool(restored or found.retired or alerts)
    return Release(
        number + is_new,
        is_new=is_new,
        created=tuple(table for table in restored if table not in before),
        changed=tuple(table for table in restored if table in before),
        unchanged=found.unchanged,
        retired=found.retired,
        alerts=alerts.words,
    )


def draft_folders(
    store: Store,
    found: Difference,
    *,
    before: Mapping[TableName, PublishedPipeline],
) -> set[TableName]:
    """The pipelines whose folders hold what was never published."""
    leaving = [*found.retired, *(each.spec.table for each in found.restored)]
    return {
        table
        for table in leaving
        if table in before and releases.has_draft(store, before[table])
    }


def write_folders(
    tx: Session, store: Store, found: Difference, *, drafts: Collection[TableName]
) -> None:
    """Let the store's folders hold what is published, drafts excepted."""
    for each in found.restored:
        if each.spec.table not in drafts:
            releases.copy_source(store, each.source)
    for table in drafts:
        tx.execute(
            update(Pipeline).where(releases.is_live(table)).values(draft_dirty=True)
        )
    for table in set(found.retired) - set(drafts):
        for key in store.list(pipeline_folder(table)):
            store.delete(key)


def abandon(tx: Session, *, since: int, by: int) -> None:
    """Let no run of a version that came after release *since* publish any more."""
    tx.execute(
        update(PipelineVersion)
        .where(
            PipelineVersion.release_number > since,
            PipelineVersion.release_number < by,
            PipelineVersion.abandoned_by.is_(None),
            PipelineVersion.spec["hand_written"].astext == "",
        )
        .values(abandoned_by=by)
    )


def history(tx: Session, *, limit: int = 20) -> Sequence[ReleaseRow]:
    """The newest releases, the newest first."""
    newest = select(ReleaseRow).order_by(ReleaseRow.number.desc()).limit(limit)
    return tx.scalars(newest).all()
