"""What a file may say of an alert, and what is said against the rest."""

from textwrap import dedent
from typing import Any

import pytest

from rat_resources.alerts.condition_documents import KINDS
from rat_resources.alerts.documents import LONGEST_FILE, AlertDocument, read_alert
from rat_resources.errors import Problem
from rat_resources.names import TableName

HIDDEN = "xoxb-very-hidden"
LATE = "{kind: threshold, dataset: silver.flights, column: delay, op: gt, value: 60}"


def read(content: str) -> tuple[AlertDocument | None, list[str]]:
    """The alert of a file in the namespace nyc, and what is wrong with it."""
    problems: list[Problem] = []
    found = read_alert(
        dedent(content), path="a.yaml", namespace="nyc", name="a", problems=problems
    )
    return found, [str(each) for each in problems]


def condition_of(content: str) -> dict[str, Any]:
    """A condition that nothing is wrong with."""
    found, problems = read(f"condition: {content}")

    assert problems == []
    assert found is not None
    return dict(found.condition)


def channels_of(content: str) -> tuple[dict[str, Any], list[str]]:
    """The channels that are read, and what is wrong with them."""
    found, problems = read(f"condition: {LATE}\nchannels: {content}")
    return dict(found.channels) if found else {}, problems


def test_a_file_is_read_whole() -> None:
    found, problems = read(f"""
        condition: {LATE}
        severity: critical
        labels: {{team: ops, floor: 3}}
        channels:
          slack: {{webhook_url: env:OPS}}
        owner: ops@example.com
        description: Flights are late
        remediation: Call the airport
        enabled: false
    """)

    assert problems == []
    assert found is not None
    assert found.condition["dataset"] == "nyc.silver.flights"
    assert found.table == TableName("nyc", "silver", "flights")
    assert (found.severity, found.enabled) == ("critical", False)
    assert found.labels == {"team": "ops", "floor": "3"}
    assert found.channels == {"slack": {"webhook_url": "env:OPS"}}
    assert found.lines["severity"] == 3


