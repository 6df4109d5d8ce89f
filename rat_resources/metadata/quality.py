"""Quality tests and what they said in each run. Running them is `rat_assets.quality`."""

import uuid
from decimal import Decimal
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


class Severity(StrEnum):
    """Whether offenders stop the publication."""

    ERROR = "error"
    WARN = "warn"


class Verdict(StrEnum):
    """What a test said in one run; every test has a verdict in every run that reached it."""

    PASSED = "passed"  # no offenders
    FAILED = "failed"  # offenders, error severity: nothing is published
    WARNED = "warned"  # offenders, warn severity
    ERROR = "error"  # could not run or took too long; blocks where a failure would


class QualityTest(RatBase):
    """A query for offenders that guards one pipeline's table."""

    __tablename__ = "quality_tests"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "name"),
        CheckConstraint("severity IN ('error', 'warn')", name="severity"),
    )

    id: Mapped[uuid_pk]
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(server_default="")
    severity: Mapped[str] = mapped_column(String(10), server_default="error")
    s3_path: Mapped[str] = mapped_column(String(1024), server_default="")
    tags: Mapped[list[str]] = mapped_column(server_default="{}")
    remediation: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[now]
    # A test that is published no longer keeps its history.
    active: Mapped[bool] = mapped_column(server_default="true")


class QualityResult(RatBase):
    """What one test said in one run."""

    __tablename__ = "quality_results"
    __table_args__ = (
        UniqueConstraint("test_id", "run_id"),
        CheckConstraint(
            "status IN ('passed', 'failed', 'warned', 'error')", name="status"
        ),
        CheckConstraint("value >= 0", name="value"),
        CheckConstraint("duration_ms >= 0", name="duration_ms"),
        Index(
            "ix_quality_results_history",
            "test_id",
            text("ran_at DESC"),
            text("id DESC"),
            postgresql_include=["status"],
        ),
        Index(
            "ix_quality_results_faults",
            "ran_at",
            postgresql_where=text("status <> 'passed'"),
            postgresql_include=["test_id", "status"],
        ),
        Index("ix_quality_results_run", "run_id"),
        Index(
            "ix_quality_results_time",
            "ran_at",
            postgresql_include=["test_id", "status"],
        ),
    )

    id: Mapped[uuid_pk]
    test_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.quality_tests.id", ondelete="CASCADE")
    )
    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="CASCADE")
    )
    status: Mapped[str] = mapped_column(String(10))
    value: Mapped[Decimal | None]  # offenders; NULL where the test could not run
    duration_ms: Mapped[int | None]
    ran_at: Mapped[now]
    message: Mapped[str] = mapped_column(server_default="")
    sample: Mapped[Json | None]  # up to 20 offending rows, one object each
    compiled_sql: Mapped[str] = mapped_column(server_default="")
