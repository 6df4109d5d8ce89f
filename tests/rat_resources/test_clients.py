"""Forms about clients, external pipelines, alert rules and runs by hand."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from rat_resources import clients
from rat_resources.clients import Saved
from rat_resources.clients.forms import (
    ClientForm,
    FormError,
    PipelineForm,
    RuleForm,
    RunForm,
)
from rat_resources.metadata import Metadata
from rat_resources.metadata.audit import AuditLog
from rat_resources.metadata.chm import AlertRule, Client, Pipeline, Run
from rat_resources.mirror.clients import reflect_pipelines
from tests.rat_resources import rows

MANUAL = uuid.UUID(int=7)


def save_client(tx: Session, name: str = "acme", **facts: Any) -> Saved:  # noqa: ANN401
    """Save a client."""
    return clients.save_client(tx, ClientForm(name=name, **facts), user="ann")


def save_pipeline(tx: Session, name: str = "orders", **facts: Any) -> Saved:  # noqa: ANN401
    """Save a pipeline of acme's."""
    form = PipelineForm(**{"client": "acme", "name": name} | facts)
    return clients.save_pipeline(tx, form, user="ann")


def make_pipeline(tx: Session, name: str = "orders", **facts: Any) -> Saved:  # noqa: ANN401
    """A new pipeline of acme's."""
    save_client(tx)
    facts = {"platform": "airflow", "pipeline_type": "ingestion"} | facts
    return save_pipeline(tx, name, **facts)


def save_rule(tx: Session, **facts: Any) -> Saved:  # noqa: ANN401
    """Save a rule."""
    return clients.save_alert_rule(tx, RuleForm(**facts), user="ann")


def make_rule(tx: Session, **facts: Any) -> Saved:  # noqa: ANN401
    """A rule about acme's failures."""
    given = {"rule_type": "on_failure", "channel": "slack", "destination": "#data"}
    return save_rule(tx, **{"client": "acme"} | given | facts)


def record(tx: Session, **facts: Any) -> Saved:  # noqa: ANN401
    """Record a run of acme's orders."""
    form = RunForm(**{"pipeline": "acme/orders", "status": "success"} | facts)
    return clients.record_run(tx, form, user="ann", new_id=MANUAL)


def issues(save: Any, tx: Session, **facts: Any) -> dict[str, str]:  # noqa: ANN401
    """What is wrong with a form."""
    with pytest.raises(FormError) as caught:
        save(tx, **facts)
    return caught.value.issues


