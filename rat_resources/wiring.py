"""Wiring: the parts of the platform as Dagster resources, under the names that assets ask for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from dagster_duckdb import DuckDBResource
from duckdb import DuckDBPyConnection

from rat_resources.platform import Platform, platform


def resources() -> Mapping[str, dg.ResourceDefinition]:
    """The parts: `platform` whole, `metadata`, `store` and `lake`, and DuckDB as runs get it."""
    return {
        "platform": resource(lambda whole: whole),
        "metadata": resource(lambda whole: whole.metadata),
        "store": resource(lambda whole: whole.store),
        "lake": resource(lambda whole: whole.lake),
        "duckdb": resource(lambda _whole: LakeDuckDB(database=":memory:")),
    }


def resource(part: Callable[[Platform], object]) -> dg.ResourceDefinition:
    """A resource that is one part of the platform."""
    return dg.ResourceDefinition(lambda _context: part(platform()))


class LakeDuckDB(DuckDBResource):
    """dagster-duckdb's resource, whose connections are configured like those of a run."""

    @contextmanager
    def get_connection(self) -> Iterator[DuckDBPyConnection]:
        """A DuckDB of its own, in memory, as `Lake.connect` gives it."""
        with platform().lake.connect() as connection:
            yield connection
