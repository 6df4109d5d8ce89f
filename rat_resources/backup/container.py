"""The file of a backup: a zip with a member for each table and, last of all, a manifest.

It bears its name once it is whole. A file that was cut off, or changed, is refused before any of it is
used: the manifest has a checksum of every member.
"""

import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from rat_resources.errors import BackupError

FORMAT = 1  # what an older RAT cannot read has another one
MANIFEST = "manifest.json"
CHUNK = 1 << 20


@dataclass(frozen=True)
class TableCopy:
    """A table as it was copied."""

    schema: str
    name: str
    columns: tuple[str, ...]
    rows: int
    checksum: str

    @property
    def member(self) -> str:
        """Where its rows are in the file."""
        return f"{self.schema}/{self.name}.copy"


@dataclass(frozen=True)
class Manifest:
    """What a backup is of."""

    made_at: str
    rat: str  # the version that made it
    org: str
    environment: str
    server: str  # the version of Postgres
    revision: str
    dagster_revision: str
    store: str
    warehouse: str
    tables: tuple[TableCopy, ...]
    sequences: Mapping[str, int]  # the next one is higher
    # Of a server of branches; None: they are among the tables.
    references: tuple[Mapping[str, Any], ...] | None = None
    format: int = field(default=FORMAT)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(table.rows for table in self.tables)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Manifest":
        """What `dataclasses.asdict` once wrote."""
        tables = [
            TableCopy(**{**each, "columns": tuple(each["columns"])})
            for each in document["tables"]
        ]
        return cls(**{**document, "tables": tuple(tables)})


@dataclass(frozen=True)
class Writer:
    """A file that is being written."""

    file: zipfile.ZipFile
    path: Path

    def add(self, member: str, chunks: Iterable[bytes]) -> str:
        """Write a member; its checksum."""
        digest = sha256()
        with (
            translated(self.path, "written"),
            self.file.open(member, "w", force_zip64=True) as target,
        ):
            for chunk in chunks:
                digest.update(chunk)
                target.write(chunk)
        return digest.hexdigest()

    def close(self, manifest: Manifest) -> None:
        """Write what it is of."""
        with translated(self.path, "written"):
            self.file.writestr(MANIFEST, json.dumps(asdict(manifest), indent=1))


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A file that is there once the block has ended well; only its owner may read it."""
    draft = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    with translated(path, "written"):
        raw = open_draft(draft)
    try:
        with raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as it:
                yield Writer(it, path)
            with translated(path, "written"):
                raw.flush()
                os.fsync(raw.fileno())
                draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def open_draft(path: Path) -> BinaryIO:
    """A new file that nobody else may read."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(handle, "w+b")


@dataclass(frozen=True)
class Reader:
    """A file that is whole."""

    file: zipfile.ZipFile
    manifest: Manifest

    def chunks(self, table: TableCopy) -> Iterator[bytes]:
        """The rows of a table, as they were copied."""
        with self.file.open(table.member) as source:
            while chunk := source.read(CHUNK):
                yield chunk


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """A file, after all of it was checked; BackupError where it is no whole backup."""
    with translated(path, "read"):
        file = zipfile.ZipFile(path)
    with file:
        with translated(path, "read"):
            reader = Reader(file, read_manifest(file, path))
            for table in reader.manifest.tables:
                check(reader, table, path=path)
        yield reader


def read_manifest(file: zipfile.ZipFile, path: Path) -> Manifest:
    """What a file says it is of; BackupError for one of another format."""
    if MANIFEST not in file.namelist():
        message = f"{path} is no backup of RAT's"
        raise BackupError(message, fix="name a file that `rat backup` has written")
    document = json.loads(file.read(MANIFEST))
    if document.get("format") != FORMAT:
        message = f"{path} has format {document.get('format')}, this RAT reads {FORMAT}"
        fix = f"restore it with RAT {document.get('rat')}, which made it"
        raise BackupError(message, fix=fix)
    return Manifest.from_json(document)


def check(reader: Reader, table: TableCopy, *, path: Path) -> None:
    """BackupError unless a table is as it was written."""
    digest = sha256()
    for chunk in reader.chunks(table):
        digest.update(chunk)
    if digest.hexdigest() != table.checksum:
        message = f"{path}: {table.member} is not what was written"
        raise BackupError(message, fix=ANOTHER)


ANOTHER = "the file is damaged; restore another one"


@contextmanager
def translated(path: Path, verb: str) -> Iterator[None]:
    """Turn what goes wrong with the file into a BackupError."""
    try:
        yield
    except OSError as error:
        message = f"{path} cannot be {verb}: {error.strerror or error}"
        raise BackupError(
            message, fix="check its folder, its disk, its rights"
        ) from error
    except (zipfile.BadZipFile, zlib.error, json.JSONDecodeError, EOFError) as error:
        message = f"{path} is no whole backup: {error}"
        raise BackupError(message, fix=ANOTHER) from error
