"""Translations, as tables of cases: one run in the words of every schema."""

import pytest
from dagster import DagsterRunStatus

from rat_resources.metadata.runs import RunStatus
from rat_resources.mirror.translations import OF_DAGSTER, OF_RUN, Words, trigger_type

CASES = {
    "NOT_STARTED": Words("pending", "Queued", "running", None, "QUEUED"),
    "MANAGED": Words("pending", "Queued", "running", None, "QUEUED"),
    "QUEUED": Words("pending", "Queued", "running", None, "QUEUED"),
    "STARTING": Words("running", "Running", "running", None, "RUNNING"),
    "STARTED": Words("running", "Running", "running", None, "RUNNING"),
    "CANCELING": Words("running", "Running", "running", None, "RUNNING"),
    "SUSPENDED": Words("running", "Running", "running", None, "RUNNING"),
    "SUCCESS": Words("success", "Completed", "success", "SUCCEEDED", "COMPLETED"),
    "FAILURE": Words("failed", "Failed", "failed", "FAILED", "FAILED"),
    "CANCELED": Words("cancelled", "Canceled", "canceled", "CANCELLED", "CANCELED"),
}


@pytest.mark.parametrize(("status", "words"), CASES.items())
def test_a_dagster_run_has_a_word_in_every_schema(status: str, words: Words) -> None:
    assert OF_DAGSTER[status] == words


def test_no_status_of_dagster_is_without_words() -> None:
    assert set(OF_DAGSTER) == {each.value for each in DagsterRunStatus}


def test_a_run_of_ours_has_the_words_of_dagsters() -> None:
    assert set(OF_RUN) == set(RunStatus)
    assert all(words.rat == status for status, words in OF_RUN.items())
    assert set(OF_RUN.values()) == set(OF_DAGSTER.values())


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({}, "ONETIME"),
        ({"user": "ann"}, "ONETIME"),
        ({"dagster/schedule_name": "reports"}, "CRON"),
        ({"dagster/sensor_name": "landing"}, "FILE_ARRIVAL"),
        ({"dagster/auto_materialize": "true"}, "CONTINUOUS"),
        ({"dagster/from_automation_condition": "true"}, "CONTINUOUS"),
        ({"dagster/parent_run_id": "a"}, "ONETIME_RETRY"),
        ({"dagster/retry_number": "1"}, "ONETIME_RETRY"),
        ({"dagster/sensor_name": "s", "dagster/schedule_name": "c"}, "CRON"),
        ({"dagster/parent_run_id": "a", "dagster/schedule_name": "c"}, "ONETIME_RETRY"),
    ],
)
def test_a_retry_wins_over_a_schedule_over_a_sensor(
    tags: dict[str, str], word: str
) -> None:
    assert trigger_type(tags) == word