CONDITIONS = [
    LATE,
    "{kind: threshold, dataset: gold.a, column: d, op: eq, value: 2026-01-01}",
    "{kind: in, dataset: silver.a, column: c, values: [a, 3], per: row, key: [id]}",
    "{kind: aggregate, dataset: silver.a, fn: count, op: lt, value: 10}",
    (
        "{kind: aggregate, dataset: silver.a, fn: avg, column: x, op: gt, value: 1.5,"
        " group_by: [c], window_minutes: 60, time_column: t, where: {s: [a, b]}}"
    ),
    "{kind: zscore, dataset: silver.a, column: x, k: 3, baseline_rows: 500}",
    "{kind: sql, query: SELECT 1, dataset: silver.a}",
    "{kind: quality, dataset: silver.a, test: '*', status: warned, times: 3}",
    "{kind: schema_change, dataset: silver.a, columns: x, kinds: [dropped]}",
    "{kind: volume, dataset: silver.a, last_runs: 10, low: 0.5, high: 2}",
    "{kind: freshness, dataset: silver.a, max_age_minutes: 90}",
    "{kind: freshness, dataset: silver.a, rhythm: {factor: 2}}",
    "{kind: run_status, pipelines: [gold.*, other.silver.a], statuses: [failed]}",
    f"{{kind: udf, entrypoint: shop.alerts:odd, sha256: {'a' * 64}}}",
    "{kind: system}",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_kind_of_condition_is_read(condition: str) -> None:
    assert condition_of(condition)["kind"] in condition


def test_every_kind_is_tried() -> None:
    assert {condition_of(each)["kind"] for each in CONDITIONS} == set(KINDS)


def test_names_are_made_whole_and_what_may_be_alone_is_a_list() -> None:
    assert condition_of("{kind: run_status, statuses: failed}") == {
        "kind": "run_status",
        "statuses": ["failed"],
        "pipelines": ["nyc.*"],
    }
    assert condition_of("{kind: run_status, pipelines: gold.*, statuses: failed}")[
        "pipelines"
    ] == ["nyc.gold.*"]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("3", "this is no condition"),
        ("{}", "kind is missing"),
        ("{kind: treshold}", "kind: 'treshold' is not known; did you mean threshold?"),
        (
            "{kind: threshold, datset: silver.a}",
            "datset is not known; did you mean dat",
        ),
        ("{kind: threshold}", "dataset is missing; add dataset: …"),
        ("{kind: volume, dataset: flights}", "dataset: 'flights' is no table name"),
        (LATE.replace("gt", "'>'"), "op: '>' is not known; known are gt, gte"),
        (LATE.replace("60", "null"), "value: null is compared with nothing"),
        (LATE.replace("60", ".nan"), "value: nan is no number"),
        (LATE.replace("60", "[1]"), "value: a list is no value"),
        (LATE.replace("delay", '"a\\0b"'), "column: it holds the character U+0000"),
        (LATE.replace("delay", '"a\\uD800"'), "column: it holds the character U+D800"),
        (LATE.replace("60", '60, where: {"a\\uD800": 3}'), "the character U+D800"),
        (LATE.replace("60", "60, per: row"), "per says nothing without key"),
        (
            LATE.replace("60", "60, where: {a: {above: 3}}"),
            "'above', which is no operat",
        ),
        (LATE.replace("60", "60, where: {a: null}"), "a is asked for null"),
        (LATE.replace("60", "60, where: 3"), "where: 3 is no row filter"),
        (LATE.replace("60", "60, op: lt"), "op stands here a second time"),
        (
            "{kind: aggregate, dataset: gold.a, fn: sum, op: gt, value: 1}",
            "sum needs a co",
        ),
        ("{kind: volume, dataset: gold.a, k: 3, low: 1}", "k and factors are given"),
        (
            "{kind: volume, dataset: gold.a, low: 2, high: 1}",
            "low is 2, which is not below",
        ),
        (
            "{kind: freshness, dataset: gold.a}",
            "none of max_age_minutes, rhythm is given",
        ),
        ("{kind: freshness, dataset: gold.a, rhythm: {factor: 1}}", "is not above 1"),
        ("{kind: quality, dataset: gold.a, times: 0}", "times: 0 is no whole number"),
        ("{kind: run_status, statuses: [fialed]}", "did you mean failed?"),
        ("{kind: run_status, statuses: failed, pipelines: '; DROP'}", "no pattern of"),
        ("{kind: sql, query: SELEC 1}", "did you mean SELECT?"),
        ("{kind: sql, query: 'DROP TABLE a'}", "this is no query but DROP"),
        ("{kind: udf, entrypoint: os.system, sha256: x}", "names no function"),
        ("{kind: udf, entrypoint: 'os:system', sha256: x}", "is no SHA-256"),
    ],
)
def test_a_wrong_condition_is_refused_by_its_field(condition: str, said: str) -> None:
    found, problems = read(f"condition: {condition}")

    assert found is None
    assert any(said in each for each in problems), problems
    assert all(each.startswith("a.yaml:1: condition: ") for each in problems)


def test_every_mistake_is_told_at_once_with_its_line() -> None:
    _, problems = read("""
        condition:
          kind: in
          dataset: silver.a
          column: [a]
          values: []
        sevrity: info
        labels: [a]
        enabled: maybe
    """)

    assert [each.partition(";")[0] for each in problems] == [
        "a.yaml:5: condition: column: a list is no text",
        "a.yaml:6: condition: values: the list is empty",
        "a.yaml:7: sevrity is not known",
        "a.yaml:8: labels: this is no mapping",
        "a.yaml:9: enabled: 'maybe' is neither true nor false",
    ]


def test_channels_are_read() -> None:
    channels, problems = channels_of(
        "{slack: {webhook_url: env:OPS, channel: '#ops', where: {labels.team: [a, b]},"
        " max_delivery_age: 7d, group_by: cause, group_wait: 30s,"
        " quiet_hours: {from: 22:00, to: '07:00', unless_severity: critical}},"
        " email: {to: ops@example.com},"
        " webhook: {url: 'https://example.com/x', headers: {Authorization: env:T}},"
        " sms: {phone_number: +4930123456, account_sid: AC1, auth_token: env:T,"
        " from_number: '+4930123457'},"
        " pagerduty: {routing_key: env:PD}}"
    )

    assert problems == []
    assert channels["slack"]["quiet_hours"] == {
        "timezone": "UTC",
        "from": "22:00",
        "to": "07:00",
        "unless_severity": "critical",
    }
    assert channels["slack"]["group_by"] == ["cause"]
    assert channels["email"] == {"to": ["ops@example.com"]}
    assert channels["sms"]["phone_number"] == "+4930123456"


