"""Organisations, their users, and the roles that say who sees what.

One organisation a deployment; every row of Trace carries it nevertheless.
"""

import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rat_resources.metadata.base import Json, TraceBase, now, uuid_pk

SHOWN = "visibility IN ('private', 'org', 'public') OR visibility ~ '^role:.+'"


class Org(TraceBase):
    """Who owns a deployment."""

    __tablename__ = "orgs"

    id: Mapped[uuid_pk]
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    settings: Mapped[Json] = mapped_column(server_default="{}")
    created_at: Mapped[now]


class User(TraceBase):
    """Somebody who may read, write or administer."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('reader', 'writer', 'admin')", name="role"),
        Index("ix_users_org", "org_id"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    external_id: Mapped[str] = mapped_column(unique=True)  # the subject of a login
    email: Mapped[str | None]
    role: Mapped[str]
    created_at: Mapped[now]


class OrgRole(TraceBase):
    """A group inside an organisation that rows can be shown to: finance."""

    __tablename__ = "org_roles"
    __table_args__ = (UniqueConstraint("org_id", "slug"),)

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    slug: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[now]


class OrgRoleMembership(TraceBase):
    """That a user is in a group."""

    __tablename__ = "org_role_memberships"
    __table_args__ = (Index("ix_org_role_memberships_user", "user_id"),)

    role_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.org_roles.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("trace.users.id", ondelete="CASCADE"), primary_key=True
    )
    created_at: Mapped[now]


class AddressLabel(TraceBase):
    """What a user calls an address. The label is personal data."""

    __tablename__ = "address_labels"
    __table_args__ = (
        UniqueConstraint("org_id", "user_id", "address", "label"),
        CheckConstraint(SHOWN, name="visibility"),
        Index("ix_address_labels_user", "user_id"),
        Index("ix_address_labels_address", "address"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.users.id"))
    address: Mapped[str]
    label: Mapped[str]
    visibility: Mapped[str] = mapped_column(server_default="private")
    created_at: Mapped[now]
    updated_at: Mapped[now]


class PiiAccess(TraceBase):
    """That somebody, or a task, touched personal data."""

    __tablename__ = "pii_access_log"
    __table_args__ = (
        CheckConstraint("action IN ('read', 'write', 'delete')", name="action"),
        CheckConstraint("(user_id IS NULL) <> (task_id IS NULL)", name="one_principal"),
        Index("ix_pii_access_log_org", "org_id"),
        Index("ix_pii_access_log_user", "user_id"),
        Index("ix_pii_access_log_task", "task_id"),
        Index("ix_pii_access_log_dataset", "dataset"),
        Index("ix_pii_access_log_time", "accessed_at"),
    )

    id: Mapped[uuid_pk]
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trace.orgs.id"))
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("trace.users.id"))
    task_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("trace.tasks.id"))
    dataset: Mapped[str]
    column_name: Mapped[str | None]
    record_id: Mapped[uuid.UUID | None]
    action: Mapped[str]
    accessed_at: Mapped[now]
