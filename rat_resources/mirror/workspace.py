"""The workspace: the deployment, as the reporting star calls it."""

from sqlalchemy import text
from sqlalchemy.orm import Session

# A row that stands as it should is not touched: an upsert would lock it, and every run with it.
UPSERT = text("""
    INSERT INTO lakeflow.dim_workspace AS known
        (workspace_id, workspace_name, account_id, create_time, status)
    SELECT lakeflow.workspace_id(), org || ' (' || environment || ')', org, now(), 'RUNNING'
    FROM rat.deployment
    WHERE NOT EXISTS (
        SELECT 1 FROM lakeflow.dim_workspace
        WHERE workspace_id = lakeflow.workspace_id() AND status = 'RUNNING'
    )
    ON CONFLICT (workspace_id) DO UPDATE SET status = excluded.status
""")


def declare_workspace(tx: Session) -> None:
    """See that the deployment has its row; every other row of the star refers to it."""
    tx.execute(UPSERT)
