"""Definitions of alerts as they stand in Postgres."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.alerts import definitions
from rat_resources.alerts.definitions import Definition, OwnedElsewhereError, Source
from rat_resources.metadata import Metadata
from rat_resources.mirror.people import declare_org
from rat_resources.names import TableName

FLIGHTS = TableName("nyc", "silver", "flights")
LATE = {"kind": "threshold", "dataset": str(FLIGHTS), "column": "delay", "op": "gt"}


@pytest.fixture
def tx(metadata: Metadata) -> Iterator[Session]:
    """A transaction on a fresh database."""
    with metadata.transaction() as tx:
        yield tx


def define(tx: Session, name: str = "late", **said: Any) -> Definition:  # noqa: ANN401 - fields
    """A definition about late flights."""
    whole = Definition(
        id=definitions.definition_id(tx, "nyc", name),
        name=name,
        namespace="nyc",
        kind="threshold",
        condition=LATE | {"value": 60},
        table=FLIGHTS,
    )
    return replace(whole, **said)


def test_what_is_saved_is_loaded(tx: Session) -> None:
    said = define(
        tx,
        owner="ops@example.com",
        severity="critical",
        labels={"team": "ops"},
        channels={"email": {"to": ["ops@example.com"]}},
        description="Flights are late",
        remediation="Call the airport",
        source=Source.FILE,
    )

    is_changed = definitions.save(tx, said)

    assert is_changed
    assert definitions.load(tx) == [said]


def test_saving_the_same_again_changes_nothing(tx: Session) -> None:
    definitions.save(tx, define(tx))

    assert not definitions.save(tx, define(tx))
    assert definitions.save(tx, define(tx, severity="info"))
    assert [each.severity for each in definitions.load(tx)] == ["info"]


def test_definitions_are_found_by_table_and_kind(tx: Session) -> None:
    definitions.save(tx, define(tx))
    failed = {"kind": "run_status", "statuses": ["failed"]}
    definitions.save(
        tx, define(tx, "failed", kind="run_status", condition=failed, table=None)
    )
    definitions.save(tx, define(tx, "off", enabled=False))

    def found(**asked: Any) -> list[str]:  # noqa: ANN401 - arguments
        return [each.name for each in definitions.load(tx, **asked)]

    assert found() == ["failed", "late"]
    assert found(table=FLIGHTS) == ["late"]
    assert found(table=FLIGHTS, only_enabled=False) == ["late", "off"]
    assert found(kinds=["run_status", "freshness"]) == ["failed"]
    assert found(table=TableName("nyc", "gold", "flights")) == []


@pytest.mark.parametrize("source", Source)
def test_a_file_and_a_job_never_own_the_same_name(tx: Session, source: Source) -> None:
    other = next(each for each in Source if each != source)
    definitions.save(tx, define(tx, source=source))

    with pytest.raises(OwnedElsewhereError, match="nyc/late"):
        definitions.save(tx, define(tx, source=other))

    assert [each.source for each in definitions.load(tx)] == [source]


def test_a_retired_name_is_free_and_its_definition_stays(tx: Session) -> None:
    definitions.save(tx, define(tx, source=Source.FILE))
    [kept] = definitions.load(tx)

    retired = definitions.retire(tx, [kept.id])

    assert retired == [kept.id]
    assert definitions.retire(tx, [kept.id]) == []
    assert definitions.load(tx) == []
    assert definitions.save(tx, define(tx, source=Source.JOB))
    assert [each.id for each in definitions.load(tx)] == [kept.id]


def test_a_row_that_sql_wrote_is_loaded_as_far_as_it_makes_sense(tx: Session) -> None:
    org_id = declare_org(tx)
    insert = text("""
        INSERT INTO trace.alert_definitions (org_id, user_id, name, condition, channels)
        SELECT :org_id, id, :name, CAST(:condition AS jsonb), '[1]' FROM trace.users
    """)
    for name, condition in (("a", "[]"), ("b", '{"kind": "sql", "dataset": "no"}')):
        tx.execute(insert, {"org_id": org_id, "name": name, "condition": condition})

    found = definitions.load(tx)

    assert [(each.name, each.kind, each.table) for each in found] == [
        ("a", "", None),
        ("b", "sql", None),
    ]
    assert [each.channels for each in found] == [{}, {}]


def test_definitions_of_another_organisation_are_not_loaded(tx: Session) -> None:
    definitions.save(tx, define(tx))
    tx.execute(
        text("INSERT INTO trace.orgs (name, slug) VALUES ('other', 'other')"),
    )
    tx.execute(
        text(
            "UPDATE trace.alert_definitions SET org_id ="
            " (SELECT id FROM trace.orgs WHERE slug = 'other')"
        )
    )

    assert definitions.load(tx) == []
