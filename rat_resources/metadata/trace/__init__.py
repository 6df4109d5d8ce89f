"""Trace: orchestration state, lineage, data versions, alerts and queries, in the documents' words.

A DAG is a namespace, its versions are what releases made of it, a job is a pipeline of a version, a
dataset is a table, a task is a step of a run. The tables are the modules beside this one, one a
concern; `trace_by_name` shows some of them addressed by name (views, in the migration). Which
transitions a state allows is written beside the state, and refused by triggers at the table. The
statements that fill them are `rat_resources.mirror`.
"""

# A foreign key may lead into any of them, so whoever has one has all.
from rat_resources.metadata.trace import (
    alerts,
    dags,
    people,
    queries,
    tasks,
    versions,
)

__all__ = ["alerts", "dags", "people", "queries", "tasks", "versions"]
