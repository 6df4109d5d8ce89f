"""S3 is found as AWS's own tools find it, and its errors say how to mend them."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from rat_resources import s3
from rat_resources.errors import OutageError, SettingsError, StoreError
from rat_resources.lake.s3_files import secret
from rat_resources.places import S3Place
from rat_resources.s3 import Versioning
from rat_resources.s3_store import S3Store
from rat_resources.settings import Settings
from tests.servers.s3 import S3Server


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(S3Place(bucket, "rat"))


def test_a_bucket_tells_whether_it_keeps_versions(
    s3_server: S3Server, bucket: str
) -> None:
    plain = s3_server.make_bucket(versioned=False)

    told = [s3.versioning(S3Place(name)) for name in (bucket, plain)]
    s3_server.client().put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    told.append(s3.versioning(S3Place(bucket)))

    assert told == [Versioning.ON, Versioning.OFF, Versioning.SUSPENDED]


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(bucket: str) -> None:
    with pytest.raises(
        StoreError, match=r"x cannot be written .* s3://nowhere/rat: .*make the bucket"
    ):
        S3Store(S3Place("nowhere", "rat")).write("x", b"")


def test_without_credentials_the_error_says_where_they_go(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(
        StoreError, match=r"there are no credentials; set AWS_ACCESS_KEY_ID"
    ):
        store.read("x")


def test_a_profile_gives_credentials_region_and_endpoint(
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in tuple(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        "[profile lake]\nregion = eu-central-1\naws_access_key_id = one\n"
        f"aws_secret_access_key = two\naws_session_token = three\nendpoint_url = {s3_server.endpoint}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lake")

    found = s3.credentials()
    S3Store(S3Place(bucket)).write("x", b"1")

    assert (found.key_id, found.secret, found.token) == ("one", "two", "three")
    assert (found.region, found.endpoint) == ("eu-central-1", s3_server.endpoint)
    assert "two" not in repr(found)
    assert "three" not in repr(found)


def test_credentials_that_expire_are_had_anew(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    script, config = tmp_path / "sign_in.py", tmp_path / "config"
    script.write_text(
        "import json, uuid\nprint(json.dumps({'Version': 1, 'AccessKeyId': uuid.uuid4().hex, "
        f"'SecretAccessKey': 's', 'SessionToken': 't', 'Expiration': {soon!r}}}))\n"
    )
    config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    first, second = s3.credentials(), s3.credentials()

    assert first.key_id != second.key_id
    assert f"KEY_ID '{second.key_id}'" in secret(second)
    assert "SESSION_TOKEN 't'" in secret(second)


def test_a_storage_that_does_not_answer_is_named(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(
        StoreError,
        match=r"it does not answer: .*127\.0\.0\.1:1.*check AWS_ENDPOINT_URL",
    ):
        store.read("x")


def test_without_a_region_amazons_s3_is_not_even_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(
        StoreError, match=r"nobody says in which region it is; set AWS_REGION"
    ):
        s3.client()


@pytest.mark.parametrize(
    ("style", "endpoint", "by_path"),
    [
        ("auto", "", False),
        ("auto", "https://s3.eu-west-1.amazonaws.com", False),
        ("auto", "http://minio:9000", True),
        ("virtual", "http://minio:9000", False),
        ("path", "", True),
    ],
)
def test_the_bucket_is_in_the_path_where_the_storage_is_not_amazons(
    style: str, endpoint: str, *, by_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("RAT_S3_STYLE", style)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)

    connection = s3.connection()

    assert connection.by_path == by_path


def test_a_style_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAT_S3_STYLE", "folder")

    with pytest.raises(SettingsError, match="write one of auto, path, virtual"):
        s3.client()


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("AccessDenied", "s3:PutObject"),
        ("PermanentRedirect", "AWS_REGION"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", "sign in anew"),
    ],
)
def test_a_refusal_says_how_to_mend_it(code: str, fix: str) -> None:
    answer = {"Error": {"Code": code, "Message": "no"}}

    with (
        pytest.raises(StoreError, match=f"x cannot be read: .*{fix}"),
        s3.translated("x cannot be read"),
    ):
        raise ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("code", "status", "is_outage"),
    [
        ("InternalError", 500, True),
        ("SlowDown", 503, True),
        ("RequestTimeout", 400, True),
        ("", 502, True),
        ("NoSuchBucket", 404, False),
        ("AccessDenied", 403, False),
    ],
)
def test_a_storage_that_fails_is_told_from_one_that_refuses(
    code: str, status: int, *, is_outage: bool
) -> None:
    answer = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }

    with pytest.raises(StoreError) as caught, s3.translated("x cannot be read"):
        raise ClientError(answer, "GetObject")

    assert isinstance(caught.value, OutageError) == is_outage


def test_a_rat_of_local_files_loads_nothing_of_it(settings: Settings) -> None:
    names = "rat_assets.definitions, rat_resources.platform, rat_resources.instance"
    code = (
        f"import sys, {names}; rat_resources.platform.platform(); "
        "print([each for each in sys.modules if each.startswith('boto') or each.endswith('s3_files')])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings.environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"
