"""The mirror's own notes: how far it has read the tables of Dagster's. Reading is `mirror.positions`."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import RatBase, now


class MirrorPosition(RatBase):
    """How far one of Dagster's tables was read; its row is locked while somebody reads on."""

    __tablename__ = "mirror_positions"
    __table_args__ = (CheckConstraint("feed IN ('runs', 'event_logs')", name="feed"),)

    feed: Mapped[str] = mapped_column(primary_key=True)
    # Everything up to here was mirrored, and nothing can appear below it any more.
    position: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # The highest id that there was at seen_at, by the database's clock.
    seen: Mapped[int] = mapped_column(BigInteger, server_default="0")
    seen_at: Mapped[datetime | None]
    updated_at: Mapped[now]
