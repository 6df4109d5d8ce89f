"""The Postgres that starts itself: found, shared, recovered, stopped."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from rat_resources.errors import MetadataError
from rat_resources.metadata import embedded

START = "import sys, pathlib; from rat_resources.metadata import embedded; "
START += "print(embedded.start(pathlib.Path(sys.argv[1])).pid())"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A RAT_HOME with an awkward name, whose server is gone after the test."""
    home = tmp_path / "Räder, 'rollen\" & $so"
    yield home
    remove(home)


def remove(home: Path) -> None:
    """Stop the server of a home and remove its data."""
    embedded.stop(home)
    if home.is_dir():
        shutil.rmtree(embedded.Place.of(home).folder, ignore_errors=True)


def ask(place: embedded.Place, question: str) -> object:
    """The first value that the server answers."""
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        found = connection.execute(question)
        row = found.fetchone() if found.description else None
        return row and row[0]


def kill(place: embedded.Place) -> None:
    """Kill the server as a crash would, and wait until every process of it is gone."""
    pid = place.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    alive = place.folder / "alive.lock"
    assert embedded.await_true(lambda: not embedded.is_held(alive), seconds=30)


def test_a_server_outlives_the_process_that_started_it(home: Path) -> None:
    pid = int(subprocess.check_output([sys.executable, "-c", START, str(home)]))

    place = embedded.start(home)

    assert place.pid() == pid
    assert ask(place, "SELECT current_database()") == "rat"
    assert os.getsid(pid) != os.getsid(0)


def test_many_starts_at_once_are_one_server(home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        command = [sys.executable, "-c", START, str(home)]
        pids = set(pool.map(lambda _: subprocess.check_output(command), range(4)))

    assert len(pids) == 1


def test_psql_takes_the_dsn(home: Path) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("no psql here")

    dsn = embedded.start(home).dsn
    said = subprocess.check_output([psql, dsn, "-Atc", "SELECT 6 * 7"], text=True)

    assert said == "42\n"


def test_nobody_else_gets_to_the_data_or_the_socket(home: Path) -> None:
    home.mkdir(mode=0o700)
    place = embedded.start(home)

    for folder in (place.data, place.sockets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert ask(place, "SHOW listen_addresses") == ""


def test_stop_is_clean_and_may_be_said_twice(home: Path) -> None:
    place = embedded.start(home)

    stopped = [embedded.stop(home), embedded.stop(home)]

    assert stopped == [True, False]
    assert not place.is_ready()
    assert "database system is shut down" in place.log.read_text()


def test_a_home_that_never_had_a_server_has_none_to_stop(tmp_path: Path) -> None:
    stopped = embedded.stop(tmp_path / "never")

    assert not stopped
    assert not (tmp_path / "never").exists()


def test_a_stopped_server_comes_back_with_its_data(home: Path) -> None:
    ask(embedded.start(home), "CREATE TABLE kept AS SELECT 7 AS seven")
    embedded.stop(home)

    place = embedded.start(home)

    assert ask(place, "SELECT seven FROM kept") == 7


def test_a_killed_server_recovers_by_itself(home: Path) -> None:
    place = embedded.start(home)
    ask(place, "CREATE TABLE kept AS SELECT 7 AS seven")
    kill(place)

    again = embedded.start(home)

    assert ask(again, "SELECT seven FROM kept") == 7


def test_a_number_that_another_process_has_now_is_no_server(home: Path) -> None:
    place = embedded.start(home)
    kill(place)
    for path in (place.data / "postmaster.pid", embedded.lock_file(place.sockets)):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    again = embedded.start(home)

    assert ask(again, "SELECT 1") == 1


def test_a_server_that_nobody_can_reach_is_replaced(home: Path) -> None:
    place = embedded.start(home)
    deaf = place.pid()
    embedded.socket_file(place.sockets).unlink()

    again = embedded.start(home)

    assert again.pid() != deaf
    assert ask(again, "SELECT 1") == 1


def test_a_half_made_cluster_is_made_again(home: Path) -> None:
    place = embedded.Place.of(home)
    half = place.folder / "data.new-crashed"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    embedded.start(home)

    assert not half.exists()
    assert ask(place, "SELECT 1") == 1


def test_two_homes_never_meet(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ask(embedded.start(home), "CREATE TABLE mine AS SELECT 1")

    found = ask(embedded.start(other), "SELECT to_regclass('mine')")
    remove(other)

    assert found is None


def test_a_home_that_was_removed_takes_its_database_with_it(home: Path) -> None:
    first = embedded.start(home)
    ask(first, "CREATE TABLE gone AS SELECT 1")
    embedded.stop(home)
    shutil.rmtree(home)

    second = embedded.start(home)

    assert ask(second, "SELECT to_regclass('gone')") is None
    if embedded.is_root():
        shutil.rmtree(first.folder)


def test_a_home_with_a_long_path_has_a_short_socket(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*["a-rather-long-name"] * 6)

    place = embedded.start(home)
    answer = ask(place, "SELECT 1")
    remove(home)

    assert answer == 1
    assert not place.sockets.exists()


def test_another_postgress_data_is_refused(home: Path) -> None:
    place = embedded.start(home)
    embedded.stop(home)
    (place.data / "PG_VERSION").write_text("15\n")

    with pytest.raises(MetadataError, match="made by Postgres 15"):
        embedded.start(home)


def test_a_server_that_cannot_start_says_what_its_log_says(home: Path) -> None:
    place = embedded.start(home)
    embedded.stop(home)
    (place.data / "postgresql.conf").write_text("nonsense = 1\n")

    with pytest.raises(MetadataError, match='parameter "nonsense"') as caught:
        embedded.start(home)

    assert str(place.log) in caught.value.fix


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(
        MetadataError, match=r"file/home cannot be used.*RAT_POSTGRES_URL"
    ):
        embedded.start(tmp_path / "file" / "home")


def test_a_folder_of_somebody_else_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(MetadataError, match="belongs to user"):
        embedded.private_folder(tmp_path)


def test_a_long_log_is_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = embedded.start(home)
    embedded.stop(home)
    monkeypatch.setattr(embedded, "LOG_LIMIT", 10)

    embedded.start(home)

    assert "shut down" in place.log.with_suffix(".log.1").read_text()
