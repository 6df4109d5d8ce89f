import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from rat_resources.external_runs import lines
from rat_resources.external_runs.lines import Line, Named, numbered, read_lines
from rat_resources.external_runs.rejects import Reject

GOOD = {"client": "acme", "pipeline": "orders", "id": "1", "status": "success"}


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    return path


def line(**more: Any) -> bytes:  # noqa: ANN401 - whatever a source says
    return json.dumps(GOOD | more).encode()


def read(tmp_path: Path, content: bytes, *, after: int = 0) -> list[Line | Reject]:
    return list(read_lines(write(tmp_path, content), after=after))


def told(read: list[Line | Reject]) -> list[tuple[int, str]]:
    """The number of each line, and its run or why it tells of none."""
    return [
        (each.number, each.event.external_run_id)
        if isinstance(each, Line)
        else (each.line, each.reason)
        for each in read
    ]


def test_marks_returns_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + line(id="a") + b"\r\n\r\n  \n" + line(id="b")

    assert told(read(tmp_path, content)) == [(1, "a"), (4, "b")]


def test_a_compressed_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    content = gzip.compress(line(id="a") + b"\n" + line(id="b") + b"\n")

    assert told(read(tmp_path, content)) == [(1, "a"), (2, "b")]


def test_a_compressed_file_that_breaks_off_is_read_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    packed = gzip.compress(b"".join(line(id=str(n)) + b"\n" for n in range(5000)))

    found = told(read(tmp_path, packed[: len(packed) // 2]))

    assert found[0] == (1, "0")
    assert "the file breaks off here" in found[-1][1]
    assert all("breaks off" not in each for _, each in found[:-1])


def test_reading_goes_on_behind_a_line(tmp_path: Path) -> None:
    content = b"\n".join([line(id="a"), b"", b"{", line(id="b")])

    assert told(read(tmp_path, content, after=3)) == [(4, "b")]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "the line is no JSON"),
        (b"id,status", "the line is no JSON"),
        (b'{"id": "\xff"}', "the line is not UTF-8 at its byte 9"),
        (b"[" * 100_000, "a nesting that is too large"),
        (b'{"id": 1' + b"0" * 5000 + b"}", "a number"),
        (b"[1]", "an event is a JSON object, and this is a list"),
        (b"null", "an event is a JSON object, and this is null"),
        (line(client=""), "there is no client"),
        (line(pipeline=None), "there is no pipeline"),
        (line(client=7), "client is a number"),
        (line(client="x" * 256), "client has more than 255"),
        (line(pipeline="orders (rat)"), "no pipeline of others"),
        (line(platform="airflw"), "platform is none of airflow, dbt"),
        (line(environment="moon"), "environment is none of"),
        (line(id=None), "neither external_run_id nor id"),
        (line(finished_at="soon"), "finished_at is no time"),
    ],
)
def test_a_bad_line_is_told_and_the_next_one_follows(
    tmp_path: Path, content: bytes, why: str
) -> None:
    bad, good = told(read(tmp_path, content + b"\n" + line(id="next")))

    assert bad[0] == 1
    assert why in bad[1]
    assert good == (2, "next")


def test_a_line_without_end_is_told_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 1000)
    content = b"x" * 1_000_000 + b"\n" + line(id="next")

    bad, good = read(tmp_path, content)

    assert isinstance(bad, Reject)
    assert "more than" in bad.reason
    assert len(bad.raw) <= 4000
    assert told([good]) == [(2, "next")]


def test_of_a_line_without_end_only_the_beginning_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 1000)

    contents = [each for _, each in numbered(io.BytesIO(b"x" * 100_000))]

    assert [len(each) for each in contents if isinstance(each, bytes)] == [1001]


def test_what_a_bad_line_says_is_kept_without_its_secrets(tmp_path: Path) -> None:
    content = line(id=None, token="hunter2") + b"\n{password=hunter2"  # noqa: S106

    found = read(tmp_path, content)

    assert [each.raw for each in found if isinstance(each, Reject)] == [
        json.dumps(GOOD | {"id": None, "token": "***"}),
        "{password=***",
    ]


def test_a_line_may_say_what_its_pipeline_is(tmp_path: Path) -> None:
    (first, second) = read(
        tmp_path,
        line()
        + b"\n"
        + line(
            client=" beta ",
            platform="Airflow",
            pipeline_type="export",
            environment="dev",
        ),
    )

    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert first.named == Named("acme", "orders")
    assert second.named == Named("beta", "orders", "airflow", "export", "dev")
