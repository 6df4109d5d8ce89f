"""A zone's folder: what lies in it, what has settled, and copies that are verified.

Only files here; which version of a file which run consumed is `rat_resources.landing`.
"""

import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rat_resources.errors import LandingError, NotFoundError, StoreError
from rat_resources.lake.complaints import complaint, is_disk_full

ASIDE = frozenset({"_samples", "_processed", "_rejected", "_temporary"})
UNFINISHED = (
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".crdownload",
    ".filepart",
    ".swp",
    "~",
)
LONGEST_NAME = 1024
CHUNK = 1 << 20


@dataclass(frozen=True)
class Found:
    """A file as it lies in its zone."""

    name: str  # within the zone, with `/` between folders
    size: int
    mark: str  # as long as it stays, so does the content
    modified: datetime


@dataclass(frozen=True)
class Refused:
    """Something in a zone that is no landing file, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Scan:
    """Everything that lies in a zone at one moment."""

    found: dict[str, Found]
    refused: tuple[Refused, ...]


@dataclass(frozen=True)
class Copied:
    """What a copy turned out to hold."""

    name: str
    size: int
    mark: str
    version: str
    version_id: str | None = None  # of S3, where the bucket has versions


def is_landing_name(name: str) -> bool:
    """Whether a file of this name within its zone is picked up at all."""
    *folders, last = name.split("/")
    return (
        not any(part.startswith(".") for part in (*folders, last))
        and ASIDE.isdisjoint(folders)
        and not last.lower().endswith(UNFINISHED)
        and not last.startswith("~$")
    )


def scan(folder: Path) -> Scan:
    """What lies in a zone, recursively; a folder that does not exist is empty."""
    found: dict[str, Found] = {}
    refused: list[Refused] = []
    real = folder.resolve()
    closed: list[str] = []
    for entry in walk(folder, closed=closed):
        name = os.path.relpath(entry.path, folder)
        if not is_landing_name(name):
            continue
        why = refusal(entry, name=name, zone=real)
        if why:
            refused.append(Refused(name.encode(errors="replace").decode(), why))
        elif file := find(folder, name):
            found[name] = file
    refused += [
        Refused(os.path.relpath(each, folder), "this folder cannot be listed")
        for each in closed
    ]
    return Scan(found, tuple(refused))


def walk(folder: Path, *, closed: list[str]) -> Iterator[os.DirEntry[str]]:
    """Every entry below a folder that is no folder itself; links are not followed.

    Folders below it that we may not list go to *closed*.
    """
    folders = [os.fspath(folder)]
    while folders:
        for entry in entries(folders.pop(), closed=closed):
            if not entry.is_dir(follow_symlinks=False):
                yield entry
            elif not entry.name.startswith(".") and entry.name not in ASIDE:
                folders.append(entry.path)


def entries(folder: str, *, closed: list[str]) -> list[os.DirEntry[str]]:
    """The entries of one folder; none when it went away, or is *closed* to us."""
    try:
        with os.scandir(folder) as listed:
            return list(listed)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        closed.append(folder)
        return []
    except OSError as error:
        message = f"{folder} cannot be listed: {error.strerror}"
        raise StoreError(message, fix="let RAT read it") from error


def refusal(entry: os.DirEntry[str], *, name: str, zone: Path) -> str:
    """Why an entry cannot be a landing file; empty when nothing speaks against it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if len(name) > LONGEST_NAME:
        return f"its name has more than {LONGEST_NAME} characters"
    if not entry.is_symlink():
        return ""
    target = Path(os.path.realpath(entry.path))
    if not target.is_relative_to(zone):
        return f"it is a link out of the zone, to {target}"
    return "it is a link to a folder" if target.is_dir() else ""


def find(folder: Path, name: str) -> Found | None:
    """One file as it lies there now; None when it is gone or no ordinary file."""
    try:
        facts = (folder / name).stat()
    except (OSError, ValueError):
        return None
    return describe(name, facts) if stat.S_ISREG(facts.st_mode) else None


def describe(name: str, facts: os.stat_result) -> Found:
    """The facts of a file that matter here."""
    return Found(
        name=name,
        size=facts.st_size,
        mark=f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}",
        modified=datetime.fromtimestamp(facts.st_mtime, tz=UTC),
    )


