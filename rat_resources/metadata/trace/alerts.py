"""Alerts: what somebody wants to hear of, what happened, and what was sent about it."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, TraceBase, now, uuid_pk
from rat_resources.metadata.trace.people import SHOWN

# What the condition says, whoever wrote it.
KIND = "condition ->> 'kind'"
DATASET = "condition ->> 'dataset'"


class AlertDefinition(TraceBase):
    """What somebody wants to hear of, and where. The channels hold personal data, and no secret."""

    __tablename__ = "alert_definitions"
    __table_args__ = (
        CheckConstraint(SHOWN, name="visibility"),
        CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity"),
        CheckConstraint("source IN ('file', 'job')", name="source"),
        CheckConstraint("retired_at IS NULL OR NOT enabled", name="retired"),
        Index("ix_alert_definitions_org", "org_id"),
        Index(
            "ix_alert_definitions_dataset",
            "dataset",
            postgresql_where=text("enabled"),
        ),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.users.id"))
    name: Mapped[str]
    condition: Mapped[Json]
    channels: Mapped[Json]
    visibility: Mapped[str] = mapped_column(server_default="private")
    enabled: Mapped[bool] = mapped_column(server_default="true")
    created_at: Mapped[now]
    updated_at: Mapped[now]
    namespace: Mapped[str] = mapped_column(server_default="")
    owner: Mapped[str | None]  # as its file says it: a team, an address
    severity: Mapped[str] = mapped_column(server_default="warning")
    labels: Mapped[Json] = mapped_column(server_default="{}")
    description: Mapped[str] = mapped_column(server_default="")
    remediation: Mapped[str] = mapped_column(server_default="")
    source: Mapped[str] = mapped_column(server_default="job")  # file, job
    retired_at: Mapped[datetime | None]  # since when nobody keeps it: its file is gone
    kind: Mapped[str | None] = mapped_column(Computed(KIND, persisted=True))
    dataset: Mapped[str | None] = mapped_column(Computed(DATASET, persisted=True))


class AlertEvent(TraceBase):
    """That something happened. Only added, never changed."""

    __tablename__ = "alert_events"
    __table_args__ = (
        UniqueConstraint("org_id", "dedupe_key"),
        CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity"),
        Index("ix_alert_events_time", "org_id", text("created_at DESC")),
        Index("ix_alert_events_definition", "alert_definition_id"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    alert_definition_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.alert_definitions.id")
    )
    producer_job_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.jobs.id")
    )
    producer_task_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.tasks.id")
    )
    severity: Mapped[str | None]
    chain_id: Mapped[int | None] = mapped_column(BigInteger)
    block_hash: Mapped[str | None]
    tx_hash: Mapped[str | None]
    block_number: Mapped[int | None] = mapped_column(BigInteger)
    source_dataset: Mapped[str | None]
    source_dataset_uuid: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.datasets.id")
    )
    partition_key: Mapped[str | None]
    cursor_value: Mapped[str | None]
    payload: Mapped[Json] = mapped_column(server_default="{}")
    dedupe_key: Mapped[str]
    event_time: Mapped[now]
    created_at: Mapped[now]


class DeliveryStatus(StrEnum):
    """How far a delivery came."""

    PENDING = "pending"  # → sending, failed
    SENDING = "sending"  # → delivered, retrying, failed; sending anew once its lease has lapsed
    RETRYING = "retrying"  # → sending, failed
    DELIVERED = "delivered"  # final
    FAILED = "failed"  # final, unless an admin who says SET LOCAL rat.retry = 'on' has it pending


class AlertDelivery(TraceBase):
    """What was sent about an event through one channel; its id is what the receiver dedupes by."""

    __tablename__ = "alert_deliveries"
    __table_args__ = (
        UniqueConstraint("org_id", "alert_event_id", "channel"),
        CheckConstraint(
            "channel IN ('email', 'sms', 'webhook', 'slack', 'pagerduty')",
            name="channel",
        ),
        CheckConstraint(
            "status IN ('pending', 'sending', 'delivered', 'retrying', 'failed')",
            name="status",
        ),
        CheckConstraint(
            "(status = 'delivered') = (delivered_at IS NOT NULL)", name="delivered"
        ),
        CheckConstraint(
            "(status = 'sending') = (leased_until IS NOT NULL)", name="leased"
        ),
        CheckConstraint("attempt >= 0", name="attempt"),
        Index("ix_alert_deliveries_event", "alert_event_id"),
        Index("ix_alert_deliveries_due", "status", "next_attempt_at"),
        Index(
            "ix_alert_deliveries_leader",
            "leader_id",
            postgresql_where=text("leader_id IS NOT NULL"),
        ),
        Index(
            "ix_alert_deliveries_group",
            "group_key",
            postgresql_where=text("leader_id IS NULL AND status = 'pending'"),
        ),
        Index(
            "ix_alert_deliveries_open",
            "next_attempt_at",
            postgresql_where=text(
                "leader_id IS NULL AND status IN ('pending', 'retrying', 'sending')"
            ),
        ),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    alert_event_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.alert_events.id")
    )
    channel: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="pending")
    attempt: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[now]
    leased_until: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    last_attempt_at: Mapped[datetime | None]
    provider_message_id: Mapped[str | None]
    error_message: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[now]
    updated_at: Mapped[now]
    # The delivery whose message tells of this event too; what becomes of that becomes of this.
    leader_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.alert_deliveries.id")
    )
    group_key: Mapped[
        str | None
    ]  # what the events have in common that are told together
