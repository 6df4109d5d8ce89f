"""Runs of other people's pipelines on their way in: how far each file was read, and what was refused.

The files themselves are in the ledger of landing files; the runs become rows of `chm.runs`. Reading
and writing these rows is `rat_resources.external_runs`.
"""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import RatBase, now, uuid_pk


class ExternalFile(RatBase):
    """How far one version of one file of events was read; written with the events themselves."""

    __tablename__ = "external_files"
    __table_args__ = (CheckConstraint("lines >= 0", name="lines"),)

    file_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("rat.landing_files.id", ondelete="CASCADE"), primary_key=True
    )
    # Lines that were taken, good or bad: the next one is where to go on.
    lines: Mapped[int] = mapped_column(server_default="0")
    inserted: Mapped[int] = mapped_column(server_default="0")
    updated: Mapped[int] = mapped_column(server_default="0")
    unchanged: Mapped[int] = mapped_column(server_default="0")
    ignored: Mapped[int] = mapped_column(server_default="0")
    rejected: Mapped[int] = mapped_column(server_default="0")
    # How often somebody began and came no further.
    attempts: Mapped[int] = mapped_column(server_default="0")
    dagster_run_id: Mapped[str | None]  # who read it last
    started_at: Mapped[now]
    finished_at: Mapped[datetime | None]


class RejectedEvent(RatBase):
    """An event that was not recorded, and why; told again it is the same row."""

    __tablename__ = "rejected_events"
    __table_args__ = (
        UniqueConstraint("source", "line", "digest"),
        CheckConstraint("times > 0", name="times"),
        Index("ix_rejected_events_last_seen_at", "last_seen_at"),
    )

    id: Mapped[uuid_pk]
    source: Mapped[str]  # chm/external_runs/FILE, or CLIENT/PIPELINE of a partner
    line: Mapped[int]  # of a file; 0 where events have no lasting place
    digest: Mapped[str]  # of the reason and the text
    reason: Mapped[str]
    raw: Mapped[str]  # masked, and no more than the beginning of a long one
    file_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("rat.landing_files.id", ondelete="SET NULL")
    )
    times: Mapped[int] = mapped_column(server_default="1")
    first_seen_at: Mapped[now]
    last_seen_at: Mapped[now]