@pytest.mark.parametrize(
    "channels",
    [
        f"{HIDDEN}",
        f"{{slack: {HIDDEN}}}",
        f"{{slak: {{webhook_url: {HIDDEN}}}}}",
        f"{{slack: {{webhook_url: {HIDDEN}}}}}",
        f"{{slack: {{webhook_url: 'env: {HIDDEN}'}}}}",
        f"{{slack: {{webhook_url: [{HIDDEN}]}}}}",
        f"{{pagerduty: {{routing_key: {HIDDEN}}}}}",
        f"{{webhook: {{url: 'https://a:{HIDDEN}@example.com'}}}}",
        f"{{webhook: {{url: 'https://example.com', secret: {HIDDEN}}}}}",
        f"{{webhook: {{url: 'https://example.com', headers: {HIDDEN}}}}}",
        f"{{webhook: {{url: 'https://a.b', headers: {{X-Api-Key: {HIDDEN}}}}}}}",
        f"{{sms: {{phone_number: '+4930123456', auth_token: {HIDDEN}}}}}",
    ],
)
def test_a_secret_is_refused_and_never_repeated(channels: str) -> None:
    found, problems = channels_of(channels)

    assert not found
    assert problems
    assert HIDDEN not in "".join(problems)


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ("{slak: {}}", "slak is no channel; did you mean slack?"),
        ("{slack: {}}", "slack: webhook_url is missing"),
        (
            "{slack: {webhook_url: env:1A}}",
            "this is no name of an environment variable",
        ),
        ("{email: {to: ops}}", "'ops' is no e-mail address"),
        ('{email: {to: "a@b.c\\r\\nBcc: x@y.z"}}', "it holds the character U+000D"),
        ('{email: {to: a@b.c, subject_template: "a\\nb"}}', "more than one line"),
        ("{webhook: {url: 'http://example.com'}}", "http is read by everybody"),
        ("{webhook: {url: 'file:///etc/passwd'}}", "this is no address"),
        ("{webhook: {url: 'https://a.b', method: GET}}", "known are POST"),
        ("{sms: {phone_number: '123'}}", "no telephone number"),
        ("{pagerduty: {routing_key: env:A, where: {severty: b}}}", "mean severity?"),
        (
            "{pagerduty: {routing_key: env:A, where: {severity: bad}}}",
            "'bad' is not kn",
        ),
        (
            "{pagerduty: {routing_key: env:A, group_wait: 3s}}",
            "nothing without group_by",
        ),
        ("{pagerduty: {routing_key: env:A, max_delivery_age: 7}}", "no span of time"),
        (
            "{pagerduty: {routing_key: env:A, quiet_hours: {from: 25:00, to: 7}}}",
            "no time",
        ),
        ("{slack: {webhook_url: env:A}, slack: {}}", "slack stands here a second time"),
    ],
)
def test_a_wrong_channel_is_refused_by_its_field(channels: str, said: str) -> None:
    found, problems = channels_of(channels)

    assert not found
    assert any(said in each for each in problems), problems


def bomb() -> str:
    """A few lines of YAML that stand for a billion values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        bomb(),
        "condition: &a [*a]",
        f"condition: {'[' * 2_000}",
        f"condition: {'{a: ' * 500}",
        "a\0b",
        "condition: {kind: sql, query: SELECT 1}\n---\ncondition: 3",
        "- condition",
        "",
        "!!python/object/apply:os.system [ls]",
        "condition: !!binary aGk=",
    ],
    ids=range(10),
)
def test_hostile_files_are_problems(content: str) -> None:
    found, problems = read(content)

    assert found is None
    assert problems
    assert all(len(each) < 500 for each in problems)


def test_a_file_that_is_too_long_is_not_even_parsed() -> None:
    _, problems = read(f"description: {'x' * LONGEST_FILE}")

    assert len(problems) == 1
    assert "more than 65,536" in problems[0]
