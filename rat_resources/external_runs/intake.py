"""Intake: the files of the zone `chm/external_runs`, each version of each file exactly once.

How far a file was read is written in the very transaction that records what was read: whoever goes on
after a crash begins with the next line, and of two who read one file at once one stops. What is done
moves to `_processed/`.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources import archive, graph, landing
from rat_resources.external_runs import inventory, rejects
from rat_resources.external_runs.inventory import Known
from rat_resources.external_runs.lines import Line, Named, read_lines
from rat_resources.external_runs.recording import Outcome, Policy, Told, record
from rat_resources.external_runs.rejects import Reject
from rat_resources.external_runs.staging import staged
from rat_resources.landing import WaitingFile, Zone
from rat_resources.landing_files import files_at
from rat_resources.metadata import Metadata
from rat_resources.metadata.external_runs import ExternalFile
from rat_resources.metadata.landing import BUILT_IN, FileState, LandingFile
from rat_resources.places import Place

BATCH = 1000
MOST_ATTEMPTS = 3
READER = "ingest_external_runs"  # the job of Dagster
MOST_NAMED = 20
COUNTED = {outcome: getattr(ExternalFile, outcome) for outcome in Outcome}


@dataclass(frozen=True)
class Waiting:
    """A file version that has yet to be read to its end."""

    id: uuid.UUID
    name: str
    version: str


@dataclass
class IntakeReport:
    """What came of reading files."""

    files: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    created: list[str] = field(
        default_factory=list
    )  # inactive, until somebody says more
    rejected: list[str] = field(default_factory=list)  # FILE:LINE: why
    left: list[str] = field(default_factory=list)  # and why
    useless: list[str] = field(default_factory=list)  # files without one good line

    @property
    def good(self) -> int:
        """How many events were recorded, known already or not."""
        return sum(self.outcomes.values()) - self.bad

    @property
    def bad(self) -> int:
        """How many lines were refused."""
        return self.outcomes[Outcome.REJECTED]


@dataclass(frozen=True)
class Intake:
    """Reads the files of the zone for one Dagster run."""

    metadata: Metadata
    root: Place  # of the store
    staging: Path
    dagster_run_id: str | None = None
    policy: Policy = Policy.IGNORE
    say: Callable[[str], None] = print
    wait: Callable[[float], None] = time.sleep  # until young files have settled
    batch: int = BATCH

    def run(self, *, by_hand: bool = True) -> IntakeReport:
        """Read every file that waits; *by_hand* also those on which others died."""
        with self.metadata.transaction() as tx:
            zone = get_zone(tx, root=self.root)
            archive.finish_moves(tx, zone, root=self.root)
        with self.metadata.transaction() as tx:
            looked = landing.look(
                tx, zone, root=self.root, now=datetime.now(UTC), wait=self.wait
            )
            put_aside_again(tx, zone, folder=self.dagster_run_id)
        report = IntakeReport(
            left=[
                *(
                    f"{zone}/{name}: it is still being written"
                    for name in looked.waiting
                ),
                *(f"{zone}/{each.name}: {each.why}" for each in looked.refused),
            ]
        )
        with self.metadata.transaction() as tx:
            files = find_waiting(tx, zone, by_hand=by_hand)
        for file in files:
            self.read(zone, file, report=report)
        with self.metadata.transaction() as tx:
            archive.finish_moves(tx, zone, root=self.root)
        return report

    def read(self, zone: Zone, file: Waiting, *, report: IntakeReport) -> None:
        """Read one file from where it was left."""
        with self.metadata.transaction() as tx:
            done = begin(tx, file.id, dagster_run_id=self.dagster_run_id)
        with staged(self.staging) as folder:
            copy = folder / "events"
            files = files_at(self.root, zone.path)
            why = files.stage(file.name, target=copy, version=file.version)
            why = why or self.take(zone, file, copy=copy, done=done, report=report)
        if why:
            report.left.append(f"{zone}/{file.name}: {why}")

    def take(
        self, zone: Zone, file: Waiting, *, copy: Path, done: int, report: IntakeReport
    ) -> str:
        """Record what a file tells, behind its first *done* lines; why that is left to somebody else."""
        source = f"{zone}/{file.name}"
        known: Known = {}
        counts: Counter[Outcome] = Counter()
        kept = 0
        for lines in batched(read_lines(copy, after=done), self.batch):
            with self.metadata.transaction() as tx:
                if not is_at(tx, file.id, line=done):
                    return "another run goes on with it"
                known |= self.inventory(tx, lines, known=known, report=report)
                outcomes, refused = self.record(tx, lines, known=known)
                room = max(rejects.MOST_KEPT - kept, 0)
                rejects.keep(tx, refused[:room], source=source, file_id=file.id)
                last = number_of(lines[-1])
                advance(tx, file.id, line=last, outcomes=outcomes)
            done, kept = last, kept + len(refused)
            counts += outcomes
            named = [f"{source}:{each.line}: {each.reason}" for each in refused]
            report.rejected += named[: MOST_NAMED - len(report.rejected)]
        with self.metadata.transaction() as tx:
            if not finish(tx, zone, file, line=done, folder=self.dagster_run_id):
                return "another run goes on with it"
        self.conclude(source, counts=counts, report=report)
        return ""

    def conclude(
        self, source: str, *, counts: Counter[Outcome], report: IntakeReport
    ) -> None:
        """Say what came of a file."""
        report.files += 1
        report.outcomes += counts
        if counts[Outcome.REJECTED] and counts.total() == counts[Outcome.REJECTED]:
            report.useless.append(source)
        told = ", ".join(f"{counts[each]} {each}" for each in Outcome if counts[each])
        self.say(f"{source}: {told or 'no event'}")

    def inventory(
        self,
        tx: Session,
        lines: Sequence[Line | Reject],
        *,
        known: Known,
        report: IntakeReport,
    ) -> Known:
        """The pipelines that *lines* name and are not yet *known*; missing ones are made, inactive."""
        named = {each.named.key: each.named for each in lines if isinstance(each, Line)}
        missing = [named[key] for key in sorted(named) if key not in known]
        found = inventory.find(tx, missing)
        created = inventory.create(
            tx, [each for each in missing if each.key not in found]
        )
        report.created += created
        return inventory.find(tx, missing) if created else found

    def record(
        self, tx: Session, lines: Sequence[Line | Reject], *, known: Known
    ) -> tuple[Counter[Outcome], list[Reject]]:
        """Record what lines tell; how it went with each, and those that could not be."""
        refused = [each for each in lines if isinstance(each, Reject)]
        good = []
        for line in (each for each in lines if isinstance(each, Line)):
            if (pipeline_id := known[line.named.key]) is None:
                refused.append(Reject.of(line.raw, ours(line.named), line=line.number))
            else:
                good.append((line, Told(pipeline_id, line.event)))
        recorded = record(tx, [told for _, told in good], policy=self.policy)
        for each in recorded.rejected:
            line = good[each.place][0]
            refused.append(Reject.of(line.raw, each.reason, line=line.number))
        outcomes = Counter(recorded.outcomes)
        outcomes[Outcome.REJECTED] = len(refused)
        return outcomes, sorted(refused, key=lambda each: each.line)


def ours(named: Named) -> str:
    """That a pipeline is one of RAT's own."""
    return f"{named} is a pipeline of this RAT, which knows its runs itself"


