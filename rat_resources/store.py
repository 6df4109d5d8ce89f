"""The store: pipeline code, landing files and logs, named by keys.

    {ns}/pipelines/{layer}/{name}/…   what authors write; the newest, published or not
    {ns}/landing/{zone}/…             files that arrive; {ns}/landing/{zone}.yaml describes them
    _objects/sha256/ab/cdef…          what was published: content that never changes or expires
    _logs/…                           what runs said

A key is a relative path with `/`. A store is a local folder (`LocalStore`) or a prefix of an S3 bucket
(`rat_resources.s3_store`); `open_store` tells which.
"""

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath

from rat_resources.errors import NotFoundError, StoreError
from rat_resources.places import Place

OBJECTS = "_objects"
COMPUTE_LOGS = "_logs/dagster"  # what steps print, where the store is in S3
ALGORITHM = "sha256"


@dataclass(frozen=True)
class Entry:
    """One key that has content."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Kept:
    """An object that is kept for ever."""

    name: str  # sha256:…
    version_id: str | None = None  # of S3, where the bucket has versions


class Store(ABC):
    """Reads and writes one store."""

    root: Place

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The content of *key*; NotFoundError when there is none."""

    @abstractmethod
    def write(self, key: str, content: bytes) -> None:
        """Make *content* the content of *key*: all of it or, after a crash, none of it."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether *key* has content."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Forget *key*; nothing happens when it is not there."""

    @abstractmethod
    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies below the folder *prefix*, in no order; hidden files and links outside do not."""

    @abstractmethod
    def folders(self, folder: str = "") -> Sequence[str]:
        """The names of the folders right in *folder*, or in the store itself."""

    @abstractmethod
    def files(self, folder: str) -> Sequence[str]:
        """The keys right in *folder*, not in folders of its own."""

    @abstractmethod
    def keep(self, content: bytes) -> Kept:
        """Keep *content* for ever under the name of its hash: what is there is never written again."""

    def list(self, prefix: str = "") -> list[str]:
        """The keys below the folder *prefix*, in order."""
        return sorted(entry.key for entry in self.entries(prefix))

    def write_changed(self, key: str, content: bytes) -> bool:
        """Write *content* unless it is there; whether it was not."""
        try:
            if self.read(key) == content:
                return False
        except NotFoundError:
            pass
        self.write(key, content)
        return True

    def put_object(self, content: bytes) -> str:
        """Keep *content* for ever; the same content has the same name, `sha256:…`."""
        return self.keep(content).name

    def get_object(self, name: str) -> bytes:
        """The very content that `put_object` named *name*; StoreError when it was tampered with."""
        content = self.read(object_key(name))
        if object_name(content) != name:
            message = f"the object {name} of the store {self.root} is damaged"
            raise StoreError(message, fix="restore it from a backup, or publish anew")
        return content


def open_store(root: Place) -> Store:
    """The store at *root*."""
    if isinstance(root, Path):
        return LocalStore(root)
    # What speaks S3 is nothing for a RAT of local files to load.
    from rat_resources.s3_store import S3Store  # noqa: PLC0415

    return S3Store(root)


@dataclass(frozen=True)
class LocalStore(Store):
    """A store that is a local folder."""

    root: Path

    def read(self, key: str) -> bytes:
        """The content of *key*; NotFoundError when there is none."""
        path = self.path(key)
        with translated(f"{key} cannot be read from the store {self.root}"):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                message = f"the store {self.root} holds no {key}"
                raise NotFoundError(message, fix="see what it holds with ls") from error

    def write(self, key: str, content: bytes) -> None:
        """Make *content* the content of *key*: all of it or, after a crash, none of it."""
        path = self.path(key)
        with translated(f"{key} cannot be written to the store {self.root}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name that starts with a dot is never listed.
            draft = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
            try:
                write_durably(draft, content)
                draft.replace(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise

    def exists(self, key: str) -> bool:
        """Whether *key* has content."""
        return self.path(key).is_file()

    def delete(self, key: str) -> None:
        """Forget *key*; nothing happens when it is not there."""
        path = self.path(key)
        with translated(f"{key} cannot be deleted from the store {self.root}"):
            path.unlink(missing_ok=True)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies below the folder *prefix*, in no order; hidden files and links outside do not."""
        folder = self.path(prefix) if prefix else self.root
        with translated(f"{prefix or 'it'} cannot be listed in the store {self.root}"):
            for path in walk(folder):
                key = path.relative_to(self.root).as_posix()
                if self.holds(key):
                    facts = path.stat()
                    modified = datetime.fromtimestamp(facts.st_mtime, tz=UTC)
                    yield Entry(key, facts.st_size, modified)

    def path(self, key: str) -> Path:
        """The file of *key*; StoreError when the key leads out of the store."""
        path = self.root.joinpath(*parts_of(key))
        if not path.resolve().is_relative_to(self.root.resolve()):
            message = f"{key} leads out of the store {self.root} by a symbolic link"
            raise StoreError(message, fix="replace the link by the file itself")
        return path

    def holds(self, key: str) -> bool:
        """Whether *key* stays inside the store."""
        try:
            self.path(key)
        except StoreError:
            return False
        return True

    def folders(self, folder: str = "") -> Sequence[str]:
        """The names of the folders right in *folder*, or in the store itself."""
        path = self.path(folder) if folder else self.root
        with translated(f"{folder or 'it'} cannot be listed in the store {self.root}"):
            if not path.is_dir():
                return []
            return sorted(each.name for each in path.iterdir() if each.is_dir())

    def files(self, folder: str) -> Sequence[str]:
        """The keys right in *folder*, not in folders of its own."""
        return [
            key for key in self.list(folder) if key.count("/") == folder.count("/") + 1
        ]

    def keep(self, content: bytes) -> Kept:
        """Keep *content* for ever under the name of its hash: what is there is never written again."""
        name = object_name(content)
        key = object_key(name)
        # A torn object from a broken disk is written again.
        if not self.exists(key) or object_name(self.read(key)) != name:
            self.write(key, content)
        return Kept(name)


def parts_of(key: str) -> tuple[str, ...]:
    """The parts of *key*; StoreError when it is none of a store."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or "\\" in key or "\0" in key or ".." in parts:
        message = f"{key!r} is no key of a store"
        raise StoreError(message, fix="write a relative path with / and without ..")
    return parts


def object_name(content: bytes) -> str:
    """What an object of this content is called."""
    return f"{ALGORITHM}:{sha256(content).hexdigest()}"


def object_key(name: str) -> str:
    """Where the object *name* is kept."""
    algorithm, _, digest = name.partition(":")
    if algorithm != ALGORITHM or len(digest) != sha256().digest_size * 2:
        message = f"{name!r} names no object"
        raise StoreError(
            message, fix="an object is named sha256:… in hexadecimal digits"
        )
    return f"{OBJECTS}/{algorithm}/{digest[:2]}/{digest[2:]}"


def walk(folder: Path) -> Iterator[Path]:
    """Every file below *folder* that is not hidden, nor in a hidden folder."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from walk(entry)
        elif entry.is_file():
            yield entry


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is whole once this returns, whatever happens to the machine."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        message = f"{what}: {error.strerror or error}"
        raise StoreError(
            message, fix="check RAT_STORE, its disk and its permissions"
        ) from error
