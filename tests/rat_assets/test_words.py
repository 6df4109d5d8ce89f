"""Words: a stranger reads what a pipeline does and when, without knowing our keys."""

from typing import Any

import pytest

from rat_assets.words import say_cron, say_strategy, say_when
from rat_resources.configuration import (
    Partition,
    PipelineConfig,
    Schedule,
    Trigger,
)
from rat_resources.names import TableName
from rat_resources.specs import PipelineSpec


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 6 * * *", "every day at 06:00"),
        ("30 18 * * 1-5", "Monday to Friday at 18:30"),
        ("0 7 * * 0", "every Sunday at 07:00"),
        ("0 7 * * 7", "every Sunday at 07:00"),
        ("15 3 1 * *", "on day 1 of every month at 03:15"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("10 * * * *", "every hour at minute 10"),
        ("0,30 * * * *", "at cron 0,30 * * * *"),
        ("0 6 1 1 *", "at cron 0 6 1 1 *"),
        ("0 6-9 * * *", "at cron 0 6-9 * * *"),
        ("0 6 * * MON", "at cron 0 6 * * MON"),
    ],
)
def test_a_usual_clock_is_said_in_words(cron: str, words: str) -> None:
    assert say_cron(cron) == words


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "each run replaces the whole table"),
        ({"materialized": "view"}, "a view: owns no rows"),
        (
            {"merge_strategy": "incremental", "unique_key": ("a", "b")},
            "each run adds rows and replaces those with the same (a, b)",
        ),
        (
            {"merge_strategy": "append_only", "watermark_column": "at"},
            "each run adds rows; reads on from the greatest at",
        ),
        (
            {
                "merge_strategy": "snapshot",
                "partition_column": "day",
                "partition_by": (Partition("day", "bucket", 8), Partition("city")),
            },
            "each run replaces all rows of every day that it brings; "
            "partitioned by bucket(day, 8), city",
        ),
        ({"merge_strategy": "scd2", "unique_key": ("id",)}, "keeps every version"),
        (
            {"merge_strategy": "delete_insert", "unique_key": ("id",)},
            "each run replaces all rows of every id that it brings",
        ),
    ],
)
def test_a_strategy_is_said_in_words(config: dict[str, Any], words: str) -> None:
    assert say_strategy(PipelineConfig(**config)).startswith(words)


def make_spec(automation: str = "none", **config: Any) -> PipelineSpec:  # noqa: ANN401 - fields
    return PipelineSpec(
        table=TableName("shop", "silver", "orders"),
        type="sql",
        config=PipelineConfig(**config),
        automation=automation,
        code_version="1",
        refs=(TableName("shop", "bronze", "orders"),),
    )


def test_clocks_events_and_tables_are_all_said() -> None:
    spec = make_spec(
        "eager",
        schedules=(Schedule("0 6 * * *"), Schedule("0 7 * * *", enabled=False)),
        triggers=(
            Trigger("landing_zone_upload", "shop", "orders", "*.csv", 60),
            Trigger("landing_zone_upload", "shop", "orders", enabled=False),
        ),
    )

    assert say_when(spec) == (
        "every day at 06:00 UTC; "
        "when a file like *.csv lands in shop/orders, at most every 60 s; "
        "when shop.bronze.orders is published"
    )


def test_what_nothing_runs_is_run_by_somebody() -> None:
    assert say_when(make_spec()) == "only when somebody runs it"
