"""Files of the lake in S3: how PyIceberg reads and writes them, and how DuckDB does.

PyIceberg's small files (metadata, manifests) are one request each. DuckDB reads and writes Parquet
through its extension httpfs, which comes as a wheel; where that does not load, rows go through Arrow.
Who we are to S3 is found out once (`rat_resources.s3`) and looked up again whenever it is needed, for
credentials may expire in the middle of a run.
"""

import importlib.util
from collections import OrderedDict
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import duckdb
from duckdb import DuckDBPyConnection
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from rat_resources import s3
from rat_resources.lake.sql import literal
from rat_resources.places import SCHEME
from rat_resources.s3 import Credentials

SECRET = "rat"  # noqa: S105 - its name in DuckDB
PARQUET = ".parquet"
TAIL = 64 << 10  # bytes, in which most footers fit
MAGIC = 4  # bytes: PAR1
END = 8  # bytes: the length of the footer, and PAR1
EXTENSION = "duckdb_extension_httpfs"


def is_in_s3(location: str) -> bool:
    """Whether a file is in S3."""
    return location.startswith(f"{SCHEME}://")


def at(location: str) -> dict[str, str]:
    """Where a file is, in boto3's words."""
    bucket, _, key = location.partition("://")[2].partition("/")
    return {"Bucket": bucket, "Key": key}


# PyIceberg.


class S3FileIO(PyArrowFileIO):
    """PyIceberg's files in S3, each with the credentials of the moment."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self.fs_by_scheme = self._initialize_fs

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The same in another process."""
        super().__setstate__(state)
        self.fs_by_scheme = self._initialize_fs

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        del netloc
        return file_system(s3.credentials())

    def new_input(self, location: str) -> PyArrowFile:
        """The file at *location*, to be read."""
        if is_small(location):
            return S3File(location)  # type: ignore[return-value]  # it can do what a PyArrowFile can
        return super().new_input(location)

    def new_output(self, location: str) -> PyArrowFile:
        """The file at *location*, to be written."""
        if is_small(location):
            return S3File(location)  # type: ignore[return-value]
        return super().new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete the file at *location*; nothing happens when it is not there."""
        path = location if isinstance(location, str) else location.location
        if is_in_s3(path):
            RECENT.forget(path)
            # Arrow would make a folder of what the file lay in.
            with s3.translated(f"{path} cannot be deleted"):
                s3.client().delete_object(**at(path))
        else:
            super().delete(path)


def is_small(location: str) -> bool:
    """Whether a file is one of those that are read and written whole: metadata and manifests."""
    return is_in_s3(location) and not location.endswith(PARQUET)


@lru_cache(maxsize=4)
def file_system(who: Credentials) -> S3FileSystem:
    """Arrow's S3, of which a process has one."""
    return S3FileSystem(
        access_key=who.key_id,
        secret_key=who.secret,
        session_token=who.token,
        region=who.region,
        scheme="https" if who.is_encrypted else "http",
        endpoint_override=who.host,
        force_virtual_addressing=not who.by_path,
        tls_ca_file_path=who.ca_bundle,
        connect_timeout=s3.CONNECT_TIMEOUT,
        request_timeout=s3.READ_TIMEOUT,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=who.attempts),
    )


class Recent:
    """The small files that this process had last: none ever changes, each has a uuid in its name."""

    def __init__(self) -> None:
        self.contents: OrderedDict[str, bytes] = OrderedDict()
        self.lock = Lock()

    def get(self, location: str) -> bytes | None:
        """The content of a file, if it was had lately."""
        with self.lock:
            if location in self.contents:
                self.contents.move_to_end(location)
            return self.contents.get(location)

    def put(self, location: str, content: bytes) -> None:
        """Keep the content of a file in mind, unless it is large."""
        if len(content) > SMALL:
            return
        with self.lock:
            self.contents[location] = content
            while len(self.contents) > REMEMBERED:
                self.contents.popitem(last=False)

    def forget(self, location: str) -> None:
        """Have a file no more."""
        with self.lock:
            self.contents.pop(location, None)


SMALL = 256 << 10  # bytes
REMEMBERED = 128
RECENT = Recent()


