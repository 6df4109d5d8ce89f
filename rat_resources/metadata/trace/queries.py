"""Queries: those that somebody keeps, and what came of each time one was run."""

import uuid
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import TraceBase, now, uuid_pk
from rat_resources.metadata.trace.people import SHOWN


class SavedQuery(TraceBase):
    """A query that somebody keeps. Its text may hold personal data."""

    __tablename__ = "saved_queries"
    __table_args__ = (
        CheckConstraint(SHOWN, name="visibility"),
        Index("ix_saved_queries_org", "org_id"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.users.id"))
    name: Mapped[str]
    query: Mapped[str]
    visibility: Mapped[str] = mapped_column(server_default="private")
    created_at: Mapped[now]
    updated_at: Mapped[now]


class QueryStatus(StrEnum):
    """How far a query came."""

    QUEUED = "Queued"  # → Running, Failed
    RUNNING = "Running"  # → Succeeded, Failed
    SUCCEEDED = "Succeeded"  # final
    FAILED = "Failed"  # final


class QueryResult(TraceBase):
    """What came of one query; its text is never here, only its hash."""

    __tablename__ = "query_results"
    __table_args__ = (
        CheckConstraint("mode IN ('interactive', 'batch')", name="mode"),
        CheckConstraint(
            "status IN ('Queued', 'Running', 'Succeeded', 'Failed')", name="status"
        ),
        CheckConstraint(
            "output_format IN ('json', 'csv', 'parquet')", name="output_format"
        ),
        CheckConstraint("task_id IS NULL OR mode = 'batch'", name="batch_has_a_task"),
        CheckConstraint("row_count >= 0", name="row_count"),
        CheckConstraint("bytes >= 0", name="bytes"),
        CheckConstraint("duration_ms >= 0", name="duration_ms"),
        Index("ix_query_results_org", "org_id", text("created_at DESC")),
        Index("ix_query_results_user", "user_id", text("created_at DESC")),
        Index("ix_query_results_task", "task_id"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("trace.users.id"))
    saved_query_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.saved_queries.id", ondelete="SET NULL")
    )
    task_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("trace.tasks.id"))
    mode: Mapped[str]
    status: Mapped[str]
    sql_hash: Mapped[str]
    output_format: Mapped[str | None]
    output_location: Mapped[str | None]
    row_count: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    duration_ms: Mapped[int | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[now]
    updated_at: Mapped[now]
