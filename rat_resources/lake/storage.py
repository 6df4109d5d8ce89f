"""Storage: the files of a warehouse as they lie there, in a local folder or in S3; found and removed.

A warehouse, a folder and a file are named by whole locations, as tables name them. Links are not followed.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from rat_resources.errors import OutageError, RatError, StoreError
from rat_resources.lake.locations import duckdb_path, is_local

AT_ONCE = 1000  # objects, as many as S3 deletes by one request


@dataclass(frozen=True)
class File:
    """A file, how large it is and since when it is as it is, by the storage's clock."""

    location: str
    size: int
    modified_at: datetime


def file_name(location: str) -> str:
    """What a file is called in its folder.

    Engines spell one path in several ways (`s3a://`, `file:/`, `%20`, a mount); its name is the same in
    all of them, and has a uuid in it.
    """
    name = location.rpartition("/")[2]
    return unquote(name) if "%" in name else name


def spelled_out(location: str) -> str:
    """A location in the one spelling in which locations are compared."""
    path = duckdb_path(location)
    scheme, found, rest = path.partition("://")
    if not found:
        return "/" + unquote(path).strip("/")
    # Hadoop's names for S3.
    scheme = "s3" if scheme in ("s3a", "s3n") else scheme
    return f"{scheme}://{unquote(rest).strip('/')}"


def is_within(location: str, folder: str) -> bool:
    """Whether a file or folder is in a folder, and not the folder itself."""
    return spelled_out(location).startswith(f"{spelled_out(folder)}/")


def in_chunks(files: Iterator[File]) -> Iterator[list[File]]:
    """As many files at a time as are removed by one request."""
    while chunk := list(islice(files, AT_ONCE)):
        yield chunk


class LocalFiles:
    """Files of this machine."""

    def list(self, folder: str) -> Iterator[File]:
        """Every file in a folder and below it; none where there is no such folder."""
        below = [folder]
        while below:
            here = below.pop()
            try:
                with os.scandir(duckdb_path(here)) as entries:
                    found = list(entries)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"{here} cannot be listed: {error}") from error
            for each in found:
                location = f"{here}/{each.name}"
                if each.is_dir(follow_symlinks=False):
                    below.append(location)
                elif each.is_file(follow_symlinks=False):
                    yield from look_at(each, location)

    def remove(self, locations: Sequence[str]) -> Mapping[str, str]:
        """Remove files; why it failed, of those that are still there."""
        failed = {}
        for location in locations:
            try:
                Path(duckdb_path(location)).unlink(missing_ok=True)
            except OSError as error:
                failed[location] = error.strerror or str(error)
        return failed

    def read(self, location: str) -> bytes | None:
        """What is in a file; None where there is none."""
        try:
            return Path(duckdb_path(location)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{location} cannot be read: {error}") from error

    def write(self, location: str, content: bytes, *, anew: bool) -> bool:
        """Write a whole file; with *anew*, only if there is none: whether it was written."""
        path = Path(duckdb_path(location))
        draft = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
            if not anew:
                draft.replace(path)
                return True
            try:
                # A link is made or not; a file would be there before its content is.
                path.hardlink_to(draft)
            except FileExistsError:
                return False
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{location} cannot be written: {error}") from error
        return True

    def is_empty(self, folder: str) -> bool:
        """Whether there is nothing in a folder."""
        try:
            with os.scandir(duckdb_path(folder)) as entries:
                return not any(entries)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StoreError(f"{folder} cannot be listed: {error}") from error


def look_at(entry: "os.DirEntry[str]", location: str) -> Iterator[File]:
    """A file as it is; nothing where it is gone since it was listed."""
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield File(location, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


class S3Files:
    """Objects in S3."""

    def list(self, folder: str) -> Iterator[File]:
        """Every object whose key begins with that of a folder, page by page."""
        from rat_resources import s3  # noqa: PLC0415

        scheme, _, rest = folder.partition("://")
        bucket, _, key = rest.partition("/")
        start = f"{key}/" if key else ""
        with s3.translated(f"{folder} cannot be listed"):
            for each in s3.listing(bucket, start=start):
                location = f"{scheme}://{bucket}/{each['Key']}"
                yield File(location, each["Size"], each["LastModified"])

    def remove(self, locations: Sequence[str]) -> Mapping[str, str]:
        """Remove objects of one bucket; why it failed, of those that are still there."""
        from rat_resources.lake.s3_files import at  # noqa: PLC0415

        by_key = {at(each)["Key"]: each for each in locations}
        if not by_key:
            return {}
        bucket = at(locations[0])["Bucket"]
        try:
            said = remove_together(bucket, list(by_key))
        except OutageError as error:
            return dict.fromkeys(locations, error.message)
        except RatError:
            # Not every storage that calls itself S3 can do that; and it says why for each.
            return remove_singly(locations)
        return {
            by_key[each["Key"]]: str(each.get("Message") or each.get("Code"))
            for each in said
            if each["Key"] in by_key
        }

    def read(self, location: str) -> bytes | None:
        """What is in an object; None where there is none."""
        from rat_resources.lake.s3_files import S3File  # noqa: PLC0415

        try:
            return S3File(location).read()
        except FileNotFoundError:
            return None

    def write(self, location: str, content: bytes, *, anew: bool) -> bool:
        """Write an object; with *anew*, only if there is none: whether it was written."""
        from rat_resources import s3  # noqa: PLC0415
        from rat_resources.lake.s3_files import at  # noqa: PLC0415

        if anew and self.read(location) is not None:
            return False
        condition = {"IfNoneMatch": "*"} if anew else {}
        try:
            with s3.translated(f"{location} cannot be written"):
                s3.client().put_object(**at(location), Body=content, **condition)
        except s3.TakenError:
            return False
        return True

    def is_empty(self, folder: str) -> bool:
        """Whether no object's key begins with that of a folder."""
        return next(self.list(folder), None) is None


def remove_together(bucket: str, keys: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Delete objects by one request; what was said of those that were not deleted."""
    from rat_resources import s3  # noqa: PLC0415

    wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    with s3.translated(f"files in {bucket} cannot be removed"):
        said = s3.client().delete_objects(Bucket=bucket, Delete=wanted)
    errors: Sequence[Mapping[str, Any]] = said.get("Errors", ())
    return errors


def remove_singly(locations: Sequence[str]) -> Mapping[str, str]:
    """Delete objects, a request each; why it failed, of those that are still there."""
    from rat_resources import s3  # noqa: PLC0415
    from rat_resources.lake.s3_files import at  # noqa: PLC0415

    failed = {}
    for location in locations:
        try:
            with s3.translated(f"{location} cannot be removed"):
                s3.client().delete_object(**at(location))
        except RatError as error:
            failed[location] = error.message
    return failed


Files = LocalFiles | S3Files


def files_of(warehouse: str) -> Files:
    """How the files of a warehouse are found and removed."""
    make: Callable[[], Files] = LocalFiles if is_local(warehouse) else S3Files
    return make()
