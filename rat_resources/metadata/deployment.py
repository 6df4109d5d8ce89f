"""The deployment: what it is called, where statements can read it.

One org and one environment a deployment; the names are those of the settings of whoever opened the
database last.
"""

from sqlalchemy import CheckConstraint, func, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from rat_resources.metadata.base import RatBase, now


class Deployment(RatBase):
    """The one row that says what this deployment is called."""

    __tablename__ = "deployment"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(
        primary_key=True, server_default="1", autoincrement=False
    )
    org: Mapped[str]  # the slug of trace.orgs: RAT_ORG
    environment: Mapped[str]  # RAT_ENV
    updated_at: Mapped[now]


def declare(tx: Session, *, org: str, environment: str) -> bool:
    """Say what this deployment is called; whether that is news."""
    row = insert(Deployment).values(id=1, org=org, environment=environment)
    news = or_(
        Deployment.org != row.excluded.org,
        Deployment.environment != row.excluded.environment,
    )
    row = row.on_conflict_do_update(
        index_elements=[Deployment.id],
        set_={
            "org": row.excluded.org,
            "environment": row.excluded.environment,
            "updated_at": func.now(),
        },
        where=news,
    )
    return tx.execute(row.returning(Deployment.updated_at)).scalar() is not None
