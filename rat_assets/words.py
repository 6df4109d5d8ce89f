"""Words: what a pipeline does to its table and when it runs, as people say it.

What the keys mean is `rat_resources.configuration`; acting on them is `rat_sensors`.
"""

from collections.abc import Sequence

from rat_resources.configuration import (
    Partition,
    PipelineConfig,
    Schedule,
    Trigger,
)
from rat_resources.specs import PipelineSpec

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
SUNDAY = 7  # as cron also writes it


def say_strategy(config: PipelineConfig) -> str:
    """What a run does to the table."""
    if config.materialized == "view":
        return "a view: owns no rows, is computed wherever it is read"
    key = say_columns(config.unique_key)
    strategies = {
        "full_refresh": "each run replaces the whole table",
        "append_only": "each run adds rows",
        "incremental": f"each run adds rows and replaces those with the same {key}",
        "delete_insert": f"each run replaces all rows of every {key} that it brings",
        "snapshot": f"each run replaces all rows of every {config.partition_column} that it brings",
        "scd2": f"keeps every version of a row: one whose {key} comes with other values is closed "
        f"({config.scd_valid_to}) and opened anew ({config.scd_valid_from})",
    }
    parts = [strategies[config.merge_strategy]]
    if config.watermark_column:
        parts.append(f"reads on from the greatest {config.watermark_column}")
    if config.partition_by:
        fields = ", ".join(say_partition(field) for field in config.partition_by)
        parts.append(f"partitioned by {fields}")
    return "; ".join(parts)


def say_columns(columns: Sequence[str]) -> str:
    """Columns that are a key together."""
    return columns[0] if len(columns) == 1 else f"({', '.join(columns)})"


def say_partition(field: Partition) -> str:
    """One field of a partition spec."""
    if field.transform == "identity":
        return field.column
    width = "" if field.width is None else f", {field.width}"
    return f"{field.transform}({field.column}{width})"


def say_when(spec: PipelineSpec) -> str:
    """When a pipeline runs by itself."""
    config = spec.config
    causes = [
        *(say_schedule(each) for each in config.schedules if each.enabled),
        *(say_trigger(each) for each in config.triggers if each.enabled),
    ]
    if spec.automation == "eager" and spec.refs:
        causes.append(f"when {' or '.join(map(str, spec.refs))} is published")
    return "; ".join(causes) or "only when somebody runs it"


def say_trigger(trigger: Trigger) -> str:
    """An event that asks for runs."""
    zone = f"{trigger.namespace}/{trigger.zone_name}"
    what = f"a file like {trigger.pattern}" if trigger.pattern else "a file"
    wait = (
        f", at most every {trigger.cooldown_seconds} s"
        if trigger.cooldown_seconds
        else ""
    )
    return f"when {what} lands in {zone}{wait}"


def say_schedule(schedule: Schedule) -> str:
    """A clock that asks for runs."""
    return f"{say_cron(schedule.cron)} {schedule.timezone}"


def say_cron(cron: str) -> str:
    """A cron expression in words where it is a usual one, else as it is."""
    minute, hour, day, month, weekday = cron.split()
    if {hour, day, month, weekday} == {"*"}:
        return say_minutes(minute, cron=cron)
    days = say_days(day, weekday) if month == "*" else None
    if days is None or not (minute.isdecimal() and hour.isdecimal()):
        return f"at cron {cron}"
    return f"{days} at {int(hour):02}:{int(minute):02}"


def say_days(day: str, weekday: str) -> str | None:
    """The days of a cron expression; None where they are unusual ones."""
    if (day, weekday) == ("*", "*"):
        return "every day"
    if (day, weekday) == ("*", "1-5"):
        return "Monday to Friday"
    if day == "*" and weekday.isdecimal():
        return f"every {DAYS[int(weekday) % SUNDAY]}"
    if weekday == "*" and day.isdecimal():
        return f"on day {day} of every month"
    return None


def say_minutes(minute: str, *, cron: str) -> str:
    """The minutes of every hour."""
    if minute == "*":
        return "every minute"
    if minute.startswith("*/"):
        return f"every {minute.removeprefix('*/')} minutes"
    if minute.isdecimal():
        return f"every hour at minute {int(minute)}"
    return f"at cron {cron}"
