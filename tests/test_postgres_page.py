"""What docs/postgres.md and the Grafana dashboard tell people to ask can be asked."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rat_assets import runner
from rat_resources.metadata.health import LOOKUPS, QUESTIONS
from rat_resources.platform import Platform
from tests.factories import Shop

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs" / "postgres.md").read_text()
EXAMPLES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
DASHBOARD = json.loads((PROJECT / "deploy" / "grafana" / "rat.json").read_text())
# As Grafana fills them in.
MACROS = {
    "$__timeFrom()": "'2020-01-01T00:00:00Z'",
    "$__timeTo()": "'2035-01-01T00:00:00Z'",
}


@pytest.fixture
def filled_shop(open_shop: Shop) -> Shop:
    """A shop with runs that succeeded, runs that failed, and a report."""
    open_shop.land("bad.csv", "id,customer,amount\n3,eve,-5\n")
    assert not open_shop.run("shop.bronze.orders").succeeded
    assert runner.draw_reports(open_shop.instance)
    return open_shop


def panels() -> list[dict[str, Any]]:
    """The panels that ask something."""
    return [each for each in DASHBOARD["panels"] if each["type"] != "row"]


def ask(whole: Platform, *statements: str) -> list[int]:
    """How many rows each statement returns that returns any; what they do is undone."""
    found = []
    with whole.metadata.engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            found += [len(result.all())] if result.returns_rows else []
    return found


def test_every_example_of_the_page_can_be_typed(filled_shop: Shop) -> None:
    answered = 0

    for block in EXAMPLES:
        statements = [each for each in block.split(";") if each.strip()]
        answered += len(ask(filled_shop.whole, *statements))

    assert answered >= len(QUESTIONS) + len(LOOKUPS)


def test_the_page_has_an_example_of_every_question() -> None:
    examples = "\n".join(EXAMPLES)

    for each in (*QUESTIONS, *LOOKUPS):
        assert f"{each.name}(" in examples


def test_the_page_names_what_each_question_takes() -> None:
    for each in QUESTIONS:
        (line,) = re.findall(rf"^\| `{each.name}\b.*$", PAGE, re.MULTILINE)
        assert all(name in line for name in each.parameters)


def test_every_panel_asks_what_can_be_asked(filled_shop: Shop) -> None:
    empty = []

    for panel in panels():
        for target in panel["targets"]:
            sql = target["rawSql"]
            for macro, value in MACROS.items():
                sql = sql.replace(macro, value)
            if ask(filled_shop.whole, sql) == [0]:
                empty.append(panel["title"])

    # Nothing of these has happened in the shop, or not by 2035.
    assert "Runs per day, by how they ended" not in empty
    assert "Failing tests" not in empty


def test_panels_are_told_apart_and_say_what_they_show() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)
    assert all(panel["description"] for panel in panels())
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()

    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_panels_only_ask_questions() -> None:
    names = {each.name for each in QUESTIONS}

    for panel in panels():
        for target in panel["targets"]:
            called = set(
                re.findall(r"\b((?:rat|chm|lakeflow)\.[a-z_]+)\(", target["rawSql"])
            )
            assert called
            assert called <= names
