"""The files of a landing zone, wherever its store is: a local folder or a prefix of an S3 bucket.

What one of them can do is here; how it is done is `landing_folder` and `landing_s3`, and which version
of which file which run consumed is `landing`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rat_resources import landing_folder
from rat_resources.landing_folder import Copied, Found, Refused, Scan
from rat_resources.places import Place
from rat_resources.trees import shown


class LandingFiles(ABC):
    """The files of one zone."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where they lie, as people write it."""

    @abstractmethod
    def scan(self) -> Scan:
        """Everything that lies there now; a zone that does not exist is empty."""

    @abstractmethod
    def settle(
        self,
        files: Sequence[Found],
        *,
        now: datetime,
        quiet: timedelta,
        wait: Callable[[float], None],
    ) -> tuple[list[Found], list[Found]]:
        """The files that are whole, and those that somebody may still be writing."""

    @abstractmethod
    def identify(self, file: Found) -> Copied | None:
        """The version of a file; None when it is no longer the file that was found."""

    @abstractmethod
    def is_still(self, file: Found) -> bool:
        """Whether a file that was just identified is still there as it was found."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is an ordinary file of this name."""

    @abstractmethod
    def is_taken(self, name: str) -> bool:
        """Whether nothing else can be put here under this name."""

    @abstractmethod
    def find_unreadable(self, files: Iterable[Found]) -> tuple[Refused, ...]:
        """The files that we may not read."""

    @abstractmethod
    def upload(self, source: Path, *, name: str | None = None) -> Copied:
        """Put a local file here under its own name: all of it at once, or nothing."""

    @abstractmethod
    def stage(
        self, name: str, *, target: Path, version: str, version_id: str | None = None
    ) -> str:
        """Copy a file version to a local *target*; else say why it could not be."""

    @abstractmethod
    def move(
        self, name: str, *, target: str, version: str, version_id: str | None = None
    ) -> bool:
        """Move a file version within the zone, or find it moved; False when it is not there."""

    @abstractmethod
    def show(self, file: Found, *, target: Path) -> None:
        """Let the local *target* show a file as it lies here, with nothing noted or promised."""


def files_at(root: Place, path: str) -> LandingFiles:
    """The files of the zone at *path* of the store at *root*."""
    if isinstance(root, Path):
        return FolderFiles(root / path)
    # What speaks S3 is nothing for a RAT of local files to load.
    from rat_resources.landing_s3 import S3Files  # noqa: PLC0415

    return S3Files(root / path)


@dataclass(frozen=True)
class FolderFiles(LandingFiles):
    """The files of a zone that is a local folder."""

    folder: Path

    @property
    def shown(self) -> str:
        """The folder, as people in the current one write it."""
        return shown(self.folder)

    def scan(self) -> Scan:
        """Everything that lies there now, recursively."""
        return landing_folder.scan(self.folder)

    def settle(
        self,
        files: Sequence[Found],
        *,
        now: datetime,
        quiet: timedelta,
        wait: Callable[[float], None],
    ) -> tuple[list[Found], list[Found]]:
        """The files that have not moved for *quiet*, and those that still do."""
        return landing_folder.settle(
            files, folder=self.folder, now=now, quiet=quiet, wait=wait
        )

    def identify(self, file: Found) -> Copied | None:
        """The hash of a file's content."""
        version = landing_folder.hash_file(self.folder, file)
        if version is None:
            return None
        return Copied(file.name, file.size, file.mark, version)

    def is_still(self, file: Found) -> bool:
        """Whether nobody has changed or replaced it."""
        return landing_folder.find(self.folder, file.name) == file

    def exists(self, name: str) -> bool:
        """Whether there is an ordinary file of this name."""
        return landing_folder.find(self.folder, name) is not None

    def is_taken(self, name: str) -> bool:
        """Whether there is a file or a folder of this name."""
        return (self.folder / name).exists()

    def find_unreadable(self, files: Iterable[Found]) -> tuple[Refused, ...]:
        """The files whose permissions keep us out."""
        return landing_folder.find_unreadable(self.folder, files)

    def upload(self, source: Path, *, name: str | None = None) -> Copied:
        """Copy a file here, durably."""
        return landing_folder.upload(source, folder=self.folder, name=name)

    def stage(
        self, name: str, *, target: Path, version: str, version_id: str | None = None
    ) -> str:
        """Copy a file, verified by its hash."""
        del version_id  # a folder has the newest file only
        return landing_folder.stage(self.folder / name, target, version=version)

    def move(
        self, name: str, *, target: str, version: str, version_id: str | None = None
    ) -> bool:
        """Rename a file, verified by its hash."""
        del version_id
        return landing_folder.move(
            self.folder / name, self.folder / target, version=version
        )

    def show(self, file: Found, *, target: Path) -> None:
        """Link to it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(self.folder / file.name)
