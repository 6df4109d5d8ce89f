import json
from datetime import UTC, datetime
from typing import Any

import pytest

from rat_resources.errors import EventError
from rat_resources.external_runs.events import CLOCK_WENT_BACK, RunEvent, read_event

START = "2026-03-01T10:00:00Z"


def read(**raw: Any) -> RunEvent:  # noqa: ANN401 - whatever a source says
    return read_event({"id": "r1", "status": "success"} | raw)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("running", "running"),
        ("in_progress", "running"),
        ("queued", "running"),
        (" Pending ", "running"),
        ("SUCCESS", "success"),
        ("succeeded", "success"),
        ("completed", "success"),
        ("failed", "failed"),
        ("failure", "failed"),
        ("error", "failed"),
        ("errored", "failed"),
        ("canceled", "canceled"),
        ("cancelled", "canceled"),
        ("Aborted", "canceled"),
        ("skipped", "skipped"),
    ],
)
def test_a_status_is_read_whatever_its_spelling(said: str, status: str) -> None:
    event = read(status=said)

    assert (event.status, event.status_reason) == (status, None)


@pytest.mark.parametrize("said", [None, "", "  "])
def test_a_missing_status_is_a_failure_with_its_reason(said: str | None) -> None:
    event = read(status=said)

    assert event.status == "failed"
    assert event.status_reason is not None
    assert event.status_reason.startswith("Missing source status")


@pytest.mark.parametrize("said", ["retrying", 7, True, ["x"]])
def test_an_unknown_status_is_a_failure_that_names_it(said: object) -> None:
    event = read(status=said)

    assert event.status == "failed"
    assert event.status_reason is not None
    assert repr(str(said)) in event.status_reason
    assert event.payload["status"] == said


def test_what_the_source_gives_as_reason_wins() -> None:
    assert read(status="odd", status_reason="by hand").status_reason == "by hand"


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("2026-03-01T10:00:00Z", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T10:00:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01 12:00:00.5+02:00", datetime(2026, 3, 1, 10, 0, 0, 500_000, UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_a_time_without_a_zone_is_in_utc(
    said: str | None, moment: datetime | None
) -> None:
    assert read(started_at=said).started_at == moment


@pytest.mark.parametrize(
    "raw",
    [
        {"started_at": 1_700_000_000},
        {"started_at": "yesterday"},
        {"finished_at": "2026-13-01T00:00:00Z"},
        {"finished_at": "0001-01-01T00:00:00+14:00"},
        {"finished_at": "9999-12-31T23:59:59-14:00"},
        {"rows_processed": "many"},
        {"rows_processed": -1},
        {"rows_processed": 1.5},
        {"rows_processed": 2**63},
        {"rows_processed": 10**4000},
        {"rows_processed": True},
        {"rows_processed": float("nan")},
        {"rows_processed": [1]},
        {"duration_seconds": 2**31},
        {"duration_seconds": 1e300},
        {"duration_seconds": "1h"},
        {"id": True},
        {"id": {"a": 1}},
        {"id": "", "external_run_id": None},
        {"id": "x" * 256},
    ],
)
def test_what_cannot_be_read_is_an_error_of_that_field(raw: dict[str, Any]) -> None:
    with pytest.raises(EventError, match=next(iter(raw))):
        read(**raw)


@pytest.mark.parametrize("raw", [None, 1, "run", ["run"], True])
def test_an_event_that_is_no_object_is_an_error(raw: object) -> None:
    with pytest.raises(EventError, match="JSON object"):
        read_event(raw)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ({"external_run_id": "e", "id": "i"}, "e"),
        ({"external_run_id": "", "id": " i "}, "i"),
        ({"external_run_id": None, "id": 42}, "42"),
        ({"external_run_id": "a\0b"}, "a␀b"),
        ({"external_run_id": "a\ud800"}, "a?"),
    ],
)
def test_the_external_id_comes_first_and_then_the_id(
    raw: dict[str, Any], name: str
) -> None:
    assert read(**raw).external_run_id == name


@pytest.mark.parametrize(
    ("said", "rows"),
    [("12", 12), (" 12 ", 12), (12.0, 12), (1e3, 1000), ("", None), (None, None)],
)
def test_whole_numbers_may_be_texts(said: object, rows: int | None) -> None:
    assert read(rows_processed=said).rows_processed == rows


@pytest.mark.parametrize(("said", "seconds"), [(1.9, 1), ("2.5", 2), (0, 0)])
def test_a_duration_is_in_whole_seconds(said: object, seconds: int) -> None:
    assert read(duration_seconds=said).duration_seconds == seconds


def test_a_duration_that_is_not_told_comes_from_the_times() -> None:
    event = read(started_at=START, finished_at="2026-03-01T10:01:30.9Z")

    assert event.duration_seconds == 90


def test_a_clock_that_went_backwards_costs_the_duration_and_nothing_else() -> None:
    times = {"started_at": START, "finished_at": "2026-03-01T09:59:00Z"}

    derived, told = read(**times), read(duration_seconds=-60)
    mended = read(
        duration_seconds=-1, started_at=START, finished_at="2026-03-01T10:00:05Z"
    )

    assert derived.started_at is not None
    assert derived.finished_at is not None
    assert derived.started_at > derived.finished_at
    assert [derived.duration_seconds, told.duration_seconds] == [None, None]
    assert derived.status_reason == told.status_reason == CLOCK_WENT_BACK
    assert (mended.duration_seconds, mended.status_reason) == (5, None)


def test_the_whole_event_is_its_payload_without_secrets() -> None:
    raw = {
        "id": "r1",
        "status": "failed",
        "error_message": "login postgres://u:hunter2@db/x refused for s3cr3t",
        "conf": {"Authorization": "Basic aGk=", "api_key": "k", "tokens": 3},
        "log": ["Bearer abcdefghij", "s3cr3t", float("inf"), "a\0b"],
    }

    event = read_event(raw, secrets=["s3cr3t"])

    assert event.payload == {
        "id": "r1",
        "status": "failed",
        "error_message": "login postgres://u:***@db/x refused for ***",
        "conf": {"Authorization": "***", "api_key": "***", "tokens": 3},
        "log": ["Bearer ***", "***", "inf", "a␀b"],
    }
    assert event.error_message == event.payload["error_message"]


def test_a_payload_keeps_within_bounds_and_says_so() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]

    large = read(note="kept", blob="x" * 1_000_000)
    nested = read(deep=deep)

    assert large.payload["id"] == "r1"
    assert large.payload["note"] == "kept"
    assert "_truncated" in large.payload
    assert "blob" not in large.payload
    assert len(json.dumps(nested.payload)) < 200


def test_a_run_that_goes_on_has_no_end_yet() -> None:
    event = read(status="running", started_at=START, finished_at=START)

    assert event.finished_at is None
    assert event.duration_seconds is None
    assert event.payload["finished_at"] == START
