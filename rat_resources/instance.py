"""Dagster's instance: what dagster.yaml names, so that any `dagster …` command finds RAT's state.

Dagster's tables live in RAT's Postgres, in a schema of their own; its files under RAT_HOME. The only
thing that a command needs is DAGSTER_HOME.
"""

import os
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dagster import DagsterInstance, DagsterRun
from dagster._config.config_schema import UserConfigSchema
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.schema import AssetKeyTable
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs.schema import RunsTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import retry_pg_connection_fn, retry_pg_creation_fn
from sqlalchemy import Engine, create_engine, inspect

from rat_resources.metadata import DAGSTER_SCHEMA, Metadata, patience
from rat_resources.session_state import LocalState
from rat_resources.settings import Settings

# Dagster looks for these before it makes its tables.
MAIN_TABLES = frozenset({"runs", "instance_info", "event_logs", "jobs"})
QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
# A daemon writes every 30 seconds.
FRESH_SECONDS = 45.0


class Pooled:
    """A storage that keeps its connections: without a pool each event reconnects."""

    _engine: Engine
    state: LocalState

    def share(self, engine: Engine, state: LocalState) -> None:
        """Use *engine*, whose statements run under *state*."""
        self._engine = engine
        self.state = state

    def optimize_for_webserver(
        self,
        statement_timeout: int,
        pool_recycle: int,  # noqa: ARG002 - Dagster's signature
        max_overflow: int,  # noqa: ARG002
    ) -> None:
        """Let no question of a browser hold a connection forever; the pool is there already."""
        self.state["statement_timeout"] = str(statement_timeout)


class PooledRunStorage(Pooled, PostgresRunStorage):
    """Dagster's runs.

    Whether a column is there yet is asked at every change of a run; a column that is there stays.
    """

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns of Dagster's table of runs, as this process found them."""
        with self.connect() as connection:
            found = inspect(connection).get_columns(RunsTable.name)
        return frozenset(column["name"] for column in found)

    def has_run_stats_index_cols(self) -> bool:
        """Whether runs have their times as columns."""
        return {"start_time", "end_time"} <= self.columns

    def has_backfill_id_column(self) -> bool:
        """Whether runs have their backfill as a column."""
        return "backfill_id" in self.columns


class PooledEventLogStorage(Pooled, PostgresEventLogStorage):
    """Dagster's event log.

    Whether a table is there yet is asked at every event of a check; a table that is there stays.
    """

    @cached_property
    def tables(self) -> set[str]:
        """The tables that this process has found."""
        return set()

    def has_table(self, table_name: str) -> bool:
        """Whether Dagster has made a table."""
        if table_name not in self.tables and super().has_table(table_name):
            self.tables.add(table_name)
        return table_name in self.tables

    def has_asset_key_col(self, column_name: str) -> bool:
        """Whether assets have a column."""
        return column_name in self.asset_columns

    @cached_property
    def asset_columns(self) -> frozenset[str]:
        """The columns of Dagster's table of assets, as this process found them."""
        with self.index_connection() as connection:
            found = inspect(connection).get_columns(AssetKeyTable.name)
        return frozenset(column["name"] for column in found)


class PooledScheduleStorage(Pooled, PostgresScheduleStorage):
    """Dagster's ticks and cursors."""


