"""Wiring: the parts of the platform as Dagster resources, under the names that assets ask for."""

from collections.abc import Callable, Mapping

import dagster as dg
from dagster_duckdb import DuckDBResource

from rat_resources.platform import Platform, platform


def resources() -> Mapping[str, dg.ResourceDefinition]:
    """The parts: `platform` whole, `metadata`, `store` and `lake`, and DuckDB as runs get it."""
    return {
        "platform": resource(lambda whole: whole),
        "metadata": resource(lambda whole: whole.metadata),
        "store": resource(lambda whole: whole.store),
        "lake": resource(lambda whole: whole.lake),
        "duckdb": resource(open_duckdb),
    }


def resource(part: Callable[[Platform], object]) -> dg.ResourceDefinition:
    """A resource that is one part of the platform."""
    return dg.ResourceDefinition(lambda _context: part(platform()))


def open_duckdb(whole: Platform) -> DuckDBResource:
    """Connections like those of a run; each is a DuckDB of its own."""
    return DuckDBResource(
        database=":memory:",
        connection_config=whole.lake.duckdb_config(whole.lake.spill),
    )
