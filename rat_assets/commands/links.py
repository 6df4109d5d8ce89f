"""Links into the UI, where a page opens better than Dagster would open it by itself."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources.metadata.pipelines import Pipeline
from rat_resources.names import dagster_name

# More would not fit on a screen, nor into a line of the terminal.
NAMESPACES = 6


def graph_path(tx: Session) -> str:
    """The asset graph with every namespace opened: its layers side by side, from files to gold."""
    found = select(Pipeline.namespace).where(Pipeline.deleted_at.is_(None)).distinct()
    namespaces = sorted(tx.scalars(found))[:NAMESPACES]
    # As the UI itself names a group; one box is all that it shows of a namespace it has not opened.
    opened = ",".join(f"global@global:{dagster_name(name)}" for name in namespaces)
    return f"/asset-groups?expanded={opened}" if opened else "/asset-groups"
