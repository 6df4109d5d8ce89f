"""What every test may ask for: a RAT_HOME, settings, a database of its own, a Dagster instance.

One Postgres, one S3 server and one Nessie serve the whole test session and all its workers; the
first test that needs one starts it. A database is a clone of a migrated template, so a test has it
in some ten milliseconds.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import DagsterInstance
from sqlalchemy import URL, text

from rat_resources.instance import RatStorage
from rat_resources.lake import marker
from rat_resources.metadata import Metadata, embedded, migrations
from rat_resources.places import Place, S3Place
from rat_resources.platform import opened, platform
from rat_resources.settings import VARIABLES, Settings
from tests.factories import ORDERS, Shop
from tests.servers import nessie as nessie_servers
from tests.servers import postgres, s3
from tests.servers.nessie import Nessie, S3Warehouse
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

PROJECT = Path(__file__).resolve().parents[1]
TEMPLATE = "rat_template"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
ENOUGH_MEMORY = 2 * 1024**3  # bytes
# The modules of which one test takes minutes.
LONGEST = ("test_readme.py", "test_wheel.py")
# Workers inherit the environment of the process that starts them.
SESSION_HOME = "RAT_TESTS_HOME"


def pytest_configure(config: pytest.Config) -> None:
    """Name the home of this session's Postgres before the first worker starts."""
    if not hasattr(config, "workerinput"):
        os.environ[SESSION_HOME] = tempfile.mkdtemp(prefix="rat-tests-")
    # What the developer's own RAT is set to is no concern of a test.
    for variable in tuple(os.environ):
        if variable in VARIABLES or variable.startswith("AWS_"):
            del os.environ[variable]
    os.environ["DAGSTER_HOME"] = str(PROJECT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, or one worker would be at it when the others are done."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the session's Postgres and remove it, whatever became of the workers."""
    if hasattr(config, "workerinput"):
        return
    home = Path(os.environ.pop(SESSION_HOME))
    s3.stop(home)
    postgres.stop(home)
    nessie_servers.stop(home)
    if embedded.stop(home):
        place = embedded.Place.of(home)
        for link in (place.data / "pg_tblspc").iterdir():
            shutil.rmtree(link.resolve())
        shutil.rmtree(place.folder)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def server() -> URL:
    """The session's Postgres, with a migrated database to clone from."""
    place = embedded.start(Path(os.environ[SESSION_HOME]))
    with (
        embedded.locked(place.folder / "template.lock"),
        Metadata.connect(place.dsn) as metadata,
    ):
        if not has_template(metadata):
            make_template(metadata, place)
        return metadata.url


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """The session's S3-compatible storage."""
    return s3.start(Path(os.environ[SESSION_HOME]))


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """The session's Postgres as a company has it: on TCP, by password, with a pooler before it."""
    return postgres.start(Path(os.environ[SESSION_HOME]))


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of this test's own, with versioning; the environment says how to reach it."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket()


@pytest.fixture(scope="session")
def nessie_server(s3_server: S3Server) -> Nessie:
    """The session's Nessie, with a warehouse on the session's S3; nobody stops it."""
    home = Path(os.environ[SESSION_HOME])
    return nessie_servers.start(home, lambda: S3Warehouse.on(s3_server))


@pytest.fixture
def nessie(nessie_server: Nessie, monkeypatch: pytest.MonkeyPatch) -> Nessie:
    """The session's Nessie, and a branch of this test's own that the environment names."""
    monkeypatch.setenv("RAT_NESSIE_URL", nessie_server.url)
    monkeypatch.setenv("RAT_NESSIE_BRANCH", f"test-{uuid.uuid4().hex}")
    return nessie_server


@pytest.fixture
def own_nessie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nessie]:
    """A Nessie that this test may kill and start again; it takes some seconds to start."""
    with nessie_servers.running(tmp_path / "nessie") as own:
        monkeypatch.setenv("RAT_NESSIE_URL", own.url)
        yield own


