"""What config.yaml may say in a guard, and what it may not."""

import json
from dataclasses import asdict

import pytest

from rat_resources.guards import Guard, Limit
from rat_resources.names import TableName
from rat_resources.specs import PipelineSource, parse_pipeline

KEYED = "merge_strategy: incremental\nunique_key: id\n"


def parse(config: str) -> tuple[Guard, list[str], list[str]]:
    """A guard, the names of its tests, and what is wrong with it."""
    table = TableName("shop", "silver", "orders")
    files = {"pipeline.sql": "SELECT 1 AS id", "config.yaml": config}
    parsed = parse_pipeline(PipelineSource(table, files, "p"))
    names = [test.name for test in parsed.spec.tests]
    return parsed.spec.config.guard, names, list(map(str, parsed.problems))


def test_a_guard_is_read_and_makes_checks() -> None:
    guard, names, problems = parse(
        f"{KEYED}guard: {{max_removed: 5%, max_changed: 2.5 %, max_added: 100, columns: no_drop}}"
    )

    assert not problems
    assert guard == Guard(
        max_added=Limit(100),
        max_removed=Limit(5, is_share=True),
        max_changed=Limit(2.5, is_share=True),
        columns="no_drop",
    )
    assert names == [
        "guard_max_added",
        "guard_max_removed",
        "guard_max_changed",
        "guard_columns",
    ]
    assert Guard.from_json(json.loads(json.dumps(asdict(guard)))) == guard


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("guard: 5%", "1: guard: '5%' is no mapping; write {max_removed: 5%}"),
        ("guard: {}", "1: guard: it says nothing; write {max_removed: 5%}"),
        (
            "guard:\n  max_remove: 5%",
            "2: guard: max_remove is not known; did you mean max_removed?",
        ),
        (
            "guard:\n  max_removed: lots",
            "2: guard: max_removed: 'lots' is neither a share nor a number of rows; "
            "write 5% or 1000",
        ),
        (
            "guard:\n  max_removed: -5%",
            "2: guard: max_removed: '-5%' is neither a share nor a number of rows",
        ),
        (
            "guard:\n  columns: nodrop",
            "2: guard: columns: 'nodrop' is not known; did you mean no_drop?",
        ),
        (
            "guard: {max_changed: 5%}",
            "1: guard: max_changed: full_refresh does not know which rows it changes; "
            "remove it, or choose a strategy that knows: "
            "incremental, delete_insert, snapshot, scd2",
        ),
        (
            "merge_strategy: append_only\nguard: {max_changed: 5}",
            "2: guard: max_changed: append_only does not know which rows it changes",
        ),
        (
            "materialized: view\nguard: {max_removed: 5%}",
            "2: guard: a view has no rows of its own to guard",
        ),
    ],
)
def test_what_is_wrong_with_a_guard_is_said_with_its_line(
    config: str, said: str
) -> None:
    _, _, problems = parse(config)

    assert len(problems) == 1
    assert problems[0].startswith(f"p/config.yaml:{said}")
