"""A pipeline's configuration: what each key means, and who says it.

An annotation overrules config.yaml, which overrules the default, field by field. Nothing falls
back silently: a key or a value that makes no sense is a problem with its line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

from rat_resources.annotations import Annotation, unknown_key
from rat_resources.charts import (
    AGGREGATES,
    KINDS,
    MOST_CHARTS,
    ORDERS,
    SCALES,
    Chart,
    misfits,
)
from rat_resources.columns import Column, read_columns
from rat_resources.errors import Problem
from rat_resources.guards import KNOW_CHANGED, Guard, read_guard
from rat_resources.names import is_name, nearest
from rat_resources.retention import PipelineRetention, read_retention
from rat_resources.values import (
    ListReader,
    Located,
    Reader,
    UnfitError,
    count,
    filled_text,
    flag,
    one_of,
    read_yaml,
    text,
)

STRATEGIES = (
    "full_refresh",
    "incremental",
    "append_only",
    "delete_insert",
    "scd2",
    "snapshot",
)
# What a strategy cannot work without.
NEEDED = {
    "incremental": "unique_key",
    "delete_insert": "unique_key",
    "scd2": "unique_key",
    "snapshot": "partition_column",
}
TRANSFORMS = ("identity", "year", "month", "day", "hour", "bucket", "truncate")
TRANSFORMS_WITH_WIDTH = ("bucket", "truncate")
TRIGGER_TYPES = ("landing_zone_upload", "file_pattern")
CRON_FIELDS = 5
FILE_SIZE = re.compile(r"(\d+) ?(MB|GB)", re.IGNORECASE)
LEAST_FILE, LARGEST_FILE = 10**6, 10**10


@dataclass(frozen=True)
class Partition:
    """One field of the table's Iceberg partition spec."""

    column: str
    transform: str = "identity"
    width: int | None = None


@dataclass(frozen=True)
class Sorting:
    """One column that the rows of each file are sorted by."""

    column: str
    descending: bool = False


@dataclass(frozen=True)
class Schedule:
    """A clock that asks for runs."""

    cron: str
    timezone: str = "UTC"
    catch_up: str = "last"
    overlap: str = "wait"
    enabled: bool = True


@dataclass(frozen=True)
class Trigger:
    """An event that asks for runs."""

    type: str
    namespace: str
    zone_name: str
    pattern: str = ""
    cooldown_seconds: int = 0
    enabled: bool = True


