"""Landing files: the ledger of what arrived and which run of which pipeline consumed it.

`look` keeps it in step with a zone's files (`rat_resources.landing_files`); a run claims those that it
reads, and its publication commits them. Moving files aside is `rat_resources.archive`.
"""

import mimetypes
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Text,
    and_,
    any_,
    case,
    cast,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources import landing_folder
from rat_resources.diagnosis import blamed, diagnose
from rat_resources.errors import LandingError
from rat_resources.expectations import check_expected
from rat_resources.graph import readers
from rat_resources.landing_files import files_at
from rat_resources.landing_folder import Copied, Found, Refused
from rat_resources.metadata.base import Json
from rat_resources.metadata.landing import (
    ClaimState,
    FileState,
    LandingClaim,
    LandingFile,
    LandingZone,
    RunFile,
)
from rat_resources.metadata.pipelines import Pipeline
from rat_resources.metadata.runs import Run
from rat_resources.places import Place

QUIET = timedelta(seconds=2)
MOST_FILES = 20_000
MOST_BYTES = 4 << 30
MOST_DEATHS = 3
MOST_NAMED = 20
UNREAD = "no path in the query matches its name, so nobody reads it"

clock = func.clock_timestamp
texts = ARRAY(Text())


@dataclass(frozen=True)
class Zone:
    """A folder where files arrive."""

    id: uuid.UUID
    namespace: str
    name: str
    description: str = ""
    archive: bool = False
    expected_columns: Mapping[str, str] | None = field(default=None, compare=False)

    @classmethod
    def from_row(cls, row: LandingZone) -> "Zone":
        """The zone that a row describes."""
        return cls(
            id=row.id,
            namespace=row.namespace,
            name=row.name,
            description=row.description,
            archive=row.archive,
            expected_columns=row.expected_columns,
        )

    @property
    def path(self) -> str:
        """Where its files lie within the store."""
        return f"{self.namespace}/landing/{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class FileVersion:
    """One version of one file."""

    id: uuid.UUID
    name: str
    size: int
    version: str


