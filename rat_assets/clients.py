"""The jobs that keep clients, external pipelines, alert rules, and runs by hand.

Each has a form; what they do is `rat_resources.clients`. A field that is left out stays as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from rat_assets.actions import failing, user
from rat_resources import clients
from rat_resources.clients import Saved
from rat_resources.clients.forms import ClientForm, PipelineForm, RuleForm, RunForm

CLEAR = "fields to empty"


class PartnerConfig(dg.Config):
    """Where and how the runs of a client are fetched."""

    base_url: str | None = Field(default=None, description="https://host/path")
    token: str | None = Field(
        default=None,
        description="env:NAME, the variable that holds it; never the token",
    )
    timeout: float | None = Field(default=None, description="seconds; without it 10")
    retries: int | None = Field(default=None, description="without it 3")
    backoff: float | None = Field(default=None, description="seconds; without it 1")
    policy: str | None = Field(
        default=None,
        description="of news about a run that is over: ignore (the default) or reject",
    )


class ClientConfig(dg.Config):
    """What the job `save_client` is asked to do."""

    name: str = Field(description="a name that is unknown makes a client")
    rename: str | None = None
    is_active: bool | None = Field(default=None, description="false: disable it")
    partner: PartnerConfig = PartnerConfig()
    clear: list[str] = Field(default=[], description=f"{CLEAR}: partner, token, …")


class PipelineConfig(dg.Config):
    """What the job `save_pipeline` is asked to do."""

    client: str
    name: str = Field(description="a name that its client lacks makes a pipeline")
    rename: str | None = None
    platform: str | None = Field(
        default=None, description="airflow, dbt, cron, vendor_api or custom"
    )
    pipeline_type: str | None = Field(
        default=None,
        description="ingestion, transform, quality, export or healthcheck",
    )
    external_id: str | None = Field(
        default=None, description="what the partner calls it"
    )
    description: str | None = None
    environment: str | None = Field(
        default=None, description="dev, staging or prod (a new one's default)"
    )
    is_active: bool | None = Field(default=None, description="false: disable it")
    clear: list[str] = Field(
        default=[], description=f"{CLEAR}: external_id, description"
    )


class RuleConfig(dg.Config):
    """What the job `save_alert_rule` is asked to do."""

    id: str | None = Field(default=None, description="of the rule; empty: a new one")
    client: str | None = None
    pipeline: str | None = Field(default=None, description="CLIENT/PIPELINE")
    rule_type: str | None = Field(
        default=None, description="on_failure or failures_in_window"
    )
    threshold: int | None = Field(default=None, description="failures, in the window")
    window_minutes: int | None = None
    channel: str | None = Field(default=None, description="slack, email or webhook")
    destination: str | None = Field(
        default=None,
        description="an e-mail address, the https address of a webhook, or env:NAME, "
        "the variable that holds it (as that of a Slack webhook does)",
    )
    is_enabled: bool | None = Field(default=None, description="false: disable it")
    clear: list[str] = Field(
        default=[],
        description=f"{CLEAR}: client, pipeline, threshold, window_minutes",
    )


class RecordedRunConfig(dg.Config):
    """What the job `record_run` is asked to write."""

    pipeline: str = Field(description="CLIENT/PIPELINE, an external one")
    status: str = Field(description="running, success, failed, canceled or skipped")
    external_run_id: str | None = Field(
        default=None, description="what its source calls it; empty: manual-…"
    )
    started_at: str | None = Field(default=None, description="2026-05-01T12:00:00Z")
    finished_at: str | None = None
    duration_seconds: int | None = None
    rows_processed: int | None = None
    error_message: str | None = None
    status_reason: str | None = None


def jobs() -> Sequence[dg.JobDefinition]:
    """The named jobs."""
    return [save_client_job, save_pipeline_job, save_alert_rule_job, record_run_job]


def fields_of(config: dg.Config) -> dict[str, Any]:
    """The fields of a form; None where it does not give one."""
    return {name: getattr(config, name) for name in type(config).model_fields}


def keep(
    context: dg.OpExecutionContext, save: Callable[..., Saved], form: object
) -> None:
    """Save a form, and show what came of it."""
    metadata = context.resources.platform.metadata
    with failing(), metadata.transaction() as tx:
        saved = save(tx, form, user=user())
    context.log.info(f"{saved.name}: {saved.outcome}")
    context.add_output_metadata(
        {
            "id": str(saved.id),
            "name": saved.name,
            "outcome": saved.outcome,
            "changed": list(saved.changed),
        }
    )


def partner_of(config: PartnerConfig) -> Mapping[str, Any] | None:
    """The settings that a form gives; None when it gives none."""
    given = {
        key: value for key, value in fields_of(config).items() if value is not None
    }
    return given or None


@dg.op(name="keep_client", required_resource_keys={"platform"})
def save_client_op(context: dg.OpExecutionContext, config: ClientConfig) -> None:
    """Make or change a client."""
    form = ClientForm(**fields_of(config) | {"partner": partner_of(config.partner)})
    keep(context, clients.save_client, form)


@dg.op(name="keep_pipeline", required_resource_keys={"platform"})
def save_pipeline_op(context: dg.OpExecutionContext, config: PipelineConfig) -> None:
    """Make or change an external pipeline."""
    keep(context, clients.save_pipeline, PipelineForm(**fields_of(config)))


@dg.op(name="keep_alert_rule", required_resource_keys={"platform"})
def save_alert_rule_op(context: dg.OpExecutionContext, config: RuleConfig) -> None:
    """Make or change an alert rule."""
    keep(context, clients.save_alert_rule, RuleForm(**fields_of(config)))


@dg.op(name="keep_run", required_resource_keys={"platform"})
def record_run_op(context: dg.OpExecutionContext, config: RecordedRunConfig) -> None:
    """Write one run of an external pipeline."""
    keep(context, clients.record_run, RunForm(**fields_of(config)))


@dg.job(name="save_client", executor_def=dg.in_process_executor)
def save_client_job() -> None:
    """Make, change or disable a client."""
    save_client_op()


@dg.job(name="save_pipeline", executor_def=dg.in_process_executor)
def save_pipeline_job() -> None:
    """Make, change or disable a pipeline that somebody else runs."""
    save_pipeline_op()


@dg.job(name="save_alert_rule", executor_def=dg.in_process_executor)
def save_alert_rule_job() -> None:
    """Make, change, disable or enable an alert rule."""
    save_alert_rule_op()


@dg.job(name="record_run", executor_def=dg.in_process_executor)
def record_run_job() -> None:
    """Write one run that no source tells of."""
    record_run_op()
