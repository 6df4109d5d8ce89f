"""The intake of a run: the landing files that it claims, copies, and leaves unread.

The ledger of landing files is `rat_resources.landing`; which of them a rehearsal reads is
`rat_resources.landing_peek`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from rat_assets.computation import Computation
from rat_assets.journal import Profile
from rat_resources import landing
from rat_resources.errors import LandingError
from rat_resources.landing_patterns import find_unread
from rat_resources.mentions import Zone


@dataclass
class Intake:
    """How landing files come into a run's computation."""

    work: Computation
    by_hand: bool = False  # whether a person asked for the run
    refused: list[str] = field(default_factory=list)  # what lies in its zones unread

    @property
    def zones(self) -> Sequence[Zone]:
        """The zones that the run reads."""
        return self.work.spec.zones

    def look(self, *, now: datetime) -> None:
        """Notice the files of the zones, which nobody else does for a run by hand."""
        platform = self.work.platform
        for mention in self.zones if self.by_hand else ():
            with platform.metadata.transaction() as tx:
                namespace = self.work.name.namespace
                zone = landing.get_zone(tx, namespace, name=mention.name)
                if zone is not None:
                    looked = landing.look(
                        tx, zone, root=platform.settings.store, now=now
                    )
                    self.say_refused(zone, looked)

    def say_refused(self, zone: landing.Zone, looked: landing.Looked) -> None:
        """Say which files this run does not read, though they lie in its zone."""
        for refused in looked.refused[: landing.MOST_NAMED]:
            what = f"{zone}/{refused.name} is not read: {refused.why}"
            self.work.journal.say(what, level="warning")
            self.refused.append(what)

    def claim(self, tx: Session) -> None:
        """Pin the files that this run reads."""
        if not self.zones:
            return
        work = self.work
        work.files = landing.claim(
            tx,
            namespace=work.name.namespace,
            zones={
                zone.name: zone.new and not work.full_refresh for zone in self.zones
            },
            pipeline_id=work.pipeline.pipeline_id,
            version_id=work.pipeline.version_id,
            run_id=work.run_id,
            by_hand=self.by_hand,
        )

    @property
    def lacks_news(self) -> bool:
        """Whether the run was to read new files, and there are none."""
        return any(zone.new for zone in self.zones) and not self.work.files

    def stage(self, profile: Profile) -> None:
        """Copy the pinned files to where only this run reads them."""
        if self.zones:
            self.admit(self.copy(), profile=profile)

    def copy(self) -> dict[str, Path]:
        """Stage the files, checked against the columns that their zones expect."""
        work = self.work
        with work.platform.metadata.transaction() as tx:
            staged = landing.stage(
                tx,
                root=work.platform.settings.store,
                files=work.files,
                zones=[zone.name for zone in self.zones],
                run_id=work.run_id,
                folder=work.staging,
            )
        for dropped in staged.dropped:
            what = f"{dropped.file.name}: {dropped.why}"
            work.journal.say(what, level="warning")
        gone = {dropped.file.id for dropped in staged.dropped}
        work.files = [file for file in work.files if file.id not in gone]
        landing.refuse_unexpected(work.connection, work.files, folders=staged.folders)
        landing.refuse_empty(work.files)
        return staged.folders

    def admit(self, folders: Mapping[str, Path], *, profile: Profile) -> None:
        """Let the query read the files in *folders*; LandingError where there is nothing to read."""
        work = self.work
        if not self.zones:
            return
        work.folders = folders
        profile.rows = len(work.files)
        profile.bytes = sum(file.size for file in work.files)
        for zone in self.zones:
            files = [file for file in work.files if file.zone.name == zone.name]
            if not files and not zone.new:
                name = f"{work.name.namespace}/{zone.name}"
                what = f"landing zone {name} has no files to read"
                self.refuse(what, fix=f"rat upload {name} FILE")
        if not work.files:
            what = f"{work.name} has nothing to read: its landing zones have no files"
            names = ", ".join(zone.name for zone in self.zones)
            self.refuse(what, fix=f"put a file into {names}")

    def refuse(self, what: str, *, fix: str) -> None:
        """LandingError that also names what lies there unread."""
        raise LandingError("; ".join([what, *self.refused]), fix=fix)

    def leave_unread(self) -> None:
        """Let go of the files that the query does not read, or they would count as read."""
        left = self.find_unread()
        if left:
            with self.work.platform.metadata.transaction() as tx:
                landing.leave(tx, self.work.run_id, files=left)
        self.set_aside(left)

    def find_unread(self) -> list[landing.ClaimedFile]:
        """The files that no path in the query matches, as far as its paths tell."""
        work = self.work
        if work.spec.type != "sql":
            return []
        unread = {
            (zone.name, name)
            for zone in self.zones
            for name in find_unread(
                work.connection,
                work.sql,
                folder=work.folders[zone.name],
                names=[file.name for file in work.files if file.zone.name == zone.name],
            )
        }
        return [file for file in work.files if (file.zone.name, file.name) in unread]

    def set_aside(self, left: Sequence[landing.ClaimedFile]) -> None:
        """Go on without some files; without any, where new ones were to read, the table stays."""
        work = self.work
        for file in left[: landing.MOST_NAMED]:
            what = f"{file.zone}/{file.name}: {landing.UNREAD}"
            work.journal.say(what, level="warning")
        work.files = [file for file in work.files if file not in left]
        if work.files or not left:
            return
        if work.own is None or not all(zone.new for zone in self.zones):
            some = left[0]
            message = f"{some.zone}/{landing.shown(some.name)}: {landing.UNREAD}"
            where = work.source.path(work.spec.code_file)
            raise LandingError(message, fix=f"correct the path in {where}, or the name")
        work.unchanged = True
        work.journal.say("nothing new that the query reads: the table stays as it is")
