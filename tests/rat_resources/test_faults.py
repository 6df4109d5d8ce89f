"""Faults: a process comes to harm where it was told to, and nowhere else."""

import pytest

from rat_resources import faults
from rat_resources.errors import LostAnswerError, MetadataError, SettingsError


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing was come to yet."""
    faults.come_to.clear()


def test_without_the_variable_no_step_does_harm() -> None:
    for step in faults.STEPS:
        faults.point(step)

    assert not faults.come_to


@pytest.mark.parametrize(
    ("fault", "error", "what"),
    [
        ("merge_sent:drop", LostAnswerError, "the connection was lost"),
        ("intent:error", MetadataError, "the server failed"),
    ],
)
def test_a_step_fails_as_its_server_would(
    monkeypatch: pytest.MonkeyPatch, fault: str, error: type[Exception], what: str
) -> None:
    monkeypatch.setenv(faults.VARIABLE, fault)
    step = fault.partition(":")[0]

    faults.point("lease")
    with pytest.raises(error, match=what):
        faults.point(step)
    faults.point(step)  # once is enough


def test_harm_comes_the_very_time_that_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(faults.VARIABLE, "commit:error:3")

    faults.point("commit")
    faults.point("commit")

    with pytest.raises(LostAnswerError):
        faults.point("commit")


@pytest.mark.parametrize(
    "fault", ["merge:drop", "commit", "commit:explode", "commit:kill:x"]
)
def test_a_fault_that_names_no_step_or_action_is_refused(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv(faults.VARIABLE, fault)

    with pytest.raises(SettingsError, match="names no fault; write STEP:ACTION"):
        faults.point("lease")
