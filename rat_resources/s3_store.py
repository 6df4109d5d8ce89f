"""The store in S3: a prefix of a bucket, every key one object.

Writing an object is atomic there. What it takes to speak to S3, and its errors, is `s3`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from rat_resources import s3
from rat_resources.errors import NotFoundError, StoreError
from rat_resources.places import S3Place
from rat_resources.store import (
    Entry,
    Kept,
    Store,
    object_key,
    object_name,
    parts_of,
)

# From here on it goes in parts, several at once; a single request may have 5 GB at most.
LARGE = 32 << 20
NULL = "null"  # the version of an object in a bucket without versions


@dataclass(frozen=True)
class S3Store(Store):
    """A store that is a prefix of a bucket."""

    root: S3Place

    def read(self, key: str) -> bytes:
        """The content of *key*; NotFoundError when there is none."""
        try:
            with s3.translated(f"{key} cannot be read from the store {self.root}"):
                answer = s3.client().get_object(**self.at(key))
                content: bytes = answer["Body"].read()
        except s3.MissingError as error:
            message = f"the store {self.root} holds no {key}"
            raise NotFoundError(message, fix="see what it holds with ls") from error
        return content

    def write(self, key: str, content: bytes) -> None:
        """Make *content* the content of *key*: all of it or none of it."""
        at = self.at(key)
        with s3.translated(f"{key} cannot be written to the store {self.root}"):
            if len(content) < LARGE:
                s3.client().put_object(**at, Body=content)
            else:
                s3.client().upload_fileobj(BytesIO(content), at["Bucket"], at["Key"])

    def exists(self, key: str) -> bool:
        """Whether *key* has content."""
        return self.head(key) is not None

    def head(self, key: str) -> dict[str, Any] | None:
        """What S3 says of *key*; None when it has no content."""
        try:
            with s3.translated(f"{key} cannot be seen in the store {self.root}"):
                found: dict[str, Any] = s3.client().head_object(**self.at(key))
        except s3.MissingError:
            return None
        return found

    def delete(self, key: str) -> None:
        """Forget *key*; nothing happens when it is not there. A bucket with versions keeps it."""
        with s3.translated(f"{key} cannot be deleted from the store {self.root}"):
            s3.client().delete_object(**self.at(key))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies below the folder *prefix*, in the order of names; hidden files do not."""
        folder = self.root / "/".join(parts_of(prefix)) if prefix else self.root
        start = f"{folder.prefix}/" if folder.prefix else ""
        with s3.translated(f"{prefix or 'it'} cannot be listed in {self.root}"):
            for found in s3.listing(self.root.bucket, start=start):
                key = self.root.inner(found["Key"])
                if is_visible(key):
                    yield Entry(key, found["Size"], found["LastModified"])

    def folders(self, folder: str = "") -> Sequence[str]:
        """The names of the folders right in *folder*, or in the store itself."""
        return [below for below in self.level(folder)[0] if not below.startswith(".")]

    def files(self, folder: str) -> Sequence[str]:
        """The keys right in *folder*, not in folders of its own."""
        return [key for key in self.level(folder)[1] if is_visible(key)]

    def level(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the folders right in *folder*, and the keys."""
        start = f"{self.root.key(folder)}/".lstrip("/")
        pages = s3.client().get_paginator("list_objects_v2")
        folders: list[str] = []
        keys: list[str] = []
        with s3.translated(f"{folder or 'it'} cannot be listed in {self.root}"):
            for page in pages.paginate(
                Bucket=self.root.bucket, Prefix=start, Delimiter="/"
            ):
                folders += [
                    each["Prefix"].removeprefix(start).rstrip("/")
                    for each in page.get("CommonPrefixes", ())
                ]
                keys += [
                    self.root.inner(each["Key"]) for each in page.get("Contents", ())
                ]
        return folders, keys

    def keep(self, content: bytes) -> Kept:
        """Keep *content* for ever under the name of its hash: what is there is never written again."""
        name = object_name(content)
        key = object_key(name)
        try:
            return Kept(name, self.put_once(key, content))
        except s3.TakenError:
            found = self.head(key)
        # A damaged one is written again; with versions, the damaged one stays as the older one.
        if self.read(key) != content:
            self.write(key, content)
            found = self.head(key)
        return Kept(name, version_id(found or {}))

    def put_once(self, key: str, content: bytes) -> str | None:
        """Write *key* unless it is there, which is a TakenError; the version that it got."""
        with s3.translated(f"{key} cannot be written to the store {self.root}"):
            answer = s3.client().put_object(
                **self.at(key), Body=content, IfNoneMatch="*"
            )
        return version_id(answer)

    def at(self, key: str) -> dict[str, str]:
        """Where *key* is; StoreError when it is no key."""
        return {
            "Bucket": self.root.bucket,
            "Key": self.root.key("/".join(parts_of(key))),
        }


def version_id(answer: Mapping[str, Any]) -> str | None:
    """The version that S3 tells of; None where the bucket has none."""
    found = answer.get("VersionId")
    return None if found in (None, NULL) else str(found)


def is_visible(key: str) -> bool:
    """Whether a local store would list a file of this name."""
    try:
        parts = parts_of(key)
    except StoreError:
        return False
    # A folder that somebody made by hand is an object whose name ends so.
    if key.endswith("/"):
        return False
    return not any(part.startswith(".") or part == "__pycache__" for part in parts)
