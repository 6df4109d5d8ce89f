"""What config.yaml says about columns, and everything that can be wrong with it."""

import json

import duckdb
import pytest

from rat_resources.columns import Column, ColumnTest
from rat_resources.names import TableName
from rat_resources.specs import Parsed, PipelineSource, PipelineSpec, parse_pipeline
from rat_resources.templates import RenderContext, render

TABLE = TableName("shop", "silver", "orders")
COLUMNS = """
columns:
  id:
    description: The number on the receipt
    tests: [not_null, unique]
  customer:
    pii: true
    severity: warn
    tests:
      - relationships: silver.customers.id
      - not_null: {severity: error, where: id > 3, remediation: Ask the shop}
  status:
    tests:
      - accepted_values: [open, paid, yes, 7]
  note:
"""


def parse(config: str, **files: str) -> Parsed:
    """A pipeline with a config.yaml; a keyword is a quality test."""
    tests = {f"tests/quality/{name}.sql": text for name, text in files.items()}
    source = {"pipeline.sql": "SELECT 1 AS id", "config.yaml": config, **tests}
    return parse_pipeline(PipelineSource(TABLE, source, "p"))


def problems(config: str, **files: str) -> list[str]:
    return [str(problem) for problem in parse(config, **files).problems]


def offenders(config: str, rows: str) -> dict[str, list[tuple[object, ...]]]:
    """What the tests of *config* find in the table `id, status`."""
    spec = parse(config).spec
    context = RenderContext(TABLE)
    found = {}
    with duckdb.connect() as connection:
        connection.execute(
            f'CREATE VIEW "{TABLE}" AS SELECT * FROM (VALUES {rows}) AS t (id, status)'
        )
        connection.execute(
            'CREATE VIEW "shop.silver.states" AS SELECT * FROM (VALUES (1), (NULL)) t (n)'
        )
        for test in spec.tests:
            sql = render(test.template, path="p", context=context)
            found[test.name] = connection.sql(sql).fetchall()
    return found


def test_columns_are_read() -> None:
    parsed = parse(COLUMNS)

    identity, customer, status, note = parsed.spec.config.columns
    assert not parsed.problems
    assert identity.description == "The number on the receipt"
    assert customer.pii
    assert [test.severity for test in customer.tests] == ["warn", "error"]
    assert status.tests == (
        ColumnTest(
            "accepted_values",
            values=("open", "paid", "yes", "7"),
            severity="error",
            line=14,
        ),
    )
    assert note == Column("note")


def test_the_tests_of_columns_are_quality_tests() -> None:
    spec = parse(COLUMNS, total="SELECT * FROM {{ this }}").spec

    described = [(each.name, each.severity, each.description) for each in spec.tests]
    assert described == [
        ("total", "error", ""),
        ("not_null_id", "error", "id is never NULL"),
        ("unique_id", "error", "No two rows have the same id"),
        (
            "relationships_customer",
            "warn",
            "Every customer is a id of shop.silver.customers",
        ),
        ("not_null_customer", "error", "customer is never NULL"),
        ("accepted_values_status", "error", "status is one of open, paid, yes, 7"),
    ]
    assert spec.test_refs == (TableName("shop", "silver", "customers"),)
    assert {each.path for each in spec.tests[1:]} == {"config.yaml"}


def test_columns_do_not_change_the_code_version() -> None:
    with_columns, without = parse(COLUMNS).spec, parse("").spec

    assert with_columns.code_version == without.code_version


def test_a_spec_with_columns_is_stored_and_read_back() -> None:
    spec = parse(COLUMNS + "guard: {max_removed: 5%}\n").spec

    stored = json.loads(json.dumps(spec.to_json()))

    assert PipelineSpec.from_json(stored) == spec


def test_a_spec_of_an_older_release_has_no_columns() -> None:
    stored = parse("").spec.to_json()
    del stored["config"]["columns"], stored["config"]["guard"]

    assert PipelineSpec.from_json(stored) == parse("").spec


