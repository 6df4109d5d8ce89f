"""A landing zone in S3: what lies under its prefix, and copies of the very versions.

A file is known by its ETag, which is another one when its content is, and by its version id where the
bucket keeps versions; none is read to find out. Writing an object is atomic, so what is listed is whole.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from rat_resources import s3
from rat_resources.errors import LandingError, NotFoundError
from rat_resources.lake.complaints import complaint, is_disk_full
from rat_resources.landing_files import LandingFiles
from rat_resources.landing_folder import (
    ASIDE,
    CHUNK,
    LONGEST_NAME,
    Copied,
    Found,
    Refused,
    Scan,
    is_landing_name,
)
from rat_resources.places import S3Place
from rat_resources.s3_store import LARGE
from rat_resources.s3_store import version_id as version_id_of

LONGEST_PART = 255  # bytes, of a name in the folder of a run's copies
MOVED = "rat-version"  # what a file that was put aside was
MD5 = re.compile(r"[0-9a-f]{32}")
# Beyond that, S3 copies in parts only.
LARGEST_COPY = 5 << 30
# What a storage answers that cannot delete on a condition.
UNKNOWN = frozenset({"NotImplemented", "InvalidArgument", "MethodNotAllowed"})


@dataclass(frozen=True)
class S3Files(LandingFiles):
    """The files of a zone that is a prefix of a bucket."""

    place: S3Place

    @property
    def shown(self) -> str:
        """The URL of the prefix."""
        return str(self.place)

    # Looking.

    def scan(self) -> Scan:
        """Everything that lies there now, recursively, but what was put aside."""
        found: dict[str, Found] = {}
        refused: list[Refused] = []
        with s3.translated(f"the zone {self.place} cannot be listed"):
            for name, listed in self.walk(""):
                if listed and (name.endswith("/") or not is_landing_name(name)):
                    continue
                if why := refusal(name):
                    refused.append(Refused(name, why))
                else:
                    found[name] = describe(name, listed)
        return Scan(found, tuple(refused))

    def walk(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The names of all files, and what S3 says of each, without looking into what was put aside."""
        pages = s3.client().get_paginator("list_objects_v2")
        start = f"{self.place.key(folder).rstrip('/')}/"
        for page in pages.paginate(
            Bucket=self.place.bucket, Prefix=start, Delimiter="/"
        ):
            for listed in page.get("Contents", ()):
                yield self.place.inner(listed["Key"]), listed
            for below in page.get("CommonPrefixes", ()):
                name = self.place.inner(below["Prefix"])
                last = name.rstrip("/").rpartition("/")[2]
                if f"/{name}".endswith("//"):
                    yield name, {}
                elif last not in ASIDE and not last.startswith("."):
                    yield from self.walk(name)

    def settle(
        self,
        files: Sequence[Found],
        *,
        now: datetime,
        quiet: timedelta,
        wait: Callable[[float], None],
    ) -> tuple[list[Found], list[Found]]:
        """All of them: what is listed is whole."""
        del now, quiet, wait
        return list(files), []

    def identify(self, file: Found) -> Copied | None:
        """The ETag and the version of what was listed, unless it is another one by now."""
        try:
            head = self.head(file.name)
        except s3.DeniedError:
            return None
        if head is None or describe(file.name, head).mark != file.mark:
            return None
        return copied(file.name, head, size=file.size)

    def is_still(self, file: Found) -> bool:
        """True: S3 has just said so."""
        del file
        return True

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        return self.head(name) is not None

    def is_taken(self, name: str) -> bool:
        """Whether there is an object of this name."""
        return self.exists(name)

    def find_unreadable(self, files: Iterable[Found]) -> tuple[Refused, ...]:
        """The files that S3 lists and does not let us see."""
        return tuple(
            Refused(file.name, "it cannot be read: access denied")
            for file in files
            if self.is_denied(file.name)
        )

    def is_denied(self, name: str) -> bool:
        """Whether we are not let at a file."""
        try:
            self.head(name)
        except s3.DeniedError:
            return True
        return False

    def head(self, name: str) -> dict[str, Any] | None:
        """What S3 says of the newest file of this name; None when there is none."""
        try:
            with s3.translated(f"{self.place}/{name} cannot be seen"):
                found: dict[str, Any] = s3.client().head_object(**self.at(name))
        except s3.MissingError:
            return None
        return found

    def at(self, name: str) -> dict[str, str]:
        """Where a file is."""
        return {"Bucket": self.place.bucket, "Key": self.place.key(name)}

    # Putting in, and copying out.

    def upload(self, source: Path, *, name: str | None = None) -> Copied:
        """Put a local file here under its own name: all of it at once, a large one in parts."""
        name = name or source.name
        if not is_landing_name(name) or "/" in name or refusal(name):
            message = f"a zone never takes a file called {name!r}"
            raise LandingError(message, fix="rename it")
        if not source.is_file():
            message = f"there is no file {source}"
            raise NotFoundError(message)
        size = source.stat().st_size
        with s3.translated(f"{source} cannot be put into {self.place}"):
            if size < LARGE:
                content = source.read_bytes()
                put = s3.client().put_object(**self.at(name), Body=content)
                return copied(name, put, size=len(content))
            at = self.at(name)
            s3.client().upload_file(str(source), at["Bucket"], at["Key"])
        head = self.head(name) or {}
        return copied(name, head, size=head.get("ContentLength", size))

    def stage(
        self, name: str, *, target: Path, version: str, version_id: str | None = None
    ) -> str:
        """Copy a file version, verified; when it is no longer there, say why and leave no half of it."""
        try:
            with s3.translated(f"{self.place}/{name} cannot be read"):
                answer = self.get(name, version=version, version_id=version_id)
                return self.copy(answer, target=target, version=version)
        except s3.MissingError:
            return "it was taken away"
        except s3.TakenError:
            return "its content changed"
        except s3.DeniedError as error:
            return f"it cannot be read: {error.message}"

    def get(self, name: str, *, version: str, version_id: str | None) -> dict[str, Any]:
        """S3's answer with a file version: by its id, or by its content where that has expired."""
        client, at = s3.client(), self.at(name)
        if version_id is not None:
            with suppress(s3.MissingError), s3.translated(name):
                found: dict[str, Any] = client.get_object(**at, VersionId=version_id)
                return found
        return dict(client.get_object(**at, IfMatch=etag_of(version)))

    def copy(self, answer: Mapping[str, Any], *, target: Path, version: str) -> str:
        """Write an answer to *target*; why it is not the version that was asked for, if so."""
        if version_of(answer) != version:
            return "its content changed"
        digest = hashlib.md5(usedforsecurity=False)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as written:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    digest.update(chunk)
                    written.write(chunk)
        except BotoCoreError:  # some of which are errors of the system as well
            target.unlink(missing_ok=True)
            raise
        except OSError as error:
            target.unlink(missing_ok=True)
            if is_disk_full(error):
                raise complaint(error) from error
            return f"it cannot be copied: {error.strerror}"
        whole = target.stat().st_size == answer["ContentLength"]
        if whole and digest.hexdigest() == (content_hash(answer) or digest.hexdigest()):
            return ""
        target.unlink()
        return "its copy is damaged"

    def show(self, file: Found, *, target: Path) -> None:
        """Copy it; a file that is gone by now is left out."""
        self.stage(
            file.name, target=target, version=f"etag:{file.mark.partition(':')[0]}"
        )

    # Putting aside.

    def move(
        self, name: str, *, target: str, version: str, version_id: str | None = None
    ) -> bool:
        """Move a file version, or find it moved already; False when it is not there to be moved."""
        del version_id  # it is the newest one, or there is nothing to move
        there = self.head(name)
        if there is None or version_of(there) != version:
            return self.is_moved(target, version=version)
        self.copy_aside(name, there=there, target=target, version=version)
        if not self.is_moved(target, version=version):
            return False
        self.take_away(name, there=there)
        return True

    def is_moved(self, target: str, *, version: str) -> bool:
        """Whether a file that was put aside is that version."""
        head = self.head(target)
        return head is not None and head.get("Metadata", {}).get(MOVED) == version

    def copy_aside(
        self, name: str, *, there: Mapping[str, Any], target: str, version: str
    ) -> None:
        """Let *target* be a copy of the file that is *there*, which remembers what it was."""
        source = self.at(name)
        if known := version_id_of(there):
            source["VersionId"] = known
        said = {
            "Metadata": {**there.get("Metadata", {}), MOVED: version},
            "MetadataDirective": "REPLACE",
            "ContentType": there.get("ContentType", "binary/octet-stream"),
        }
        at, client = self.at(target), s3.client()
        with s3.translated(f"{self.place}/{name} cannot be copied to {target}"):
            if there["ContentLength"] >= LARGEST_COPY:
                client.copy(source, at["Bucket"], at["Key"], ExtraArgs=said)
            else:
                etag = there["ETag"]
                client.copy_object(
                    **at, **said, CopySource=source, CopySourceIfMatch=etag
                )

    def take_away(self, name: str, *, there: Mapping[str, Any]) -> None:
        """Delete the file that is *there*; one that has taken its name since stays, or comes back.

        Where the bucket keeps versions, deleting only hides them: what came in between is put back.
        """
        try:
            hidden = self.delete(name, etag=there["ETag"])
        except (s3.TakenError, s3.MissingError):
            return
        newest = self.newest_hidden(name) if version_id_of(hidden) else None
        if newest not in (None, version_id_of(there)):
            source = {**self.at(name), "VersionId": newest}
            with s3.translated(f"{self.place}/{name} cannot be brought back"):
                s3.client().copy(source, *self.at(name).values())

    def delete(self, name: str, *, etag: str) -> dict[str, Any]:
        """What S3 says to deleting a file if it has that ETag, as far as it knows conditions."""
        client, at = s3.client(), self.at(name)
        with s3.translated(f"{self.place}/{name} cannot be deleted"):
            try:
                return dict(client.delete_object(**at, IfMatch=etag))
            except ClientError as error:
                if error.response["Error"]["Code"] not in UNKNOWN:
                    raise
                return dict(client.delete_object(**at))

    def newest_hidden(self, name: str) -> str | None:
        """The newest version of a file that was deleted; None where nobody lets us ask."""
        at = self.at(name)
        try:
            with s3.translated(f"the versions of {self.place}/{name} cannot be listed"):
                said = s3.client().list_object_versions(
                    Bucket=at["Bucket"], Prefix=at["Key"], MaxKeys=3
                )
        except s3.DeniedError:
            return None
        mine = (
            each["VersionId"]
            for each in said.get("Versions", ())
            if each["Key"] == at["Key"]
        )
        return next(mine, None)