def test_a_client_is_made_changed_and_disabled(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        outcomes = [
            save_client(tx, partner={"base_url": "https://a.example", "retries": 2}),
            save_client(tx, partner={"token": "env:ACME"}),
            save_client(tx, clear=["retries"], is_active=False, rename="Acme"),
            save_client(tx, "Acme", is_active=False),
        ]

        row = tx.scalars(select(Client)).one()

        assert [each.outcome for each in outcomes] == [
            "created",
            "changed",
            "changed",
            "unchanged",
        ]
        assert (row.name, row.is_active) == ("Acme", False)
        assert row.partner == {"base_url": "https://a.example", "token": "env:ACME"}


def test_everything_wrong_with_a_client_is_said_at_once(metadata: Metadata) -> None:
    partner = {
        "base_ulr": "x",
        "base_url": "https://me:pw@host",
        "token": "s3cret",
        "policy": "x",
        "retries": -1,
    }

    with metadata.transaction() as tx:
        found = issues(save_client, tx, name=" ", partner=partner, clear=["tokn"])

    assert found == {
        "name": "it is empty",
        "clear": "tokn cannot be empty, only partner, base_url, token, timeout,"
        " retries, backoff, policy; did you mean token?",
        "partner.base_ulr": "unknown; did you mean base_url?",
        "partner.base_url": "write https://host/path, without a user and a password",
        "partner.token": "write env:NAME, the environment variable that holds it",
        "partner.policy": "write one of ignore, reject",
        "partner.retries": "write a number from 0 to 20",
    }


def test_a_name_that_is_taken_is_refused(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        save_client(tx, "beta")
        make_pipeline(tx, external_id="7")
        make_pipeline(tx, "events")

        assert issues(save_client, tx, rename="beta") == {
            "rename": "there is a client beta already"
        }
        assert issues(save_pipeline, tx, rename="events") == {
            "rename": "acme has a pipeline events already"
        }
        assert issues(save_pipeline, tx, name="events", external_id="7") == {
            "external_id": "pipeline orders on airflow has it already"
        }


def test_a_namespace_keeps_its_name(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        rows.make_pipeline(tx)
        reflect_pipelines(tx)

        found = issues(save_client, tx, name="shop", rename="store")

    assert found == {"rename": "shop is a namespace, which keeps its name"}


def test_a_pipeline_is_made_changed_emptied_and_disabled(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        made = make_pipeline(tx, external_id="7", description="Orders")
        changed = save_pipeline(tx, clear=["external_id"], environment="dev")
        save_pipeline(tx, is_active=False)

        row = tx.get_one(Pipeline, made.id)

        assert changed.changed == ("environment", "external_id")
        assert (row.external_id, row.description) == (None, "Orders")
        assert (row.environment, row.is_active, row.origin) == (
            "dev",
            False,
            "external",
        )


def test_everything_wrong_with_a_pipeline_is_said_at_once(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        save_client(tx)

        found = issues(
            save_pipeline,
            tx,
            client="acm",
            name="x" * 256,
            platform="airfow",
            environment="test",
            clear=["platform"],
        )
        new = issues(save_pipeline, tx, name="orders (rat)")

    assert found == {
        "client": "there is no client acm; did you mean acme?",
        "name": "it has 256 characters, more than 255",
        "platform": "airfow is none of airflow, dbt, cron, vendor_api, custom;"
        " did you mean airflow?",
        "environment": "test is none of dev, staging, prod",
        "clear": "platform cannot be empty, only external_id, description",
    }
    assert new == {
        "platform": "a new pipeline needs one",
        "pipeline_type": "a new pipeline needs one",
        "name": "only RAT's own may end with `(rat)`",
    }


def test_of_our_own_pipelines_only_the_switch_is_a_persons(metadata: Metadata) -> None:
    ours = {"client": "shop", "name": "bronze.orders"}
    with metadata.transaction() as tx:
        rows.make_pipeline(tx)
        reflect_pipelines(tx)

        found = issues(save_pipeline, tx, **ours, platform="dbt", clear=["description"])
        saved = save_pipeline(tx, **ours, is_active=True)

    own = "bronze.orders is RAT's own: only is_active can be set"
    assert found == {"platform": own, "clear": own}
    assert saved.changed == ("is_active",)


def test_a_rule_is_made_changed_disabled_and_enabled(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        made = make_rule(tx)
        window = {"rule_type": "failures_in_window", "threshold": 3}
        save_rule(tx, id=str(made.id), **window, window_minutes=60)
        save_rule(tx, id=str(made.id), pipeline="acme/orders", clear=["client"])
        save_rule(tx, id=str(made.id), is_enabled=False)

        row = tx.get_one(AlertRule, made.id)

        assert (row.client_id, row.threshold, row.window_minutes) == (None, 3, 60)
        assert row.pipeline_id is not None
        assert not row.is_enabled
        assert save_rule(tx, id=str(made.id), is_enabled=True).outcome == "changed"


def test_everything_wrong_with_a_rule_is_said_at_once(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)

        found = issues(
            save_rule,
            tx,
            pipeline="acme/order",
            rule_type="failures_in_window",
            threshold=0,
            channel="pager",
        )
        empty = issues(save_rule, tx)
        gone = issues(save_rule, tx, id="7", client="acme")

    assert found == {
        "channel": "pager is none of slack, email, webhook",
        "pipeline": "there is no pipeline acme/order; did you mean acme/orders?",
        "destination": "a rule needs one",
        "threshold": "0 is not between 1 and 2147483647",
        "window_minutes": "failures_in_window needs one",
    }
    assert empty["client"] == "a rule needs a client, a pipeline, or both"
    assert gone["id"] == "there is no rule 7; leave it out to make one"


@pytest.mark.parametrize(
    ("channel", "destination", "said"),
    [
        ("slack", "https://hooks.slack.com/services/hidden", "a secret must not stand"),
        ("slack", "env:", "no name of an environment variable"),
        ("email", "ops", "'ops' is no e-mail address"),
        ("email", "ops@example.com, dev", "'dev' is no e-mail address"),
        ("webhook", "#data", "this is no address"),
        ("webhook", "https://ann:hidden@example.com", "must not stand in an address"),
        ("webhook", "http://example.com", "http is read by everybody"),
    ],
)
def test_a_destination_is_one_of_its_channel_and_no_secret(
    metadata: Metadata, channel: str, destination: str, said: str
) -> None:
    with metadata.transaction() as tx:
        save_client(tx)

        found = issues(make_rule, tx, channel=channel, destination=destination)

    assert list(found) == ["destination"]
    assert said in found["destination"]
    assert "hidden" not in found["destination"]


@pytest.mark.parametrize(
    ("channel", "destination"),
    [
        ("slack", "env:OPS_SLACK"),
        ("email", "ops@example.com, dev@example.com"),
        ("webhook", "env:HOOK"),
        ("webhook", "https://example.com/hook"),
    ],
)
def test_a_destination_that_can_be_reached_is_kept(
    metadata: Metadata, channel: str, destination: str
) -> None:
    with metadata.transaction() as tx:
        save_client(tx)

        assert make_rule(tx, channel=channel, destination=destination).is_new


def test_a_rule_cannot_be_emptied_of_its_scope(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        save_client(tx)
        made = make_rule(tx)

        found = issues(save_rule, tx, id=str(made.id), clear=["client"])

    assert found == {"client": "a rule needs a client, a pipeline, or both"}


def test_a_twin_of_an_enabled_rule_is_refused(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        save_client(tx)
        first = make_rule(tx)
        twin = {"destination": f"rule {first.id} tells it there already"}

        assert issues(make_rule, tx) == twin
        disabled = make_rule(tx, is_enabled=False)
        assert issues(save_rule, tx, id=str(disabled.id), is_enabled=True) == twin


def test_a_rule_of_both_is_of_the_clients_own_pipeline(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        save_client(tx, "beta")

        assert make_rule(tx, pipeline="acme/orders").is_new
        assert issues(make_rule, tx, client="beta", pipeline="acme/orders") == {
            "pipeline": "orders is another client's"
        }


def test_a_run_by_hand_has_an_id_of_its_own_and_its_duration(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)

        saved = record(
            tx,
            started_at="2026-05-01T12:00:00Z",
            finished_at="2026-05-01T12:01:30",
            error_message="no reply to token=s3cret",
        )

        row = tx.get_one(Run, saved.id)
        assert row.external_run_id == f"manual-{MANUAL}"
        assert row.started_at == datetime(2026, 5, 1, 12, tzinfo=UTC)
        assert row.duration_seconds == 90
        assert row.payload == {"recorded_by": "ann"}
        assert row.error_message == "no reply to token=***"


def test_a_run_that_is_there_is_not_recorded_again(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        record(tx, external_run_id="7")

        found = issues(record, tx, external_run_id="7", status="failed")

    assert found == {"external_run_id": "there is a run 7: success"}


def test_everything_wrong_with_a_run_is_said_at_once(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        rows.make_pipeline(tx)
        reflect_pipelines(tx)

        found = issues(
            record,
            tx,
            pipeline="shop/bronze.orders",
            status="succes",
            started_at="yesterday",
            rows_processed=-1,
        )
        backwards = issues(
            record,
            tx,
            pipeline="shop/bronze.orders",
            started_at="2026-05-02",
            finished_at="2026-05-01",
        )

    assert found == {
        "status": "succes is none of running, success, failed, canceled, skipped;"
        " did you mean success?",
        "rows_processed": "-1 is not between 0 and 9223372036854775807",
        "started_at": "yesterday is no time in ISO 8601, like 2026-05-01T12:00:00Z",
        "pipeline": "shop/bronze.orders is RAT's own: it tells its runs itself",
    }
    assert backwards["finished_at"] == "it is before started_at"


def test_who_saved_what_is_written_down_and_nothing_for_nothing(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        make_pipeline(tx)
        save_client(tx)
        save_pipeline(tx, is_active=False)
        record(tx)

        log = tx.scalars(select(AuditLog).order_by(AuditLog.resource)).all()
        count = tx.scalar(select(func.count()).select_from(AuditLog))

        assert {(each.user_id, each.action, each.resource) for each in log} == {
            ("ann", "chm.client.create", "acme"),
            ("ann", "chm.pipeline.create", "orders"),
            ("ann", "chm.pipeline.update", "orders"),
            ("ann", "chm.run.create", f"manual-{MANUAL}"),
        }
        assert count == 4