@dataclass(frozen=True)
class Looked:
    """What a look at a zone found out."""

    new: tuple[FileVersion, ...] = ()
    waiting: tuple[str, ...] = ()  # still being written
    gone: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()
    more: bool = False  # there was more to read than one look may

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all happened."""
        return not (self.new or self.waiting or self.gone or self.refused or self.more)


@dataclass(frozen=True)
class ClaimedFile:
    """A file version that a run reads, and nothing else under that name."""

    id: uuid.UUID
    zone: Zone
    name: str
    size: int
    version: str
    is_new: bool  # this pipeline has not committed it yet
    version_id: str | None = None  # of S3, where the bucket has versions


@dataclass(frozen=True)
class Dropped:
    """A claimed file that was no longer there when it was staged."""

    file: ClaimedFile
    why: str


@dataclass(frozen=True)
class Staged:
    """The folders of a run, one a zone, and the files that did not make it there."""

    folders: dict[str, Path]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class WaitingFile:
    """A file that made a run fail, until somebody does something."""

    zone: str
    name: str
    pipeline: str
    reason: str
    since: datetime
    run_id: uuid.UUID | None


# Zones


def active_zones(tx: Session) -> list[Zone]:
    """Every zone that a published template names."""
    rows = select(LandingZone).where(LandingZone.active)
    return [
        Zone.from_row(row)
        for row in tx.scalars(rows.order_by(LandingZone.namespace, LandingZone.name))
    ]


def get_zone(tx: Session, namespace: str, *, name: str) -> Zone | None:
    """One zone by its name."""
    row = tx.scalar(
        select(LandingZone).where(
            LandingZone.namespace == namespace, LandingZone.name == name
        )
    )
    return None if row is None else Zone.from_row(row)


def lock_zones(tx: Session, zone_ids: Iterable[uuid.UUID]) -> None:
    """Be the only one who writes the ledger of these zones, until the transaction ends."""
    tx.execute(
        select(LandingZone.id)
        .where(LandingZone.id.in_(list(zone_ids)))
        .order_by(LandingZone.id)
        .with_for_update(key_share=True)
    )


# Looking


def look(
    tx: Session,
    zone: Zone,
    *,
    root: Place,
    now: datetime,
    quiet: timedelta = QUIET,
    wait: Callable[[float], None] = time.sleep,
    most_files: int = MOST_FILES,
    most_bytes: int = MOST_BYTES,
) -> Looked:
    """Bring the ledger in step with what lies in a zone now.

    Reads the content of new and changed files only, and of no more than the limits allow; the
    rest comes with the next look. The zone is locked only while the ledger is written.
    """
    files = files_at(root, zone.path)
    # Before the files: one that is put there meanwhile must not look gone.
    known = present_files(tx, zone)
    seen = files.scan()
    changed = [file for file in seen.found.values() if is_changed(file, known)]
    settled, moving = files.settle(changed, now=now, quiet=quiet, wait=wait)
    chosen = landing_folder.first_within(
        settled, most_files=most_files, most_bytes=most_bytes
    )
    identified = {file: files.identify(file) for file in chosen}
    missing = [name for name in known if name not in seen.found]
    if identified or missing:
        lock_zones(tx, [zone.id])
    arrived = [
        copied for file, copied in identified.items() if copied and files.is_still(file)
    ]
    recorded = {file.name for file in arrived}
    left = [file for file in chosen if file.name not in recorded]
    unreadable = files.find_unreadable(left)
    known_as = {refused.name for refused in unreadable}
    return Looked(
        new=record(tx, zone, arrived, known=known),
        waiting=landing_folder.names_of(
            [*moving, *(file for file in left if file.name not in known_as)]
        ),
        gone=mark_gone(tx, zone, [name for name in missing if not files.exists(name)]),
        refused=(*seen.refused, *unreadable),
        more=len(chosen) < len(settled),
    )


@dataclass(frozen=True)
class Known:
    """What the ledger says of a file that is present."""

    version: str
    mark: str


def present_files(tx: Session, zone: Zone) -> dict[str, Known]:
    """The files that lie in a zone as far as the ledger knows, by name."""
    rows = tx.execute(
        select(
            LandingFile.filename,
            LandingFile.version,
            LandingFile.mark,
        ).where(is_present(zone.id))
    )
    return {name: Known(version, mark) for name, version, mark in rows}


def is_changed(file: Found, known: Mapping[str, Known]) -> bool:
    """Whether the ledger may not know the content of a file."""
    return file.name not in known or known[file.name].mark != file.mark


def record(
    tx: Session, zone: Zone, files: Sequence[Copied], *, known: Mapping[str, Known]
) -> tuple[FileVersion, ...]:
    """Write file versions into the ledger; those that are new to it come back."""
    if not files:
        return ()
    replace_older(tx, zone, files)
    ids = write_versions(tx, zone, files)
    return tuple(
        FileVersion(ids[file.name], file.name, file.size, file.version)
        for file in files
        if file.name not in known or known[file.name].version != file.version
    )


def replace_older(tx: Session, zone: Zone, files: Sequence[Copied]) -> None:
    """Close the older versions of these files."""
    newer = (
        func.unnest(
            cast([file.name for file in files], texts),
            cast([file.version for file in files], texts),
        )
        .table_valued("name", "version", name="newer")
        .render_derived()
    )
    tx.execute(
        update(LandingFile)
        .where(
            is_present(zone.id),
            LandingFile.filename == newer.c.name,
            LandingFile.version != newer.c.version,
        )
        .values(state=FileState.REPLACED, moved_to=None),
        execution_options={"synchronize_session": False},
    )


def write_versions(
    tx: Session, zone: Zone, files: Sequence[Copied]
) -> dict[str, uuid.UUID]:
    """Make these file versions present, each one exactly once; their ids by name."""
    row = insert(LandingFile).values(uploaded_at=clock())
    row = row.on_conflict_do_update(
        index_elements=["zone_id", "s3_path", "version"],
        set_={
            "state": FileState.PRESENT,
            "mark": row.excluded.mark,
            "s3_version_id": row.excluded.s3_version_id,
            # What came back is here again; what is about to leave still is.
            "moved_to": case(
                (LandingFile.state == FileState.PRESENT, LandingFile.moved_to)
            ),
        },
    )
    written = tx.execute(
        row.returning(LandingFile.filename, LandingFile.id),
        [describe(zone, file) for file in files],
    )
    return {name: id_ for name, id_ in written}


def describe(zone: Zone, file: Copied) -> dict[str, Json]:
    """The ledger's row of a file version."""
    return {
        "id": uuid.uuid4(),
        "zone_id": zone.id,
        "filename": file.name,
        "s3_path": f"{zone.path}/{file.name}",
        "size_bytes": file.size,
        "content_type": mimetypes.guess_type(file.name)[0] or "",
        "version": file.version,
        "mark": file.mark,
        "s3_version_id": file.version_id,
        "state": FileState.PRESENT,
    }


