"""Places: where a store or a warehouse is, a local folder or a prefix of an S3 bucket.

Only names here: what lies there is `store`, `landing_files` and `lake`; how S3 is spoken to is `s3`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rat_resources.errors import SettingsError

SCHEME = "s3"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What PyIceberg, DuckDB and DuckDB's globs each take for something else.
UNFIT = re.compile(r"[?#%*\[\]{}\\\s]")


@dataclass(frozen=True)
class S3Place:
    """A prefix of a bucket, as a folder would be."""

    bucket: str
    prefix: str = ""  # without a / at either end

    @classmethod
    def parse(cls, url: str) -> "S3Place":
        """The place that an `s3://` URL names; ValueError says why it names none."""
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.strip("/")
        if scheme != SCHEME or not bucket:
            message = "it names no bucket"
            raise ValueError(message)
        if "@" in bucket or ":" in bucket:
            message = "credentials, host and port are no part of it"
            raise ValueError(message)
        if not BUCKET.fullmatch(bucket):
            message = f"{bucket} is no name of a bucket"
            raise ValueError(message)
        if found := UNFIT.search(prefix):
            message = f"its prefix contains {found.group()!r}"
            raise ValueError(message)
        if {"", ".", ".."} & set(prefix.split("/")) and prefix:
            message = "its prefix has an empty part, or a . or .. as one"
            raise ValueError(message)
        return cls(bucket, prefix)

    def __truediv__(self, key: str) -> "S3Place":
        return S3Place(self.bucket, self.key(key))

    def __str__(self) -> str:
        return self.as_uri()

    def as_uri(self) -> str:
        """Its URL."""
        return f"{SCHEME}://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, key: str) -> str:
        """The key in the bucket of what is called *key* here."""
        return f"{self.prefix}/{key}".strip("/")

    def inner(self, key: str) -> str:
        """What a key of the bucket is called here."""
        return key.removeprefix(f"{self.prefix}/") if self.prefix else key


Place = Path | S3Place


def read_place(variable: str, value: str | None, *, default: Path, shown: str) -> Place:
    """The place that a setting names, as a path, a `file://` or an `s3://` URL."""
    if not value:
        return default
    url = urlsplit(value)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return Path(unquote(url.path))
    if not url.scheme:
        return Path(value).expanduser().absolute()
    if url.scheme == SCHEME:
        try:
            return S3Place.parse(value)
        except ValueError as error:
            message = f"{variable}={shown} is no place in S3: {error}"
            fix = (
                f"write {variable}=s3://bucket/prefix; credentials go into "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a host into AWS_ENDPOINT_URL"
            )
            raise SettingsError(message, fix=fix) from None
    message = f"{variable}={shown} is neither a folder nor a file:// or s3:// URL"
    raise SettingsError(
        message, fix=f"write {variable}=file:///path/to/folder or s3://bucket/prefix"
    )
