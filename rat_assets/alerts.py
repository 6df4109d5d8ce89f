"""The job that keeps alerts which stand in no file: its form.

What it does is `rat_resources.alerts.saving`. A field that is left out stays as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import yaml
from pydantic import Field

from rat_assets.actions import failing, user
from rat_resources.alerts.saving import AlertForm, save_alert

SECRET = "env:NAME, the variable that holds it; never the secret"  # noqa: S105 - it says so
SPAN = "30s, 5m, 2h, 7d"


class RhythmConfig(dg.Config):
    """How much later than usual is late."""

    factor: float = Field(default=2.0, description="times the usual distance")


class ConditionConfig(dg.Config):
    """What happened; which fields a kind has is said in docs/alerts.md."""

    kind: str | None = Field(
        default=None,
        description="threshold, in, aggregate, zscore, sql, quality, schema_change, "
        "volume, freshness, run_status, udf or system",
    )
    dataset: str | None = Field(default=None, description="namespace.layer.name")
    column: str | None = None
    op: str | None = Field(default=None, description="gt, gte, lt, lte, eq or ne")
    value: str | None = Field(
        default=None, description="as YAML has it: 60 is a number, '60' a text"
    )
    values: list[str] = Field(default=[], description="likewise")
    fn: str | None = Field(
        default=None,
        description="count, count_distinct, sum, avg, stddev, min, max or median",
    )
    group_by: list[str] = Field(default=[], description="columns")
    window_minutes: int | None = None
    time_column: str | None = None
    k: float | None = Field(default=None, description="standard deviations")
    baseline_rows: int | None = None
    where: dict[str, Any] | None = Field(
        default=None, description="a row filter: {country: DE, amount: {gte: 3}}"
    )
    per: str | None = Field(default=None, description="row: an event for each")
    key: list[str] = Field(default=[], description="columns that tell rows apart")
    query: str | None = Field(default=None, description="one SELECT")
    test: str | None = Field(default=None, description="its name, or *")
    status: str | None = Field(default=None, description="failed or warned")
    times: int | None = Field(default=None, description="in a row")
    columns: list[str] = Field(default=[], description="empty: every column")
    kinds: list[str] = Field(
        default=[],
        description="added, dropped, renamed, widened, replaced, nullability",
    )
    last_runs: int | None = None
    low: float | None = Field(default=None, description="times the usual")
    high: float | None = Field(default=None, description="times the usual")
    max_age_minutes: int | None = None
    rhythm: RhythmConfig | None = None
    pipelines: list[str] = Field(default=[], description="patterns: nyc.gold.*")
    statuses: list[str] = Field(default=[], description="failed, cancelled, success")
    entrypoint: str | None = Field(default=None, description="package.module:function")
    sha256: str | None = Field(default=None, description="of the file that holds it")


class QuietConfig(dg.Config):
    """Hours in which nothing is sent."""

    start: str = Field(description="22:00")
    end: str = Field(description="07:00")
    timezone: str = "UTC"
    unless_severity: str | None = Field(default=None, description="critical")


class ChannelConfig(dg.Config):
    """What every channel takes."""

    where: dict[str, Any] | None = Field(
        default=None, description="which events: {severity: critical, labels.team: ops}"
    )
    max_delivery_age: str | None = Field(default=None, description=SPAN)
    group_by: list[str] = Field(
        default=[], description="cause, definition, table, namespace, severity"
    )
    group_wait: str | None = Field(default=None, description=SPAN)
    quiet_hours: QuietConfig | None = None


class SlackConfig(ChannelConfig):
    """A message in Slack."""

    webhook_url: str = Field(description=SECRET)
    channel: str | None = None


class EmailConfig(ChannelConfig):
    """An e-mail."""

    to: list[str]
    subject_template: str | None = None


class WebhookConfig(ChannelConfig):
    """A POST of the event."""

    url: str = Field(description="https://…, or env:NAME")
    headers: dict[str, str] = Field(default={}, description="secrets as env:NAME")
    secret: str | None = Field(default=None, description=f"it signs; {SECRET}")


class SmsConfig(ChannelConfig):
    """A short message."""

    phone_number: str
    account_sid: str
    auth_token: str = Field(description=SECRET)
    from_number: str | None = None
    messaging_service_sid: str | None = None
    url: str | None = None


class PagerDutyConfig(ChannelConfig):
    """An incident."""

    routing_key: str = Field(description=SECRET)
    dedup_key: str | None = None
    url: str | None = None


class ChannelsConfig(dg.Config):
    """Where it is told; a channel that is given replaces the one of its type."""

    slack: SlackConfig | None = None
    email: EmailConfig | None = None
    webhook: WebhookConfig | None = None
    sms: SmsConfig | None = None
    pagerduty: PagerDutyConfig | None = None


class AlertConfig(dg.Config):
    """What the job `save_alert` is asked to do."""

    namespace: str
    name: str = Field(description="a name that is unknown makes an alert")
    condition: ConditionConfig = ConditionConfig()
    severity: str | None = Field(default=None, description="info, warning or critical")
    labels: dict[str, str] | None = None
    channels: ChannelsConfig = ChannelsConfig()
    enabled: bool | None = Field(default=None, description="false: switch it off")
    owner: str | None = None
    description: str | None = None
    remediation: str | None = Field(default=None, description="what to do about it")
    clear: list[str] = Field(
        default=[], description="fields to empty, channels to remove: slack"
    )
    retire: bool = Field(default=False, description="for good; its events stay")


def jobs() -> Sequence[dg.JobDefinition]:
    """The named jobs."""
    return [save_alert_job]


def given(config: dg.Config) -> dict[str, Any]:
    """The fields of a form that say something, as JSON."""
    said = {name: getattr(config, name) for name in type(config).model_fields}
    return {
        name: given(value) if isinstance(value, dg.Config) else value
        for name, value in said.items()
        if value not in (None, [], {})
    }


def condition_of(config: ConditionConfig) -> Mapping[str, Any] | None:
    """The condition that a form gives; None when it gives none."""
    said = given(config)
    if "value" in said:
        said["value"] = as_value(said["value"])
    if "values" in said:
        said["values"] = [as_value(each) for each in said["values"]]
    return said or None


def as_value(written: str) -> Any:  # noqa: ANN401 - whatever YAML reads
    """The value that a text stands for in YAML: 60 is a number, '60' is a text."""
    try:
        return yaml.safe_load(written)
    except (yaml.YAMLError, ValueError):
        return written


def channels_of(config: ChannelsConfig) -> Mapping[str, Any] | None:
    """The channels that a form gives; None when it gives none."""
    said = given(config)
    for channel in said.values():
        if "quiet_hours" in channel:
            hours = channel["quiet_hours"]
            named = {"from": hours.pop("start"), "to": hours.pop("end")}
            channel["quiet_hours"] = named | hours
    return said or None


def form_of(config: AlertConfig) -> AlertForm:
    """The form that was filled in."""
    return AlertForm(
        namespace=config.namespace,
        name=config.name,
        condition=condition_of(config.condition),
        severity=config.severity,
        labels=config.labels,
        channels=channels_of(config.channels),
        enabled=config.enabled,
        owner=config.owner,
        description=config.description,
        remediation=config.remediation,
        clear=config.clear,
        retire=config.retire,
    )


@dg.op(name="keep_alert", required_resource_keys={"platform"})
def save_alert_op(context: dg.OpExecutionContext, config: AlertConfig) -> None:
    """Make, change or retire an alert."""
    whole = context.resources.platform
    tables = {str(name) for name in whole.lake.published()}
    with failing(), whole.metadata.transaction() as tx:
        saved, warnings = save_alert(
            tx,
            form_of(config),
            user=user(),
            table_exists=lambda table: str(table) in tables,
        )
    for each in warnings:
        context.log.warning(f"{each.what}; {each.fix}")
    context.log.info(f"{saved.name}: {saved.outcome}")
    context.add_output_metadata(
        {
            "id": str(saved.id),
            "name": saved.name,
            "outcome": saved.outcome,
            "changed": list(saved.changed),
            "warnings": [each.what for each in warnings],
        }
    )


@dg.job(name="save_alert", executor_def=dg.in_process_executor)
def save_alert_job() -> None:
    """Make, change, switch off or retire an alert that stands in no file."""
    save_alert_op()