def refusal(name: str) -> str:
    """Why a file of this name cannot be read; empty when nothing speaks against it."""
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or "\0" in name:
        return "its name is no path of a file"
    if len(name) > LONGEST_NAME:
        return f"its name has more than {LONGEST_NAME} characters"
    if any(len(part.encode()) > LONGEST_PART for part in parts):
        return f"a part of its name has more than {LONGEST_PART} bytes"
    return ""


def describe(name: str, said: Mapping[str, Any]) -> Found:
    """The facts of a file that matter here, from a list or from its own answer."""
    size = said["Size"] if "Size" in said else said["ContentLength"]
    modified: datetime = said["LastModified"]
    return Found(name, size, mark(said, size=size), modified.replace(microsecond=0))


def copied(name: str, said: Mapping[str, Any], *, size: int) -> Copied:
    """What an answer says of a file."""
    return Copied(
        name, size, mark(said, size=size), version_of(said), version_id_of(said)
    )


def mark(said: Mapping[str, Any], *, size: int) -> str:
    """What stays as long as a file's content does."""
    return f"{etag(said)}:{size}"


def version_of(said: Mapping[str, Any]) -> str:
    """The version of a file: what S3 makes of its content."""
    return f"etag:{etag(said)}"


def etag(said: Mapping[str, Any]) -> str:
    """The ETag without its quotes."""
    found: str = said["ETag"]
    return found.strip('"')


def etag_of(version: str) -> str:
    """The ETag of a version, as S3 compares it."""
    return f'"{version.removeprefix("etag:")}"'


def content_hash(answer: Mapping[str, Any]) -> str | None:
    """The MD5 of the content, where the ETag is one: not in parts, not encrypted with a key of its own."""
    is_own_key = (
        str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        or "SSECustomerAlgorithm" in answer
    )
    found = etag(answer)
    return found if MD5.fullmatch(found) and not is_own_key else None
