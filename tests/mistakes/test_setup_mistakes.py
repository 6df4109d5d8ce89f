"""What a mistake in a command or in the set-up is told, and that it changes nothing."""

import os
import socket
import struct
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, text

from rat_assets.commands.dev import HOST, free_port
from rat_resources.metadata import Metadata
from rat_resources.platform import opened
from rat_resources.settings import Settings
from tests import conftest
from tests.conftest import administrate
from tests.factories import ORDERS, Shop
from tests.rat_assets.test_cli import RAT, call
from tests.rat_resources.metadata.test_embedded import remove

# A command pins its settings in the environment for good.

# What a command leaves is looked at, so each test has a RAT of its own.
shop = conftest.shop


# Names.

UNKNOWN = [
    (["run", "shop.bronze.order"], "did you mean shop.bronze.orders?"),
    (["run", "shp"], "no published pipeline is called shp; did you mean shop?"),
    (["run", "zzz"], "no published pipeline is called zzz; there is shop"),
    (["upload", "shop/ordrs", __file__], "did you mean shop/orders?"),
    (["upload", "shp/orders", __file__], "did you mean shop/orders?"),
    (["upload", "x/y", __file__], "there is chm/external_runs, shop/orders"),
    (["reject", "shop/ordrs", "x.csv"], "did you mean shop/orders?"),
    (["reject", "shop/orders", "x.csv"], "x.csv"),
    (["runs", "zzz"], "zzz"),
    (["query", "FROM shop.bronze.ordes"], "did you mean shop.bronze.orders?"),
    (["query", "FROM orders"], "no published table is called orders"),
    (["query", "FROM shop.bronze.orders", "--ref", "mian"], "did you mean main?"),
    (["query", "SELECT idd FROM bronze.orders"], 'candidate bindings: "id"'),
    (["query", "DROP TABLE bronze.orders"], "write one SELECT"),
    (["query", "SELECT 1; SELECT 2"], "these are several statements"),
    (["query", "FROM read_csv('/etc/passwd')"], "`rat upload` a file"),
]


def test_an_unknown_name_is_met_with_the_nearest_and_nothing_happens(
    shop: Shop,
) -> None:
    shop.publish(ORDERS)
    shop.land("january.csv", "id,customer,amount\n1,ann,10.50\n")
    assert shop.run("shop.bronze.orders").succeeded
    before, runs = shop.main, len(shop.runs())

    results = [call(*arguments) for arguments, _ in UNKNOWN]

    for result, (arguments, said) in zip(results, UNKNOWN, strict=True):
        assert said in result.stderr, (arguments, result.stderr)
        assert result.stderr.startswith("rat: "), result.stderr
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.stderr
    assert (shop.main, len(shop.runs())) == (before, runs)
    for question in (
        "SHOW TABLES",
        "DESCRIBE bronze.orders",
        "SUMMARIZE bronze.orders",
    ):
        shown = call("query", question, "--format", "csv").stdout
        assert "shop.bronze.orders" in shown or "amount" in shown, question


@pytest.mark.parametrize(
    ("variable", "guess"),
    [
        ("RAT_HOMEE", "RAT_HOME"),
        ("RAT_WAREHOSE", "RAT_WAREHOUSE"),
        ("RAT_POSTGRES", "RAT_POSTGRES_URL"),
    ],
)
def test_a_misspelt_setting_is_no_setting_that_goes_unheard(
    monkeypatch: pytest.MonkeyPatch, variable: str, guess: str
) -> None:
    monkeypatch.setenv(variable, "/somewhere")

    result = call("tables")

    assert result.stderr == (
        f"rat: {variable} is no setting; did you mean {guess}? "
        "`rat settings` lists them all\n"
    )


def test_a_variable_of_somebody_else_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAT_POISON", "1")

    assert call("settings").exit_code == 0


# Ports.


def test_a_port_that_is_taken_is_left_to_whoever_has_it() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        assert free_port(port) > port


# RAT_HOME.


