"""Inventory: the clients and pipelines that files of events name, known or new.

A new one is made inactive: that it is right, and what it is, somebody has yet to say.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.external_runs.lines import Named
from rat_resources.metadata.chm import Client, Origin, Pipeline

# By client and name; None is one of our own, whose runs nobody else may tell.
Known = dict[tuple[str, str], uuid.UUID | None]


def find(tx: Session, named: Sequence[Named]) -> Known:
    """The pipelines among *named* that are there."""
    if not named:
        return {}
    rows = (
        select(Client.name, Pipeline.name, Pipeline.id, Pipeline.origin)
        .join(Client, Client.id == Pipeline.client_id)
        .where(tuple_(Client.name, Pipeline.name).in_([each.key for each in named]))
    )
    return {
        (client, name): id_ if origin == Origin.EXTERNAL else None
        for client, name, id_, origin in tx.execute(rows)
    }


def create(tx: Session, named: Sequence[Named]) -> list[str]:
    """Make pipelines that are not there, and clients where those are new too; what was made.

    All of it inactive. In the order of the names, so that two who do it at once wait for each other.
    """
    if not named:
        return []
    clients = create_clients(tx, sorted({each.client for each in named}))
    ids = {
        name: id_
        for name, id_ in tx.execute(
            select(Client.name, Client.id).where(
                Client.name.in_([each.client for each in named])
            )
        )
    }
    rows = [
        {
            "client_id": ids[each.client],
            "name": each.pipeline,
            "platform": each.platform,
            "pipeline_type": each.pipeline_type,
            "environment": each.environment,
            "is_active": False,
        }
        for each in sorted(named, key=lambda each: each.key)
    ]
    names = {client_id: name for name, client_id in ids.items()}
    made = tx.execute(
        insert(Pipeline)
        .on_conflict_do_nothing(index_elements=["client_id", "name"])
        .returning(Pipeline.client_id, Pipeline.name),
        rows,
    )
    pipelines = [f"pipeline {names[client_id]}/{name}" for client_id, name in made]
    return [*clients, *sorted(pipelines)]


def create_clients(tx: Session, names: Sequence[str]) -> list[str]:
    """Make the clients that are not there, inactive; what was made."""
    made = tx.scalars(
        insert(Client)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(Client.name),
        [{"name": name, "is_active": False} for name in names],
    )
    return sorted(f"client {name}" for name in made)
