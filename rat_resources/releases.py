"""Releases: what is published, and how it becomes so.

Publishing validates everything, keeps every file of a pipeline as an object that never changes,
and moves one pointer: all pipelines of one publish become current together, or none does. Runs
read the objects of the release that they were launched with, never the folders.
"""

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import ColumnElement, Row, delete, exists, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from rat_resources import declarations, mirror, wishes
from rat_resources.alerts import fitting
from rat_resources.alerts import releases as alert_releases
from rat_resources.alerts.releases import NO_CHANGES, AlertChanges
from rat_resources.errors import NotFoundError, Problem, PublishError
from rat_resources.metadata import Metadata, audit
from rat_resources.metadata.pipelines import (
    CurrentRelease,
    Namespace,
    Pipeline,
    PipelineVersion,
    RetiredPipeline,
)
from rat_resources.metadata.pipelines import Release as ReleaseRow
from rat_resources.metadata.runs import FINAL, Run
from rat_resources.mirror import positions
from rat_resources.names import PLATFORM, TableName, nearest
from rat_resources.specs import (
    Parsed,
    PipelineSource,
    PipelineSpec,
    parse_pipeline,
    pipeline_folder,
)
from rat_resources.store import Kept, Store
from rat_resources.stored_trees import read_stored
from rat_resources.trees import Tree, ZoneDescription, read_tree
from rat_resources.validation import judge, named_zones

Check = Callable[[Sequence[PipelineSpec]], list[Problem]]
"""What else would refuse these pipelines: the orchestrator, which is not seen from here."""

TAKEN = f"the namespace {PLATFORM} holds the tables that RAT itself brings along"
ELSEWHERE = "choose another namespace"


@dataclass(frozen=True)
class Release:
    """What a publish came to."""

    number: int
    is_new: bool  # False: everything was already current, and nothing was changed
    created: tuple[TableName, ...] = ()
    changed: tuple[TableName, ...] = ()
    unchanged: tuple[TableName, ...] = ()
    retired: tuple[TableName, ...] = ()
    left_out: tuple[TableName, ...] = ()  # published, and not in the folder
    warnings: tuple[Problem, ...] = ()
    alerts: tuple[str, ...] = ()  # what changes in alerts, in words
    alerts_left_out: tuple[str, ...] = ()  # published, and not in the folder


@dataclass(frozen=True)
class PublishedPipeline:
    """One pipeline as a release holds it."""

    pipeline_id: uuid.UUID
    version_id: uuid.UUID
    version_number: int
    spec: PipelineSpec
    files: Mapping[str, str]  # path inside its folder → object in the store

    @classmethod
    def from_row(cls, row: Row) -> "PublishedPipeline":
        """The pipeline of a row of `load`."""
        pipeline_id, version_id, version_number, spec, files = row
        return cls(
            pipeline_id, version_id, version_number, PipelineSpec.from_json(spec), files
        )

    @classmethod
    def draft(
        cls, spec: PipelineSpec, *, before: "PublishedPipeline | None"
    ) -> "PublishedPipeline":
        """A pipeline that nobody published, with the ids of what is published under its name."""
        return cls(
            before.pipeline_id if before else uuid.uuid4(),
            before.version_id if before else uuid.uuid4(),
            before.version_number if before else 0,
            spec,
            {},
        )


def no_problems(specs: Sequence[PipelineSpec]) -> list[Problem]:
    """Nobody else refuses anything."""
    del specs
    return []


def no_table(table: TableName) -> bool:
    """There is no table that no pipeline publishes."""
    del table
    return False


# Reading.


def current(tx: Session) -> int | None:
    """The number of the current release; None before the first publish."""
    return tx.execute(select(CurrentRelease.release_number)).scalar_one_or_none()