def rat(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own."""
    return subprocess.run(
        [RAT, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write into, not even root."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    is_root = os.geteuid() == 0
    if is_root and subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this root may not mount a file system")
    yield folder
    if is_root:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("own", [False, True], ids=["embedded", "your own Postgres"])
def test_a_home_that_may_not_be_written_is_named_and_stays_empty(
    locked: Path, settings: Settings, *, own: bool
) -> None:
    url = settings.postgres_url or "" if own else ""

    done = rat("query", "SELECT 1", RAT_HOME=str(locked), RAT_POSTGRES_URL=url)

    assert done.returncode == 1
    assert done.stderr.startswith("rat: "), done.stderr
    assert str(locked) in done.stderr
    assert "Read-only file system" in done.stderr or "ermission" in done.stderr
    assert "RAT_HOME" in done.stderr, done.stderr
    assert (done.stderr.count("\n"), list(locked.iterdir())) == (1, [])


def test_a_missing_home_with_spaces_and_unicode_is_made(tmp_path: Path) -> None:
    home = tmp_path / "mein Häuschen, 'neu'" / "rat €"

    done = rat("query", "SELECT 1 AS one", "--format", "csv", RAT_HOME=str(home))
    again = rat("tables", RAT_HOME=str(home))
    remove(home)

    assert (done.stdout, done.stderr) == ("one\n1\n", "")
    assert again.returncode == 0, again.stderr


# Postgres.


@pytest.fixture
def empty(server: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty database of somebody's own, which RAT is told to use."""
    name = f"own_{uuid.uuid4().hex}"
    administrate(server, f"CREATE DATABASE {name}")
    url = server.set(drivername="postgresql", database=name)
    monkeypatch.setenv("RAT_POSTGRES_URL", url.render_as_string(hide_password=False))
    yield name
    opened.cache_clear()
    administrate(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_postgres_that_only_reads_is_told_what_it_lacks(
    server: URL, empty: str, rat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_HOME", str(rat_home))
    only_reads = f"ALTER DATABASE {empty} SET default_transaction_read_only = on"
    administrate(server, only_reads)

    results = [call("tables"), call("migrate")]

    for result in results:
        assert "read-only transaction" in result.stderr
        assert result.stderr.endswith(
            "name the primary, or let its user write (default_transaction_read_only)\n"
        )
    with (
        Metadata.connect(server.set(database=empty)) as metadata,
        metadata.transaction() as tx,
    ):
        schemas = tx.scalars(text("SELECT nspname FROM pg_namespace")).all()
    assert "rat" not in schemas


def test_a_postgres_that_is_not_there_is_named(
    rat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_HOME", str(rat_home))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"postgresql://me:s3cret@127.0.0.1:{port}/rat"
    monkeypatch.setenv("RAT_POSTGRES_URL", url)

    result = call("tables")

    assert f"rat: Postgres at postgresql://me:***@127.0.0.1:{port}/rat" in result.stderr
    assert "see that it runs" in result.stderr
    assert (result.stderr.count("\n"), "s3cret" in result.stderr) == (1, False)


def test_a_newer_schema_is_left_alone(shop: Shop) -> None:
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.schema_migrations SET version_num = '9999_future'"))
    opened.cache_clear()

    results = [call("tables"), call("migrate")]

    for result in results:
        assert result.exit_code == 1
        assert "9999_future" in result.stderr
        assert "update the checkout" in result.stderr


@pytest.fixture
def old_server() -> Iterator[int]:
    """The port of a server that says what Postgres 9.6 says first."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=greet, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]


def greet(listening: socket.socket) -> None:
    """Let everybody in, and say which version this is."""
    said = b"server_version\x009.6.24\x00", b"client_encoding\x00UTF8\x00"
    messages = [(b"R", struct.pack("!i", 0)), *((b"S", each) for each in said)]
    messages += [(b"K", struct.pack("!ii", 1, 1)), (b"Z", b"I")]
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            # Encryption comes as a request of eight bytes; this server has none.
            while len(connection.recv(1024)) == 8:
                connection.sendall(b"N")
            for kind, body in messages:
                connection.sendall(kind + struct.pack("!i", len(body) + 4) + body)
            connection.recv(1024)


def test_a_postgres_that_is_too_old_is_told_so(
    old_server: int, rat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_HOME", str(rat_home))
    url = f"postgresql://me@127.0.0.1:{old_server}/rat"
    monkeypatch.setenv("RAT_POSTGRES_URL", url)

    result = call("tables")

    assert result.stderr == (
        f"rat: Postgres at 127.0.0.1:{old_server} is version 9.6; "
        "upgrade it to 15 or newer, or unset RAT_POSTGRES_URL for the embedded one\n"
    )
