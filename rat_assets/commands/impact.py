"""Impact: all that depends on a table or a column, as a tree with what it comes to."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import click

from rat_assets.commands.display import count, duration, plural, print_json
from rat_assets.commands.lineage import AGAIN, drawn
from rat_assets.commands.opening import open_platform
from rat_assets.words import say_when
from rat_resources import impact
from rat_resources.alerts import definitions
from rat_resources.alerts.definitions import Definition
from rat_resources.impact import Impact, Reader, Why

Alerts = Mapping[str, Sequence[Definition]]

SHOWN_COLUMNS = 12


def show(name: str, *, as_json: bool) -> None:
    """Print all that reads a table, or a column of it."""
    with open_platform().metadata.transaction() as tx:
        found = impact.find(tx, name)
        alerts = alerts_on(found, definitions.load(tx))
    if as_json:
        print_json(as_object(found, alerts))
        return
    for line in describe(found, alerts):
        click.echo(line)


def alerts_on(found: Impact, defined: Sequence[Definition]) -> Alerts:
    """The alerts about each table, by their own word or by a pattern of pipelines."""
    names = [found.dataset, *(each.node.dataset for each in found.readers)]
    return {name: [each for each in defined if is_about(each, name)] for name in names}


def is_about(alert: Definition, dataset: str) -> bool:
    """Whether an alert is about a table."""
    patterns = alert.condition.get("pipelines")
    if isinstance(patterns, str):
        patterns = [patterns]
    if isinstance(patterns, list):
        return any(fnmatchcase(dataset, str(each)) for each in patterns)
    return str(alert.table) == dataset


# As a tree.


def describe(found: Impact, alerts: Alerts) -> Iterator[str]:
    """The tree and what it comes to, line by line."""
    rows = "" if found.rows is None else f"  {plural(found.rows, 'row')}"
    yield f"{found.name}{rows}"
    if not found.readers:
        yield "nothing reads it"
    seen: set[str] = set()
    yield from drawn(
        [block(found, each, alerts, seen) for each in found.of(found.dataset)]
    )
    yield from told(alerts[found.dataset], "alerts on it")
    if found.readers:
        yield ""
        yield from summary(found, alerts)


def block(found: Impact, reader: Reader, alerts: Alerts, seen: set[str]) -> list[str]:
    """A reader, what is to know of it, and below it who reads that; the second time only its name."""
    name, below = reader.node.dataset, found.of(reader.node.dataset)
    if name in seen:
        return [f"→ {name} {AGAIN}"]
    seen.add(name)
    inner = list(drawn([block(found, each, alerts, seen) for each in below]))
    stem = "│ " if below else "  "
    return [
        f"→ {name}  {facts(reader)}",
        *(f"{stem}{line}" for line in details(reader, alerts[name])),
        *inner,
    ]


def facts(reader: Reader) -> str:
    """The figures of a reader, and whose it is."""
    node = reader.node
    rows = "a view" if node.spec.is_view else "never made"
    if node.rows is not None and not node.spec.is_view:
        rows = plural(node.rows, "row")
    takes = "no full run yet" if not node.rebuilds else duration(node.rebuild_ms)
    return f"{rows}, {takes}, {node.spec.owner or 'nobody'}"


def details(reader: Reader, alerts: Sequence[Definition]) -> Iterator[str]:
    """What of a reader depends on it, when it runs, and who is told."""
    yield say_what(reader)
    yield f"runs {say_when(reader.node.spec)}"
    yield from told(alerts, "alerts")


def say_what(reader: Reader) -> str:
    """Which of its columns take values from what reached it, and what else depends on it."""
    columns = listed(reader.columns)
    match reader.why:
        case Why.ROWS:
            rows = "all of it: it chooses, joins, groups or orders its rows by it"
            return f"{rows}; values in {columns}" if columns else rows
        case Why.UNTOLD:
            return "all of it, for all that is known: its lineage is not"
        case _:
            return f"columns {columns}" if columns else "its rows"


def listed(names: Sequence[str]) -> str:
    """The first names."""
    more = len(names) - SHOWN_COLUMNS
    shown = ", ".join(names[:SHOWN_COLUMNS])
    return f"{shown} and {more} more" if more > 0 else shown


def told(alerts: Sequence[Definition], what: str) -> Iterator[str]:
    """The alerts, on a line."""
    if alerts:
        names = (f"{each.name} ({each.kind}, {each.severity})" for each in alerts)
        yield f"{what}: {', '.join(names)}"


def summary(found: Impact, alerts: Alerts) -> Iterator[str]:
    """What it comes to."""
    direct = len(found.of(found.dataset))
    readers = plural(len(found.readers), "table")
    reads = "reads" if len(found.readers) == 1 else "read"
    yield f"{readers} {reads} it, {count(direct)} directly; {plural(found.total_rows, 'row')}"
    yield f"owners: {', '.join(say_owners(found.readers))}"
    raised = {alert.id for each in found.readers for alert in alerts[each.node.dataset]}
    if raised:
        yield plural(len(raised), "alert") + " on them"
    yield from say_rebuild(found)


def say_owners(readers: Sequence[Reader]) -> Iterator[str]:
    """Whom to ask, those of most tables first."""
    owners = Counter(each.node.spec.owner or "nobody" for each in readers)
    for owner, number in owners.most_common():
        yield f"{owner} ({number})"


def say_rebuild(found: Impact) -> Iterator[str]:
    """How long it takes to make them anew, by their history."""
    unknown = found.unknown
    if len(unknown) == len(found.readers):
        yield "rebuild: no history, none of them was ever made as a whole"
        return
    longest, path = found.longest_path
    yield (
        f"rebuild: {duration(found.rebuild_ms)} one after the other, {duration(longest)} along the "
        f"longest path ({' → '.join(path)}), by the median of the last {impact.RUNS} full runs of each"
    )
    if unknown:
        yield f"no full run yet, so not counted: {', '.join(unknown)}"


# As JSON.


def as_object(found: Impact, alerts: Alerts) -> dict[str, object]:
    """The impact as JSON has it; readers stand after what they read."""
    longest, path = found.longest_path
    return {
        "table": found.dataset,
        "column": found.column,
        "rows": found.rows,
        "alerts": [alert_object(each) for each in alerts[found.dataset]],
        "readers": [
            reader_object(found, each, alerts[each.node.dataset])
            for each in found.readers
        ],
        "totals": {
            "readers": len(found.readers),
            "direct": len(found.of(found.dataset)),
            "rows": found.total_rows,
            "rebuild_ms": found.rebuild_ms,
            "longest_path_ms": longest,
            "longest_path": list(path),
            "without_history": found.unknown,
        },
    }


def reader_object(
    found: Impact, reader: Reader, alerts: Sequence[Definition]
) -> dict[str, object]:
    """A reader as JSON has it."""
    node = reader.node
    return {
        "table": node.dataset,
        "direct": found.dataset in reader.through,
        "through": list(reader.through),
        "why": reader.why.value,
        "columns": list(reader.columns),
        "rows": node.rows,
        "owner": node.spec.owner or None,
        "runs": say_when(node.spec),
        "schedules": [
            {"cron": each.cron, "timezone": each.timezone}
            for each in node.spec.config.schedules
            if each.enabled
        ],
        "triggers": [
            {"type": each.type, "zone": f"{each.namespace}/{each.zone_name}"}
            for each in node.spec.config.triggers
            if each.enabled
        ],
        "automation": node.spec.automation,
        "alerts": [alert_object(each) for each in alerts],
        "rebuild_ms": node.rebuild_ms,
        "full_runs": node.rebuilds,
    }


def alert_object(alert: Definition) -> dict[str, object]:
    """An alert as JSON has it."""
    return {
        "name": alert.name,
        "namespace": alert.namespace,
        "kind": alert.kind,
        "severity": alert.severity,
    }
