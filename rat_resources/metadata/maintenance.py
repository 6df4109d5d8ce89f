"""Maintenance: what was done to keep tables fast, a row for each commit of it."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import RatBase, now, uuid_pk


class MaintenanceState(StrEnum):
    """How far it came; the last two are final."""

    INTENDED = "intended"  # → merged, undone
    MERGED = "merged"
    UNDONE = "undone"


class Maintenance(RatBase):
    """One commit that wrote a table otherwise, with the same rows.

    The row stands before the merge: its two metadata files hold the same rows, come what may.
    """

    __tablename__ = "maintenance"
    __table_args__ = (
        CheckConstraint("state IN ('intended', 'merged', 'undone')", name="state"),
        Index("ix_maintenance_table", "namespace", "layer", "name", "created_at"),
        Index("ix_maintenance_location", "metadata_location", unique=True),
        Index("ix_maintenance_snapshot", "snapshot_id"),
        Index(
            "ix_maintenance_open",
            "created_at",
            postgresql_where=text("state = 'intended'"),
        ),
    )

    id: Mapped[uuid_pk]
    namespace: Mapped[str] = mapped_column(String(63))
    layer: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(20), server_default="intended")
    branch: Mapped[str]
    from_hash: Mapped[str]  # the branch's commit
    expected_main: Mapped[str]
    location_before: Mapped[str]  # the metadata file that it found
    snapshot_before: Mapped[int | None] = mapped_column(BigInteger)
    metadata_location: Mapped[str]  # and the one that it left
    snapshot_id: Mapped[int | None] = mapped_column(BigInteger)
    # Those with the same rows that no maintenance made.
    original_location: Mapped[str]
    original_snapshot: Mapped[int | None] = mapped_column(BigInteger)
    why: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)  # of the whole table, then
    files_before: Mapped[int]  # of those that it wrote anew
    files_after: Mapped[int]
    bytes_before: Mapped[int] = mapped_column(BigInteger)
    bytes_after: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int] = mapped_column(BigInteger)  # that it wrote anew
    dead_rows: Mapped[int] = mapped_column(BigInteger)  # that it left out
    snapshots: Mapped[int]  # that it let go of
    metadata_files: Mapped[int]  # that the table names no more
    user_id: Mapped[str]
    commit: Mapped[str | None]  # of main
    created_at: Mapped[now]
    cut_off_at: Mapped[datetime | None]  # when its branch was deleted to undo it
    finished_at: Mapped[datetime | None]
