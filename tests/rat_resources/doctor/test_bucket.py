"""The doctor tries a bucket out, and leaves nothing there."""

from dataclasses import replace

from rat_resources.doctor import bucket as doctor
from rat_resources.doctor import storage
from rat_resources.doctor.findings import Level
from rat_resources.places import S3Place
from rat_resources.s3_store import S3Store
from rat_resources.settings import Settings
from tests.servers.s3 import S3Server


def test_a_bucket_with_versions_is_fine_and_nothing_stays_in_it(bucket: str) -> None:
    place = S3Place(bucket, "rat")

    found = [*doctor.examine("store", place)]

    assert {each.level for each in found} == {Level.OK}
    assert "store conditional puts" in {each.part for each in found}
    assert S3Store(S3Place(bucket)).list() == []


def test_a_bucket_without_versions_is_a_warning_with_the_command(
    s3_server: S3Server, bucket: str
) -> None:
    place = S3Place(s3_server.make_bucket(versioned=False), "rat")

    *_, versions = doctor.examine("store", place)

    assert versions.level is Level.WARNING
    assert "put-bucket-versioning" in versions.fix


def test_a_bucket_that_is_not_there_is_a_problem(bucket: str) -> None:
    (found,) = doctor.examine("store", S3Place(f"{bucket}-not"))

    assert found.level is Level.PROBLEM
    assert "make the bucket" in found.fix


def test_duckdb_is_seen_to_read_a_bucket_by_itself(
    bucket: str, settings: Settings
) -> None:
    on_s3 = replace(settings, warehouse=S3Place(bucket, "warehouse"))

    said = {each.part: each.level for each in storage.duckdb(on_s3)}

    assert said == {"DuckDB": Level.OK, "DuckDB httpfs": Level.OK}
