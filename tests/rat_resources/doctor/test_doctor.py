"""The doctor: every part is looked at, whatever is wrong with the others, and each fault has a remedy."""

import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster import DagsterInstance
from dagster._daemon.types import DaemonHeartbeat

from rat_assets.cli import rat
from rat_resources import doctor
from rat_resources.doctor import lake, machine
from rat_resources.doctor.findings import Finding, Findings, Level, compare_clocks
from rat_resources.errors import StoreError
from rat_resources.instance import FRESH_SECONDS, QUEUE_DAEMON
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.metadata import Metadata, addresses, migrations
from rat_resources.settings import Settings
from tests.factories import Shop
from tests.rat_resources.metadata.test_server import needs_pooler
from tests.servers.nessie import Nessie
from tests.servers.postgres import PASSWORD, PostgresServer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def findings(settings: Settings) -> Mapping[str, Finding]:
    """What the doctor says, by part."""
    return {each.part: each for each in doctor.examine(settings)}


def look_at_lake() -> Mapping[str, Finding]:
    """What the doctor says of the keeper of branches that the environment names."""
    found = doctor.look({"lake": lake.keeper}, Settings.load())
    return {each.part: each for each in found}


def levels(settings: Settings) -> Mapping[str, Level]:
    """How well each part is."""
    return {part: each.level for part, each in findings(settings).items()}


def test_a_shop_that_works_has_no_problem(open_shop: Shop) -> None:
    del open_shop

    done = CliRunner().invoke(rat, ["doctor"])

    assert done.exit_code == 0
    assert "0 problems" in done.output
    assert "landing zones" in done.output
    assert "none has been heard of" in done.output  # of the daemon: a warning


@pytest.mark.usefixtures("metadata")
def test_a_program_reads_the_same_as_json() -> None:
    done = CliRunner().invoke(rat, ["doctor", "--json"])

    said = json.loads(done.output)
    assert {each["part"] for each in said} >= {"settings", "Postgres", "warehouse"}
    assert {each["level"] for each in said} <= {"ok", "warning", "problem"}
    assert all(each["fix"] for each in said if each["level"] != "ok")


