"""A RAT that a whole module of mistakes shares: whatever is done wrong there must leave it as it was."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from sqlalchemy import URL

from rat_resources.platform import opened, platform
from rat_resources.settings import Settings
from tests.conftest import TEMPLATE, administrate
from tests.factories import Shop


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def shop(server: URL, open_folder: Path) -> Iterator[Shop]:
    """A RAT in a database of its own, with what it takes to publish, land and run."""
    home = open_folder / "rat"
    for name in ("store", "warehouse"):
        (home / name).mkdir(parents=True)
    database = f"rat_{uuid.uuid4().hex}"
    administrate(server, f"CREATE DATABASE {database} TEMPLATE {TEMPLATE}")
    url = server.set(database=database, drivername="postgresql")
    before = dict(os.environ)
    os.environ["RAT_HOME"] = str(home)
    os.environ["RAT_POSTGRES_URL"] = url.render_as_string(hide_password=False)
    with DagsterInstance.from_config(str(Settings.load().dagster_home)) as instance:
        whole = platform()
        yield Shop(whole, instance, open_folder / "project")
        whole.metadata.dispose()
    opened.cache_clear()
    os.environ.clear()
    os.environ.update(before)
    administrate(server, f"DROP DATABASE {database} WITH (FORCE)")
