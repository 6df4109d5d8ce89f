"""Incoming: the rows of a batch, in the columns and types of the table that they come to."""

from dataclasses import dataclass

from rat_resources.lake.sql import name_list

ROW = "__rat_row"


@dataclass(frozen=True)
class Incoming:
    """The rows of a batch in a temp table: the table's columns, and ROW, their order."""

    table: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    rows: int

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are no keys."""
        return tuple(column for column in self.columns if column not in self.keys)

    def select(self, *, extra: str = "", where: str = "true") -> str:
        """A query for the rows, or those of them for which *where* holds, and their order."""
        columns = name_list(self.columns)
        return f"SELECT {columns}{extra}, {ROW} FROM {self.table} WHERE {where}"
