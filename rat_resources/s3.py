"""S3: how an S3-compatible storage is spoken to, and what its errors mean.

Everything that AWS's own tools understand names it: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a
profile, a role, a web identity or the machine's own; AWS_ENDPOINT_URL another storage than AWS's.
PyIceberg and DuckDB get what boto3 has found (`credentials`), so that all three are the same user.
What is kept where is `store`, `landing_s3` and `lake`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from boto3.exceptions import S3UploadFailedError
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)

from rat_resources.errors import NotFoundError, OutageError, StoreError
from rat_resources.places import S3Place
from rat_resources.settings import aws_environment

DEFAULT_REGION = "us-east-1"
AMAZON = (".amazonaws.com", ".amazonaws.com.cn")
ANONYMOUS = Config(signature_version=UNSIGNED)
# Checksums in trailers are newer than many a storage that is not AWS's.
PLAIN = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
# With the pauses in between some 20 seconds: a storage may be restarted meanwhile.
ATTEMPTS = 6
CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 60  # seconds
# The answer to a HEAD has no body: its status is all that it says.
MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion"})
TAKEN = frozenset({"409", "412", "ConditionalRequestConflict", "PreconditionFailed"})
DENIED = frozenset({"401", "403", "AccessDenied", "AllAccessDisabled", "Forbidden"})
SERVER_ERROR = 500
# What a storage says when it is the time that was wrong, not the request.
BUSY = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})


@dataclass(frozen=True)
class Credentials:
    """Who we are to S3 at this moment, and where S3 is."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    region: str
    endpoint: str | None  # None: AWS's own
    by_path: bool  # whether a URL names the bucket in its path
    ca_bundle: str | None = None  # whom we trust, where those are others than usual
    attempts: int = ATTEMPTS  # how often a request is made

    @property
    def host(self) -> str | None:
        """The endpoint without its scheme."""
        return urlsplit(self.endpoint).netloc if self.endpoint else None

    @property
    def is_encrypted(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self.endpoint is None or self.endpoint.startswith("https:")


class Versioning(StrEnum):
    """Whether a bucket keeps what is overwritten and deleted."""

    ON = "on"
    OFF = "off"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"  # we may not ask


@dataclass(frozen=True)
class Connection:
    """A client, and what it was made of."""

    client: Any
    session: Any
    region: str
    endpoint: str | None
    by_path: bool
    ca_bundle: str | None
    attempts: int


def client() -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """The client of this process, for all of its threads; what it raises goes through `translated`."""
    return connection().client


def credentials() -> Credentials:
    """Who we are now: credentials that expire are fetched anew before they do."""
    here = connection()
    with translated("the credentials of S3 cannot be had"):
        found = here.session.get_credentials()
        if found is None:
            raise NoCredentialsError
        frozen = found.get_frozen_credentials()
    return Credentials(
        key_id=frozen.access_key,
        secret=frozen.secret_key,
        token=frozen.token,
        region=here.region,
        endpoint=here.endpoint,
        by_path=here.by_path,
        ca_bundle=here.ca_bundle,
        attempts=here.attempts,
    )


def connection() -> Connection:
    """The connection that the environment means; another environment, another connection."""
    return connect(tuple(sorted(aws_environment().items())))


@lru_cache(maxsize=4)
def connect(environ: tuple[tuple[str, str], ...]) -> Connection:
    """The connection for one environment."""
    said = dict(environ)
    with translated("S3 cannot be used"):
        shared = botocore.session.get_session()
        if region := said.get("AWS_REGION"):
            shared.set_config_variable("region", region)
        session = boto3.Session(botocore_session=shared)
        endpoint = find_endpoint(session)
        # Long enough for a restart, unless somebody has said otherwise.
        attempts = shared.get_config_variable("max_attempts") or ATTEMPTS
        style = said["RAT_S3_STYLE"]
        by_path = style == "path" or (style == "auto" and endpoint is not None)
        region = session.region_name
        if region is None and endpoint is None:
            raise NoRegionError
        config = Config(
            s3={"addressing_style": "path" if by_path else "virtual"},
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            max_pool_connections=32,
            **({} if endpoint is None else PLAIN),
        )
        region = region or DEFAULT_REGION
        made = session.client("s3", region_name=region, config=config)
    ca_bundle = shared.get_config_variable("ca_bundle")
    return Connection(made, session, region, endpoint, by_path, ca_bundle, attempts)


def find_endpoint(session: Any) -> str | None:  # noqa: ANN401
    """The URL of a storage that is not AWS's, if one is named for S3 or for everything."""
    probe = session.client("s3", region_name=DEFAULT_REGION, config=ANONYMOUS)
    url: str = probe.meta.endpoint_url
    host = urlsplit(url).hostname or ""
    return None if host.endswith(AMAZON) else url


def versioning(place: S3Place) -> Versioning:
    """Whether the bucket of *place* keeps what is overwritten and deleted."""
    try:
        with translated(f"the versioning of {place.bucket} cannot be asked for"):
            said = client().get_bucket_versioning(Bucket=place.bucket)
    except DeniedError:
        return Versioning.UNKNOWN
    status = said.get("Status")
    return {"Enabled": Versioning.ON, "Suspended": Versioning.SUSPENDED}.get(
        status, Versioning.OFF
    )


def bucket_exists(place: S3Place) -> None:
    """Nothing; StoreError when the bucket of *place* is not there, or not for us."""
    with translated(f"{place} cannot be used"):
        client().list_objects_v2(Bucket=place.bucket, Prefix=place.prefix, MaxKeys=1)


def listing(bucket: str, *, start: str = "") -> Iterator[dict[str, Any]]:
    """What S3 says of every object whose key begins so, in the order of keys."""
    pages = client().get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=start):
        yield from page.get("Contents", ())