def load(
    tx: Session,
    *,
    release: int | None = None,
    only: Collection[TableName] | None = None,
) -> list[PublishedPipeline]:
    """The pipelines of a release (the current one), in order of name, by one query."""
    # No release yet is release 0, which holds nothing.
    number = release if release is not None else current(tx) or 0
    retired = exists().where(
        RetiredPipeline.pipeline_id == Pipeline.id,
        RetiredPipeline.release_number <= number,
    )
    query = (
        select(
            Pipeline.id,
            PipelineVersion.id,
            PipelineVersion.version_number,
            PipelineVersion.spec,
            PipelineVersion.published_versions,
        )
        .join(PipelineVersion, PipelineVersion.pipeline_id == Pipeline.id)
        .where(PipelineVersion.release_number <= number, ~retired)
        .ext(distinct_on(Pipeline.id))
        .order_by(Pipeline.id, PipelineVersion.version_number.desc())
    )
    if only is not None:
        name = tuple_(Pipeline.namespace, Pipeline.layer, Pipeline.name)
        query = query.where(name.in_([table.key for table in only]))
    published = map(PublishedPipeline.from_row, tx.execute(query))
    return sorted(published, key=lambda each: each.spec.table)


def read_source(store: Store, published: PublishedPipeline) -> PipelineSource:
    """The very files that were published."""
    return source_of(store, published.spec.table, files=published.files)


def source_of(
    store: Store, table: TableName, *, files: Mapping[str, str]
) -> PipelineSource:
    """A source whose files are objects."""
    texts = {name: store.get_object(each).decode() for name, each in files.items()}
    return PipelineSource(table, texts)


# Publishing.


def publish(
    metadata: Metadata,
    store: Store,
    folder: Path | None = None,
    *,
    message: str = "",
    published_by: str = "",
    check: Check = no_problems,
    table_exists: Callable[[TableName], bool] = no_table,
    pinned: Collection[int] = (),
) -> Release:
    """Make every pipeline in *folder* (what the store holds) current; PublishError lists all problems.

    Pipelines that *folder* does not hold stay as they are. Publishing the same again changes
    nothing. Versions that the releases in *pinned* hold are not pruned.
    """
    tree = read_tree(folder) if folder else read_stored(store)
    parsed = [parse_pipeline(source) for source in tree.sources]
    with metadata.transaction() as tx:
        number = lock_pointer(tx)
        before = {each.spec.table: each for each in load(tx)}
        warnings = validate(
            tx, tree, parsed, before=before, check=check, table_exists=table_exists
        )
        alerts = change_alerts(tx, tree, before=before)
        if folder is not None:
            copy_tree(store, tree)
            alert_releases.copy_files(store, alerts)
        change = Change(
            message=message,
            published_by=published_by,
            action="pipeline.publish",
            pinned=pinned,
        )
        release = make_current(
            tx,
            store,
            change,
            number=number,
            parsed=parsed,
            before=before,
            zones=tree.zones,
            alerts=alerts,
        )
        clean_drafts(tx, [each.spec.table for each in parsed])
    missing = left_out(parsed, before=before) if folder else ()
    return replace(release, left_out=missing, warnings=warnings)


def change_alerts(
    tx: Session, tree: Tree, *, before: Mapping[TableName, PublishedPipeline]
) -> AlertChanges:
    """What becomes of the alerts by *tree*: a namespace that is wholly there says all of its own."""
    there = {each.table for each in tree.sources}
    partly = {
        table.namespace
        for table, each in before.items()
        if table not in there and not each.spec.hand_written
    }
    named = {table.namespace for table in there} | {
        each.namespace for each in tree.alerts
    }
    return alert_releases.compare(
        tx, tree.alerts, whole=named - partly, partly=named & partly
    )


def left_out(
    parsed: Iterable[Parsed], *, before: Mapping[TableName, PublishedPipeline]
) -> tuple[TableName, ...]:
    """The published pipelines of the namespaces of *parsed* that are not among them."""
    there = {each.spec.table for each in parsed}
    namespaces = {table.namespace for table in there}
    return tuple(
        table
        for table, each in before.items()
        if table.namespace in namespaces
        and table not in there
        and not each.spec.hand_written
    )


def lock_pointer(tx: Session) -> int:
    """The number of the current release (0 before the first), ours alone until we commit.

    To be called before anything is written: what is published is told to the mirror at the end.
    """
    positions.take_turn(tx)
    tx.execute(insert(CurrentRelease).values(id=1).on_conflict_do_nothing())
    locked = select(CurrentRelease.release_number).with_for_update()
    return tx.execute(locked).scalar_one() or 0


