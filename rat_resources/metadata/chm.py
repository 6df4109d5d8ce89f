"""CHM: clients, their pipelines, the runs of these, and the rules that watch them.

A client is a namespace of ours or a partner; a pipeline is ours (`origin` rat, told by
`rat_resources.mirror.clients`) or external (managed by `rat_resources.clients`). What the tables
refuse, they refuse whoever writes; `updated_at` follows every change, by hand too.
"""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import ChmBase, Json, now, uuid_pk


class Platform(StrEnum):
    """Where a pipeline runs."""

    AIRFLOW = "airflow"
    DBT = "dbt"
    CRON = "cron"
    VENDOR_API = "vendor_api"
    CUSTOM = "custom"


class PipelineType(StrEnum):
    """What a pipeline is for."""

    INGESTION = "ingestion"
    TRANSFORM = "transform"
    QUALITY = "quality"
    EXPORT = "export"
    HEALTHCHECK = "healthcheck"


class Environment(StrEnum):
    """Where a pipeline's result counts."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class RunStatus(StrEnum):
    """How a run went; all but the first are final."""

    RUNNING = "running"  # → any of the others
    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    SKIPPED = "skipped"


class RuleType(StrEnum):
    """When a rule fires."""

    ON_FAILURE = "on_failure"
    FAILURES_IN_WINDOW = "failures_in_window"


class Channel(StrEnum):
    """How a rule tells."""

    SLACK = "slack"
    EMAIL = "email"
    WEBHOOK = "webhook"


class Origin(StrEnum):
    """Who executes a pipeline."""

    RAT = "rat"  # this deployment; its rows follow rat.*
    EXTERNAL = "external"  # somebody else; its runs come in


def enum(name: str, values: type[StrEnum]) -> ENUM:
    """A type of Postgres's own in the schema."""
    words = [each.value for each in values]
    return ENUM(*words, name=name, schema=ChmBase.schema, metadata=ChmBase.metadata)


platform = enum("platform", Platform)
pipeline_type = enum("pipeline_type", PipelineType)
environment = enum("environment", Environment)
run_status = enum("run_status", RunStatus)
rule_type = enum("rule_type", RuleType)
channel = enum("channel", Channel)

PARTNER_SETTINGS = ("base_url", "token", "timeout", "retries", "backoff", "policy")
# Ours give way to an external pipeline of the same name or id, which may therefore not end so.
OURS_SUFFIX = " (rat)"


class Client(ChmBase):
    """Whose pipelines they are: a namespace, or a partner. Deleting is `is_active` false."""

    __tablename__ = "clients"
    __table_args__ = (
        CheckConstraint("btrim(name) <> ''", name="name"),
        CheckConstraint(
            "jsonb_typeof(partner) = 'object' AND"
            " partner - '{base_url,token,timeout,retries,backoff,policy}'::text[] = '{}'",
            name="partner",
        ),
        # A secret has no place in a table: neither as the token nor inside the URL.
        CheckConstraint(
            "partner->>'token' ~ '^env:[A-Za-z_][A-Za-z0-9_]*$'", name="partner_token"
        ),
        CheckConstraint(
            "partner->>'base_url' ~ '^https?://[^/?#@[:space:]]+(/[^?#[:space:]]*)?$'",
            name="partner_base_url",
        ),
        CheckConstraint(
            "partner->>'policy' IN ('ignore', 'reject')", name="partner_policy"
        ),
    )

    id: Mapped[uuid_pk]
    name: Mapped[str] = mapped_column(String(255), unique=True)
    is_active: Mapped[bool] = mapped_column(server_default="true")
    # Where its runs are fetched and how: PARTNER_SETTINGS; the token is env:NAME
    partner: Mapped[Json | None]
    created_at: Mapped[now]
    updated_at: Mapped[now]


class Pipeline(ChmBase):
    """Something of a client's that runs. Deleting is `is_active` false; its runs stay."""

    __tablename__ = "pipelines"
    __table_args__ = (
        UniqueConstraint("client_id", "name"),
        CheckConstraint("btrim(name) <> ''", name="name"),
        CheckConstraint("btrim(external_id) <> ''", name="external_id"),
        CheckConstraint("origin IN ('rat', 'external')", name="origin"),
        CheckConstraint(
            "(origin = 'rat') = (table_name IS NOT NULL)"
            " AND (origin = 'rat') = (published IS NOT NULL)",
            name="ours",
        ),
        CheckConstraint(
            "origin = 'rat' OR (name NOT LIKE '% (rat)'"
            " AND COALESCE(external_id, '') NOT LIKE '% (rat)')",
            name="reserved",
        ),
        Index(
            "uq_pipelines_external_id",
            "client_id",
            "platform",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index("ix_pipelines_client_id", "client_id"),
    )

    id: Mapped[uuid_pk]
    client_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("chm.clients.id", ondelete="RESTRICT")
    )
    name: Mapped[str] = mapped_column(String(255))
    platform: Mapped[str] = mapped_column(platform)
    external_id: Mapped[str | None]
    pipeline_type: Mapped[str] = mapped_column(pipeline_type)
    description: Mapped[str | None]
    environment: Mapped[str] = mapped_column(environment, server_default="prod")
    is_active: Mapped[bool] = mapped_column(server_default="true")
    created_at: Mapped[now]
    updated_at: Mapped[now]
    origin: Mapped[str] = mapped_column(server_default="external")
    # Of ours only: the table that it writes, and whether the current release holds it.
    table_name: Mapped[str | None] = mapped_column(unique=True)
    published: Mapped[bool | None]


