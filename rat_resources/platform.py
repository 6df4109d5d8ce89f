"""The platform: everything that one RAT consists of, opened once a process.

`platform()` is what the command line asks for; Dagster gets the same parts from
`rat_resources.wiring`.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rat_resources.lake import Lake
from rat_resources.lake.catalog import warehouse_location
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.marker import Marker
from rat_resources.lake.refs import Refs
from rat_resources.metadata import Metadata
from rat_resources.settings import Settings
from rat_resources.store import Store, open_store


@dataclass(frozen=True)
class Platform:
    """One RAT: its settings, its Postgres, its store and its lake."""

    settings: Settings
    metadata: Metadata
    store: Store
    lake: Lake

    @classmethod
    def open(
        cls, settings: Settings, *, metadata: Metadata | None = None
    ) -> "Platform":
        """Open all parts; the embedded Postgres starts if need be."""
        whole = cls.over(settings, metadata or Metadata.open(settings))
        whole.lake.refs.bootstrap()
        Marker(whole.metadata, warehouse_location(whole.lake.warehouse)).introduce()
        return whole

    @classmethod
    def over(cls, settings: Settings, metadata: Metadata) -> "Platform":
        """All parts over a Postgres that is open, as they are: nothing is made."""
        lake = Lake(
            refs=open_refs(settings, metadata),
            warehouse=settings.warehouse.as_uri(),
            spill=settings.home / "spill",
            memory=settings.memory,
        )
        return cls(settings, metadata, open_store(settings.store), lake)

    @property
    def staging(self) -> Path:
        """Where runs get their own copies of landing files."""
        return self.settings.home / "staging"


def open_refs(settings: Settings, metadata: Metadata) -> Refs:
    """The keeper of branches: the Nessie server that the settings name, else Postgres."""
    if settings.nessie is None:
        return EmbeddedRefs(metadata.engine)
    # Without a server nobody pays for its client.
    from rat_resources.lake.nessie_refs import NessieRefs  # noqa: PLC0415

    return NessieRefs(settings.nessie)


def platform() -> Platform:
    """The platform that the environment names; opened at the first call of a process."""
    return opened(tuple(sorted(Settings.load().environ.items())))


@lru_cache(maxsize=2)
def opened(_environ: tuple[tuple[str, str], ...]) -> Platform:
    """The platform for one set of settings, opened once."""
    return Platform.open(Settings.load())
