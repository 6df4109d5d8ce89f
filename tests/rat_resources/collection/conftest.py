"""A lake whose tables are written without runs."""

from collections.abc import Iterator

import pytest

from rat_resources.platform import opened, platform
from rat_resources.settings import Settings
from tests.rat_resources.collection.lakes import Lake


@pytest.fixture
def lake(settings: Settings) -> Iterator[Lake]:
    """A RAT of this test's own, with nothing in its lake."""
    del settings  # it set the environment that the platform reads
    whole = platform()
    yield Lake.over(whole)
    whole.metadata.dispose()
    opened.cache_clear()
