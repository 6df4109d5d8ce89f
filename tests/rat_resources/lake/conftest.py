"""The keepers of branches, over which the suites of refs and of the catalog run."""

import os
from collections.abc import Callable

import pytest

from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.lake.refs import Refs
from rat_resources.metadata import Metadata
from rat_resources.nessie_settings import NessieSettings


def embedded(request: pytest.FixtureRequest) -> Refs:
    """Branches in this test's own database."""
    metadata: Metadata = request.getfixturevalue("metadata")
    return EmbeddedRefs(metadata.engine)


def on_nessie(request: pytest.FixtureRequest) -> Refs:
    """Branches under this test's own name on the session's server."""
    request.getfixturevalue("nessie")
    settings = NessieSettings.load(os.environ)
    assert settings is not None
    return NessieRefs(settings)


KEEPERS: dict[str, Callable[[pytest.FixtureRequest], Refs]] = {
    "embedded": embedded,
    "nessie": on_nessie,
}


@pytest.fixture(params=KEEPERS)
def refs(request: pytest.FixtureRequest) -> Refs:
    """Each keeper in turn, with an empty main."""
    keeper = KEEPERS[request.param](request)
    keeper.bootstrap()
    return keeper
