"""Places: which URLs name one, and what lies below them is called."""

from pathlib import Path

import pytest

from rat_resources.errors import SettingsError
from rat_resources.places import S3Place
from rat_resources.settings import Settings


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://lake", "lake", ""),
        ("s3://lake/", "lake", ""),
        ("s3://my.lake-1/a/b/", "my.lake-1", "a/b"),
        ("s3://lake/häuser", "lake", "häuser"),
    ],
)
def test_an_s3_url_names_a_bucket_and_a_prefix(
    url: str, bucket: str, prefix: str
) -> None:
    place = S3Place.parse(url)

    assert place == S3Place(bucket, prefix)
    assert S3Place.parse(place.as_uri()) == place


def test_keys_lie_below_the_prefix() -> None:
    place = S3Place("lake", "rat")

    assert place.key("a/b") == "rat/a/b"
    assert place.inner("rat/a/b") == "a/b"
    assert str(place / "a") == "s3://lake/rat/a"
    assert S3Place("lake").key("a") == "a"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://", "it names no bucket"),
        ("s3:///x", "it names no bucket"),
        ("s3://me:secret@lake/x", "credentials, host and port are no part of it"),
        ("s3://localhost:9000/lake", "credentials, host and port are no part of it"),
        ("s3://My_Lake/x", "My_Lake is no name of a bucket"),
        ("s3://ab", "ab is no name of a bucket"),
        ("s3://lake/a?b", r"its prefix contains '\?'"),
        ("s3://lake/a b", "its prefix contains ' '"),
        ("s3://lake/a//b", "its prefix has an empty part"),
        ("s3://lake/../b", "its prefix has an empty part, or a . or .. as one"),
        ("s3a://lake/b", "neither a folder nor a file:// or s3:// URL"),
        ("gs://lake/b", "neither a folder nor a file:// or s3:// URL"),
    ],
)
@pytest.mark.parametrize("variable", ["RAT_STORE", "RAT_WAREHOUSE"])
def test_a_url_that_names_no_place_is_refused_with_what_is_wrong(
    url: str, why: str, variable: str, tmp_path: Path
) -> None:
    (tmp_path / "dagster.yaml").touch()

    with pytest.raises(SettingsError, match=why) as caught:
        Settings.load({"DAGSTER_HOME": str(tmp_path), variable: url})

    assert variable in str(caught.value)
    assert "secret" not in str(caught.value)