def validate(
    tx: Session,
    tree: Tree,
    parsed: Sequence[Parsed],
    *,
    before: Mapping[TableName, PublishedPipeline],
    check: Check,
    table_exists: Callable[[TableName], bool],
) -> tuple[Problem, ...]:
    """The warnings; PublishError when there is anything worse."""
    specs = {table: each.spec for table, each in before.items()}
    judgement = judge(parsed, current=specs, table_exists=table_exists)
    problems = [
        *tree.problems,
        *judgement.said,
        *judgement.problems,
        *written_by_hand(parsed, before=before),
        *in_our_namespace(parsed),
    ]
    together = specs | {each.spec.table: each.spec for each in parsed}
    changing = {
        each.spec.table for each in parsed if specs.get(each.spec.table) != each.spec
    }
    among = fitting.look_around(
        tx,
        tree.alerts,
        specs=together,
        changing=changing,
        table_exists=table_exists,
    )
    alerts = fitting.fit(tree.alerts, among)
    problems += alerts.problems
    if not judgement.problems:  # what does not fit together cannot be built either
        problems += check([together[table] for table in sorted(together)])
    if problems:
        raise PublishError(tuple(dict.fromkeys(problems)))
    named = named_zones(together.values())
    return (
        *(warning for each in parsed for warning in each.warnings),
        *judgement.warnings,
        *alerts.warnings,
        *(unread_zone(zone) for zone in tree.zones if zone_key(zone) not in named),
    )


def written_by_hand(
    parsed: Iterable[Parsed], *, before: Mapping[TableName, PublishedPipeline]
) -> Iterator[Problem]:
    """Pipelines whose table a hand-written asset writes."""
    for each in parsed:
        table, at = each.spec.table, each.code_place
        if table in before and (place := before[table].spec.hand_written):
            what = f"{table} is written by hand already, in {place}"
            fix = "rename one of the two; `rat reconcile` forgets what the code has no more"
            yield Problem(at.path, at.line, what, fix)


def in_our_namespace(parsed: Iterable[Parsed]) -> Iterator[Problem]:
    """Pipelines in the namespace of the tables that RAT brings along."""
    for each in parsed:
        if each.spec.table.namespace == PLATFORM:
            yield Problem(each.code_place.path, 1, TAKEN, ELSEWHERE)


def zone_key(zone: ZoneDescription) -> tuple[str, str]:
    """How zones are told apart."""
    return (zone.namespace, zone.name)


def unread_zone(zone: ZoneDescription) -> Problem:
    """The warning of a described zone that no pipeline reads."""
    what = f"no pipeline reads the zone {zone.namespace}/{zone.name}, so it does not exist yet"
    return Problem(zone.path, 1, what, f"read it with landing_zone('{zone.name}')")


def copy_tree(store: Store, tree: Tree) -> None:
    """Make the store's folders of these pipelines equal to the tree's."""
    for source in tree.sources:
        copy_source(store, source)
    for zone in tree.zones:
        store.write_changed(
            f"{zone.namespace}/landing/{zone.name}.yaml", zone.content.encode()
        )
    for key, content in tree.retentions:
        store.write_changed(key, content.encode())


def copy_source(store: Store, source: PipelineSource) -> None:
    """Make the store's folder of one pipeline equal to *source*."""
    folder = pipeline_folder(source.table)
    for key in store.list(folder):
        if key.removeprefix(f"{folder}/") not in source.files:
            store.delete(key)
    for name, content in source.files.items():
        store.write_changed(f"{folder}/{name}", content.encode())


def clean_drafts(tx: Session, tables: Iterable[TableName]) -> None:
    """Say that what the store holds of these pipelines is what is published."""
    for table in tables:
        tx.execute(
            update(Pipeline)
            .where(is_live(table), Pipeline.draft_dirty)
            .values(draft_dirty=False)
        )


# The one way in which anything becomes current.


