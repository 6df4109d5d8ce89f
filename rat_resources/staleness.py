"""Staleness: which tables would be made otherwise now, since when, and why.

Everything follows from what stands in Postgres (`trace.stale_because`): nothing notes it, and nothing
can forget it. Making good is `rat_assets.restoring`, telling Dagster `rat_sensors.staleness`.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.names import TableName


class Why(StrEnum):
    """Why a table would be made otherwise now."""

    DEFINITION = (
        "definition"  # another one made it or what it reads through, or none has yet
    )
    INVALIDATION = "invalidation"  # rows that it was made from were said to be wrong
    DATA = (
        "data"  # what it was made from has been published since, or files have landed
    )


@dataclass(frozen=True)
class Cause:
    """One reason, the input that it is about (None: the table's own definition), and since when."""

    why: Why
    input: str | None
    since: datetime
    invalidation_id: uuid.UUID | None = None

    @property
    def words(self) -> str:
        """The reason in words."""
        if self.why is Why.INVALIDATION:
            return f"rows of {self.input} were invalidated"
        if self.why is Why.DATA:
            is_zone = (self.input or "").split(".")[1:2] == ["landing"]
            return f"{self.input} has {'files' if is_zone else 'rows'} that it has not read"
        return (
            f"the view {self.input} changed" if self.input else "its definition changed"
        )

    def to_json(self) -> dict[str, Any]:
        """The reason as JSON has it."""
        return {
            "why": self.why.value,
            "input": self.input,
            "since": self.since.isoformat(),
            "invalidation": str(self.invalidation_id) if self.invalidation_id else None,
        }


@dataclass(frozen=True)
class Stale:
    """A table that would be made otherwise now."""

    table: TableName
    causes: tuple[Cause, ...]
    made_at: datetime | None  # None: nothing has made it yet

    @property
    def since(self) -> datetime:
        """When it began."""
        return min(each.since for each in self.causes)

    @property
    def words(self) -> str:
        """Why, in words."""
        if self.made_at is None:
            return "nothing has made it yet"
        told = dict.fromkeys(each.words for each in self.causes)
        return "; ".join(told)

    def has(self, why: Why) -> bool:
        """Whether this is one of the reasons."""
        return any(each.why is why for each in self.causes)

    @property
    def invalidations(self) -> tuple[uuid.UUID, ...]:
        """The invalidations that wait for it, the oldest first."""
        found = (each for each in self.causes if each.invalidation_id)
        return tuple(
            each.invalidation_id
            for each in sorted(found, key=lambda each: each.since)
            if each.invalidation_id
        )

    def to_json(self) -> dict[str, Any]:
        """The table and its reasons as JSON has them."""
        return {
            "table": str(self.table),
            "since": self.since.isoformat(),
            "made_at": self.made_at and self.made_at.isoformat(),
            "because": self.words,
            "causes": [each.to_json() for each in self.causes],
        }


def load(tx: Session) -> dict[TableName, Stale]:
    """Every stale table by its name, by one query."""
    rows = tx.execute(STALE).all()
    return {
        TableName.parse(dataset): gather(dataset, found)
        for dataset, found in groupby(rows, key=lambda row: row.dataset)
    }


def gather(dataset: str, rows: Iterable[Row[Any]]) -> Stale:
    """A table with all its reasons."""
    found = list(rows)
    causes = (
        Cause(Why(row.why), row.input, row.since, row.invalidation_id) for row in found
    )
    return Stale(TableName.parse(dataset), tuple(causes), found[0].made_at)


STALE = text("""
    SELECT
        cause.dataset, cause.why, cause.input, cause.since, cause.invalidation_id, last.made_at
    FROM trace.stale_because AS cause
    JOIN rat.pipelines AS pipeline
        ON pipeline.deleted_at IS NULL
        AND cause.dataset = concat_ws('.', pipeline.namespace, pipeline.layer, pipeline.name)
    LEFT JOIN LATERAL (
        SELECT run.finished_at AS made_at
        FROM rat.runs AS run
        WHERE run.pipeline_id = pipeline.id AND run.status = 'success'
        ORDER BY run.finished_at DESC
        LIMIT 1
    ) AS last ON true
    ORDER BY cause.dataset, cause.why, cause.since, cause.input
""")
