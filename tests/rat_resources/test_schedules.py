from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources import schedules, wishes
from rat_resources.metadata import Metadata
from rat_resources.metadata.automation import Schedule, Wish
from tests.rat_resources.rows import make_pipeline, make_run

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOURLY = "0 * * * *"


def times(cron: str, *, after: str, count: int) -> list[str]:
    found, now = [], datetime.fromisoformat(after)
    for _ in range(count):
        now = schedules.next_time(cron, timezone="Europe/Berlin", after=now)
        found.append(now.strftime("%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # Forward on the 29th: 02:30 does not exist, and is served as the clock has jumped.
        ("30 2 * * *", "2026-03-27T12:00+00:00", ["28 01:30", "29 01:30", "30 00:30"]),
        # Back on the 25th: 02:30 comes twice, and is served once.
        ("30 2 * * *", "2026-10-23T12:00+00:00", ["24 00:30", "25 00:30", "26 01:30"]),
        ("0 * * * *", "2026-10-24T23:30+00:00", ["25 00:00", "25 01:00", "25 02:00"]),
        ("0 * * * *", "2026-03-28T23:30+00:00", ["29 00:00", "29 01:00", "29 02:00"]),
        (
            "*/30 * * * *",
            "2026-10-25T00:10+00:00",
            ["25 00:30", "25 01:00", "25 01:30"],
        ),
    ],
)
def test_a_schedule_keeps_wall_time_through_changes_of_the_clock(
    cron: str, after: str, expected: list[str]
) -> None:
    assert times(cron, after=after, count=3) == expected


@pytest.mark.parametrize(
    ("catch_up", "fires", "following"),
    [("last", 12, 13), ("all", 9, 10), ("none", 12, 13)],
)
def test_missed_times_are_caught_up_as_the_schedule_says(
    catch_up: str, fires: int, following: int
) -> None:
    turn = schedules.decide(
        cron=HOURLY,
        timezone="UTC",
        catch_up=catch_up,
        next_run_at=NOON - timedelta(hours=3),
        now=NOON,
    )

    assert turn.fires == NOON.replace(hour=fires)
    assert turn.next_run_at == NOON.replace(hour=following)


def test_a_time_that_is_not_to_be_caught_up_is_left_out() -> None:
    late = NOON + timedelta(minutes=20)

    turn = schedules.decide(
        cron=HOURLY, timezone="UTC", catch_up="none", next_run_at=NOON, now=late
    )

    assert turn.fires is None


def make_schedule(tx: Session, **values: object) -> Schedule:
    row = Schedule(pipeline_id=make_pipeline(tx), cron_expr=HOURLY, **values)
    tx.add(row)
    tx.flush()
    return row


def test_a_new_schedule_learns_its_time_and_fires_once_when_it_comes(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        row = make_schedule(tx)
        first = schedules.fire_due(tx, now=NOON)
        due = NOON + timedelta(hours=1)
        second = schedules.fire_due(tx, now=due)
        third = schedules.fire_due(tx, now=due)
        (wish,) = tx.scalars(select(Wish))

        assert (first, third) == ([], [])
        assert second == [wish.id]
        assert wish.label == "schedule:0 * * * *"
        assert wish.reason == f"schedule:{row.id}:{due.isoformat()}"
        assert row.last_run_at == due


def test_a_schedule_that_does_not_overlap_skips_while_its_pipeline_is_active(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        row = make_schedule(tx, overlap="skip", next_run_at=NOON)
        fired = schedules.fire_due(tx, now=NOON, active=[row.pipeline_id])

        assert fired == []
        assert row.next_run_at == NOON + timedelta(hours=1)


def test_all_missed_times_are_served_one_after_the_other(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        row = make_schedule(tx, catch_up="all", next_run_at=NOON - timedelta(hours=2))
        counts = []
        for _ in range(4):
            counts.append(len(schedules.fire_due(tx, now=NOON)))
            counts.append(len(schedules.fire_due(tx, now=NOON)))
            run_id = make_run(tx, row.pipeline_id)
            wishes.take(tx, row.pipeline_id, run_id=run_id, dagster_run_id=None)
            wishes.finish(tx, run_id)

    assert counts == [1, 0, 1, 0, 1, 0, 0, 0]