@dataclass(frozen=True)
class Change:
    """Who makes a release, and why."""

    message: str
    published_by: str
    action: str
    pinned: Collection[int] = ()


def make_current(
    tx: Session,
    store: Store,
    change: Change,
    *,
    number: int,
    parsed: Sequence[Parsed],
    before: Mapping[TableName, PublishedPipeline],
    zones: Sequence[ZoneDescription] = (),
    retired: Collection[TableName] = (),
    alerts: AlertChanges = NO_CHANGES,
) -> Release:
    """Make a release of what differs from the current one; none when nothing does.

    Those of *before* that are *retired* leave by it.
    """
    kept = {each.spec.table: keep_files(store, each.source) for each in parsed}
    files = {
        table: {name: each.name for name, each in objects.items()}
        for table, objects in kept.items()
    }
    release = compare(number, parsed=parsed, files=files, before=before)
    if retired:
        release = replace(release, is_new=True, retired=tuple(sorted(retired)))
    specs = {table: each.spec for table, each in before.items() if table not in retired}
    specs |= {each.spec.table: each.spec for each in parsed}
    namespaces = sorted({table.namespace for table in specs})
    add_namespaces(tx, namespaces, created_by=change.published_by)
    zones_changed = declarations.write_zones(
        tx, named=named_zones(specs.values()), described=zones
    )
    release = with_alerts(release, alerts)
    if not release.is_new and not zones_changed:
        return release
    release = replace(release, number=number + 1, is_new=True)
    add_release(tx, release, change=change)
    alert_releases.write(tx, alerts, release=release.number)
    for table in (*release.created, *release.changed):
        write_version(
            tx,
            specs[table],
            files=files[table],
            s3_version_ids={
                name: each.version_id
                for name, each in kept[table].items()
                if each.version_id
            },
            release=release,
            change=change,
            before=before.get(table),
        )
    for table in release.retired:
        withdraw(tx, before[table], release=release)
    mirror.reflect_pipelines(tx)
    return release


def with_alerts(release: Release, alerts: AlertChanges) -> Release:
    """The release with what it makes of the alerts."""
    return replace(
        release,
        is_new=release.is_new or bool(alerts),
        alerts=alerts.words,
        alerts_left_out=alerts.left_out,
    )


def compare(
    number: int,
    *,
    parsed: Iterable[Parsed],
    files: Mapping[TableName, Mapping[str, str]],
    before: Mapping[TableName, PublishedPipeline],
) -> Release:
    """Which pipelines release *number* lacks, has otherwise, or has as they are."""
    created, changed, unchanged = [], [], []
    for each in parsed:
        table = each.spec.table
        if table not in before:
            created.append(table)
        # The same files may be understood otherwise by a newer RAT.
        elif (before[table].files, before[table].spec) != (files[table], each.spec):
            changed.append(table)
        else:
            unchanged.append(table)
    return Release(
        number,
        is_new=bool(created or changed),
        created=tuple(created),
        changed=tuple(changed),
        unchanged=tuple(unchanged),
    )


def keep_files(store: Store, source: PipelineSource) -> dict[str, Kept]:
    """Keep the files of *source* as objects."""
    return {
        name: store.keep(content.encode())
        for name, content in sorted(source.files.items())
    }


def add_namespaces(tx: Session, names: Iterable[str], *, created_by: str) -> None:
    """Make the namespaces that do not exist yet."""
    for name in names:
        values = insert(Namespace).values(name=name, created_by=created_by or None)
        tx.execute(values.on_conflict_do_nothing(index_elements=["name"]))


def add_release(tx: Session, release: Release, *, change: Change) -> None:
    """Write a release down, and point to it."""
    tx.execute(
        insert(ReleaseRow).values(
            number=release.number,
            message=change.message,
            published_by=change.published_by,
        )
    )
    tx.execute(
        update(CurrentRelease).values(
            release_number=release.number, updated_at=func.now()
        )
    )
    audit.record(
        tx,
        change.action,
        resource=f"release {release.number}",
        user=change.published_by or "anonymous",
        detail=describe(release, message=change.message),
    )


