"""Differences: what changes between two states of a pipeline or a landing zone, in words.

What is compared is what files mean: a line that moved, or another order of keys, is no change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

from rat_resources.columns import Column
from rat_resources.guards import Guard
from rat_resources.specs import (
    CONFIG,
    Parsed,
    PipelineSource,
    PipelineSpec,
    QualityTest,
    bare_code,
    bare_query,
)

LONGEST = 60  # of a value that is shown


def describe(
    source: PipelineSource, before: PipelineSpec, *, after: Parsed
) -> Iterator[str]:
    """What changes between two states of a pipeline."""
    words = [
        *describe_code(source, after=after.source),
        *describe_reads(before, after=after.spec),
        *describe_config(before, after=after.spec),
        *describe_tests(source, before, after=after),
        *describe_files(source, after=after.source),
    ]
    if not words and source.files.get(CONFIG) != after.source.files.get(CONFIG):
        words.append(f"{CONFIG}, and not what it means")
    yield from words or ["understood anew by this version of RAT"]


def describe_code(source: PipelineSource, *, after: PipelineSource) -> Iterator[str]:
    """What changes in the code."""
    if source.code_file != after.code_file:
        yield f"{source.code_file} becomes {after.code_file}"
    elif bare_code(source) != bare_code(after):
        yield "the query" if after.type == "sql" else "the script"
    elif source.code != after.code:
        yield f"comments of {after.code_file}"


def describe_reads(before: PipelineSpec, *, after: PipelineSpec) -> Iterator[str]:
    """What it would read, and no longer read."""
    yield from (f"reads {ref}" for ref in after.refs if ref not in before.refs)
    yield from (
        f"reads {ref} no longer" for ref in before.refs if ref not in after.refs
    )


# The configuration.


def describe_config(before: PipelineSpec, *, after: PipelineSpec) -> Iterator[str]:
    """What changes in the configuration, key by key."""
    for key in (each.name for each in fields(after.config)):
        old, new = getattr(before.config, key), getattr(after.config, key)
        if key == "guard":
            yield from describe_guard(old, after=new)
        elif key == "columns":
            yield from describe_many(key, by_name(old), after=by_name(new))
        elif key == "charts":
            titles = [{each.title: each for each in charts} for charts in (old, new)]
            yield from describe_many(key, titles[0], after=titles[1])
        elif old != new:
            yield f"{key}: {brief(old)} → {brief(new)}"


def describe_guard(guard: Guard, *, after: Guard) -> Iterator[str]:
    """Which limits come, go and change."""
    for key in (each.name for each in fields(Guard)):
        old, new = getattr(guard, key), getattr(after, key)
        if new and not old:
            yield f"guard: new: {key} {new}"
        elif old and not new:
            yield f"guard: {key} {old} goes"
        elif old != new:
            yield f"guard: {key} {old} → {new}"


def describe_many(
    key: str, before: Mapping[str, object], *, after: Mapping[str, object]
) -> Iterator[str]:
    """How many of what has names come, change and go."""
    both = before.keys() & after.keys()
    counts = (
        (len(after.keys() - both), "new"),
        (sum(before[name] != after[name] for name in both), "changed"),
        (len(before.keys() - both), "gone"),
    )
    if words := ", ".join(f"{number} {word}" for number, word in counts if number):
        yield f"{key}: {words}"
    elif list(before) != list(after):
        yield f"{key}: in another order"


def by_name(columns: Sequence[Column]) -> dict[str, Column]:
    """What is said about columns by their names; of their tests `describe_tests` tells."""
    return {each.name: replace(each, tests=(), severity="") for each in columns}


def brief(value: object) -> str:
    """A value in a line."""
    if value is None or value in ("", (), [], {}):
        return "nothing"
    text = ", ".join(map(spell, value)) if isinstance(value, tuple) else str(value)
    if len(text) <= LONGEST and text.isprintable():
        return text
    return f"{len(value)} of them" if isinstance(value, tuple) else "another text"


def spell(entry: Any) -> str:  # noqa: ANN401 - a text, or any of configuration's dataclasses
    """One of several values: what it must say, and what it says otherwise than by default."""
    if isinstance(entry, str):
        return entry
    words = []
    for each in fields(entry):
        value = getattr(entry, each.name)
        if each.default is MISSING:
            words.append(str(value))
        elif value != each.default:
            words.append(f"{each.name} {value}")
    return " ".join(words)


# Tests.


def describe_tests(
    source: PipelineSource, before: PipelineSpec, *, after: Parsed
) -> Iterator[str]:
    """Which tests come, go and change; what a guard checks the configuration tells."""
    old, new = by_test(source, before), by_test(after.source, after.spec)
    yield from (f"new test {name}" for name in sorted(new.keys() - old.keys()))
    yield from (f"test {name} goes" for name in sorted(old.keys() - new.keys()))
    for name in sorted(new.keys() & old.keys()):
        if words := "; ".join(describe_test(old[name], after=new[name])):
            yield f"test {name}: {words}"
        elif text_of(source, old[name]) != text_of(after.source, new[name]):
            yield f"test {name}: comments"


def by_test(source: PipelineSource, spec: PipelineSpec) -> dict[str, QualityTest]:
    """The tests by their names, each with its query."""
    return {
        test.name: replace(test, template=bare_query(source, test))
        for test in spec.tests
        if not test.guard
    }


def describe_test(test: QualityTest, *, after: QualityTest) -> Iterator[str]:
    """What changes in one test."""
    if test.template != after.template:
        yield "its query"
    for key in ("severity", "tags"):
        old, new = getattr(test, key), getattr(after, key)
        if old != new:
            yield f"{key} {brief(old)} → {brief(new)}"
    for key in ("description", "remediation"):
        if getattr(test, key) != getattr(after, key):
            yield f"its {key}"
    if test.path != after.path:
        yield f"it moves to {after.path}"


def text_of(source: PipelineSource, test: QualityTest) -> str | None:
    """The text of a test that has a file of its own."""
    return None if test.path == CONFIG else source.files.get(test.path)


def describe_files(source: PipelineSource, *, after: PipelineSource) -> Iterator[str]:
    """Files whose change means nothing to a run."""
    told = {source.code_file, after.code_file, *source.test_files, *after.test_files}
    names = (source.files.keys() | after.files.keys()) - told - {CONFIG}
    for name in sorted(names):
        if source.files.get(name) != after.files.get(name):
            yield f"the file {name}"


# Landing zones.

Zones = Mapping[str, Mapping[str, Any]]
"""What is said about each zone, by `namespace/name`."""


def describe_zones(before: Zones, *, after: Zones) -> Iterator[str]:
    """Which landing zones come, go, and are described otherwise, and how."""
    for name in sorted(after):
        if name not in before:
            yield f"new zone {name}"
        else:
            yield from describe_zone(name, before[name], after=after[name])


def describe_zone(
    name: str, before: Mapping[str, Any], *, after: Mapping[str, Any]
) -> Iterator[str]:
    """What changes in one zone."""
    for key, new in after.items():
        old = before[key]
        # Expected columns are also told as text.
        is_told = key == "expected_schema" and after["expected_columns"]
        if old == new or is_told:
            continue
        if key == "active":
            yield (
                f"zone {name} is read again"
                if new
                else f"zone {name} goes: no pipeline reads it any more; its files stay"
            )
        elif key == "expected_columns":
            yield from (
                f"zone {name}: {words}"
                for words in describe_many(
                    "expected columns", old or {}, after=new or {}
                )
            )
        else:
            yield f"zone {name}: {key}: {brief(old)} → {brief(new)}"
