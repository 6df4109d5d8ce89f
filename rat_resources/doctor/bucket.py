"""A bucket in S3: whether it can be written, listed and read, keeps versions, and tells the same time."""

import uuid
from datetime import UTC, datetime

from rat_resources import s3
from rat_resources.doctor.findings import (
    Finding,
    Findings,
    compare_clocks,
    fine,
    problem,
    warning,
)
from rat_resources.errors import RatError
from rat_resources.places import S3Place
from rat_resources.s3 import Versioning
from rat_resources.s3_store import S3Store

PROBE = b"rat"


def examine(part: str, place: S3Place) -> Findings:
    """What is to be said of a place in S3."""
    try:
        theirs, ours = try_out(place)
    except RatError as error:
        yield problem(part, error.message, fix=error.fix)
        return
    yield fine(part, f"{place} can be written, listed and read")
    yield compare_clocks(f"{part} clock", theirs=theirs, ours=ours)
    yield conditional_puts(part, place)
    yield from describe_versions(part, place)


def try_out(place: S3Place) -> tuple[datetime, datetime]:
    """Write, list, read and delete an object; when that was, by the storage's clock and by ours."""
    store, key = S3Store(place), f".rat-doctor/{uuid.uuid4().hex}"
    store.write(key, PROBE)
    try:
        ours = datetime.now(UTC)
        head = store.head(key) or {}
        store.read(key)
        for _ in store.entries(".rat-doctor"):
            break
    finally:
        store.delete(key)
    answered: datetime = head.get("LastModified", ours)
    return answered, ours


def conditional_puts(part: str, place: S3Place) -> Finding:
    """Whether one of two who write the same name at once is refused."""
    store, key = S3Store(place), f".rat-doctor/{uuid.uuid4().hex}"
    name = f"{part} conditional puts"
    try:
        store.put_once(key, PROBE)
        store.put_once(key, PROBE)
    except s3.TakenError:
        return fine(name, "what is there is not written over")
    except RatError as error:
        return problem(name, error.message, fix=error.fix)
    finally:
        store.delete(key)
    what = "the storage writes over what is there, although it is told not to"
    return warning(
        name, what, fix="use storage that knows If-None-Match, or upgrade it"
    )


def describe_versions(part: str, place: S3Place) -> Findings:
    """Whether what is overwritten and deleted there can be had back."""
    match s3.versioning(place):
        case Versioning.ON:
            yield fine(part, f"{place.bucket} keeps versions")
        case Versioning.UNKNOWN:
            yield warning(
                part,
                f"nobody lets us ask whether {place.bucket} keeps versions",
                fix="allow s3:GetBucketVersioning",
            )
        case state:
            yield warning(
                part,
                f"the versioning of {place.bucket} is {state}: what is overwritten there is gone",
                fix=f"aws s3api put-bucket-versioning --bucket {place.bucket} "
                "--versioning-configuration Status=Enabled",
            )
