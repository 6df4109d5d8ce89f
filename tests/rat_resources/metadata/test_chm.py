"""What the tables of CHM refuse, whoever writes."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import AlertRule, Client
from tests.rat_resources.metadata.test_chm_dashboards import (
    NOW,
    make_client,
    make_pipeline,
    make_run,
)

RULE = {"rule_type": "on_failure", "channel": "slack", "destination": "#data"}
FINAL = ("success", "failed", "canceled", "skipped")


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"name": "acme"}, "uq_clients_name"),
        ({"name": "  "}, "ck_clients_name"),
        ({"name": "x" * 256}, "too long"),
        ({"name": "b", "partner": []}, "ck_clients_partner"),
        ({"name": "b", "partner": {"password": "s"}}, "ck_clients_partner"),
        ({"name": "b", "partner": {"token": "s3cret"}}, "ck_clients_partner_token"),
        ({"name": "b", "partner": {"token": {"a": 1}}}, "ck_clients_partner_token"),
        (
            {"name": "b", "partner": {"base_url": "https://me:s3cret@host/"}},
            "ck_clients_partner_base_url",
        ),
        (
            {"name": "b", "partner": {"base_url": "https://host/?token=s3cret"}},
            "ck_clients_partner_base_url",
        ),
        ({"name": "b", "partner": {"policy": "maybe"}}, "ck_clients_partner_policy"),
    ],
)
def test_a_client_is_refused(
    metadata: Metadata, facts: dict[str, Any], constraint: str
) -> None:
    with metadata.transaction() as tx:
        make_client(tx, "acme")

    with pytest.raises(DBAPIError, match=constraint), metadata.transaction() as tx:
        make_client(tx, **facts)


def test_a_client_keeps_the_name_of_its_tokens_variable(metadata: Metadata) -> None:
    partner = {"base_url": "https://host/api", "token": "env:ACME_TOKEN", "retries": 3}
    with metadata.transaction() as tx:
        row = make_client(tx, "acme", partner=partner)

    assert row.partner == partner


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"name": "orders"}, "uq_pipelines_client_id_name"),
        ({"name": "b", "external_id": "7"}, "uq_pipelines_external_id"),
        ({"name": ""}, "ck_pipelines_name"),
        ({"name": "x" * 256}, "too long"),
        ({"name": "b", "external_id": " "}, "ck_pipelines_external_id"),
        ({"name": "b", "platform": "jenkins"}, "platform"),
        ({"name": "b", "pipeline_type": "load"}, "pipeline_type"),
        ({"name": "b", "environment": "test"}, "environment"),
        ({"name": "b", "origin": "theirs"}, "ck_pipelines_origin"),
        ({"name": "b", "origin": "rat"}, "ck_pipelines_ours"),
        ({"name": "b", "table_name": "a.bronze.b"}, "ck_pipelines_ours"),
        ({"name": "b (rat)"}, "ck_pipelines_reserved"),
        ({"name": "b", "external_id": "b (rat)"}, "ck_pipelines_reserved"),
    ],
)
def test_a_pipeline_is_refused(
    metadata: Metadata, facts: dict[str, Any], constraint: str
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme")
        make_pipeline(tx, client, "orders", external_id="7")

    with pytest.raises(DBAPIError, match=constraint), metadata.transaction() as tx:
        make_pipeline(tx, client, **facts)


def test_the_same_name_and_id_are_free_elsewhere(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        acme, beta = make_client(tx, "acme"), make_client(tx, "beta")
        make_pipeline(tx, acme, "orders", external_id="7")

        make_pipeline(tx, beta, "orders", external_id="7")
        make_pipeline(tx, acme, "b", external_id="7", platform="dbt")
        make_pipeline(tx, acme, "c")
        make_pipeline(tx, acme, "d")


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"external_run_id": "1"}, "uq_runs_pipeline_id_external_run_id"),
        ({"external_run_id": " "}, "ck_runs_external_run_id"),
        ({"duration_seconds": -1}, "ck_runs_duration_seconds"),
        ({"rows_processed": -1}, "ck_runs_rows_processed"),
        ({"status": "cancelled"}, "run_status"),
        ({"pipeline_id": None}, "pipeline_id"),
    ],
)
def test_a_run_is_refused(
    metadata: Metadata, facts: dict[str, Any], constraint: str
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        row = make_run(tx, pipeline, "success", external_run_id="1")
        columns = {"pipeline_id": row.pipeline_id, "external_run_id": "2"}
        columns |= {"status": "success"} | facts
    names, values = ", ".join(columns), ", ".join(f":{each}" for each in columns)

    with pytest.raises(DBAPIError, match=constraint), metadata.transaction() as tx:
        tx.execute(text(f"INSERT INTO chm.runs ({names}) VALUES ({values})"), columns)


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({}, "ck_alert_rules_scope"),
        ({"client": True, "threshold": 0}, "ck_alert_rules_threshold"),
        ({"client": True, "window_minutes": 0}, "ck_alert_rules_window_minutes"),
        (
            {"client": True, "rule_type": "failures_in_window", "threshold": 1},
            "ck_alert_rules_parameters",
        ),
        (
            {"client": True, "rule_type": "failures_in_window", "window_minutes": 1},
            "ck_alert_rules_parameters",
        ),
        ({"client": True, "destination": ""}, "ck_alert_rules_destination"),
        ({"client": True, "destination": "x" * 513}, "too long"),
        ({"client": True, "channel": "pager"}, "channel"),
        ({"client": True, "rule_type": "sometimes"}, "rule_type"),
        ({"client": True, "destination": "#twin"}, "uq_alert_rules_active"),
    ],
)
def test_an_alert_rule_is_refused(
    metadata: Metadata, facts: dict[str, Any], constraint: str
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme")
        tx.add(AlertRule(client_id=client.id, **RULE | {"destination": "#twin"}))
    scope = {"client_id": client.id} if facts.pop("client", False) else {}

    with pytest.raises(DBAPIError, match=constraint), metadata.transaction() as tx:
        tx.add(AlertRule(**RULE | scope | facts))


def test_a_disabled_rule_has_twins_and_another_channel_is_another_rule(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme")
        for facts in ({}, {"is_enabled": False}, {"is_enabled": False}):
            tx.add(AlertRule(client_id=client.id, **RULE | facts))
        tx.add(AlertRule(client_id=client.id, **RULE | {"channel": "email"}))
        tx.flush()


@pytest.mark.parametrize("table", ["clients", "pipelines"])
def test_what_has_children_cannot_be_deleted(metadata: Metadata, table: str) -> None:
    with metadata.transaction() as tx:
        make_run(tx, make_pipeline(tx, make_client(tx, "acme"), "orders"), "success")

    with pytest.raises(IntegrityError), metadata.transaction() as tx:
        tx.execute(text(f"DELETE FROM chm.{table}"))


@pytest.mark.parametrize("after", FINAL)
def test_a_running_run_ends_once_and_stays_ended(
    metadata: Metadata, after: str
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        make_run(tx, pipeline, "running")

        for status in ("running", after, after):
            set_status(tx, status)

    for status in {"running", *FINAL} - {after}:
        with (
            pytest.raises(IntegrityError, match=f"is {after}, which is final"),
            metadata.transaction() as tx,
        ):
            set_status(tx, status)


def set_status(tx: Session, status: str) -> None:
    """Change the status of every run, as somebody with psql."""
    values = {"status": status}
    tx.execute(text("UPDATE chm.runs SET status = :status"), values)


@pytest.mark.parametrize("table", ["clients", "pipelines", "runs", "alert_rules"])
def test_a_change_by_hand_is_dated(metadata: Metadata, table: str) -> None:
    with metadata.transaction() as tx:
        client = make_client(tx, "acme")
        make_run(tx, make_pipeline(tx, client, "orders"), "running")
        tx.add(AlertRule(client_id=client.id, **RULE))
    past = {"past": NOW - timedelta(days=9)}
    with metadata.transaction() as tx:
        tx.execute(text(f"ALTER TABLE chm.{table} DISABLE TRIGGER touch"))
        tx.execute(text(f"UPDATE chm.{table} SET updated_at = :past"), past)
        tx.execute(text(f"ALTER TABLE chm.{table} ENABLE TRIGGER touch"))

    with metadata.transaction() as tx:
        tx.execute(text(f"UPDATE chm.{table} SET created_at = created_at"))
        now = tx.execute(text(f"SELECT updated_at = now() FROM chm.{table}")).scalar()

    assert now


def test_an_event_time_is_when_it_finished_started_or_was_heard_of(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline = make_pipeline(tx, make_client(tx, "acme"), "orders")
        finished = make_run(tx, pipeline, "success")
        started = make_run(tx, pipeline, "running", finished_at=None)
        heard = make_run(tx, pipeline, "failed", started_at=None, finished_at=None)

        assert finished.event_time == finished.finished_at
        assert started.event_time == started.started_at
        assert heard.event_time == heard.created_at


def test_a_client_is_active_until_somebody_disables_it(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        row = make_client(tx, "acme")
        tx.refresh(row)

        assert isinstance(row, Client)
        assert row.is_active