def settle(
    files: Sequence[Found],
    *,
    folder: Path,
    now: datetime,
    quiet: timedelta,
    wait: Callable[[float], None],
) -> tuple[list[Found], list[Found]]:
    """The files that have not moved for *quiet*, and those that still do.

    One wait for all young files together, so that settling is decided within one look.
    """
    settled = [file for file in files if now - file.modified >= quiet]
    young = [file for file in files if now - file.modified < quiet]
    if not young:
        return settled, []
    newest = max(file.modified for file in young)
    # A clock that is ahead of ours must not make us wait for it.
    wait(min(newest + quiet - now, quiet).total_seconds())
    unmoved = [file for file in young if find(folder, file.name) == file]
    moved = [file for file in young if file not in set(unmoved)]
    return settled + unmoved, moved


def first_within(
    files: Iterable[Found], *, most_files: int, most_bytes: int
) -> list[Found]:
    """The oldest files whose content one look can read; always one of them at least."""
    chosen: list[Found] = []
    size = 0
    # What changes all the time is always the youngest, so it never keeps the others waiting.
    for file in sorted(files, key=lambda file: (file.modified, file.name)):
        size += file.size
        if chosen and (len(chosen) >= most_files or size > most_bytes):
            break
        chosen.append(file)
    return chosen


def find_unreadable(folder: Path, files: Iterable[Found]) -> tuple[Refused, ...]:
    """The files that we may not read."""
    return tuple(
        Refused(file.name, "it cannot be read: Permission denied")
        for file in files
        if not os.access(folder / file.name, os.R_OK, effective_ids=True)
        and find(folder, file.name)
    )


def hash_file(folder: Path, file: Found) -> str | None:
    """The version of a file, `sha256:…`; None when it is no longer the file that was found."""
    try:
        with (folder / file.name).open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
            same = describe(file.name, os.fstat(opened.fileno())) == file
    except OSError:
        return None
    return f"sha256:{digest.hexdigest()}" if same else None


def copy(source: Path, target: Path) -> str:
    """Copy a file and tell the version of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as written:
        while chunk := read.read(CHUNK):
            digest.update(chunk)
            written.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def upload(source: Path, *, folder: Path, name: str | None = None) -> Copied:
    """Put a file into a zone under its own name: all of it at once, or nothing."""
    name = name or source.name
    if not is_landing_name(name) or "/" in name:
        message = f"a zone never takes a file called {name!r}"
        raise LandingError(message, fix="rename it")
    if not source.is_file():
        message = f"there is no file {source}"
        raise NotFoundError(message)
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".upload-{uuid.uuid4().hex}"
    try:
        version = copy(source, hidden)
        flush(hidden)
        hidden.rename(folder / name)
        flush(folder)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        message = f"{source} cannot be put into {folder}: {error.strerror}"
        raise StoreError(message) from error
    file = describe(name, (folder / name).stat())
    return Copied(name, file.size, file.mark, version)


def flush(path: Path) -> None:
    """See to it that a file or a folder survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stage(source: Path, target: Path, *, version: str) -> str:
    """Copy a file version; when it is no longer there, say why and leave no half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        copied = copy(source, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return "it was taken away"
    except OSError as error:
        target.unlink(missing_ok=True)
        if is_disk_full(error):
            raise complaint(error) from error
        return f"it cannot be read: {error.strerror}"
    if copied == version:
        return ""
    target.unlink()
    return "its content changed"


def move(source: Path, target: Path, *, version: str) -> bool:
    """Move a file version, or find it moved already; False when it is not there to be moved."""
    if version_of(source) != version:
        return version_of(target) == version
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    if version_of(target) == version:
        return True
    # Somebody overwrote it between the look and the rename: their file goes back.
    put_back(target, source)
    return False


def version_of(path: Path) -> str | None:
    """The version of a file; None when there is none."""
    try:
        with path.open("rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError:
        return None


def put_back(target: Path, source: Path) -> None:
    """Undo a rename, unless an even newer file has taken the name."""
    try:
        os.link(target, source, follow_symlinks=False)
    except FileExistsError:
        return
    target.unlink()


def names_of(files: Sequence[Found]) -> tuple[str, ...]:
    """The names of files, in order."""
    return tuple(sorted(file.name for file in files))