def number_of(line: Line | Reject) -> int:
    """The number of a line, whatever it tells."""
    return line.number if isinstance(line, Line) else line.line


def batched(lines: Iterable[Line | Reject], size: int) -> Iterator[list[Line | Reject]]:
    """Lines in bunches of *size*."""
    bunch: list[Line | Reject] = []
    for line in lines:
        bunch.append(line)
        if len(bunch) == size:
            yield bunch
            bunch = []
    if bunch:
        yield bunch


# The zone and its ledger


def get_zone(tx: Session, *, root: Place) -> Zone:
    """The zone, whose folder is there from now on."""
    namespace, name = BUILT_IN
    zone = landing.get_zone(tx, namespace, name=name)
    if zone is None:  # somebody deleted its row
        message = "the migrations made the landing zone chm/external_runs"
        raise LookupError(message)
    if isinstance(root, Path):
        (root / zone.path).mkdir(parents=True, exist_ok=True)
    return zone


def find_waiting(tx: Session, zone: Zone, *, by_hand: bool) -> list[Waiting]:
    """The files that have yet to be read to their end, the oldest first."""
    rows = (
        select(LandingFile.id, LandingFile.filename, LandingFile.version)
        .outerjoin(ExternalFile, ExternalFile.file_id == LandingFile.id)
        .where(
            LandingFile.zone_id == zone.id,
            LandingFile.state == FileState.PRESENT,
            LandingFile.moved_to.is_(None),
            ExternalFile.finished_at.is_(None),
            or_(
                literal(by_hand),
                func.coalesce(ExternalFile.attempts, 0) < MOST_ATTEMPTS,
            ),
        )
        .order_by(LandingFile.uploaded_at, LandingFile.filename)
    )
    return [Waiting(id_, name, version) for id_, name, version in tx.execute(rows)]


