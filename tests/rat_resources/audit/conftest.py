"""A small real history, played once; a test plants what it likes in a transaction that is rolled back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from sqlalchemy import URL

from rat_resources.metadata import addresses
from rat_resources.platform import opened, platform
from tests.conftest import TEMPLATE, administrate
from tests.factories import Shop
from tests.histories import play


@pytest.fixture(scope="module")
def history(server: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop to which a little of everything has happened; nobody may change it."""
    folder: Path = tmp_path_factory.mktemp("history")
    name = f"rat_{folder.name}_{hash(folder) % 10**8}"
    administrate(server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    for each in ("store", "warehouse"):
        (folder / "rat" / each).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAT_HOME", str(folder / "rat"))
        patch.setenv("RAT_POSTGRES_URL", addresses.write(server.set(database=name)))
        whole = platform()
        with DagsterInstance.from_config(str(whole.settings.dagster_home)) as instance:
            shop = Shop(whole, instance, folder / "project")
            play(shop)
            yield shop
        whole.metadata.dispose()
        opened.cache_clear()
    administrate(server, f"DROP DATABASE {name} WITH (FORCE)")
