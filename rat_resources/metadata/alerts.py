"""What alerts remember: which are raised now, how far the sensor has looked, what releases made of them.

What happened is `trace.alert_events`, which only grows; writing both is `rat_resources.alerts.events`.
"""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class AlertState(RatBase):
    """An alert that is raised now, and the event that raised it; once it is resolved the row goes."""

    __tablename__ = "alert_states"
    __table_args__ = (
        Index(
            "uq_alert_states_raised",
            "definition_id",
            "subject",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_alert_states_event", "event_id"),
    )

    id: Mapped[uuid_pk]
    # NULL: of RAT's own troubles and of CHM's rules, which the subject tells apart
    definition_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("trace.alert_definitions.id")
    )
    subject: Mapped[
        str
    ]  # what of it is raised: a group, a pipeline, a test; '' for all
    event_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.alert_events.id"))
    since: Mapped[now]


class AlertPosition(RatBase):
    """How far the sensor `alerts` has looked; its row is locked while somebody looks on."""

    __tablename__ = "alert_positions"
    __table_args__ = (CheckConstraint("btrim(feed) <> ''", name="feed"),)

    feed: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[datetime | None]  # everything that happened before was looked at
    seen: Mapped[Json] = mapped_column(server_default="{}")  # what else it remembers
    updated_at: Mapped[now]


class AlertVersion(RatBase):
    """What a release made of an alert: its file from then on, or that it is gone."""

    __tablename__ = "alert_versions"

    definition_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.alert_definitions.id"), primary_key=True
    )
    release_number: Mapped[int] = mapped_column(
        ForeignKey("rat.releases.number"), primary_key=True
    )
    content: Mapped[str | None]  # the file; NULL: it is gone
    code: Mapped[str | None]  # of the function that it names, where that is a file too
    created_at: Mapped[now]