def mark_gone(tx: Session, zone: Zone, names: Sequence[str]) -> tuple[str, ...]:
    """Note that files were taken away."""
    if not names:
        return ()
    gone = tx.scalars(
        update(LandingFile)
        .where(
            is_present(zone.id),
            LandingFile.moved_to.is_(None),
            LandingFile.filename == any_(cast(list(names), texts)),
        )
        .values(state=FileState.GONE)
        .returning(LandingFile.filename),
        execution_options={"synchronize_session": False},
    )
    return tuple(sorted(gone))


def record_upload(tx: Session, zone: Zone, *, uploaded: Copied) -> FileVersion:
    """Write what an upload put into a zone into the ledger: it is settled at once."""
    lock_zones(tx, [zone.id])
    (file,) = record(tx, zone, [uploaded], known={})
    return file


def is_present(zone_id: uuid.UUID) -> ColumnElement[bool]:
    """The files of a zone that lie in it."""
    return and_(LandingFile.zone_id == zone_id, LandingFile.state == FileState.PRESENT)


# Claiming


def claim(
    tx: Session,
    *,
    namespace: str,
    zones: Mapping[str, bool],
    pipeline_id: uuid.UUID,
    version_id: uuid.UUID | None,
    run_id: uuid.UUID,
    by_hand: bool = False,
) -> list[ClaimedFile]:
    """Pin the very files that a run reads, and claim those that its pipeline has yet to commit.

    *zones* says of each zone whether only its new files count: that is what the pipeline has not
    committed; else it is all that is present. What made an earlier run of this version fail is
    left out, unless a person asks.
    Take the run's wishes first: a wish that is taken promises that its files are seen here.
    """
    by_id = {zone.id: zone for zone in named_zones(tx, namespace, names=zones)}
    lock_zones(tx, by_id)
    candidates = tx.execute(
        select(LandingFile, LandingClaim)
        .outerjoin(
            LandingClaim,
            and_(
                LandingClaim.file_id == LandingFile.id,
                LandingClaim.pipeline_id == pipeline_id,
            ),
        )
        .where(
            LandingFile.zone_id.in_(list(by_id)),
            LandingFile.state == FileState.PRESENT,
            LandingFile.moved_to.is_(None),
        )
        .order_by(LandingFile.s3_path)
        .execution_options(populate_existing=True)
    )
    pinned = []
    for file, held in candidates:
        zone = by_id[file.zone_id]
        is_new = may_claim(held, run_id=run_id, version_id=version_id, by_hand=by_hand)
        if is_new or (not zones[zone.name] and may_read(held)):
            pinned.append(
                ClaimedFile(
                    file.id,
                    zone,
                    file.filename,
                    file.size_bytes,
                    file.version,
                    is_new,
                    file.s3_version_id,
                )
            )
    write_claims(
        tx,
        [file.id for file in pinned if file.is_new],
        values={
            "pipeline_id": pipeline_id,
            "version_id": version_id,
            "run_id": run_id,
            "state": ClaimState.CLAIMED,
        },
    )
    pin(tx, run_id, file_ids=[file.id for file in pinned])
    return pinned


def named_zones(tx: Session, namespace: str, *, names: Collection[str]) -> list[Zone]:
    """Zones of one namespace by their names."""
    rows = select(LandingZone).where(
        LandingZone.namespace == namespace, LandingZone.name.in_(list(names))
    )
    return [Zone.from_row(row) for row in tx.scalars(rows)]


def may_claim(
    held: LandingClaim | None,
    *,
    run_id: uuid.UUID,
    version_id: uuid.UUID | None,
    by_hand: bool,
) -> bool:
    """Whether a run may take a file on which its pipeline has this claim."""
    if held is None:
        return True
    if held.state == ClaimState.WAITING:
        return by_hand or held.version_id != version_id
    return held.state == ClaimState.CLAIMED and held.run_id == run_id


def may_read(held: LandingClaim | None) -> bool:
    """Whether a run that reads a whole zone reads a file that it may not claim."""
    return held is not None and held.state != ClaimState.WAITING


