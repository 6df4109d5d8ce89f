"""The job that keeps alerts: its form, and what a mistake looks like."""

from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select

from rat_assets.alerts import save_alert_job
from rat_resources.alerts import definitions
from rat_resources.alerts.definitions import Definition, Source
from rat_resources.metadata.audit import AuditLog
from tests.factories import Shop

DEAR = {
    "kind": "threshold",
    "dataset": "shop.silver.orders",
    "column": "amount",
    "op": "gt",
    "value": "1000",
}


def save(shop: Shop, **form: Any) -> dg.ExecuteInProcessResult:  # noqa: ANN401 - a form
    """Run the job with a form."""
    config = {"namespace": "shop", "name": "dear", **form}
    return save_alert_job.execute_in_process(
        run_config={"ops": {"keep_alert": {"config": config}}},
        instance=shop.instance,
        resources={"platform": shop.whole},
        raise_on_error=False,
    )


def said_against(result: dg.ExecuteInProcessResult) -> str:
    """Why a job failed."""
    assert not result.success
    [failure] = [each for each in result.all_events if each.is_step_failure]
    error = failure.step_failure_data.error
    return "" if error is None else str(error)


def kept(shop: Shop) -> list[Definition]:
    """The alerts that nobody has retired."""
    with shop.whole.metadata.transaction() as tx:
        return definitions.load(tx, only_enabled=False, only_kept=True)


def test_an_alert_is_made_changed_and_retired_by_the_job(open_shop: Shop) -> None:
    slack = {
        "webhook_url": "env:OPS",
        "quiet_hours": {"start": "22:00", "end": "07:00"},
    }
    channels = {"slack": slack, "email": {"to": ["ops@example.com"]}}

    made = save(open_shop, condition=DEAR, labels={"team": "ops"}, channels=channels)
    [first] = kept(open_shop)
    changed = save(open_shop, severity="critical", clear=["email", "labels"])
    [second] = kept(open_shop)
    retired = save(open_shop, retire=True)

    assert made.success
    assert changed.success
    assert retired.success
    assert (first.source, first.condition["value"]) == (Source.JOB, 1000)
    assert first.channels["slack"]["quiet_hours"]["from"] == "22:00"
    assert second.id == first.id
    assert (second.severity, second.labels) == ("critical", {})
    assert list(second.channels) == ["slack"]
    assert kept(open_shop) == []
    with open_shop.whole.metadata.transaction() as tx:
        logged = tx.scalars(
            select(AuditLog.action).where(AuditLog.action.startswith("alert."))
        ).all()
    assert sorted(logged) == ["alert.create", "alert.retire", "alert.update"]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "condition: a new alert needs one"),
        (
            {"condition": DEAR | {"kind": "treshold"}},
            "condition.kind: 'treshold' is not known; did you mean threshold?",
        ),
        (
            {"condition": DEAR | {"dataset": "shop.silver.oders"}},
            "did you mean shop.silver.orders?",
        ),
        ({"condition": DEAR, "namespace": "shpo"}, "did you mean shop?"),
        ({"condition": DEAR, "name": "No name"}, "name: 'No name' is no name"),
        ({"condition": DEAR, "severity": "bad"}, "severity: 'bad' is not known"),
        ({"condition": DEAR, "clear": ["condition"]}, "condition cannot be empty"),
        ({"retire": True}, "there is no alert shop/dear"),
    ],
)
def test_a_mistake_is_told_by_its_field(
    open_shop: Shop, form: dict[str, Any], said: str
) -> None:
    result = save(open_shop, **form)

    assert said in said_against(result)
    assert kept(open_shop) == []


def test_a_secret_is_refused_and_not_repeated(open_shop: Shop) -> None:
    channels = {"slack": {"webhook_url": "https://hooks.example/T0/B0/hidden"}}

    result = save(open_shop, condition=DEAR, channels=channels)

    said = said_against(result)
    assert "channels.slack.webhook_url: a secret must not stand here" in said
    assert "hidden" not in said


def test_an_alert_of_a_file_is_not_the_jobs_to_change(open_shop: Shop) -> None:
    content = (
        "condition: {kind: freshness, dataset: silver.orders, max_age_minutes: 60}\n"
    )
    open_shop.write("shop/alerts/dear.yaml", content)
    open_shop.publish()

    changed = save(open_shop, severity="info")
    retired = save(open_shop, retire=True)

    assert "is kept in shop/alerts/dear.yaml" in said_against(changed)
    assert "is kept in shop/alerts/dear.yaml" in said_against(retired)
    assert [each.severity for each in kept(open_shop)] == ["warning"]