class RatStorage(DagsterPostgresStorage):
    """Dagster's storage in RAT's Postgres, which is started if it does not run."""

    def __init__(
        self, postgres_url: str, inst_data: ConfigurableClassData | None = None
    ) -> None:
        # The parent would make three storages that each connect anew for every statement.
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]
        self.postgres_url = postgres_url
        self.should_autocreate_tables = True
        self._inst_data = inst_data
        state = LocalState(search_path=DAGSTER_SCHEMA)
        self.engine = pooled_engine(postgres_url, state)
        # Each storage would connect twice more to see whether its tables are there.
        self._run_storage = PooledRunStorage(
            postgres_url, should_autocreate_tables=False
        )
        self._event_log_storage = PooledEventLogStorage(
            postgres_url, should_autocreate_tables=False
        )
        self._schedule_storage = PooledScheduleStorage(
            postgres_url, should_autocreate_tables=False
        )
        self._run_storage.share(self.engine, state)
        self._event_log_storage.share(self.engine, state)
        self._schedule_storage.share(self.engine, state)
        if not MAIN_TABLES.issubset(self.tables()):
            self.create_tables()

    def tables(self) -> list[str]:
        """Dagster's tables that are there."""
        return retry_pg_connection_fn(lambda: inspect(self.engine).get_table_names())

    def create_tables(self) -> None:
        """Make Dagster's tables, as each storage would for itself."""
        found = self.tables()
        if "runs" not in found:
            retry_pg_creation_fn(self._run_storage._init_db)  # noqa: SLF001 - with its own engine it would make them in another schema
            self._run_storage.migrate()
            self._run_storage.optimize()
        if "event_logs" not in found:
            retry_pg_creation_fn(self._event_log_storage._init_db)  # noqa: SLF001 - likewise
            self._event_log_storage.reindex_events()
            self._event_log_storage.reindex_assets()
        if "jobs" not in found:
            retry_pg_creation_fn(self._schedule_storage._init_db)  # noqa: SLF001 - likewise

    def upgrade(self) -> None:
        """Make Dagster's tables what the installed Dagster wants them to be."""
        self._run_storage.upgrade()
        self._run_storage.migrate()
        self._event_log_storage.upgrade()
        self._event_log_storage.reindex_assets()
        self._schedule_storage.upgrade()
        self._schedule_storage.migrate()

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing: RAT's settings say where Postgres is."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003 - Dagster's signature
    ) -> Self:
        """The storage that the environment's settings mean."""
        with Metadata.open(Settings.load()) as metadata:
            url = metadata.dagster_url
        return cls(url, inst_data)

    def dispose(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def upgrade_dagster(metadata: Metadata) -> None:
    """Make Dagster's tables in RAT's Postgres, or upgrade them."""
    storage = RatStorage(metadata.dagster_url)
    try:
        storage.upgrade()
    finally:
        storage.dispose()


def pooled_engine(url: str, state: LocalState) -> Engine:
    """An engine that keeps a few connections and notices when the server was restarted."""
    return create_engine(
        url,
        connect_args={"cursor_factory": state.cursor_class()} | patience(url),
        isolation_level="AUTOCOMMIT",
        pool_size=2,
        max_overflow=20,
        pool_pre_ping=True,
        pool_recycle=3600,
    )


class RatArtifactStorage(LocalArtifactStorage):
    """Dagster's files under RAT_HOME."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing: RAT's settings say where the home is."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003 - Dagster's signature
    ) -> Self:
        """The storage that the environment's settings mean."""
        return cls(dagster_folder(), inst_data)


class RatComputeLogManager(LocalComputeLogManager):
    """What steps print, under RAT_HOME; or in the store, where that is S3."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing: RAT's settings say where the home is."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401 - Dagster wants this class to make the manager, not to be it
        """The manager that the environment's settings mean."""
        if isinstance(Settings.load().store, Path):
            return cls(f"{dagster_folder()}/storage", inst_data=inst_data)
        from rat_resources.compute_logs import (  # noqa: PLC0415 - local files need none of it
            StoredComputeLogManager,
        )

        return StoredComputeLogManager.from_config_value(inst_data, config_value)


def dagster_folder() -> str:
    """Where Dagster keeps its files."""
    return str(Settings.load().home / "dagster")


class RatRunCoordinator(QueuedRunCoordinator[DagsterInstance]):
    """A queue while a daemon is there to empty it; without one, runs are launched at once."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queue or launch the run."""
        if is_daemon_alive(self._instance, now=time.time()):
            return super().submit_run(context)
        return self._instance.launch_run(context.dagster_run.run_id, context.workspace)


def is_daemon_alive(instance: DagsterInstance, *, now: float) -> bool:
    """Whether a daemon that empties the queue was heard of lately."""
    heartbeat = instance.get_daemon_heartbeats().get(QUEUE_DAEMON)
    return heartbeat is not None and now - heartbeat.timestamp < FRESH_SECONDS


def open_instance() -> DagsterInstance:
    """Dagster's instance of the settings, whether or not DAGSTER_HOME is set."""
    os.environ.update(Settings.load().environ)
    return DagsterInstance.get()


def forget_daemon(instance: DagsterInstance) -> None:
    """Say that no daemon runs any more, so that the next run does not wait for it."""
    instance.wipe_daemon_heartbeats()
