"""Tasks: a step of a run, from being wanted to its end, whatever the number of its attempts."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, TraceBase, moment, now, uuid_pk


class TaskStatus(StrEnum):
    """How far a task came."""

    QUEUED = "Queued"  # → Running, Failed, Canceled
    RUNNING = "Running"  # → Completed, Failed, Canceled; Running anew once its lease has lapsed
    COMPLETED = "Completed"  # final
    # → Queued as the next attempt, or Canceled, while next_retry_at says that it is tried again.
    # Without next_retry_at it is final, unless an admin who says SET LOCAL rat.retry = 'on' queues it.
    FAILED = "Failed"
    CANCELED = "Canceled"  # final


class Task(TraceBase):
    """One step of one run of Dagster's: this table, by this job."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint(
            "status IN ('Queued', 'Running', 'Completed', 'Failed', 'Canceled')",
            name="status",
        ),
        CheckConstraint(
            "(status = 'Running') = (lease_token IS NOT NULL)", name="lease_token"
        ),
        CheckConstraint(
            "(lease_token IS NULL) = (lease_expires_at IS NULL)",
            name="lease_expires_at",
        ),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint(
            "attempts = attempt OR (attempts = attempt - 1"
            " AND status IN ('Queued', 'Failed', 'Canceled'))",
            name="attempts",
        ),
        CheckConstraint("status <> 'Queued' OR attempts = attempt - 1", name="queued"),
        CheckConstraint(
            "status <> 'Completed' OR completed_at IS NOT NULL", name="completed"
        ),
        CheckConstraint(
            "status NOT IN ('Queued', 'Running') OR completed_at IS NULL",
            name="unfinished",
        ),
        CheckConstraint("status = 'Failed' OR next_retry_at IS NULL", name="retry"),
        Index(
            "uq_tasks_dedupe_key",
            "job_id",
            "dedupe_key",
            unique=True,
            postgresql_where=text("dedupe_key IS NOT NULL"),
        ),
        Index(
            "ix_tasks_open",
            "status",
            "created_at",
            postgresql_where=text("status IN ('Queued', 'Running')"),
        ),
        Index(
            "ix_tasks_retry",
            "next_retry_at",
            postgresql_where=text("status = 'Failed' AND next_retry_at IS NOT NULL"),
        ),
        Index(
            "ix_tasks_lease",
            "lease_expires_at",
            postgresql_where=text("status = 'Running'"),
        ),
        Index("ix_tasks_job", "job_id", text("created_at DESC")),
        Index("ix_tasks_run", "run_id"),
        Index("ix_tasks_dagster", "dagster_run_id"),
        Index(
            "ix_tasks_invalidation",
            "invalidation_id",
            postgresql_where=text("invalidation_id IS NOT NULL"),
        ),
    )

    id: Mapped[uuid_pk]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.jobs.id"))
    dedupe_key: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="Queued")
    attempt: Mapped[int] = mapped_column(server_default="1")  # the fence, from 1
    attempts: Mapped[int] = mapped_column(server_default="0")  # how many have started
    partitions: Mapped[list[str] | None]
    input_versions: Mapped[Json | None]
    worker_id: Mapped[str | None]
    lease_token: Mapped[uuid.UUID | None]
    lease_expires_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    last_heartbeat: Mapped[datetime | None]
    next_retry_at: Mapped[datetime | None]
    error_message: Mapped[str | None]
    outputs: Mapped[Json | None]
    invalidation_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.data_invalidations.id")
    )
    created_at: Mapped[now]
    # The newest attempt. Soft: a task outlives the runs of a pipeline that is purged.
    run_id: Mapped[uuid.UUID | None]
    dagster_run_id: Mapped[str | None] = mapped_column(String(63))


class TaskInput(TraceBase):
    """Which version of which partition a task read."""

    __tablename__ = "task_inputs"
    __table_args__ = (
        Index("ix_task_inputs_dataset", "input_dataset_uuid", "input_partition_key"),
    )

    task_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.tasks.id", ondelete="CASCADE"), primary_key=True
    )
    input_dataset_uuid: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.datasets.id"), primary_key=True
    )
    input_partition_key: Mapped[str] = mapped_column(primary_key=True)
    input_version: Mapped[moment]