@pytest.mark.parametrize(
    ("test", "rows", "found"),
    [
        ("not_null", "(1, 'a'), (NULL, 'b')", [(None, "b")]),
        (
            "unique",
            "(1, 'a'), (2, 'b'), (1, 'c'), (NULL, 'd'), (NULL, 'e')",
            [(1, "a"), (1, "c")],
        ),
        ("{unique: {where: \"status <> 'c'\"}}", "(1, 'a'), (1, 'c')", []),
        ('{unique: {where: "true -- yes"}}', "(1, 'a')", []),
        ("{accepted_values: [1, 2]}", "(1, 'a'), (3, 'b'), (NULL, 'c')", [(3, "b")]),
        ("{accepted_values: {values: [1]}}", "(1.0, 'a'), (3, 'b')", [(3, "b")]),
        ("{accepted_values: [yes]}", "(true, 'a'), (false, 'b')", [(False, "b")]),
        ("{accepted_values: ['1']}", "('1', 'a'), ('b', 'b')", [("b", "b")]),
        (
            '{accepted_values: ["it\'s", "{{ this }}", "{% x"]}',
            "('it''s', 'a'), ('{{ this }}', 'b'), ('{% x', 'c'), ('{', 'd')",
            [("{", "d")],
        ),
        (
            "{accepted_values: [2024-01-31]}",
            "(DATE '2024-01-31', 'a'), (DATE '2024-02-01', 'b')",
            "b",
        ),
        (
            "{relationships: silver.states.n}",
            "(1, 'a'), (2, 'b'), (NULL, 'c')",
            [(2, "b")],
        ),
        ("{relationships: {to: shop.silver.states.n}}", "(2, 'b')", [(2, "b")]),
    ],
)
def test_a_test_of_a_column_finds_offenders(
    test: str, rows: str, found: list[tuple[object, ...]] | str
) -> None:
    (result,) = offenders(f"columns: {{id: {{tests: [{test}]}}}}", rows).values()

    assert [status for _, status in result] == [each[-1] for each in found]


def test_a_column_that_the_other_table_lacks_is_none_of_this_one() -> None:
    with pytest.raises(duckdb.BinderException):
        offenders(
            "columns: {id: {tests: [relationships: silver.states.status]}}", "(1, 2)"
        )


def test_a_name_that_is_no_word_is_quoted() -> None:
    spec = parse("columns: {'say \"{{ hi }}\"': {tests: [not_null]}}").spec

    (test,) = spec.tests
    sql = render(test.template, path="p", context=RenderContext(TABLE))
    assert test.name == "not_null_say_hi_"
    assert 'WHERE "say ""{{ hi }}""" IS NULL' in sql


