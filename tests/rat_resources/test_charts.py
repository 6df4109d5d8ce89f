"""The words of a chart, and everything that can be wrong with them."""

import json
from typing import Any

import pytest

from rat_resources.charts import KINDS, Chart
from rat_resources.names import TableName
from rat_resources.specs import Parsed, PipelineSource, PipelineSpec, parse_pipeline

TABLE = TableName("nyc", "gold", "delays")
LINE = "title: T, kind: line, x: a, y: b"


def parse(config: str) -> Parsed:
    files = {"pipeline.sql": "SELECT 1 AS a", "config.yaml": config}
    return parse_pipeline(PipelineSource(TABLE, files, "p"))


def problems(config: str) -> list[str]:
    return [str(problem) for problem in sorted(parse(config).problems)]


def test_a_chart_is_read_with_all_its_words() -> None:
    parsed = parse(
        "charts:\n"
        "  - title: Delays\n"
        "    kind: bar\n"
        "    x: carrier\n"
        "    y: [late, cancelled]\n"
        "    aggregate: sum\n"
        "    order: ascending\n"
        "    limit: 5\n"
        "    unit: flights\n"
        "    scale: log\n"
        "    panels: origin\n"
        "  - {title: Where, kind: map, x: lon, y: lat, from_x: a, from_y: b, value: n, label: c}\n"
    )

    assert not parsed.problems
    assert parsed.spec.config.charts == (
        Chart(
            "Delays",
            "bar",
            x="carrier",
            y=("late", "cancelled"),
            panels="origin",
            aggregate="sum",
            order="ascending",
            limit=5,
            unit="flights",
            scale="log",
        ),
        Chart(
            "Where",
            "map",
            x="lon",
            y=("lat",),
            value="n",
            label="c",
            from_x="a",
            from_y="b",
        ),
    )


def test_charts_survive_the_json_of_their_spec() -> None:
    spec = parse("charts: [{title: T, kind: line, x: a, y: [b, c]}]").spec

    document = json.loads(json.dumps(spec.to_json()))

    assert PipelineSpec.from_json(document) == spec


def test_a_spec_that_was_stored_before_there_were_charts_has_none() -> None:
    document: dict[str, Any] = parse("owner: x").spec.to_json()
    del document["config"]["charts"]

    assert PipelineSpec.from_json(document).config.charts == ()


def test_charts_change_no_code() -> None:
    plain, drawn = (parse(config).spec for config in ("", f"charts: [{{{LINE}}}]"))

    assert drawn.code_version == plain.code_version


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("charts: 5", "1: charts: this is no list; start each item with - title: …"),
        ("charts: [5]", "1: charts: 5 is no mapping; write - title: …"),
        (
            "charts:\n  - {titel: T, kind: line, x: a, y: b}",
            "2: charts: titel is not known; did you mean title?",
        ),
        (
            "charts:\n  - title: T\n    kind: lines\n    x: a\n    y: b",
            "3: charts: kind: 'lines' is not known; did you mean line?",
        ),
        (
            "charts:\n  - title: T\n    kind: pie\n    x: a\n    y: b",
            f"3: charts: kind: 'pie' is not known; known are {', '.join(KINDS)}",
        ),
        (
            "charts:\n  - {title: T, kind: line, y: b}",
            "2: charts: x is missing; add x: …",
        ),
        (
            f"charts: [{{{LINE}, value: c}}]",
            "1: charts: a line takes no value; remove it; a heatmap or map does",
        ),
        (
            f"charts: [{{{LINE}, order: ascending}}]",
            "1: charts: a line takes no order; remove it; a bar does",
        ),
        (
            f"charts: [{{{LINE}, aggregate: average}}]",
            "1: charts: aggregate: 'average' is not known; "
            "known are sum, mean, median, min, max, count",
        ),
        (
            f"charts: [{{{LINE}, limit: -1}}]",
            "1: charts: limit: -1 is no whole number of zero or more; write a number such as 3",
        ),
        (
            "charts: [{title: T, kind: line, x: a, y: [b, c], series: d}]",
            "1: charts: several columns as y are series already; "
            "remove series, or write one column as y",
        ),
        (
            "charts: [{title: T, kind: scatter, x: a, y: [b, c]}]",
            "1: charts: the y of a scatter is one column; write y: b",
        ),
        (
            "charts: [{title: T, kind: heatmap, x: a, y: b}]",
            "1: charts: a heatmap needs a value; add value: COLUMN, which colours the cells",
        ),
        (
            "charts: [{title: T, kind: map, x: a, y: b, from_x: c}]",
            "1: charts: from_y is missing; add from_y: COLUMN",
        ),
        (
            "charts: [{title: T, kind: map, x: a, y: b, from_label: c}]",
            "1: charts: from_label names no start; add from_x: COLUMN and from_y: COLUMN",
        ),
        (
            f"charts:\n  - {{{LINE}}}\n  - {{{LINE}}}",
            "3: charts: this item says the same as an earlier one; remove it",
        ),
        (
            "charts: ["
            + ", ".join(f"{{title: T{n}, kind: line, x: a, y: b}}" for n in range(7))
            + "]",
            "1: charts: 7 charts are more than a table may have; keep 6",
        ),
    ],
)
def test_what_is_wrong_in_a_chart(config: str, problem: str) -> None:
    assert problems(config) == [f"p/config.yaml:{problem}"]


def test_all_that_does_not_go_together_is_said_at_once() -> None:
    found = problems("charts: [{title: T, kind: line, x: a, y: b, value: c, label: d}]")

    assert len(found) == 2


@pytest.mark.parametrize(
    ("chart", "refused"),
    [
        ("kind: bar, x: EMAIL, y: n", True),
        ("kind: bar, x: n, y: email", True),
        ("kind: bar, x: n, y: email, aggregate: count", False),
        ("kind: line, x: n, y: n, series: email, aggregate: sum", True),
        ("kind: heatmap, x: n, y: email, value: n, aggregate: mean", True),
        ("kind: heatmap, x: n, y: n, value: email, aggregate: mean", False),
        ("kind: map, x: n, y: n, label: email", True),
    ],
)
def test_no_chart_shows_personal_data(chart: str, *, refused: bool) -> None:
    config = (
        f"columns: {{email: {{pii: true}}}}\ncharts:\n  - {{title: Who, {chart}}}\n"
    )

    said = problems(config)

    name = "EMAIL" if "EMAIL" in chart else "email"
    assert said == (
        [
            f"p/config.yaml:2: chart 'Who' shows {name}, which is personal data; "
            "name another column, or aggregate it"
        ]
        if refused
        else []
    )
