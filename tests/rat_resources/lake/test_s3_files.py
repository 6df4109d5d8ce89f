"""Files of the lake in S3: footers by one request, drafts that never were, and orphans removed."""

import duckdb
import pytest

from rat_resources.lake.locations import read_footer, remove_files
from rat_resources.lake.s3_files import S3FileIO, extension, let_in
from rat_resources.places import S3Place
from rat_resources.s3_store import S3Store


def test_the_extension_comes_with_the_wheel_and_loads(bucket: str) -> None:
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        assert let_in(connection)

    assert extension() is not None


@pytest.mark.parametrize("columns", [1, 900])
def test_a_footer_is_read_whole_however_long_it_is(bucket: str, columns: int) -> None:
    location = f"s3://{bucket}/x.parquet"
    select = ", ".join(f"range AS a_rather_long_name_{n}" for n in range(columns))
    with duckdb.connect() as connection:
        let_in(connection)
        connection.execute(f"COPY (SELECT {select} FROM range(9)) TO '{location}'")

    footer, size = read_footer(location, io=S3FileIO())

    assert (footer.num_rows, footer.num_columns) == (9, columns)
    assert size == len(S3Store(S3Place(bucket)).read("x.parquet"))


def test_a_file_whose_writer_fails_never_was(bucket: str) -> None:
    files, location = S3FileIO(), f"s3://{bucket}/x.avro"

    def write_half() -> None:
        with files.new_output(location).create() as draft:
            draft.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()

    assert not files.new_input(location).exists()
    with pytest.raises(FileNotFoundError):
        files.new_input(location).open()


def test_what_a_failed_write_left_is_removed_and_nothing_else(bucket: str) -> None:
    store = S3Store(S3Place(bucket))
    for key in ("t/data/mine-1.parquet", "t/data/p=1/mine-2.parquet", "t/data/other"):
        store.write(key, b"")

    remove_files(f"s3://{bucket}/t/data", start="mine-")

    assert store.list() == ["t/data/other"]
