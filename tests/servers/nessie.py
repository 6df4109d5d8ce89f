"""A Nessie server of our own, with a store on disk: what was committed outlives its death."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from rat_resources.metadata.embedded import locked
from tests.servers.java import find_java, nessie_jar
from tests.servers.processes import Daemon, free_ports, remembered
from tests.servers.s3 import KEY, REGION, SECRET, S3Server

FOLDER = "nessie"
MEMORY = "-Xmx512m"
# It lives for minutes: that it starts soon counts for more than that it runs fast some day.
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


@dataclass(frozen=True)
class S3Warehouse:
    """Where Nessie's own Iceberg REST catalog finds the tables."""

    location: str  # s3://bucket/path
    endpoint: str
    access_key: str
    secret_key: str
    region: str = REGION

    @classmethod
    def on(cls, storage: S3Server) -> "S3Warehouse":
        """A bucket of its own."""
        bucket = storage.make_bucket()
        return cls(f"s3://{bucket}/warehouse", storage.endpoint, KEY, SECRET)

    @property
    def options(self) -> list[str]:
        """How Nessie is told."""
        service = "nessie.catalog.service.s3.default-options"
        return [
            "-Dnessie.catalog.default-warehouse=rat",
            f"-Dnessie.catalog.warehouses.rat.location={self.location}",
            f"-D{service}.endpoint={self.endpoint}",
            f"-D{service}.path-style-access=true",
            f"-D{service}.region={self.region}",
            f"-D{service}.access-key=urn:nessie-secret:quarkus:rat.s3",
            f"-Drat.s3.name={self.access_key}",
            f"-Drat.s3.secret={self.secret_key}",
        ]


@dataclass(frozen=True)
class Nessie:
    """A server in *folder*; the same store and the same ports whenever it starts again."""

    folder: Path
    port: int
    management: int
    warehouse: S3Warehouse | None = None
    options: tuple[str, ...] = ()
    kept: Path | None = None  # where its store is; in the folder without it

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        warehouse: Callable[[], S3Warehouse] | None = None,
        options: tuple[str, ...] = (),
        store: Path | None = None,
    ) -> "Nessie":
        """The server of *folder*, which need not run."""

        def choose() -> dict[str, Any]:
            port, management = free_ports(2)
            where = asdict(warehouse()) if warehouse else None
            return {"port": port, "management": management, "warehouse": where}

        with remembered(folder, "nessie", choose) as chosen:
            return cls(
                folder,
                port=chosen["port"],
                management=chosen["management"],
                warehouse=S3Warehouse(**chosen["warehouse"])
                if chosen["warehouse"]
                else None,
                options=options,
                kept=store,
            )

    @property
    def url(self) -> str:
        """What RAT_NESSIE_URL is set to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def iceberg(self) -> str:
        """Its Iceberg REST catalog; `/<branch>` follows."""
        return f"{self.url}/iceberg"

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return Daemon(self.folder)

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        with locked(self.folder / "start.lock"):
            if self.daemon.pid is None:
                self.daemon.start(self.command())
            self.daemon.await_true(self.is_ready, what="Nessie")

    def kill(self) -> None:
        """Let it die at once, with whatever it is doing."""
        self.daemon.end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it in order."""
        self.daemon.end()

    def restart(self) -> None:
        """Kill it and start it again on the same ports, with the same store."""
        self.kill()
        self.start()

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return requests.get(f"{self.url}/api/v2/config", timeout=5).ok
        except requests.RequestException:
            return False

    def command(self) -> list[str]:
        """How it is started."""
        store = self.kept or self.folder / "store"
        store.mkdir(parents=True, exist_ok=True)
        return [
            str(find_java()),
            MEMORY,
            *QUICK,
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={self.port}",
            "-Dquarkus.management.host=127.0.0.1",
            f"-Dquarkus.management.port={self.management}",
            "-Dnessie.version.store.type=ROCKSDB",
            f"-Dnessie.version.store.persist.rocks.database-path={store}",
            *(self.warehouse.options if self.warehouse else ()),
            *self.options,
            "-jar",
            str(nessie_jar()),
        ]


def start(
    home: Path,
    warehouse: Callable[[], S3Warehouse] | None = None,
    *,
    store: Path | None = None,
) -> Nessie:
    """The server of a session, which whoever comes first starts."""
    nessie = Nessie.of(home / FOLDER, warehouse=warehouse, store=store)
    nessie.start()
    return nessie


def stop(home: Path) -> None:
    """End the server of a session, if it has one."""
    Daemon(home / FOLDER).end(signal.SIGKILL)


@contextmanager
def running(
    folder: Path,
    *,
    warehouse: Callable[[], S3Warehouse] | None = None,
    options: tuple[str, ...] = (),
) -> Iterator[Nessie]:
    """A server of one's own, stopped at the end."""
    nessie = Nessie.of(folder, warehouse=warehouse, options=options)
    try:
        nessie.start()
        yield nessie
    finally:
        nessie.kill()
