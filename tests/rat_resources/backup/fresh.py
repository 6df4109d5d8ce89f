"""A RAT that lost everything but its files: another Postgres, and the store and warehouse as they were."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from sqlalchemy import URL

from rat_resources.metadata import addresses
from rat_resources.platform import opened, platform
from tests.conftest import administrate
from tests.factories import Shop


@contextmanager
def empty_database(server: URL, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A database with nothing in it, which the settings name."""
    name = f"rat_{uuid.uuid4().hex}"
    administrate(server, f"CREATE DATABASE {name}")
    patch.setenv("RAT_POSTGRES_URL", addresses.write(server.set(database=name)))
    yield
    administrate(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def reopened(lost: Shop) -> Iterator[Shop]:
    """The same RAT, as a new process finds it."""
    whole = platform()
    with dg.DagsterInstance.from_config(str(whole.settings.dagster_home)) as instance:
        yield Shop(whole, instance, lost.folder)
    whole.metadata.dispose()
    opened.cache_clear()
