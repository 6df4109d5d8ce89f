"""The lake: tables on branches, and a DuckDB to work on them.

`Lake` is what assets ask for. Where the branches live is `refs`, what a branch's tables are is
`catalog`, how rows come out and in is `reading` and `strategies`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from rat_resources.later import import_later
from rat_resources.memory import Budget, read_budget

# PyIceberg imports it, it imports pandas, and that takes longer than many a run; we use neither.
import_later("pyarrow.dataset")

from rat_resources.lake.catalog import RefCatalog  # noqa: E402
from rat_resources.lake.reading import register_table  # noqa: E402
from rat_resources.lake.refs import MAIN, IcebergTable, Refs  # noqa: E402
from rat_resources.lake.spilling import spill_folder  # noqa: E402
from rat_resources.names import TableName  # noqa: E402


@dataclass(frozen=True)
class Lake:
    """Branches, the tables on them, and DuckDB connections."""

    refs: Refs
    warehouse: str
    spill: Path
    # Of each connection.
    memory: Budget = field(default_factory=lambda: read_budget({}))

    def catalog(
        self,
        ref: str,
        *,
        message: str = "",
        properties: Mapping[str, str] | None = None,
    ) -> RefCatalog:
        """The tables at *ref*; on a branch they can be written, at `@<commit>` only read."""
        return RefCatalog(
            self.refs,
            ref=ref,
            warehouse=self.warehouse,
            message=message,
            properties=properties or {},
        )

    def tables(
        self, names: list[TableName], *, at: str = MAIN
    ) -> dict[TableName, Table]:
        """The tables among *names* that exist at one place, by one look-up."""
        loaded = self.catalog(at).load_many([name.key for name in names])
        return {TableName(*key): table for key, table in loaded.items()}

    def published(self, *, at: str = MAIN) -> list[TableName]:
        """Every table there is."""
        return [
            TableName(*entry.key)
            for entry in self.refs.entries(at=at)
            if isinstance(entry.content, IcebergTable)
        ]

    @contextmanager
    def connect(self) -> Iterator[DuckDBPyConnection]:
        """A DuckDB of its own, that keeps to its memory, spills to disk and speaks UTC."""
        with (
            spill_folder(self.spill) as folder,
            duckdb.connect(config=self.duckdb_config(folder)) as connection,
        ):
            # At connect it fails: the time zones are not loaded yet.
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    def duckdb_config(self, spill: Path) -> dict[str, Any]:
        """How a DuckDB of this lake is configured; *spill* is a folder that no other one has."""
        return {
            "temp_directory": str(spill),
            "memory_limit": f"{self.memory.duckdb}B",
            # `INSTALL` at run time would need a network.
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "true",
        }


def register(connection: DuckDBPyConnection, tables: Mapping[TableName, Table]) -> None:
    """Let SQL on *connection* read *tables* under their full names."""
    for name, table in tables.items():
        register_table(connection, table, view=str(name))