def given_up(tx: Session) -> list[WaitingFile]:
    """The files that are read by nobody any more since too many runs died of them."""
    rows = (
        select(LandingFile.filename, ExternalFile)
        .join(ExternalFile, ExternalFile.file_id == LandingFile.id)
        .where(
            LandingFile.state == FileState.PRESENT,
            LandingFile.moved_to.is_(None),
            ExternalFile.finished_at.is_(None),
            ExternalFile.attempts >= MOST_ATTEMPTS,
        )
        .order_by(LandingFile.filename, ExternalFile.started_at)
    )
    return [
        WaitingFile(
            zone="/".join(BUILT_IN),
            name=name,
            pipeline=READER,
            reason=(
                f"{file.attempts} runs died of it after line {file.lines}; launch {READER}"
                f" to try again, or `rat reject {'/'.join(BUILT_IN)} {name}`"
            ),
            since=file.started_at,
            run_id=None,
        )
        for name, file in tx.execute(rows)
    ]


def begin(tx: Session, file_id: uuid.UUID, *, dagster_run_id: str | None) -> int:
    """Note that somebody reads a file; how many of its lines are done."""
    row = insert(ExternalFile).values(
        file_id=file_id, attempts=1, dagster_run_id=dagster_run_id
    )
    row = row.on_conflict_do_update(
        index_elements=["file_id"],
        set_={
            "attempts": ExternalFile.attempts + 1,
            "dagster_run_id": row.excluded.dagster_run_id,
        },
    )
    return tx.execute(row.returning(ExternalFile.lines)).scalar_one()


def is_at(tx: Session, file_id: uuid.UUID, *, line: int) -> bool:
    """Whether a file is still read up to *line*; nobody else goes on until the transaction ends."""
    row = tx.execute(
        select(ExternalFile.lines, ExternalFile.finished_at)
        .where(ExternalFile.file_id == file_id)
        .with_for_update()
    ).one_or_none()
    return row is not None and row.lines == line and row.finished_at is None


def advance(
    tx: Session, file_id: uuid.UUID, *, line: int, outcomes: Counter[Outcome]
) -> None:
    """Note that a file is read up to *line*, and how that went."""
    counts = {
        each.value: COUNTED[each] + outcomes[each] for each in Outcome if outcomes[each]
    }
    tx.execute(
        update(ExternalFile)
        .where(ExternalFile.file_id == file_id)
        .values(lines=line, attempts=0, **counts)
    )


def finish(
    tx: Session, zone: Zone, file: Waiting, *, line: int, folder: str | None
) -> bool:
    """Note that a file is read, and where it moves; False when somebody else goes on with it."""
    landing.lock_zones(tx, [zone.id])
    if not is_at(tx, file.id, line=line):
        return False
    tx.execute(
        update(ExternalFile)
        .where(ExternalFile.file_id == file.id)
        .values(finished_at=func.clock_timestamp(), attempts=0)
    )
    put_aside(tx, zone, [file.id], folder=folder)
    return True


def put_aside(
    tx: Session, zone: Zone, file_ids: Sequence[uuid.UUID], *, folder: str | None
) -> None:
    """Let files move to `_processed/`, unless a pipeline reads the zone: that must find them there."""
    if not file_ids or graph.readers(tx, zone.namespace, zone=zone.name):
        return
    for file in tx.scalars(
        select(LandingFile).where(
            LandingFile.id.in_(file_ids), LandingFile.state == FileState.PRESENT
        )
    ):
        aside = f"{zone.path}/{archive.PROCESSED}/{folder or file.id}"
        file.moved_to = f"{aside}/{file.filename}"


def put_aside_again(tx: Session, zone: Zone, *, folder: str | None) -> None:
    """Let files move that were read before and were put there anew: the same content is no news."""
    landing.lock_zones(tx, [zone.id])
    done = (
        select(LandingFile.id)
        .join(ExternalFile, ExternalFile.file_id == LandingFile.id)
        .where(
            LandingFile.zone_id == zone.id,
            LandingFile.state == FileState.PRESENT,
            LandingFile.moved_to.is_(None),
            ExternalFile.finished_at.is_not(None),
        )
    )
    put_aside(tx, zone, tx.scalars(done).all(), folder=folder)