EVENT_TIME = "COALESCE(finished_at, started_at, created_at)"


class Run(ChmBase):
    """One run of a pipeline; told again under the same external id it is the same row."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "external_run_id"),
        CheckConstraint("btrim(external_run_id) <> ''", name="external_run_id"),
        CheckConstraint("duration_seconds >= 0", name="duration_seconds"),
        CheckConstraint("rows_processed >= 0", name="rows_processed"),
        # The last columns are there to be read, so that the table need not be.
        Index(
            "ix_runs_latest",
            "pipeline_id",
            text("started_at DESC NULLS LAST"),
            text("finished_at DESC NULLS LAST"),
            text("id DESC"),
            postgresql_include=["status", "created_at"],
        ),
        Index(
            "ix_runs_pipeline_status",
            "pipeline_id",
            "status",
            text("started_at DESC NULLS LAST"),
            text("event_time DESC"),
        ),
        Index(
            "ix_runs_status_event_time",
            "status",
            "event_time",
            postgresql_include=["pipeline_id"],
        ),
        Index(
            "ix_runs_failed_updated_at",
            "updated_at",
            postgresql_where=text("status = 'failed'"),
        ),
        Index(
            "ix_runs_event_time",
            "event_time",
            postgresql_include=[
                "pipeline_id",
                "status",
                "duration_seconds",
                "rows_processed",
            ],
        ),
    )

    id: Mapped[uuid_pk]  # of ours: the id of its row in rat.runs
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("chm.pipelines.id", ondelete="RESTRICT")
    )
    external_run_id: Mapped[str]
    status: Mapped[str] = mapped_column(run_status)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    duration_seconds: Mapped[int | None]
    rows_processed: Mapped[int | None] = mapped_column(BigInteger)
    error_message: Mapped[str | None]
    status_reason: Mapped[str | None]
    payload: Mapped[Json | None]
    ingested_at: Mapped[now]
    created_at: Mapped[now]
    updated_at: Mapped[now]
    # When it happened, as every dashboard counts it.
    event_time: Mapped[datetime] = mapped_column(Computed(EVENT_TIME, persisted=True))


class LatestRun(ChmBase):
    """The latest run or success of a pipeline, kept by triggers so that it need not be looked for."""

    __tablename__ = "latest_runs"

    pipeline_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    succeeded: Mapped[bool] = mapped_column(primary_key=True)
    run_id: Mapped[uuid.UUID]
    status: Mapped[str] = mapped_column(run_status)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    event_time: Mapped[datetime]


class AlertRule(ChmBase):
    """When somebody wants to hear of failures, and where. Deleting is `is_enabled` false."""

    __tablename__ = "alert_rules"
    __table_args__ = (
        CheckConstraint("threshold > 0", name="threshold"),
        CheckConstraint("window_minutes > 0", name="window_minutes"),
        CheckConstraint("btrim(destination) <> ''", name="destination"),
        CheckConstraint(
            "client_id IS NOT NULL OR pipeline_id IS NOT NULL", name="scope"
        ),
        CheckConstraint(
            "rule_type <> 'failures_in_window'"
            " OR (threshold IS NOT NULL AND window_minutes IS NOT NULL)",
            name="parameters",
        ),
        Index(
            "uq_alert_rules_active",
            "client_id",
            "pipeline_id",
            "rule_type",
            "channel",
            "destination",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("is_enabled"),
        ),
        Index("ix_alert_rules_client_id", "client_id"),
        Index("ix_alert_rules_pipeline_id", "pipeline_id"),
    )

    id: Mapped[uuid_pk]
    client_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("chm.clients.id", ondelete="RESTRICT")
    )
    pipeline_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("chm.pipelines.id", ondelete="RESTRICT")
    )
    rule_type: Mapped[str] = mapped_column(rule_type)
    threshold: Mapped[int | None]
    window_minutes: Mapped[int | None]
    channel: Mapped[str] = mapped_column(channel)
    destination: Mapped[str] = mapped_column(String(512))
    is_enabled: Mapped[bool] = mapped_column(server_default="true")
    created_at: Mapped[now]
    updated_at: Mapped[now]
