"""Tracing: the column lineage of a run's query, found anew only where something decides it anew.

What decides it is hashed: the query without what every run writes differently, and the columns of
everything it reads and of its table. While the hash stands in Postgres, so does what was found then,
and sqlglot is not even imported. A run never fails for want of lineage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from rat_assets.inputs import Inputs
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.sql import literal, quote
from rat_resources.lineage import Lineage
from rat_resources.names import ColumnName, TableName
from rat_resources.specs import PipelineSpec

# Whatever lake.lineage learns to read is one more; every table is then traced anew once.
VERSION = "2"
PLACEHOLDER = "{staging}"
TEXTS = (".csv", ".tsv", ".txt")
FILES = 20
LINE = 64 * 1024


@dataclass(frozen=True)
class Traced:
    """A query that ran, and what it could read."""

    spec: PipelineSpec
    sql: str  # empty where a script made the rows, or nothing ran
    connection: DuckDBPyConnection
    inputs: Inputs
    own: Table | None  # as the query read it
    written: Table | None  # as it is now; None of a view
    staging: Path
    folders: Mapping[str, Path]  # of landing zones, in staging
    passing: Sequence[str]  # texts that are others in every run

    @property
    def dataset(self) -> str:
        """The table or view as lineage names it."""
        return str(self.spec.table)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table; none yet of a view."""
        return () if self.written is None else columns_of(self.written)

    @property
    def added(self) -> tuple[str, ...]:
        """The columns that the strategy adds, which come from no input."""
        return write_config(self.spec).scd_columns


def trace(traced: Traced, *, known: Lineage | None) -> Lineage | None:
    """The lineage of a run's table; *known* itself where nothing decides it anew."""
    if not traced.sql and traced.spec.type == "sql":
        return known  # the run had nothing to do
    hashed = ""
    try:
        hashed = decisive_hash(traced)
        if known and known.query_hash == hashed and probes_hold(traced, known.probes):
            return known
        return replace(trace_query(traced), query_hash=hashed)
    except duckdb.InterruptException:
        raise
    except Exception:  # noqa: BLE001 - whatever sqlglot makes of it, the data is right
        return Lineage(traced.dataset, traced.columns, {}, hashed)


def decisive_hash(traced: Traced) -> str:
    """A hash of all that decides the lineage, but for the columns of files."""
    lasting = traced.sql.replace(str(traced.staging), PLACEHOLDER)
    for text in traced.passing:
        lasting = lasting.replace(literal(text), "?")
    parts = [VERSION, lasting, *map(str, traced.added)]
    for name, columns in sorted(readable(traced).items()):
        parts += [name, *columns]
    parts += ["=", *traced.columns, *headers(traced.folders.values())]
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def readable(traced: Traced) -> dict[str, Sequence[str]]:
    """The columns of everything that the query can name."""
    inputs = traced.inputs
    tables: dict[str, Sequence[str]] = {
        str(name): columns_of(table) for name, table in inputs.tables.items()
    }
    if traced.own is not None:
        tables[traced.dataset] = columns_of(traced.own)
    for name in inputs.views:
        tables[str(name)] = view_columns(traced.connection, name)
    return tables


def columns_of(table: Table) -> tuple[str, ...]:
    """The columns of a table."""
    return tuple(field.name for field in table.schema().fields)


def view_columns(connection: DuckDBPyConnection, name: TableName) -> list[str]:
    """The columns of a view, as it was defined for this run."""
    return connection.sql(f"FROM {quote(str(name))}").columns


def headers(folders: Iterable[Path]) -> list[str]:
    """The first lines of text files, which name their columns; one of a kind, of the first files."""
    lines = set()
    for folder in folders:
        for file in islice(texts(folder), FILES):
            with file.open("rb") as stream:
                lines.add(f"{folder.name}: {stream.readline(LINE).hex()}")
    return sorted(lines)


def texts(folder: Path) -> list[Path]:
    """The text files of a folder, by name."""
    files = (file for file in sorted(folder.iterdir()) if file.is_file())
    return [file for file in files if file.suffix in TEXTS]


def trace_query(traced: Traced) -> Lineage:
    """The lineage that sqlglot finds in the query."""
    if not traced.sql:
        return Lineage(traced.dataset, traced.columns, {}, "")
    # It takes 0.1 s to import, and the next runs of this query do without.
    from rat_resources.lake import lineage as finding  # noqa: PLC0415

    probes: dict[str, Sequence[str]] = {}
    # DuckDB reads much of a text file to tell its columns; their hashed headers do.
    probed = not any(texts(folder) for folder in traced.folders.values())

    def describe(call: str) -> Sequence[str] | None:
        columns = describe_call(traced.connection, call)
        if columns is not None and probed:
            probes[call.replace(str(traced.staging), PLACEHOLDER)] = columns
        return columns

    namespace = traced.spec.table.namespace
    zones = {
        str(folder): f"{namespace}.landing.{zone}"
        for zone, folder in traced.folders.items()
    }
    output = traced.connection.sql(traced.sql).columns
    inputs = finding.Inputs(readable(traced), zones=zones, describe=describe)
    found = finding.read(traced.sql, inputs=inputs, output=output)
    columns = traced.columns or tuple(output)
    sources = within(columns, found.sources) | dict.fromkeys(traced.added, ())
    return Lineage(traced.dataset, columns, sources, "", probes, found.deciding)


def within(
    columns: Iterable[str], found: Mapping[str, tuple[ColumnName, ...]]
) -> dict[str, tuple[ColumnName, ...]]:
    """What was found, by the names that the table has for its columns."""
    folded = {name.casefold(): sources for name, sources in found.items()}
    return {
        name: folded[name.casefold()] for name in columns if name.casefold() in folded
    }


def describe_call(connection: DuckDBPyConnection, call: str) -> list[str] | None:
    """The columns that a table function returns; None when DuckDB cannot tell by itself."""
    try:
        return connection.sql(f"FROM {call}").columns
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return None


def probes_hold(traced: Traced, probes: Mapping[str, Sequence[str]]) -> bool:
    """Whether files still have the columns from which the lineage was concluded."""
    return all(
        describe_call(traced.connection, call.replace(PLACEHOLDER, str(traced.staging)))
        == columns
        for call, columns in probes.items()
    )
