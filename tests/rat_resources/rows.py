"""Rows that tests of landing, wishes and schedules start from."""

import uuid
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.landing import Zone
from rat_resources.metadata.automation import PipelineTrigger
from rat_resources.metadata.landing import LandingZone
from rat_resources.metadata.pipelines import Namespace, Pipeline
from rat_resources.metadata.runs import Run, RunStatus


def make_pipeline(tx: Session, name: str = "orders") -> uuid.UUID:
    """A pipeline `shop.bronze.<name>`, and its namespace if need be."""
    if not tx.query(Namespace).filter_by(name="shop").count():
        tx.add(Namespace(name="shop"))
        tx.flush()
    row = Pipeline(namespace="shop", layer="bronze", name=name)
    tx.add(row)
    tx.flush()
    return row.id


def make_zone(tx: Session, name: str = "orders") -> Zone:
    """A zone of the namespace `shop`."""
    row = LandingZone(namespace="shop", name=name)
    tx.add(row)
    tx.flush()
    return Zone.from_row(row)


def make_run(
    tx: Session, pipeline_id: uuid.UUID, *, status: RunStatus = RunStatus.RUNNING
) -> uuid.UUID:
    """A run of a pipeline."""
    row = Run(id=uuid.uuid4(), pipeline_id=pipeline_id, status=status)
    tx.add(row)
    tx.flush()
    return row.id


def allow_anything(tx: Session) -> None:
    """Let this transaction write what never happens: no trigger fires, no key leads anywhere."""
    tx.execute(text("SET LOCAL session_replication_role = replica"))


def make_trigger(
    tx: Session, pipeline_id: uuid.UUID, *, cooldown: int = 0, pattern: str = ""
) -> PipelineTrigger:
    """A trigger of the zone `shop/orders`."""
    config = {"namespace": "shop", "zone_name": "orders"}
    row = PipelineTrigger(
        pipeline_id=pipeline_id,
        type="file_pattern" if pattern else "landing_zone_upload",
        config=config | ({"pattern": pattern} if pattern else {}),
        cooldown_seconds=cooldown,
    )
    tx.add(row)
    tx.flush()
    return row


def put(root: Path, zone: Zone, name: str, content: str = "id\n1\n") -> Path:
    """A file in a zone."""
    path = root / zone.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path