PROBLEMS = [
    ("columns: [id]", "1: columns: a list is no mapping; write NAME: {description: …"),
    ("columns: {}", "1: columns: a mapping is no mapping"),
    ("columns:\n  id: 7", "2: columns: id: 7 is no mapping; write {description: …"),
    (
        "columns:\n  id:\n    descripton: x",
        "3: columns: id: descripton is not known; did you mean description?",
    ),
    (
        "columns:\n  id:\n    description: 7",
        "3: columns: id: description: 7 is no text; put quotes around it",
    ),
    (
        "columns:\n  id: {pii: maybe}",
        "2: columns: id: pii: 'maybe' is neither true nor false",
    ),
    (
        "columns:\n  id: {severity: eror}",
        "2: columns: id: severity: 'eror' is not known; did you mean error?",
    ),
    (
        "columns:\n  id:\n    tests: not_null",
        "3: columns: id: tests: 'not_null' is no list; write [not_null, unique]",
    ),
    (
        "columns:\n  id:\n    tests:\n    - unique\n    - not_nul",
        "5: columns: id: tests: 'not_nul' is not known; did you mean not_null?",
    ),
    (
        "columns:\n  id:\n    tests:\n    - uniqe: {severity: warn}",
        "4: columns: id: tests: 'uniqe' is not known; did you mean unique?",
    ),
    (
        "columns:\n  id:\n    tests: [accepted_values]",
        "3: columns: id: tests: accepted_values does not say of what; "
        "write accepted_values: [a, b]",
    ),
    (
        "columns:\n  id:\n    tests:\n    - not_null:\n        severty: warn",
        "5: columns: id: tests: not_null: severty is not known; did you mean severity?",
    ),
    (
        "columns:\n  id:\n    tests:\n    - not_null:\n      severity: warn",
        "4: columns: id: tests: an item is one test, and this one is not_null, severity; "
        "write {not_null: {severity: warn}}",
    ),
    (
        "columns:\n  id: {tests: [{not_null: warn}]}",
        "2: columns: id: tests: not_null: 'warn' is no mapping; write {severity: warn}",
    ),
    (
        "columns:\n  id: {tests: [{accepted_values: a}]}",
        "2: columns: id: tests: accepted_values: 'a' is no list of values; write [a, b]",
    ),
    (
        "columns:\n  id: {tests: [{accepted_values: {severity: warn}}]}",
        "2: columns: id: tests: accepted_values: values is missing; add values: …",
    ),
    (
        "columns:\n  id: {tests: [{accepted_values: [a, null]}]}",
        "2: columns: id: tests: accepted_values: NULL is always accepted; leave it out",
    ),
    (
        "columns:\n  id: {tests: [{relationships: customers.id}]}",
        "2: columns: id: tests: relationships: 'customers.id' names no column of a table; "
        "write layer.name.column or namespace.layer.name.column",
    ),
    (
        "columns:\n  id: {tests: [unique, {unique: {where: id > 3}}]}",
        "2: unique_id is the name of another test, in config.yaml; "
        "remove one of the two, or give it a name",
    ),
    (
        "columns:\n  id:\n    tests:\n    - not_null: {where: SELEC}\n",
        None,
    ),
    (
        "columns:\n  id:\n    tests:\n    - not_null: {where: id > > 3}\n",
        "4: columns: id: not_null: ",
    ),
    (
        "columns:\n  id:\n    tests:\n    - not_null: {where: 'x in (select y from z)'}\n",
        "4: columns: id: not_null: the query names the table z without ref()",
    ),
    (
        "columns:\n  id: {pii: yes}\n  ID: {pii: yes}",
        "3: columns: ID and id are one column",
    ),
    (
        "columns:\n  id: {pii: yes}\n  id: {pii: no}",
        "3: columns: id stands here a second",
    ),
]


@pytest.mark.parametrize(("config", "said"), PROBLEMS)
def test_what_is_wrong_with_a_column_is_said_with_its_line(
    config: str, said: str | None
) -> None:
    found = problems(config)

    assert len(found) == (said is not None)
    assert not said or found[0].startswith(f"p/config.yaml:{said}")


def test_every_problem_is_found_at_once() -> None:
    found = problems("columns:\n  a: {pi: yes}\n  b: {tests: [not_nul, {uniqe: 1}]}")

    assert [each.partition(": ")[0] for each in found] == [
        "p/config.yaml:2",
        "p/config.yaml:3",
        "p/config.yaml:3",
    ]


def test_a_test_of_a_column_may_not_have_the_name_of_a_file() -> None:
    found = problems(
        "columns:\n  id: {tests: [not_null]}", not_null_id="SELECT * FROM {{ this }}"
    )

    assert found == [
        "p/config.yaml:2: not_null_id is the name of another test, in "
        "tests/quality/not_null_id.sql; remove one of the two, or give it a name: {…: {name: …}}"
    ]


def test_a_second_test_of_a_column_may_have_a_name_of_its_own() -> None:
    parsed = parse("columns: {id: {tests: [unique, {unique: {name: unique_in_may}}]}}")

    assert not parsed.problems
    assert [each.name for each in parsed.spec.tests] == ["unique_id", "unique_in_may"]
