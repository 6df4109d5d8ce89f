"""Dagster's instance: every command finds RAT's state, with DAGSTER_HOME alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from dagster import DagsterInstance, asset, materialize
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._daemon.types import DaemonHeartbeat
from sqlalchemy import Engine, event, text

from rat_resources.instance import (
    FRESH_SECONDS,
    QUEUE_DAEMON,
    PooledRunStorage,
    RatRunCoordinator,
    forget_daemon,
    is_daemon_alive,
)
from rat_resources.metadata import Metadata, embedded
from rat_resources.settings import Settings

JOB = """
import dagster as dg

@dg.op
def hello(context): print("hello")

@dg.job
def tiny(): hello()

defs = dg.Definitions(jobs=[tiny])
"""


@asset
def thing() -> None:
    """Something to materialize."""


def test_a_run_is_kept_in_the_schema_of_dagster(
    instance: DagsterInstance, metadata: Metadata
) -> None:
    run = materialize([thing], instance=instance)

    with metadata.transaction() as tx:
        stored = tx.scalars(text("SELECT run_id FROM dagster.runs")).all()
    assert stored == [run.run_id]


def test_files_stay_under_rat_home(
    instance: DagsterInstance, settings: Settings
) -> None:
    materialize([thing], instance=instance)

    assert Path(instance.root_directory) == settings.home / "dagster"
    assert list((settings.home / "dagster" / "storage").rglob("*.out"))


def test_a_run_does_not_reconnect_for_each_event(instance: DagsterInstance) -> None:
    materialize([thing], instance=instance)
    connects: list[object] = []
    event.listen(engine_of(instance), "connect", lambda *_: connects.append(1))

    materialize([thing], instance=instance)

    assert len(connects) <= 2


def test_the_webserver_keeps_the_pool(instance: DagsterInstance) -> None:
    engine = engine_of(instance)
    engine.dispose()

    instance.optimize_for_webserver(
        statement_timeout=1234, pool_recycle=60, max_overflow=5
    )

    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "1234ms"
    assert engine_of(instance) is engine


def test_a_server_that_was_restarted_is_used_again(
    instance: DagsterInstance, metadata: Metadata
) -> None:
    materialize([thing], instance=instance)
    with metadata.transaction() as tx:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        tx.execute(
            text(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            )
        )

    assert materialize([thing], instance=instance).success


@pytest.mark.parametrize(
    ("age", "alive"), [(0, True), (FRESH_SECONDS - 1, True), (FRESH_SECONDS + 1, False)]
)
def test_a_daemon_is_alive_while_its_heartbeat_is_fresh(
    instance: DagsterInstance, *, age: float, alive: bool
) -> None:
    now = time.time()
    instance.add_daemon_heartbeat(DaemonHeartbeat(now, QUEUE_DAEMON, "me", None))

    assert is_daemon_alive(instance, now=now + age) is alive


def test_a_daemon_that_says_good_bye_is_not_waited_for(
    instance: DagsterInstance,
) -> None:
    instance.add_daemon_heartbeat(
        DaemonHeartbeat(time.time(), QUEUE_DAEMON, "me", None)
    )

    forget_daemon(instance)

    assert not is_daemon_alive(instance, now=time.time())


def test_dagster_yaml_names_our_coordinator(instance: DagsterInstance) -> None:
    coordinator = instance.run_coordinator

    assert isinstance(coordinator, RatRunCoordinator)
    assert coordinator.dequeue_interval_seconds == 1
    assert not instance.telemetry_enabled


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """An environment in which DAGSTER_HOME is all that is set, beside where state goes."""
    home = tmp_path / "rat"
    (tmp_path / "tiny.py").write_text(JOB)
    ours = {"DAGSTER_HOME": os.environ["DAGSTER_HOME"], "RAT_HOME": str(home)}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    yield kept | ours
    embedded.stop(home)


def dagster(*words: str, cwd: Path, env: Mapping[str, str]) -> str:
    """What a `dagster …` command prints."""
    command = [str(Path(sys.executable).with_name("dagster")), *words]
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_dagster_command_starts_the_postgres_and_launches_without_a_daemon(
    tmp_path: Path, alone: Mapping[str, str]
) -> None:
    project = Path(alone["DAGSTER_HOME"])
    before = {path.name for path in project.iterdir()}

    dagster("job", "launch", "-f", "tiny.py", "-j", "tiny", cwd=tmp_path, env=alone)

    dsn = embedded.start(Path(alone["RAT_HOME"])).dsn
    with Metadata.connect(dsn) as metadata, metadata.transaction() as tx:
        statuses = tx.scalars(text("SELECT status FROM dagster.runs")).all()
    assert statuses == [DagsterRunStatus.SUCCESS.value]
    # Other tests run beside this one: only what Dagster would leave counts.
    new = {path.name for path in project.iterdir()} - before
    assert not new & {"storage", "history", "schedules", "logs", ".telemetry", ".nux"}


def engine_of(instance: DagsterInstance) -> Engine:
    """The connections of an instance."""
    storage = instance.run_storage
    assert isinstance(storage, PooledRunStorage)
    return storage._engine
