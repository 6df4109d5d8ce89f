"""Asides: a branch that a process left is known by its name, and what somebody named is not."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from rat_resources.lake.asides import KINDS, LONGEST_LIFE, left, name_aside, since
from rat_resources.lake.refs import Refs


def test_what_is_over_its_time_is_left_over(refs: Refs) -> None:
    names = [name_aside(kind, id=uuid.uuid4()) for kind in KINDS]
    for name in (*names, "append-mine", "run-1"):
        refs.create(name)

    now = datetime.now(UTC)
    later = now + LONGEST_LIFE + timedelta(minutes=1)
    early = list(left(refs, now=now))
    late = [each.name for each in left(refs, now=later)]

    assert early == []
    assert sorted(late) == sorted(names)


@pytest.mark.parametrize(
    "name",
    ["main", "append-", "append-20261301T000000Z-x", "run-20260101T000000Z-x"],
)
def test_what_somebody_else_named_is_no_aside(name: str) -> None:
    assert since(name) is None