def test_a_server_that_is_down_hides_no_other_part(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        url = f"postgresql://me:secret@127.0.0.1:{port}/rat"
        monkeypatch.setenv("RAT_POSTGRES_URL", url)

        done = CliRunner().invoke(rat, ["doctor"])
        found = levels(replace(settings, postgres_url=url))

    assert done.exit_code == 1
    assert "see that it runs" in done.output
    assert "secret" not in done.output
    assert found["Postgres"] == Level.PROBLEM
    assert found["warehouse"] == found["DuckDB"] == Level.OK
    assert "daemon" not in found


def test_schemas_that_wait_for_their_upgrade_are_a_problem(
    metadata: Metadata, settings: Settings
) -> None:
    migrations.downgrade(metadata.engine, migrations.revisions()[-2])

    found = findings(settings)["Postgres schemas"]

    assert (found.level, found.fix) == (Level.PROBLEM, "run `rat migrate`")


@needs_pooler
def test_a_pooler_and_tls_are_seen_and_missing_rights_named(
    postgres_server: PostgresServer, settings: Settings
) -> None:
    owner, stranger = postgres_server.make_role(), postgres_server.make_role()
    database = postgres_server.make_database(owner)
    with Metadata.connect(postgres_server.url(database, role=owner)) as metadata:
        migrations.upgrade(metadata.engine)
    direct = postgres_server.url(database, role=stranger)
    pooled = postgres_server.url(database, role=stranger, pooled=True)

    near = findings(replace(settings, postgres_url=addresses.write(direct)))
    far = findings(replace(settings, postgres_url=addresses.write(pooled)))
    lax = pooled.update_query_dict({"sslmode": "require"}).difference_update_query(
        ["sslrootcert"]
    )
    trusting = findings(replace(settings, postgres_url=addresses.write(lax)))

    assert near["Postgres pooler"].what == "none in between"
    assert far["Postgres pooler"].what == "one in between"
    assert far["Postgres TLS"].level == Level.OK
    assert trusting["Postgres TLS"].level == Level.WARNING
    assert f"`rat grant {stranger} --work`" in far["Postgres rights"].fix
    assert all(PASSWORD not in str(each) for each in far.values())


def test_a_place_that_cannot_be_written_is_named_with_its_variable(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAT_WAREHOUSE", str(tmp_path / "file" / "warehouse"))

    found = findings(Settings.load())["warehouse"]

    assert found.level == Level.PROBLEM
    assert "RAT_WAREHOUSE" in found.fix
    assert levels(settings)["store"] == Level.OK


@pytest.mark.parametrize(
    ("age", "level"), [(0, Level.OK), (FRESH_SECONDS + 60, Level.WARNING)]
)
def test_a_daemon_is_running_while_it_is_heard_of(
    instance: DagsterInstance, settings: Settings, *, age: float, level: Level
) -> None:
    beat = DaemonHeartbeat(time.time() - age, QUEUE_DAEMON, "me", [])
    instance.add_daemon_heartbeat(beat)

    assert levels(settings)["daemon"] == level


@pytest.mark.parametrize(
    ("apart", "level"),
    [(-1, Level.OK), (10, Level.WARNING), (-300, Level.PROBLEM)],
)
def test_clocks_may_differ_a_little(apart: float, level: Level) -> None:
    theirs = NOW + timedelta(seconds=apart)

    found = compare_clocks("it", theirs=theirs, ours=NOW)

    assert found.level == level
    assert ("ahead of" if apart > 0 else "behind") in found.what


def test_packages_that_are_not_what_rat_wants_are_named() -> None:
    wanted = ["duckdb<0.1", "no-such-thing", "click", 'dask; extra == "no"']

    said = machine.unmet(wanted)

    assert len(said) == 2
    assert said[0].startswith("duckdb is ")
    assert said[1] == "no-such-thing is not installed"


def test_a_part_that_breaks_or_hangs_is_told_as_that(settings: Settings) -> None:
    for_ever = threading.Event()

    def hang(_settings: Settings) -> Findings:
        for_ever.wait()
        yield from ()

    def fail(_settings: Settings) -> Findings:
        raise StoreError("the bucket is gone", fix="make it")

    def crash(_settings: Settings) -> Findings:
        raise KeyError("x")

    parts = {"one": hang, "two": fail, "three": crash}

    found = doctor.look(parts, settings, patience=0.1)
    for_ever.set()

    assert [each.part for each in found] == [*parts]
    assert [each.level for each in found] == [Level.PROBLEM] * 3
    assert "no answer" in found[0].what
    assert (found[1].what, found[1].fix) == ("the bucket is gone", "make it")
    assert "KeyError" in found[2].what


def test_a_port_that_is_taken_is_told(settings: Settings) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        (found,) = machine.ports(settings, port=port)

    assert found.level == Level.WARNING


def test_a_nessie_server_is_tried_on_branches_of_our_own(
    nessie: Nessie,
) -> None:
    settings = Settings.load()
    assert settings.nessie is not None
    refs = NessieRefs(settings.nessie)
    fresh = look_at_lake()

    refs.bootstrap()
    before = [*refs.references()]
    found = look_at_lake()

    assert fresh["Nessie rights"].level == Level.WARNING

    assert found["Nessie"].what.startswith(nessie.url)
    assert found["Nessie rights"].level == found["Nessie clock"].level == Level.OK
    assert [*refs.references()] == before


def test_a_nessie_server_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAT_NESSIE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RAT_NESSIE_TIMEOUT", "0.1")

    (found,) = doctor.look({"lake": lake.keeper}, Settings.load())

    assert found.level == Level.PROBLEM
    assert "RAT_NESSIE_URL" in found.fix


@needs_pooler
@pytest.mark.usefixtures("nessie")
def test_a_rat_on_servers_has_no_problem(
    postgres_server: PostgresServer,
    bucket: str,
    rat_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    role = postgres_server.make_role()
    database = postgres_server.make_database(role)
    url = postgres_server.url(database, role=role, pooled=True)
    monkeypatch.setenv("RAT_HOME", str(rat_home))
    monkeypatch.setenv("RAT_POSTGRES_URL", addresses.write(url))
    monkeypatch.setenv("RAT_STORE", f"s3://{bucket}/store")
    monkeypatch.setenv("RAT_WAREHOUSE", f"s3://{bucket}/warehouse")

    migrated = CliRunner().invoke(rat, ["migrate"])
    done = CliRunner().invoke(rat, ["doctor"])

    assert migrated.exit_code == 0, migrated.output
    assert done.exit_code == 0, done.output
    for part in (
        "Nessie",
        "Postgres pooler",
        "store clock",
        "DuckDB httpfs",
        "Dagster",
    ):
        assert part in done.output
    assert PASSWORD not in done.output
