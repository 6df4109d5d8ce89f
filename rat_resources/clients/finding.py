"""Finding: clients, pipelines and rules by what people call them."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from rat_resources.clients.forms import Issues, unknown
from rat_resources.metadata.chm import AlertRule, Client, Origin, Pipeline


def find_client(tx: Session, name: str) -> Client | None:
    """The client of a name."""
    return tx.scalars(select(Client).where(Client.name == name)).one_or_none()


def find_pipeline_of(tx: Session, client: Client, name: str) -> Pipeline | None:
    """The pipeline of a client by its name."""
    found = select(Pipeline).where(
        Pipeline.client_id == client.id, Pipeline.name == name
    )
    return tx.scalars(found).one_or_none()


def find_rule(tx: Session, issues: Issues, rule_id: str | None) -> AlertRule | None:
    """The rule of an id; an issue when there is none."""
    if rule_id is None:
        return None
    try:
        row = tx.get(AlertRule, uuid.UUID(rule_id))
    except ValueError:
        row = None
    if row is None:
        issues.add("id", f"there is no rule {rule_id}; leave it out to make one")
    return row


def client_id_of(tx: Session, issues: Issues, name: str | None) -> uuid.UUID | None:
    """The id of a client; an issue when there is none of that name."""
    if name is None:
        return None
    row = find_client(tx, name)
    if row is None:
        issues.add("client", unknown("client", name, known=client_names(tx)))
    return row.id if row else None


def pipeline_id_of(tx: Session, issues: Issues, word: str | None) -> uuid.UUID | None:
    """The id of a pipeline that is written CLIENT/PIPELINE; an issue when there is none."""
    if word is None:
        return None
    found = tx.scalar(paths().with_only_columns(Pipeline.id).where(PATH.in_([word])))
    if found is None:
        known = tx.scalars(paths()).all()
        issues.add("pipeline", unknown("pipeline", word, known=known))
    return found


PATH = Client.name + "/" + Pipeline.name


def paths() -> Select[Any]:
    """Every pipeline as CLIENT/PIPELINE."""
    return (
        select(PATH)
        .select_from(Pipeline)
        .join(Client, Client.id == Pipeline.client_id)
        .order_by(PATH)
    )


def client_names(tx: Session) -> Sequence[str]:
    """The names of all clients."""
    return tx.scalars(select(Client.name).order_by(Client.name)).all()


def is_ours(tx: Session, client: Client) -> bool:
    """Whether a client has pipelines that RAT runs."""
    found = select(Pipeline.id).where(
        Pipeline.client_id == client.id, Pipeline.origin == Origin.RAT
    )
    return tx.scalar(found.limit(1)) is not None