def describe(release: Release, *, message: str) -> str:
    """What a release did, in a line."""
    changes = (
        f"{word} {', '.join(map(str, tables))}"
        for word in ("created", "changed", "retired")
        if (tables := getattr(release, word))
    )
    return "; ".join([*([message] if message else []), *changes, *release.alerts])


def write_version(
    tx: Session,
    spec: PipelineSpec,
    *,
    files: Mapping[str, str],
    s3_version_ids: Mapping[str, str],
    release: Release,
    change: Change,
    before: PublishedPipeline | None,
) -> None:
    """Write a new version of one pipeline, and everything that it declares."""
    pipeline_id = write_pipeline(tx, spec, files=files)
    newest = select(func.coalesce(func.max(PipelineVersion.version_number), 0)).where(
        PipelineVersion.pipeline_id == pipeline_id
    )
    tx.execute(
        insert(PipelineVersion).values(
            pipeline_id=pipeline_id,
            version_number=tx.execute(newest).scalar_one() + 1,
            message=change.message,
            published_versions=files,
            s3_version_ids=s3_version_ids,
            release_number=release.number,
            spec=spec.to_json(),
            code_version=spec.code_version,
        )
    )
    declarations.write(
        tx, pipeline_id, spec=spec, before=before.spec if before else None
    )
    prune_versions(tx, pipeline_id, pinned={release.number - 1, *change.pinned})


def is_live(table: TableName) -> ColumnElement[bool]:
    """The condition that a row is the living pipeline of *table*."""
    return (
        (Pipeline.namespace == table.namespace)
        & (Pipeline.layer == table.layer)
        & (Pipeline.name == table.name)
        & Pipeline.deleted_at.is_(None)
    )


def write_pipeline(
    tx: Session, spec: PipelineSpec, *, files: Mapping[str, str]
) -> uuid.UUID:
    """Create or update the row of a pipeline; a retired one's name is a new pipeline."""
    values = {
        "type": spec.type,
        "s3_path": pipeline_folder(spec.table),
        "description": spec.description,
        "owner": spec.owner or None,
        "published_versions": files,
        "draft_dirty": False,
        "published_at": func.now(),
        "updated_at": func.now(),
    }
    changed = update(Pipeline).where(is_live(spec.table)).values(values)
    pipeline_id = tx.execute(changed.returning(Pipeline.id)).scalar_one_or_none()
    if pipeline_id is not None:
        return pipeline_id
    namespace, layer, name = spec.table.key
    created = insert(Pipeline).values(
        namespace=namespace, layer=layer, name=name, **values
    )
    return tx.execute(created.returning(Pipeline.id)).scalar_one()


def prune_versions(
    tx: Session, pipeline_id: uuid.UUID, *, pinned: Collection[int]
) -> None:
    """Forget versions beyond the pipeline's max_versions, none that a release or run still pins."""
    versions = tx.execute(
        select(PipelineVersion.id, PipelineVersion.release_number)
        .where(PipelineVersion.pipeline_id == pipeline_id)
        .order_by(PipelineVersion.version_number.desc())
    ).all()
    limit = tx.execute(
        select(Pipeline.max_versions).where(Pipeline.id == pipeline_id)
    ).scalar_one()
    surplus = {each.id for each in versions[limit:]}
    for release in pinned:
        held = (each.id for each in versions if each.release_number <= release)
        surplus.discard(next(held, None))
    if not surplus:
        return
    running = select(Run.version_id).where(
        Run.pipeline_id == pipeline_id,
        Run.status.not_in(FINAL),
        Run.version_id.is_not(None),
    )
    tx.execute(
        delete(PipelineVersion).where(
            PipelineVersion.id.in_(surplus), PipelineVersion.id.not_in(running)
        )
    )


# Going back, and taking away.