@pytest.fixture
def s3_warehouse(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A warehouse of this test's own in S3, that the environment names."""
    monkeypatch.setenv("RAT_WAREHOUSE", f"s3://{bucket}/warehouse")
    return bucket


@pytest.fixture
def s3_store(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of this test's own in S3, that the environment names."""
    monkeypatch.setenv("RAT_STORE", f"s3://{bucket}/store")
    return bucket


@pytest.fixture(params=["a folder", "S3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of this test's own, once in a folder and once in S3."""
    if request.param == "a folder":
        return tmp_path / "place"
    return S3Place(request.getfixturevalue("bucket"), "rat")


def has_template(metadata: Metadata) -> bool:
    """Whether an earlier worker made the template."""
    found = text("SELECT 1 FROM pg_database WHERE datname = :name")
    with metadata.engine.connect() as connection:
        return connection.execute(found, {"name": TEMPLATE}).first() is not None


def make_template(metadata: Metadata, place: embedded.Place) -> None:
    """Make a database with all of RAT's and Dagster's tables, under its name once it is whole."""
    # What a test writes need not survive a power cut.
    for parameter in ("fsync", "full_page_writes", "synchronous_commit"):
        administrate(metadata.url, f"ALTER SYSTEM SET {parameter} = off")
    administrate(metadata.url, "SELECT pg_reload_conf()")
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_MEMORY:
        keep_in_memory(metadata, place)
    administrate(metadata.url, "DROP DATABASE IF EXISTS rat_template_new")
    administrate(metadata.url, "CREATE DATABASE rat_template_new")
    with Metadata.connect(metadata.url.set(database="rat_template_new")) as new:
        migrations.upgrade(new.engine)
        RatStorage(new.dagster_url).dispose()
    administrate(metadata.url, f"ALTER DATABASE rat_template_new RENAME TO {TEMPLATE}")


def keep_in_memory(metadata: Metadata, place: embedded.Place) -> None:
    """Let every database that is made from now on be files in memory.

    Each is some 500 files, and ext4 is slow at making files where many have just been deleted.
    """
    folder = tempfile.mkdtemp(prefix="rat-tests-", dir=MEMORY)
    owner = place.data.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    # A database is made where its template is.
    for statement in (
        f"CREATE TABLESPACE memory LOCATION '{folder}'",
        "ALTER DATABASE template1 SET TABLESPACE memory",
    ):
        administrate(metadata.url, statement)


def administrate(server: URL, statement: str) -> None:
    """Run a statement that Postgres allows in no transaction."""
    with Metadata.connect(server) as metadata:
        engine = metadata.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))


@pytest.fixture
def rat_home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A RAT_HOME with its store and its warehouse, empty or that of the `open_shop`; no database."""
    if "open_shop" in request.fixturenames:
        played: Played = request.getfixturevalue("played")
        return played.copy_home()
    home = tmp_path / "rat"
    for folder in ("store", "warehouse"):
        (home / folder).mkdir(parents=True)
    return home


@pytest.fixture
def database(request: pytest.FixtureRequest, server: URL) -> Iterator[URL]:
    """A migrated database of this test's own, empty or that of the `open_shop`."""
    template = TEMPLATE
    if "open_shop" in request.fixturenames:
        template = request.getfixturevalue("played").database
    with cloned(server, template) as database:
        yield database


@contextmanager
def cloned(server: URL, template: str) -> Iterator[URL]:
    """A database that is a copy of another one, and goes at the end."""
    name = f"rat_{uuid.uuid4().hex}"
    administrate(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.set(database=name)
    administrate(server, f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Played:
    """A shop that was opened once, to be copied by every test that wants one.

    Tables name their files by absolute paths, so a copy stands where the first one stood.
    """

    home: Path
    kept: Path
    database: str

    def copy_home(self) -> Path:
        """Its RAT_HOME as it was when it had been opened."""
        shutil.rmtree(self.home)
        shutil.copytree(self.kept, self.home)
        return self.home


@pytest.fixture(scope="session")
def played(server: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A shop whose first orders are in gold, and which nobody has open."""
    folder = tmp_path_factory.mktemp("played")
    home, kept = folder / "rat", folder / "kept"
    home.mkdir()
    with cloned(server, TEMPLATE) as database, pytest.MonkeyPatch.context() as patch:
        name_rat(patch, home, database)
        whole = platform()
        with DagsterInstance.from_config(str(whole.settings.dagster_home)) as instance:
            shop = Shop(whole, instance, folder / "project")
            shop.publish()
            shop.land("first.csv", "id,customer,amount\n1,ann,10\n2,bob,20\n")
            assert shop.run().succeeded
        whole.metadata.dispose()
        opened.cache_clear()
        # Pools that nobody asks any more; a database in use cannot be copied.
        terminated = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        administrate(server, f"{terminated} WHERE datname = '{database.database}'")
        # A copy is another RAT, which would have to take the warehouse over.
        (home / "warehouse" / marker.NAME).unlink()
        shutil.copytree(home, kept)
        yield Played(home, kept, str(database.database))


def name_rat(patch: pytest.MonkeyPatch, home: Path, database: URL) -> None:
    """Let the environment name a RAT."""
    patch.setenv("RAT_HOME", str(home))
    dsn = database.set(drivername="postgresql").render_as_string(hide_password=False)
    patch.setenv("RAT_POSTGRES_URL", dsn)


@pytest.fixture
def settings(
    rat_home: Path,
    database: URL,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Settings:
    """Settings of this test's own; in the environment too, for whatever loads them there.

    A test that is parametrized with the servers to use, as in "nessie", has them instead of
    what is embedded.
    """
    for each in getattr(request, "param", "embedded").split("+"):
        if each != "embedded":
            request.getfixturevalue(each)
    name_rat(monkeypatch, rat_home, database)
    return Settings.load()


@pytest.fixture
def metadata(settings: Settings) -> Iterator[Metadata]:
    """The metadata of this test's own database."""
    with Metadata.open(settings) as metadata:
        yield metadata


@pytest.fixture
def instance(settings: Settings) -> Iterator[DagsterInstance]:
    """The Dagster instance that dagster.yaml describes, on this test's own database."""
    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


@pytest.fixture
def shop(
    settings: Settings, instance: DagsterInstance, tmp_path: Path
) -> Iterator[Shop]:
    """A RAT of this test's own, with what it takes to publish, land and run."""
    del settings  # it set the environment that the platform reads
    whole = platform()
    yield Shop(whole, instance, tmp_path / "project")
    whole.metadata.dispose()
    opened.cache_clear()


@pytest.fixture
def open_shop(shop: Shop) -> Shop:
    """A shop whose first orders are in gold; a copy of the one that was `played`."""
    for name, content in ORDERS.items():
        shop.write(name, content)
    shop.notice()  # its files are copies too
    return shop


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """The environment afterwards as it was before: a command that a test calls pins its settings."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
