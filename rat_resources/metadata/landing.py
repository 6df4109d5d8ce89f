"""Landing files: the ledger of what arrived and which run of which pipeline consumed it.

A file version is seen, then claimed by one run, then committed by that run's publication.
Looking for files and staging them for a run is `rat_resources.landing`.
"""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk

# The zone of runs of other people's pipelines, which no pipeline has to name.
BUILT_IN = ("chm", "external_runs")


class FileState(StrEnum):
    """Where a file version is."""

    PRESENT = "present"  # in its zone → replaced, archived, rejected, gone
    REPLACED = "replaced"  # the same path has newer content
    ARCHIVED = "archived"  # moved to _processed/
    REJECTED = "rejected"  # moved to _rejected/ by a person
    GONE = "gone"  # somebody took it away


class ClaimState(StrEnum):
    """What one pipeline did with one file version; no row means: not yet seen by it."""

    CLAIMED = "claimed"  # → committed, waiting; or the row goes, when the run was cancelled or died
    COMMITTED = "committed"
    WAITING = (
        "waiting"  # its run failed: until a publish, a person's run, or `rat reject`
    )


class LandingZone(RatBase):
    """A folder where files arrive before they are tables."""

    __tablename__ = "landing_zones"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    id: Mapped[uuid_pk]
    namespace: Mapped[str] = mapped_column(
        String(63),
        ForeignKey("rat.namespaces.name", onupdate="CASCADE", ondelete="CASCADE"),
    )
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(server_default="")
    owner: Mapped[str | None] = mapped_column(String(255))
    expected_schema: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[now]
    # `expected_schema` as columns, where it is given so: {name: type}; enforced on every file.
    expected_columns: Mapped[Json | None]
    archive: Mapped[bool] = mapped_column(server_default="false")
    auto_purge: Mapped[bool] = mapped_column(server_default="false")
    active: Mapped[bool] = mapped_column(
        server_default="true"
    )  # a published template names it


class LandingFile(RatBase):
    """One version of one file: its path and the hash of its content."""

    __tablename__ = "landing_files"
    __table_args__ = (
        UniqueConstraint("zone_id", "s3_path", "version"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        CheckConstraint(
            "state IN ('present', 'replaced', 'archived', 'rejected', 'gone')",
            name="state",
        ),
        Index("ix_landing_files_zone", "zone_id", "uploaded_at"),
    )

    id: Mapped[uuid_pk]
    zone_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.landing_zones.id", ondelete="CASCADE")
    )
    filename: Mapped[str] = mapped_column(String(1024))
    s3_path: Mapped[str] = mapped_column(String(4096))  # within the store
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    content_type: Mapped[str] = mapped_column(String(128), server_default="")
    uploaded_at: Mapped[now]  # when it was first seen
    version: Mapped[str]  # sha256:…, and etag:… in S3
    s3_version_id: Mapped[str | None]  # where the bucket keeps versions
    mark: Mapped[
        str
    ]  # size and time on disk; while it stays, the content is not hashed again
    state: Mapped[str] = mapped_column(String(10), server_default="present")
    moved_to: Mapped[str | None]


class LandingClaim(RatBase):
    """What one pipeline did with one file version."""

    __tablename__ = "landing_claims"
    __table_args__ = (
        CheckConstraint("state IN ('claimed', 'committed', 'waiting')", name="state"),
        Index("ix_landing_claims_pipeline", "pipeline_id", "state"),
        Index("ix_landing_claims_run", "run_id"),
    )

    file_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.landing_files.id", ondelete="CASCADE"), primary_key=True
    )
    pipeline_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.pipelines.id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[str] = mapped_column(String(10))
    # The run may be pruned; that the file was consumed stays true.
    run_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="SET NULL")
    )
    # The version that failed on it: another one may try again.
    version_id: Mapped[uuid.UUID | None]
    reason: Mapped[str] = mapped_column(server_default="")
    updated_at: Mapped[now]
    committed_at: Mapped[datetime | None]


class RunFile(RatBase):
    """A pin: the very file version that a run reads, and where it was staged."""

    __tablename__ = "run_files"

    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.runs.id", ondelete="CASCADE"), primary_key=True
    )
    file_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.landing_files.id", ondelete="CASCADE"), primary_key=True
    )
