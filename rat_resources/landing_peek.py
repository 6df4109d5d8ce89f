"""A peek at a landing zone: what a pipeline would read there, with nothing noted, claimed or copied.

What a run does instead is `rat_resources.landing`.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from rat_resources import landing
from rat_resources.landing import ClaimedFile
from rat_resources.landing_files import LandingFiles, files_at
from rat_resources.landing_folder import Found
from rat_resources.mentions import Zone
from rat_resources.metadata.landing import ClaimState, LandingClaim, LandingFile
from rat_resources.places import Place

SAMPLES = "_samples"


@dataclass(frozen=True)
class Peek:
    """The files that a pipeline would read in one of its zones."""

    mention: Zone
    zone: landing.Zone
    files: LandingFiles
    present: Sequence[Found] = ()
    consumed: frozenset[str] = frozenset()  # the names that it has committed already
    chosen: Sequence[Found] = field(default=())
    is_sample: bool = False
    sample_files: Sequence[
        LandingFiles
    ] = ()  # the first that has any gives the samples

    @property
    def unread(self) -> Sequence[Found]:
        """What it has yet to commit."""
        return [file for file in self.present if file.name not in self.consumed]

    def samples(self) -> "Peek":
        """The files of one of the zone's `_samples/` instead."""
        chosen: Sequence[Found] = ()
        files = self.files
        for files in self.sample_files:
            chosen = tuple(files.scan().found.values())
            if chosen:
                break
        return replace(self, files=files, chosen=chosen, is_sample=True)

    def read(self, *, everything: bool) -> "Peek":
        """What a run would read now: all, or what is new where only that is asked for."""
        only_new = self.mention.new and not everything
        return replace(self, chosen=self.unread if only_new else self.present)

    def link(self, folder: Path) -> list[ClaimedFile]:
        """Let *folder* show the chosen files, as a run's own copies would lie there."""
        folder.mkdir(parents=True)
        for file in self.chosen:
            self.files.show(file, target=folder / file.name)
        return [
            ClaimedFile(
                uuid.uuid4(),
                self.zone,
                file.name,
                file.size,
                file.mark,
                file.name not in self.consumed,
            )
            for file in self.chosen
        ]


def peek(
    tx: Session,
    namespace: str,
    mention: Zone,
    *,
    root: Place,
    tree: Path | None,
    pipeline_id: uuid.UUID,
) -> Peek:
    """What lies in a zone, known to the ledger or not; a draft's *tree* may hold its samples."""
    zone = landing.get_zone(tx, namespace, name=mention.name) or landing.Zone(
        uuid.uuid4(), namespace, mention.name
    )
    files = files_at(root, zone.path)
    present = sorted(files.scan().found.values(), key=lambda file: file.name)
    consumed = marks_consumed(tx, zone, pipeline_id=pipeline_id)
    return Peek(
        mention,
        zone,
        files,
        present,
        frozenset(
            file.name for file in present if consumed.get(file.name) == file.mark
        ),
        sample_files=[
            files_at(each, f"{zone.path}/{SAMPLES}")
            for each in (tree, root)
            if each is not None
        ],
    )


def marks_consumed(
    tx: Session, zone: landing.Zone, *, pipeline_id: uuid.UUID
) -> dict[str, str]:
    """The marks of the files that a pipeline has committed, or a run of it reads now."""
    rows = tx.execute(
        select(LandingFile.filename, LandingFile.mark)
        .join(
            LandingClaim,
            and_(
                LandingClaim.file_id == LandingFile.id,
                LandingClaim.pipeline_id == pipeline_id,
            ),
        )
        .where(
            landing.is_present(zone.id),
            LandingClaim.state.in_((ClaimState.COMMITTED, ClaimState.CLAIMED)),
        )
    )
    return {name: mark for name, mark in rows}


def choose(
    peeks: Iterable[Peek], *, full_refresh: bool, samples: bool
) -> tuple[list[Peek], bool]:
    """What is read of each zone, and whether the table is made anew of it.

    A zone without files gives samples. Where nothing is new, all is read, as by a full refresh:
    else there would be nothing to look at.
    """
    looked = list(peeks)
    news = [each for each in looked if each.mention.new]
    anew = full_refresh or samples
    anew = anew or (bool(news) and not any(each.unread for each in news))
    sampled = [
        each.samples() if samples or not each.present else each.read(everything=anew)
        for each in looked
    ]
    if not anew and any(each.is_sample and each.chosen for each in sampled):
        return choose(looked, full_refresh=True, samples=False)
    return sampled, anew
