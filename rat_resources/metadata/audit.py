"""Who did what, which plugins there are, and the platform's own settings."""

from sqlalchemy import CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from rat_resources.metadata.base import Json, RatBase, now, uuid_pk


class Plugin(RatBase):
    """An extension of the platform."""

    __tablename__ = "plugins"
    __table_args__ = (
        CheckConstraint(
            "status IN ('healthy', 'degraded', 'down', 'unknown')", name="status"
        ),
    )

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    slot: Mapped[str] = mapped_column(String(20))
    image: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(20), server_default="unknown")
    config: Mapped[Json] = mapped_column(server_default="{}")


class AuditLog(RatBase):
    """One thing that somebody did; append-only."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_user", "user_id", text("created_at DESC")),
        Index("ix_audit_log_time", text("created_at DESC")),
    )

    id: Mapped[uuid_pk]
    user_id: Mapped[str] = mapped_column(String(255), server_default="anonymous")
    action: Mapped[str] = mapped_column(String(64))  # pipeline.publish, run.trigger, …
    resource: Mapped[str]
    detail: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[now]


def record(
    tx: Session, action: str, *, resource: str, user: str, detail: str = ""
) -> None:
    """Write down that *user* did *action* to *resource*."""
    tx.add(AuditLog(user_id=user, action=action, resource=resource, detail=detail))
