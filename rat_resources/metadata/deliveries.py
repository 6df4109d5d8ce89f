"""What routing remembers: the events that it has yet to look at. Deliveries are `trace.alert_deliveries`."""

import uuid

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import RatBase, now


class QueuedEvent(RatBase):
    """An event that nobody has routed yet; a trigger adds it, whoever wrote the event."""

    __tablename__ = "alert_queue"
    __table_args__ = (Index("ix_alert_queue_time", "queued_at"),)

    event_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.alert_events.id", ondelete="CASCADE"), primary_key=True
    )
    queued_at: Mapped[now]