def write_claims(
    tx: Session, file_ids: Sequence[uuid.UUID], *, values: Mapping[str, Json]
) -> None:
    """Claim files; a claim of theirs that waited is taken over."""
    if not file_ids:
        return
    row = insert(LandingClaim)
    tx.execute(
        row.on_conflict_do_update(
            index_elements=["file_id", "pipeline_id"],
            set_={
                "state": row.excluded.state,
                "run_id": row.excluded.run_id,
                "version_id": row.excluded.version_id,
                "updated_at": clock(),
            },
        ),
        [{"file_id": file_id, **values} for file_id in file_ids],
    )


def pin(tx: Session, run_id: uuid.UUID, *, file_ids: Sequence[uuid.UUID]) -> None:
    """Store which file versions a run reads."""
    if file_ids:
        tx.execute(
            insert(RunFile).on_conflict_do_nothing(),
            [{"run_id": run_id, "file_id": file_id} for file_id in file_ids],
        )


# Staging


def stage(
    tx: Session,
    *,
    run_id: uuid.UUID,
    files: Sequence[ClaimedFile],
    root: Place,
    folder: Path,
    zones: Collection[str] = (),
) -> Staged:
    """Copy the pinned file versions into a run's own folder, one below it for each zone.

    The hash of each copy is verified; what changed or went away since is dropped from the run,
    not read half. A zone without files gets an empty folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folders = {
        name: folder / name for name in {*zones, *(file.zone.name for file in files)}
    }
    for staged in folders.values():
        staged.mkdir(parents=True)
    dropped = []
    for file in files:
        why = files_at(root, file.zone.path).stage(
            file.name,
            target=folders[file.zone.name] / file.name,
            version=file.version,
            version_id=file.version_id,
        )
        if why:
            dropped.append(Dropped(file, why))
    drop(tx, run_id, dropped=dropped)
    return Staged(folders, tuple(dropped))


def drop(tx: Session, run_id: uuid.UUID, *, dropped: Sequence[Dropped]) -> None:
    """Take files out of a run that were not there to be staged; the next look finds out more."""
    if not dropped:
        return
    ids = [one.file.id for one in dropped]
    tx.execute(
        delete(RunFile).where(RunFile.run_id == run_id, RunFile.file_id.in_(ids))
    )
    tx.execute(
        delete(LandingClaim).where(is_claimed_by(run_id), LandingClaim.file_id.in_(ids))
    )


def leave(tx: Session, run_id: uuid.UUID, *, files: Sequence[ClaimedFile]) -> None:
    """Take files out of a run that it does not read, unless another pipeline reads their zone.

    Where several pipelines share a zone, what one of them does not read is meant for another.
    """
    for zone in {file.zone.id: file.zone for file in files}.values():
        if len(readers(tx, zone.namespace, zone=zone.name)) == 1:
            mine = [file for file in files if file.zone.id == zone.id]
            drop(tx, run_id, dropped=[Dropped(file, UNREAD) for file in mine])


# The end of a run


def commit(tx: Session, run_id: uuid.UUID) -> int:
    """Note that a run's publication consumed what it claimed; how many files that were."""
    committed = tx.scalars(
        update(LandingClaim)
        .where(is_claimed_by(run_id))
        .values(
            state=ClaimState.COMMITTED,
            reason="",
            committed_at=clock(),
            updated_at=clock(),
        )
        .returning(LandingClaim.file_id),
        execution_options={"synchronize_session": False},
    )
    return len(committed.all())


def release(
    tx: Session, run_id: uuid.UUID, *, failed: str | None = None, died: bool = False
) -> None:
    """Give back what a run claimed and will never commit.

    Of a run that *failed*, the files wait with the reason; of one that was cancelled or *died*,
    they are as if never claimed, until one pipeline version died on a file for the third time.
    """
    if died:
        hold_back(
            tx,
            run_id,
            file_ids=deadly_files(tx, run_id),
            reason=f"its run died {MOST_DEATHS} times",
        )
    if failed is not None:
        hold_back(tx, run_id, file_ids=None, reason=failed)
    tx.execute(
        delete(LandingClaim).where(is_claimed_by(run_id)),
        execution_options={"synchronize_session": False},
    )


def hold_back(
    tx: Session,
    run_id: uuid.UUID,
    *,
    file_ids: Sequence[uuid.UUID] | None,
    reason: str,
) -> None:
    """Let files that a run claimed wait for somebody, all of them or some."""
    held = update(LandingClaim).where(is_claimed_by(run_id))
    if file_ids is not None:
        held = held.where(LandingClaim.file_id.in_(file_ids))
    tx.execute(
        held.values(state=ClaimState.WAITING, reason=reason, updated_at=clock()),
        execution_options={"synchronize_session": False},
    )


