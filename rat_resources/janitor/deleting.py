"""Deleting old rows by their ids, one transaction a batch, without waiting for whoever holds some of them."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import TextClause, text

from rat_resources.janitor.chores import Batch, Scene

AT_ONCE = 5_000  # rows, or thereabouts, in one transaction
Row = uuid.UUID | int


@dataclass(frozen=True)
class OldRows:
    """The rows of a table that go by their age alone.

    The query takes `:cutoff`, and goes on behind the id `:after` with `:at_once` rows.
    """

    table: str
    word: str  # of the retention
    kind: str  # what is counted
    query: TextClause
    first: Row = 0  # lower than any id

    def find(self, scene: Scene) -> Iterator[Batch]:
        """The rows that are too old, a batch at a time."""
        cutoff, after = scene.cutoff(self.word), self.first
        while cutoff is not None:
            values = {"cutoff": cutoff, "after": after, "at_once": AT_ONCE}
            with scene.whole.metadata.transaction() as tx:
                ids: list[Row] = list(tx.scalars(self.query, values))
            if ids:
                after = ids[-1]
                yield Batch({self.kind: len(ids)}, partial(self.delete, scene, ids))
            if len(ids) < AT_ONCE:
                return

    def delete(self, scene: Scene, ids: Sequence[Row]) -> None:
        """Delete rows; one that somebody holds is left for the next time."""
        statement = f"""
            DELETE FROM {self.table} WHERE id IN (
                SELECT id FROM {self.table} WHERE id = ANY(:ids) FOR UPDATE SKIP LOCKED
            )
        """
        with scene.whole.metadata.transaction() as tx:
            tx.execute(text(statement), {"ids": list(ids)})
