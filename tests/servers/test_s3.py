from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.servers import s3
from tests.servers.s3 import S3Server


def test_what_is_written_once_is_never_overwritten(
    s3_server: S3Server, bucket: str
) -> None:
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")

    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*")

    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_all_who_start_it_get_the_same_server(tmp_path: Path) -> None:
    first = s3.start(tmp_path)

    second = s3.start(tmp_path)

    assert second == first
    s3.stop(tmp_path)
    assert s3.running(tmp_path) is None