# Errors.


class DeniedError(StoreError):
    """S3 does not let us."""


class MissingError(NotFoundError):
    """There is no such object."""


class TakenError(StoreError):
    """The object is there already, or is another one than it was."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what S3 and its client say into our errors: *what* failed, why, and how to mend it."""
    try:
        yield
    except ClientError as error:
        raise explain(what, error) from error
    except S3UploadFailedError as error:
        # Of a file in parts boto3 says the same in a class of its own.
        refused = error.__context__
        if not isinstance(refused, ClientError):
            raise StoreError(f"{what}: {error}", fix=SEE_SERVICE) from error
        raise explain(what, refused) from error
    except BotoCoreError as error:
        why, fix = diagnose(error)
        kind = OutageError if is_gone(error) else StoreError
        raise kind(f"{what}: {why}", fix=fix) from error


def explain(what: str, error: ClientError) -> Exception:
    """Our error for an answer of S3 that is a refusal."""
    said = error.response.get("Error", {})
    code = str(said.get("Code", ""))
    why = said.get("Message") or code
    if code in MISSING:
        return MissingError(f"{what}: there is no such object")
    if code in TAKEN:
        return TakenError(f"{what}: {why}", fix="look at what is there")
    if code in DENIED:
        return DeniedError(f"{what}: access denied ({code})", fix=ALLOW)
    kind = OutageError if is_busy(error) else StoreError
    return kind(f"{what}: {why}", fix=FIXES.get(code, SEE_SERVICE))


def is_busy(error: ClientError) -> bool:
    """Whether a refusal is about the storage, not about what it was asked."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= SERVER_ERROR or error.response["Error"].get("Code") in BUSY


def is_gone(error: BotoCoreError) -> bool:
    """Whether nobody answered, or not to the end."""
    kinds = HTTPClientError | ConnectionError | IncompleteReadError
    return isinstance(error, kinds) and not isinstance(error, SSLError)


def diagnose(error: BotoCoreError) -> tuple[str, str]:
    """Why S3 could not even be asked, and what to do about it."""
    match error:
        case NoCredentialsError() | PartialCredentialsError():
            return "there are no credentials", SIGN_IN
        case CredentialRetrievalError() | ProfileNotFound():
            return str(error), SIGN_IN
        case NoRegionError():
            return "nobody says in which region it is", "set AWS_REGION"
        case SSLError():
            return (
                f"its certificate is not trusted: {error}",
                "set AWS_CA_BUNDLE to the file of your authority's certificates",
            )
        case HTTPClientError() | ConnectionError() | IncompleteReadError():
            return f"it does not answer: {error}", REACH
        case _:
            return str(error), SEE_SERVICE


ALLOW = (
    "let this user list the bucket, and get, put and delete its objects "
    "(s3:ListBucket, s3:GetObject, s3:GetObjectVersion, s3:PutObject, s3:DeleteObject)"
)
SIGN_IN = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or give this machine a role"
)
REACH = "check AWS_ENDPOINT_URL and the network, and that the storage runs"
SEE_SERVICE = "see what the storage says of itself"
REGION = "set AWS_REGION to the region of the bucket"
MAKE = "make the bucket, or correct RAT_STORE and RAT_WAREHOUSE"
FIXES = {
    "NoSuchBucket": MAKE,
    "InvalidBucketName": MAKE,
    "InvalidAccessKeyId": SIGN_IN,
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, and this machine's clock",
    "ExpiredToken": "sign in anew: the session of these credentials is over",
    "InvalidToken": "check AWS_SESSION_TOKEN, or unset it",
    "RequestTimeTooSkewed": "set this machine's clock",
    "PermanentRedirect": REGION,
    "301": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "SlowDown": "the storage is overloaded; the same again may succeed",
    "ServiceUnavailable": "the storage is overloaded; the same again may succeed",
    "NoSuchUpload": "the same again may succeed",
}
