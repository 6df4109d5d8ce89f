"""What should run next: schedules, triggers, and the wishes that they write.

A wish is a row, so none is lost and none runs twice; `rat_sensors.wishes` turns the due ones
into runs.
"""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class Schedule(RatBase):
    """A pipeline's clock."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "cron_expr", "timezone"),
        CheckConstraint("catch_up IN ('last', 'all', 'none')", name="catch_up"),
        CheckConstraint("overlap IN ('wait', 'skip')", name="overlap"),
        Index("ix_schedules_due", "next_run_at", postgresql_where=text("enabled")),
    )

    id: Mapped[uuid_pk]
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    cron_expr: Mapped[str] = mapped_column(String(100))
    enabled: Mapped[bool] = mapped_column(server_default="true")
    last_run_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="SET NULL")
    )
    last_run_at: Mapped[datetime | None]
    next_run_at: Mapped[datetime | None]
    timezone: Mapped[str] = mapped_column(String(63), server_default="UTC")
    catch_up: Mapped[str] = mapped_column(String(10), server_default="last")
    overlap: Mapped[str] = mapped_column(String(10), server_default="wait")
    created_at: Mapped[now]


class PipelineTrigger(RatBase):
    """An event that a pipeline waits for."""

    __tablename__ = "pipeline_triggers"
    __table_args__ = (
        CheckConstraint("cooldown_seconds >= 0", name="cooldown_seconds"),
        Index("ix_pipeline_triggers_pipeline", "pipeline_id"),
        Index("ix_pipeline_triggers_type", "type", postgresql_where=text("enabled")),
    )

    id: Mapped[uuid_pk]
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    type: Mapped[str] = mapped_column(String(50))
    config: Mapped[Json] = mapped_column(server_default="{}")
    enabled: Mapped[bool] = mapped_column(server_default="true")
    cooldown_seconds: Mapped[int] = mapped_column(server_default="0")
    last_run_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="SET NULL")
    )
    last_triggered_at: Mapped[datetime | None]
    created_at: Mapped[now]


class WishState(StrEnum):
    """How far a wish came."""

    WAITING = "waiting"  # → requested
    REQUESTED = "requested"  # a Dagster run was asked for → taken; or waiting, if it never took it
    TAKEN = "taken"  # a run has it → done; waiting again, if that run died; held
    HELD = "held"  # the run for an invalidation failed: for the next that can → taken, waiting
    DONE = "done"  # the run ended, well or badly, or none will come; final


class Wish(RatBase):
    """That a pipeline should run, why, and from when on."""

    __tablename__ = "wishes"
    __table_args__ = (
        CheckConstraint(
            "state IN ('waiting', 'requested', 'taken', 'held', 'done')", name="state"
        ),
        UniqueConstraint("pipeline_id", "reason"),
        Index("ix_wishes_due", "due_at", postgresql_where=text("state = 'waiting'")),
        Index(
            "ix_wishes_open", "pipeline_id", postgresql_where=text("state <> 'done'")
        ),
        Index(
            "ix_wishes_asked", "run_key", postgresql_where=text("state = 'requested'")
        ),
        Index(
            "ix_wishes_run", "dagster_run_id", postgresql_where=text("state <> 'done'")
        ),
    )

    id: Mapped[uuid_pk]
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    label: Mapped[str] = mapped_column(
        String(1024)
    )  # the run's trigger: auto, schedule:…, …
    reason: Mapped[str]  # why, exactly: the same event wishes once
    state: Mapped[str] = mapped_column(String(10), server_default="waiting")
    due_at: Mapped[now]
    created_at: Mapped[now]
    # What Dagster was asked with; asking again with the same key starts nothing twice.
    run_key: Mapped[str | None]
    requested_at: Mapped[datetime | None]
    dagster_run_id: Mapped[str | None] = mapped_column(String(63))
    run_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="SET NULL")
    )
    attempts: Mapped[int] = mapped_column(server_default="0")
    finished_at: Mapped[datetime | None]
    ended_because: Mapped[str | None]  # None: its run ended
