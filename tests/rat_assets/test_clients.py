"""The jobs that keep clients: their forms, and what a mistake looks like."""

from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select

from rat_assets.clients import jobs
from rat_resources.metadata.audit import AuditLog
from rat_resources.metadata.chm import AlertRule, Client, Pipeline, Run
from tests.factories import Shop

JOBS = {job.name: job for job in jobs()}


def launch(shop: Shop, job: str, /, **config: Any) -> dg.ExecuteInProcessResult:  # noqa: ANN401
    """Run a job with a form."""
    (op,) = JOBS[job].nodes
    return JOBS[job].execute_in_process(
        run_config={"ops": {op.name: {"config": config}}},
        instance=shop.instance,
        resources={"platform": shop.whole},
        raise_on_error=False,
    )


def test_a_client_its_pipeline_a_rule_and_a_run_are_made_by_jobs(shop: Shop) -> None:
    partner = {"base_url": "https://acme.example/api", "token": "env:ACME_TOKEN"}
    forms: list[tuple[str, dict[str, Any]]] = [
        ("save_client", {"name": "acme", "partner": partner}),
        (
            "save_pipeline",
            {
                "client": "acme",
                "name": "orders",
                "platform": "airflow",
                "pipeline_type": "ingestion",
            },
        ),
        (
            "save_alert_rule",
            {
                "client": "acme",
                "rule_type": "on_failure",
                "channel": "slack",
                "destination": "#data",
            },
        ),
        ("record_run", {"pipeline": "acme/orders", "status": "success"}),
    ]

    results = [launch(shop, name, **config) for name, config in forms]

    assert all(result.success for result in results)
    with shop.whole.metadata.transaction() as tx:
        assert tx.scalars(select(Client.partner)).one() == partner
        for model in (Pipeline, AlertRule, Run):
            assert tx.scalars(select(model.id)).one()
        assert len(tx.scalars(select(AuditLog)).all()) == 4


def test_a_mistake_in_a_form_names_its_fields(shop: Shop) -> None:
    result = launch(shop, "save_client", name="", partner={"token": "s3cret"})

    failed = next(each for each in result.all_events if each.is_step_failure)
    said = str(failed.step_failure_data.error)
    assert "name: it is empty" in said
    assert "partner.token: write env:NAME" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_job_says_what_it_does(name: str) -> None:
    assert JOBS[name].description