def deadly_files(tx: Session, run_id: uuid.UUID) -> list[uuid.UUID]:
    """The files of a run that as many runs of its pipeline's version pinned as may die on them."""
    this = select(Run).where(Run.id == run_id).subquery()
    attempts = (
        select(RunFile.file_id)
        .join(Run, Run.id == RunFile.run_id)
        .join(this, this.c.pipeline_id == Run.pipeline_id)
        .where(
            Run.version_id.is_not_distinct_from(this.c.version_id),
            RunFile.file_id.in_(
                select(LandingClaim.file_id).where(is_claimed_by(run_id))
            ),
        )
        .group_by(RunFile.file_id)
        .having(func.count() >= MOST_DEATHS)
    )
    return list(tx.scalars(attempts))


def waiting(tx: Session) -> list[WaitingFile]:
    """Every file that waits for somebody because its run failed, and why."""
    rows = tx.execute(
        select(LandingClaim, LandingFile, LandingZone, Pipeline)
        .join(LandingFile, LandingFile.id == LandingClaim.file_id)
        .join(LandingZone, LandingZone.id == LandingFile.zone_id)
        .join(Pipeline, Pipeline.id == LandingClaim.pipeline_id)
        .where(
            LandingClaim.state == ClaimState.WAITING,
            LandingFile.state == FileState.PRESENT,
        )
        .order_by(LandingFile.s3_path, LandingClaim.updated_at)
    )
    return [
        WaitingFile(
            zone=f"{zone.namespace}/{zone.name}",
            name=file.filename,
            pipeline=f"{pipeline.namespace}.{pipeline.layer}.{pipeline.name}",
            reason=held.reason,
            since=held.updated_at,
            run_id=held.run_id,
        )
        for held, file, zone, pipeline in rows
    ]


def is_claimed_by(run_id: uuid.UUID) -> ColumnElement[bool]:
    """The claims of a run that it has yet to commit."""
    return and_(LandingClaim.run_id == run_id, LandingClaim.state == ClaimState.CLAIMED)


def refuse_blamed(
    message: str, files: Sequence[ClaimedFile], *, folders: Mapping[str, Path]
) -> None:
    """Raise LandingError when what DuckDB says is about one of the staged *files*."""
    staged = {folders[file.zone.name] / file.name: file for file in files}
    path = blamed(message, staged)
    if path is not None:
        file = staged[path]
        what = f"{file.zone}/{shown(file.name)}: {diagnose(path, message)}"
        raise LandingError(what, fix=how_to_mend(file))


def refuse_empty(files: Sequence[ClaimedFile]) -> None:
    """Raise LandingError when there is nothing in any of *files*."""
    if files and not any(file.size for file in files):
        first, more = files[0], len(files) - 1
        others = f", and so are {more} more files" if more else ""
        what = f"{first.zone}/{shown(first.name)}: it is empty{others}"
        raise LandingError(what, fix=how_to_mend(first))


def how_to_mend(file: ClaimedFile) -> str:
    """What to do about a file that cannot be read."""
    name = shlex.quote(file.name)
    return f"correct it and copy it again, or: rat reject {file.zone} {name}"


def where_to_look(files: Sequence[ClaimedFile]) -> str:
    """Which files a query that failed has read; empty where those are none, or many."""
    if not files or len(files) > MOST_NAMED:
        return ""
    names = ", ".join(f"{file.zone}/{shown(file.name)}" for file in files)
    return f"look at the query, and at what it reads: {names}"


def shown(name: str) -> str:
    """A file's name where it stands in a line."""
    return name if name.isprintable() else repr(name)


def refuse_unexpected(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[ClaimedFile],
    *,
    folders: Mapping[str, Path],
) -> None:
    """Raise LandingError that names every staged file without the columns that its zone expects."""
    unfit: dict[ClaimedFile, str] = {}
    for file in files:
        if file.zone.expected_columns:
            problem = check_expected(
                connection,
                folders[file.zone.name] / file.name,
                name=f"{file.zone}/{shown(file.name)}",
                expected=file.zone.expected_columns,
            )
            unfit |= {file: problem} if problem else {}
    if unfit:
        some = next(iter(unfit))
        more = len(unfit) - MOST_NAMED
        raise LandingError(
            "; ".join([*unfit.values()][:MOST_NAMED])
            + (f"; and {more} more files" if more > 0 else ""),
            fix=how_to_mend(some),
        )