@dataclass(frozen=True)
class PipelineConfig:
    """Everything that an author may say about a pipeline beside its code."""

    description: str = ""
    owner: str = ""
    materialized: str = "table"
    merge_strategy: str = "full_refresh"
    unique_key: tuple[str, ...] = ()
    watermark_column: str = ""
    partition_column: str = ""
    partition_by: tuple[Partition, ...] = ()
    sort_by: tuple[Sorting, ...] = ()
    target_file_size: int | None = None  # bytes
    scd_valid_from: str = "valid_from"
    scd_valid_to: str = "valid_to"
    scd_close_missing: bool = False
    archive_landing_zones: bool = False
    on_empty: Literal["publish", "keep", "fail"] = "publish"
    on_schema_change: Literal["evolve", "fail", "ignore"] = "evolve"
    write_mode: Literal["auto", "merge_on_read", "copy_on_write"] = "auto"
    contract: Literal["none", "enforced"] = "none"
    max_retries: int = 0
    retry_delay_seconds: int | None = None  # None: longer with each failure
    automation: str = (
        ""  # "": eager or none, by what the pipeline reads (resolved in the spec)
    )
    schedules: tuple[Schedule, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    charts: tuple[Chart, ...] = ()
    columns: tuple[Column, ...] = ()
    guard: Guard = field(default_factory=Guard)
    retention: PipelineRetention = field(default_factory=PipelineRetention)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "PipelineConfig":
        """The configuration that `dataclasses.asdict` once wrote."""
        values = dict(document)
        values["unique_key"] = tuple(values["unique_key"])
        values["partition_by"] = tuple(
            Partition(**each) for each in values["partition_by"]
        )
        values["sort_by"] = tuple(Sorting(**each) for each in values.get("sort_by", ()))
        values["schedules"] = tuple(Schedule(**each) for each in values["schedules"])
        values["triggers"] = tuple(Trigger(**each) for each in values["triggers"])
        # What was stored before there were charts has none.
        values["charts"] = tuple(map(Chart.from_json, values.get("charts", ())))
        # A release of an older RAT knows none of these.
        values["columns"] = tuple(map(Column.from_json, values.get("columns", ())))
        values["guard"] = Guard.from_json(values.get("guard", {}))
        values["retention"] = PipelineRetention.from_json(values.get("retention", {}))
        return cls(**values)


KEYS = tuple(each.name for each in fields(PipelineConfig))
# Lists of mappings do not fit into a comment.
FILE_ONLY = (
    "partition_by",
    "schedules",
    "triggers",
    "charts",
    "columns",
    "guard",
    "retention",
)
# What only says who is asked, or when it runs, does not change what comes out.
WITHOUT_EFFECT = (
    "description",
    "sort_by",
    "target_file_size",
    "owner",
    "archive_landing_zones",
    "max_retries",
    "retry_delay_seconds",
    "automation",
    "schedules",
    "triggers",
    "charts",
    "columns",
    "contract",
    "guard",
    "retention",
    "write_mode",
)


@dataclass(frozen=True)
class Place:
    """Where something is written."""

    path: str
    line: int


@dataclass(frozen=True)
class Configuration:
    """A read configuration, and where each of its keys was written."""

    config: PipelineConfig
    places: Mapping[str, Place] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def read_configuration(
    annotations: Sequence[Annotation],
    *,
    code_path: str,
    config_path: str,
    config_text: str | None,
    namespace: str,
) -> Configuration:
    """Read what the annotations and config.yaml say together, with everything that is wrong."""
    problems: list[Problem] = []
    said: dict[str, tuple[Located, Place]] = {}
    for key, value in read_yaml(config_text or "", path=config_path, problems=problems):
        if key in KEYS:
            said[key] = (value, Place(config_path, value.line))
        else:
            problems.append(
                unknown_key(key, path=config_path, line=value.line, known=KEYS)
            )
    for each in annotations:
        if each.key in FILE_ONLY:
            problems.append(
                Problem(
                    code_path,
                    each.line,
                    f"@{each.key} cannot be an annotation",
                    "write it in config.yaml",
                )
            )
        else:
            said[each.key] = (
                Located(each.value, each.line),
                Place(code_path, each.line),
            )
    values = {}
    for key, (value, place) in said.items():
        try:
            values[key] = READERS[key](value, namespace)
        except UnfitError as error:
            problems += [
                Problem(
                    place.path, each.line or place.line, f"{key}: {each.what}", each.fix
                )
                for each in (error, *error.more)
            ]
    places = {key: place for key, (_, place) in said.items()}
    config = PipelineConfig(**values)
    broken = said.keys() - values.keys()
    problems += check_together(
        config, places=places, broken=broken, code_path=code_path
    )
    return Configuration(config, places, tuple(problems))


def check_together(
    config: PipelineConfig,
    *,
    places: Mapping[str, Place],
    broken: set[str],
    code_path: str,
) -> Iterator[Problem]:
    """What is wrong only in combination: a strategy without its key, a view that merges."""
    strategy = config.merge_strategy
    at = places.get("merge_strategy", Place(code_path, 1))
    needed = NEEDED.get(strategy)
    if needed and not getattr(config, needed) and needed not in broken:
        yield Problem(
            at.path,
            at.line,
            f"merge_strategy {strategy} needs {needed}",
            f"add @{needed}: COLUMN, or {needed} to config.yaml",
        )
    if config.materialized == "view" and strategy != "full_refresh":
        yield Problem(
            at.path,
            at.line,
            f"a view keeps no rows, so it cannot have merge_strategy {strategy}",
            "remove merge_strategy, or write materialized: table",
        )
    if config.materialized == "view" and config.partition_by:
        at = places["partition_by"]
        yield Problem(
            at.path,
            at.line,
            "a view owns no files, so it cannot have partition_by",
            "remove partition_by, or write materialized: table",
        )
    if config.materialized == "view" and config.contract == "enforced":
        at = places["contract"]
        yield Problem(
            at.path,
            at.line,
            "contract: a view has no table whose columns could stay as they are",
            "remove it, or write materialized: table",
        )
    for key in ("sort_by", "target_file_size"):
        if config.materialized == "view" and key in places:
            at = places[key]
            yield Problem(
                at.path,
                at.line,
                f"a view owns no files, so it cannot have {key}",
                f"remove {key}, or write materialized: table",
            )
    if "guard" in places:
        yield from check_guard(config, at=places["guard"])
    if strategy == "scd2" and config.scd_valid_from == config.scd_valid_to:
        at = places.get("scd_valid_to") or places.get("scd_valid_from") or at
        yield Problem(
            at.path,
            at.line,
            f"scd_valid_from and scd_valid_to are both {config.scd_valid_from}",
            "give them two names",
        )


def check_guard(config: PipelineConfig, *, at: Place) -> Iterator[Problem]:
    """A guard of what nobody knows."""
    strategy = config.merge_strategy
    if config.materialized == "view":
        what = "guard: a view has no rows of its own to guard"
        yield Problem(at.path, at.line, what, "remove it, or write materialized: table")
    elif config.guard.max_changed and strategy not in KNOW_CHANGED:
        what = f"guard: max_changed: {strategy} does not know which rows it changes"
        fix = f"remove it, or choose a strategy that knows: {', '.join(KNOW_CHANGED)}"
        yield Problem(at.path, at.line, what, fix)


# What each key takes.


def columns(located: Located, namespace: str = "") -> tuple[str, ...]:
    """One or more columns: `a, b`, or a YAML list."""
    if isinstance(located.value, tuple):
        names = tuple(filled_text(each, namespace) for each in located.value)
    else:
        names = tuple(
            part.strip() for part in filled_text(located, namespace).split(",")
        )
    if not names or "" in names:
        what, fix = "a column has no name", "write column, column"
        raise UnfitError(what, fix)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        what = f"column {twice} is named twice"
        raise UnfitError(what, "name it once")
    return names


def sorting(located: Located, namespace: str = "") -> tuple[Sorting, ...]:
    """Columns to sort by: `day, amount desc`, or a YAML list."""
    found = tuple(map(one_sorting, columns(located, namespace)))
    names = [each.column for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        what = f"column {twice} is named twice"
        raise UnfitError(what, "name it once")
    return found


def one_sorting(words: str) -> Sorting:
    """A column, and whether it descends."""
    column, _, direction = words.rpartition(" ")
    if column and direction.lower() in ("asc", "desc"):
        return Sorting(column.strip(), direction.lower() == "desc")
    return Sorting(words)


def file_size(located: Located, namespace: str = "") -> int:
    """The size of a file: 64MB, 1GB."""
    is_number = isinstance(located.value, int | float)
    value = str(located.value) if is_number else filled_text(located, namespace)
    found = FILE_SIZE.fullmatch(value)
    size = (
        int(found[1]) * (10**6 if found[2].upper() == "MB" else 10**9) if found else 0
    )
    if not LEAST_FILE <= size <= LARGEST_FILE:
        what = f"{value!r} is no size of a file between 1MB and 10GB"
        raise UnfitError(what, "write 256MB, for example")
    return size


def cron(located: Located, namespace: str = "") -> str:
    """A five-field cron expression."""
    value = filled_text(located, namespace)
    if len(value.split()) != CRON_FIELDS or not croniter.is_valid(value):
        what = f"{value!r} is no five-field cron expression"
        raise UnfitError(
            what, "write minute hour day month weekday, such as '0 6 * * *'"
        )
    return value


def time_zone(located: Located, namespace: str = "") -> str:
    """The name of a time zone, such as Europe/Berlin."""
    value = filled_text(located, namespace)
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        guess = nearest(value, available_timezones())
        what = f"there is no time zone {value!r}"
        fix = (
            f"did you mean {guess}?" if guess else "write a name such as Europe/Berlin"
        )
        raise UnfitError(what, fix) from error
    return value


def name(located: Located, namespace: str = "") -> str:
    """The name of a namespace or zone."""
    value = filled_text(located, namespace)
    if not is_name(value):
        what = f"{value!r} is no name"
        raise UnfitError(
            what, "use lower-case letters, digits, _ and -, starting with a letter"
        )
    return value


def make_partition(values: dict[str, Any], namespace: str) -> Partition:
    """A partition field whose width fits its transform."""
    del namespace
    partition = Partition(**values)
    wants_width = partition.transform in TRANSFORMS_WITH_WIDTH
    if wants_width and not partition.width:
        what = f"transform {partition.transform} needs a width of one or more"
        raise UnfitError(what, "add width: 16")
    if partition.width is not None and not wants_width:
        what = f"transform {partition.transform} takes no width"
        raise UnfitError(what, "remove width")
    return partition


def make_schedule(values: dict[str, Any], namespace: str) -> Schedule:
    """A schedule."""
    del namespace
    return Schedule(**values)


def make_trigger(values: dict[str, Any], namespace: str) -> Trigger:
    """A trigger, of a zone in the pipeline's own namespace unless it names another."""
    trigger = Trigger(**{"namespace": namespace} | values)
    if trigger.type == "file_pattern" and not trigger.pattern:
        raise UnfitError("file_pattern needs a pattern", "add pattern: '*.csv'")
    return trigger


def make_chart(values: dict[str, Any], namespace: str) -> Chart:
    """A chart whose words go together."""
    del namespace
    chart = Chart(**values)
    found = [UnfitError(what, fix) for what, fix in misfits(chart)]
    if found:
        raise UnfitError.of(found)
    return chart


def charts(located: Located, namespace: str = "") -> tuple[Chart, ...]:
    """A few charts."""
    found: tuple[Chart, ...] = CHARTS(located, namespace)
    if len(found) > MOST_CHARTS:
        what = f"{len(found)} charts are more than a table may have"
        raise UnfitError(what, f"keep {MOST_CHARTS}")
    return found


CHARTS = ListReader(
    {
        "title": filled_text,
        "kind": one_of(*KINDS),
        "x": filled_text,
        "y": columns,
        "series": filled_text,
        "panels": filled_text,
        "value": filled_text,
        "label": filled_text,
        "from_x": filled_text,
        "from_y": filled_text,
        "from_label": filled_text,
        "aggregate": one_of(*AGGREGATES),
        "order": one_of(*ORDERS),
        "limit": count,
        "unit": filled_text,
        "scale": one_of(*SCALES),
    },
    required=["title", "kind", "x", "y"],
    make=make_chart,
    identity=lambda chart: chart.title,
)


READERS: Mapping[str, Reader] = {
    "description": text,
    "owner": text,
    "materialized": one_of("table", "view"),
    "merge_strategy": one_of(*STRATEGIES),
    "unique_key": columns,
    "watermark_column": filled_text,
    "partition_column": filled_text,
    "partition_by": ListReader(
        {"column": filled_text, "transform": one_of(*TRANSFORMS), "width": count},
        required=["column"],
        make=make_partition,
    ),
    "sort_by": sorting,
    "target_file_size": file_size,
    "scd_valid_from": filled_text,
    "scd_valid_to": filled_text,
    "scd_close_missing": flag,
    "archive_landing_zones": flag,
    "on_empty": one_of("publish", "keep", "fail"),
    "on_schema_change": one_of("evolve", "fail", "ignore"),
    "write_mode": one_of("auto", "merge_on_read", "copy_on_write"),
    "contract": one_of("none", "enforced"),
    "max_retries": count,
    "retry_delay_seconds": count,
    "automation": one_of("eager", "none"),
    "schedules": ListReader(
        {
            "cron": cron,
            "timezone": time_zone,
            "catch_up": one_of("last", "all", "none"),
            "overlap": one_of("wait", "skip"),
            "enabled": flag,
        },
        required=["cron"],
        make=make_schedule,
        identity=lambda schedule: (schedule.cron, schedule.timezone),
    ),
    "triggers": ListReader(
        {
            "type": one_of(*TRIGGER_TYPES),
            "namespace": name,
            "zone_name": name,
            "pattern": filled_text,
            "cooldown_seconds": count,
            "enabled": flag,
        },
        required=["type", "zone_name"],
        make=make_trigger,
        identity=lambda trigger: (
            trigger.type,
            trigger.namespace,
            trigger.zone_name,
            trigger.pattern,
        ),
    ),
    "charts": charts,
    "columns": read_columns,
    "guard": read_guard,
    "retention": read_retention,
}