class S3File(InputFile, OutputFile):
    """A small file in S3: reading it and writing it are one request each."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.size: int | None = None

    def __len__(self) -> int:
        """How many bytes it has."""
        if self.size is None:
            with s3.translated(f"{self.location} cannot be seen"):
                found = s3.client().head_object(**at(self.location))
            self.size = int(found["ContentLength"])
        return self.size

    def exists(self) -> bool:
        """Whether it is there."""
        try:
            return len(self) >= 0
        except s3.MissingError:
            return False

    def open(self, seekable: bool = True) -> BytesIO:  # noqa: FBT001, FBT002 - PyIceberg's signature
        """Its content; FileNotFoundError when it is not there."""
        del seekable
        content = RECENT.get(self.location)
        if content is None:
            content = self.read()
            RECENT.put(self.location, content)
        self.size = len(content)
        return BytesIO(content)

    def read(self) -> bytes:
        """Its content as S3 has it; FileNotFoundError when it is not there."""
        try:
            with s3.translated(f"{self.location} cannot be read"):
                answer = s3.client().get_object(**at(self.location))
                content: bytes = answer["Body"].read()
        except s3.MissingError as error:
            raise FileNotFoundError(error.message) from error
        return content

    def create(self, overwrite: bool = False) -> "Draft":  # noqa: FBT001, FBT002
        """A buffer that becomes the file when it is closed.

        Every name has a uuid in it: whether there is such a file need not be asked.
        """
        del overwrite
        return Draft(self)

    def to_input_file(self) -> Self:
        """Itself."""
        return self


class Draft(BytesIO):
    """What will be a file in S3; nothing of it where an error comes in between."""

    def __init__(self, file: S3File) -> None:
        super().__init__()
        self.file = file

    def close(self) -> None:
        """Put the file, once."""
        if self.closed:
            return
        content = self.getvalue()
        with s3.translated(f"{self.file.location} cannot be written"):
            s3.client().put_object(**at(self.file.location), Body=content)
        self.file.size = len(content)
        RECENT.put(self.file.location, content)
        super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            super().close()


def remove(folder: str, *, start: str) -> None:
    """Remove the files below *folder* whose names begin so."""
    bucket, prefix = at(folder).values()
    client = s3.client()
    with s3.translated(f"what was written to {folder} cannot be removed"):
        for found in s3.listing(bucket, start=f"{prefix}/"):
            if found["Key"].rpartition("/")[2].startswith(start):
                client.delete_object(Bucket=bucket, Key=found["Key"])


def upload(file: Path, *, location: str) -> None:
    """Put a local file to *location*, a large one in parts."""
    with s3.translated(f"{location} cannot be written"):
        s3.client().upload_file(str(file), *at(location).values())


def read_tail(location: str) -> tuple[bytes, int]:
    """The end of a Parquet file with all of its footer, and the size of the file."""
    tail, size = read_end(location, length=TAIL)
    needed = int.from_bytes(tail[-END:-MAGIC], "little") + END
    if needed > len(tail) and len(tail) < size:
        tail, size = read_end(location, length=needed)
    return tail, size


def read_end(location: str, *, length: int) -> tuple[bytes, int]:
    """The last bytes of a file, and its size, by one request."""
    with s3.translated(f"{location} cannot be read"):
        answer = s3.client().get_object(**at(location), Range=f"bytes=-{length}")
        content: bytes = answer["Body"].read()
    size = answer.get("ContentRange", "").rpartition("/")[2]
    return content, int(size or len(content))


# DuckDB.


def let_in(connection: DuckDBPyConnection) -> bool:
    """Let *connection* read and write S3 as whom we are now; False where httpfs does not load."""
    file = extension()
    if file is None:
        return False
    try:
        connection.execute(f"LOAD {literal(str(file))}")
    except duckdb.Error:
        return False
    who = s3.credentials()
    for statement in (
        f"SET http_timeout = {s3.READ_TIMEOUT}",
        f"SET http_retries = {who.attempts - 1}",
        # No file is ever another one under its name, so its size is asked for once.
        "SET enable_http_metadata_cache = true",
        secret(who),
    ):
        connection.execute(statement)
    return True


@cache
def extension() -> Path | None:
    """The file of httpfs for this DuckDB and machine; None where its wheel has none."""
    found = importlib.util.find_spec(EXTENSION)
    if found is None or found.origin is None:
        return None
    files = Path(found.origin).parent.glob(
        f"extensions/v{duckdb.__version__}/httpfs.duckdb_extension"
    )
    return next(files, None)


def secret(who: Credentials) -> str:
    """The statement that tells DuckDB who we are; only this connection ever knows."""
    said: dict[str, str] = {
        "KEY_ID": literal(who.key_id),
        "SECRET": literal(who.secret),
        "REGION": literal(who.region),
        "URL_STYLE": literal("path" if who.by_path else "vhost"),
        "USE_SSL": str(who.is_encrypted).lower(),
    }
    if who.token:
        said["SESSION_TOKEN"] = literal(who.token)
    if who.host:
        said["ENDPOINT"] = literal(who.host)
    options = ", ".join(f"{name} {value}" for name, value in said.items())
    return f"CREATE OR REPLACE TEMPORARY SECRET {SECRET} (TYPE s3, {options})"
