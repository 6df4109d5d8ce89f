"""The mirror: what happened, said in the words of every schema.

A run of RAT is told to the other schemas in the very transaction that changes it (`following`),
from `rat` alone; what only Dagster knows comes from its event log. Both write by deterministic ids
and upserts, so that telling it again changes nothing. The words are `translations`, the ids `ids`.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from rat_resources.mirror import clients, dags, jobs, tasks, updates


def reflect_runs(tx: Session, run_ids: Sequence[uuid.UUID]) -> None:
    """Make what the other schemas say of these runs what `rat.runs` says; lost tasks too."""
    tasks.reflect_runs(tx, run_ids)
    clients.reflect_runs(tx, run_ids)
    updates.reflect_updates(tx, run_ids)


def reflect_pipelines(tx: Session) -> None:
    """Make what the other schemas say of the published pipelines what the current release says."""
    dags.reflect_pipelines(tx)
    clients.reflect_pipelines(tx)
    updates.reflect_pipelines(tx)
    jobs.reflect_pipelines(tx)
