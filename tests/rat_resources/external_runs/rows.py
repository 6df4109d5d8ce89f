"""Clients and pipelines that tests of external runs start from, and what came of them."""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources.external_runs.events import read_event
from rat_resources.external_runs.recording import Told
from rat_resources.metadata.chm import Client, Pipeline, Run


def make_client(
    tx: Session, name: str = "acme", *, partner: Mapping[str, Any] | None = None
) -> uuid.UUID:
    """A client, of whose partner's API something is known or not."""
    row = Client(name=name, partner=partner)
    tx.add(row)
    tx.flush()
    return row.id


def make_external(
    tx: Session, client_id: uuid.UUID, *, name: str = "orders", active: bool = True
) -> uuid.UUID:
    """A pipeline that somebody else runs."""
    row = Pipeline(
        client_id=client_id,
        name=name,
        platform="vendor_api",
        external_id=f"{name}-id",
        pipeline_type="ingestion",
        is_active=active,
    )
    tx.add(row)
    tx.flush()
    return row.id


def told(pipeline_id: uuid.UUID, **raw: Any) -> Told:  # noqa: ANN401 - what a source may say
    """An event about a pipeline, by default that its run `r1` succeeded."""
    return Told(pipeline_id, read_event({"id": "r1", "status": "success"} | raw))


def runs(tx: Session) -> list[Run]:
    """Every run, by its key."""
    rows = select(Run).order_by(Run.pipeline_id, Run.external_run_id)
    return list(tx.scalars(rows.execution_options(populate_existing=True)))