def roll_back(
    metadata: Metadata,
    store: Store,
    table: TableName,
    *,
    version_number: int,
    message: str = "",
    published_by: str = "",
    check: Check = no_problems,
    table_exists: Callable[[TableName], bool] = no_table,
    pinned: Collection[int] = (),
) -> Release:
    """Make an earlier version of one pipeline current, as a new version.

    Its files come back into the store too, unless the store holds a draft that was never
    published: that stays, and the pipeline says so (`draft_dirty`).
    """
    with metadata.transaction() as tx:
        number = lock_pointer(tx)
        before = {each.spec.table: each for each in load(tx)}
        files = find_version(tx, table, version_number=version_number, before=before)
        parsed = parse_pipeline(source_of(store, table, files=files))
        tree = Tree(sources=(parsed.source,))
        warnings = validate(
            tx, tree, [parsed], before=before, check=check, table_exists=table_exists
        )
        is_draft = has_draft(store, before[table])
        change = Change(
            message=message or f"Rollback to v{version_number}",
            published_by=published_by,
            action="pipeline.rollback",
            pinned=pinned,
        )
        release = make_current(
            tx, store, change, number=number, parsed=[parsed], before=before
        )
        if is_draft:
            tx.execute(update(Pipeline).where(is_live(table)).values(draft_dirty=True))
        else:
            copy_tree(store, tree)
    return replace(release, warnings=warnings)


def find_version(
    tx: Session,
    table: TableName,
    *,
    version_number: int,
    before: Mapping[TableName, PublishedPipeline],
) -> Mapping[str, str]:
    """The files of one version of a published pipeline; NotFoundError says what there is."""
    if table not in before:
        raise unpublished(table, before)
    rows = tx.execute(
        select(PipelineVersion.version_number, PipelineVersion.published_versions)
        .where(PipelineVersion.pipeline_id == before[table].pipeline_id)
        .order_by(PipelineVersion.version_number)
    )
    versions: dict[int, Mapping[str, str]] = {number: files for number, files in rows}
    if version_number not in versions:
        message = f"{table} has no version {version_number}"
        raise NotFoundError(message, fix=f"it has {', '.join(map(str, versions))}")
    return versions[version_number]


def unpublished(
    table: TableName | str, known: Iterable[TableName | str]
) -> NotFoundError:
    """The error of a pipeline that is not published."""
    guess = nearest(str(table), map(str, known))
    fix = f"did you mean {guess}?" if guess else "publish it first"
    return NotFoundError(f"no pipeline {table} is published", fix=fix)


def has_draft(store: Store, published: PublishedPipeline) -> bool:
    """Whether the store's folder holds something else than what is published."""
    folder = pipeline_folder(published.spec.table)
    held = {
        key.removeprefix(f"{folder}/"): store.read(key) for key in store.list(folder)
    }
    expected = {name: store.get_object(each) for name, each in published.files.items()}
    return bool(held) and held != expected


def retire(
    tx: Session,
    tables: Sequence[TableName],
    *,
    message: str = "",
    retired_by: str = "",
) -> Release:
    """Take pipelines out of what is current; their tables, history and files stay.

    Publishing a name again makes a new pipeline.
    """
    number = lock_pointer(tx)
    before = {each.spec.table: each for each in load(tx)}
    for table in tables:
        if table not in before:
            raise unpublished(table, before)
    alerts = alert_releases.leave_with(tx, tables)
    release = Release(number + 1, is_new=True, retired=tuple(tables))
    release = with_alerts(release, alerts)
    change = Change(message=message, published_by=retired_by, action="pipeline.retire")
    add_release(tx, release, change=change)
    alert_releases.write(tx, alerts, release=release.number)
    for table in tables:
        withdraw(tx, before.pop(table), release=release)
    declarations.write_zones(
        tx, named=named_zones(each.spec for each in before.values())
    )
    mirror.reflect_pipelines(tx)
    return release


def withdraw(tx: Session, published: PublishedPipeline, *, release: Release) -> None:
    """Write down that a pipeline is retired, and stop everything that it declared."""
    pipeline_id = published.pipeline_id
    tx.execute(
        insert(RetiredPipeline).values(
            pipeline_id=pipeline_id, release_number=release.number
        )
    )
    tx.execute(
        update(Pipeline).where(Pipeline.id == pipeline_id).values(deleted_at=func.now())
    )
    declarations.withdraw(tx, pipeline_id)
    wishes.end_retired(tx)
