"""Runs: what was asked for, how far it came, what it read, and what it may publish.

A run belongs to one pipeline and one attempt of a Dagster step. `rat_assets.phases` drives it.
"""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class RunStatus(StrEnum):
    """How far a run came; the last three are final."""

    PENDING = "pending"  # → running, cancelled, failed
    RUNNING = "running"  # → success, failed, cancelled
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED)


class Run(RatBase):
    """One attempt at one pipeline, on one branch of its own."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending', 'running', 'success', 'failed', 'cancelled')",
            name="status",
        ),
        CheckConstraint(
            "(status IN ('success', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished",
        ),
        CheckConstraint("rows_written >= 0", name="rows_written"),
        CheckConstraint("duration_ms >= 0", name="duration_ms"),
        Index("ix_runs_history", "pipeline_id", text("created_at DESC")),
        Index(
            "ix_runs_active",
            "status",
            postgresql_where=text("status IN ('pending', 'running')"),
        ),
        Index("ix_runs_dagster", "dagster_run_id"),
        Index(
            "ix_runs_logged",
            "finished_at",
            "id",
            postgresql_where=text("logs_s3_path IS NOT NULL"),
        ),
        # All that the dashboards read of the runs of a span of time.
        Index(
            "ix_runs_finished",
            "finished_at",
            postgresql_include=[
                "pipeline_id",
                "status",
                "unchanged",
                "duration_ms",
                "id",
                "created_at",
            ],
        ),
        Index(
            "ix_runs_successes",
            "pipeline_id",
            text("finished_at DESC"),
            postgresql_where=text("status = 'success'"),
            postgresql_include=["unchanged", "rows_total", "snapshot_id"],
        ),
        # How long making all of a table takes.
        Index(
            "ix_runs_whole",
            "pipeline_id",
            text("finished_at DESC"),
            postgresql_where=text(
                "status = 'success' AND NOT unchanged"
                " AND (full_refresh OR rows_written = rows_total)"
            ),
            postgresql_include=["duration_ms"],
        ),
        Index(
            "ix_runs_failures",
            "finished_at",
            postgresql_where=text("status = 'failed'"),
            postgresql_include=["pipeline_id"],
        ),
    )

    id: Mapped[uuid_pk]  # uuid5 of Dagster's run, the asset and the attempt
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    status: Mapped[str] = mapped_column(String(20), server_default="pending")
    trigger: Mapped[str] = mapped_column(String(1024), server_default="manual")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    rows_written: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str | None]
    logs_s3_path: Mapped[str | None] = mapped_column(String(1024))
    logs: Mapped[Json | None]  # the newest lines: [{timestamp, level, message}]
    phase_profiles: Mapped[Json | None]  # [{phase, ms, rows, bytes, peak_memory}]
    created_at: Mapped[now]
    dagster_run_id: Mapped[str | None] = mapped_column(String(63))
    attempt: Mapped[int] = mapped_column(server_default="1")
    version_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("rat.pipeline_versions.id", ondelete="SET NULL")
    )
    fence: Mapped[int | None] = mapped_column(BigInteger)
    worker: Mapped[str | None]  # host:pid:start of the process that runs it
    # While it is pending: its process says so anew before that time is over.
    waits_until: Mapped[datetime | None]
    branch: Mapped[str | None]
    base_commit: Mapped[str | None]  # the commit of main that all inputs are read at
    commit: Mapped[str | None]  # the commit of main that published it
    snapshot_id: Mapped[int | None] = mapped_column(BigInteger)
    rows_total: Mapped[int | None] = mapped_column(BigInteger)
    unchanged: Mapped[bool] = mapped_column(server_default="false")
    full_refresh: Mapped[bool] = mapped_column(server_default="false")
    settings: Mapped[Json] = mapped_column(
        server_default="{}"
    )  # what the run was asked for
    # What it changed of what stood on main, or would have: rat_assets.changes
    changes: Mapped[Json | None]


class RunInput(RatBase):
    """A pin: the very snapshot of a table that a run reads."""

    __tablename__ = "run_inputs"

    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="CASCADE"), primary_key=True
    )
    namespace: Mapped[str] = mapped_column(String(63), primary_key=True)
    layer: Mapped[str] = mapped_column(String(10), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    metadata_location: Mapped[str]
    snapshot_id: Mapped[int | None] = mapped_column(BigInteger)


class PublicationState(StrEnum):
    """How far a publication came."""

    INTENDED = "intended"  # → merging, published, undone
    # Only where the merge is a server's: it is about to be sent, or was → intended (the server
    # refused it), published, undoing
    MERGING = "merging"
    # Given up while its merge may be under way → published (it was done), undone
    UNDOING = "undoing"
    PUBLISHED = "published"  # merged, its facts stand in Postgres → closed
    CLOSED = "closed"  # Dagster's log has the materialization; final
    UNDONE = "undone"  # will never be merged; final


OPEN = (
    PublicationState.INTENDED,
    PublicationState.MERGING,
    PublicationState.UNDOING,
    PublicationState.PUBLISHED,
)


class Publication(RatBase):
    """The intent to publish, with every fact that publishing will state: anybody can finish it."""

    __tablename__ = "publications"
    __table_args__ = (
        CheckConstraint(
            "state IN ('intended', 'merging', 'undoing', 'published', 'closed', 'undone')",
            name="state",
        ),
        Index(
            "ix_publications_open",
            "pipeline_id",
            postgresql_where=text(
                "state IN ('intended', 'merging', 'undoing', 'published')"
            ),
        ),
    )

    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="CASCADE"), primary_key=True
    )
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    state: Mapped[str] = mapped_column(String(20), server_default="intended")
    branch: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger)
    from_hash: Mapped[str]  # the commit that the tests read
    expected_main: Mapped[str]
    facts: Mapped[Json]
    created_at: Mapped[now]
    sent_at: Mapped[datetime | None]  # since when its merge may be under way
    cut_off_at: Mapped[datetime | None]  # when its branch was deleted to undo it
    published_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class Lease(RatBase):
    """The right to be the one active run of a pipeline; a higher fence always wins."""

    __tablename__ = "leases"

    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE"), primary_key=True
    )
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    holder: Mapped[uuid.UUID | None]  # a run; NULL when it is free
    worker: Mapped[str | None]  # host:pid:start of the holder's process
    heartbeat_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
