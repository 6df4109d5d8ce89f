"""Whose everything is: one organisation a deployment, and one administrator of it."""

import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.mirror.ids import trace_id


def declare_org(tx: Session) -> uuid.UUID:
    """The id of the organisation that the deployment names; it and its administrator stand afterwards."""
    slug = tx.execute(text("SELECT org FROM rat.deployment")).scalar_one()
    org_id = trace_id("org", slug)
    tx.execute(ORG, {"id": org_id, "slug": slug})
    admin = f"{slug}/admin"
    tx.execute(
        ADMIN, {"id": trace_id("user", admin), "org_id": org_id, "external_id": admin}
    )
    return org_id


ORG = text("""
    INSERT INTO trace.orgs (id, name, slug) VALUES (:id, :slug, :slug) ON CONFLICT DO NOTHING
""")
ADMIN = text("""
    INSERT INTO trace.users (id, org_id, external_id, role)
    VALUES (:id, :org_id, :external_id, 'admin')
    ON CONFLICT DO NOTHING
""")
