"""Servers that go away in the middle of runs, and come back: runs end clean, or finish."""

import multiprocessing as mp
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Timer
from urllib.parse import urlsplit

import pytest
from sqlalchemy import URL, make_url

from rat_assets.runner import RunReport
from rat_resources.errors import MetadataError
from rat_resources.instance import open_instance
from rat_resources.metadata.landing import ClaimState
from rat_resources.platform import opened, platform
from tests.conftest import administrate, name_rat
from tests.crash.scene import EVENTS, Scene, in_long
from tests.factories import Shop
from tests.hooks import when
from tests.servers import postgres
from tests.servers.nessie import Nessie
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3Server

# Seconds; a lease lasts twenty times as long as they do in the suite.
GONE = float(os.environ.get("RAT_OUTAGE_SECONDS", "1.5"))
S3_IS_ASKED = 15  # seconds, at least
MERGE = b'"isDryRun": false'


# Nessie.


@pytest.fixture
def proxy(nessie: Nessie, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What stands between this RAT and its Nessie."""
    with Proxy.to("127.0.0.1", nessie.port) as proxy:
        monkeypatch.setenv("RAT_NESSIE_URL", f"http://{proxy.address}")
        yield proxy


@pytest.fixture
def scene(proxy: Proxy, request: pytest.FixtureRequest) -> Scene:
    """A shop behind the proxy."""
    del proxy  # it set the environment
    shop: Shop = request.getfixturevalue("shop")
    return Scene.set_up(shop, tables=[EVENTS])


def test_a_run_whose_merge_is_not_answered_has_published_once(
    scene: Scene, proxy: Proxy
) -> None:
    scene.land()

    with when("publish", lambda: proxy.lose_answer(after=MERGE)):
        report = scene.shop.run(EVENTS)

    assert proxy.lost.is_set()
    assert report.succeeded, report.tables[0].error
    assert len(scene.shop.runs()) == 2
    scene.set_right()
    scene.look()


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("branch", marks=in_long),
        pytest.param("write", marks=in_long),
        "publish",
    ],
)
def test_a_run_goes_on_or_ends_clean_when_nessie_was_gone_a_while(
    scene: Scene, proxy: Proxy, phase: str
) -> None:
    scene.land()

    with gone_from(phase, proxy.cut, proxy.open):
        report = scene.shop.run(EVENTS)

    tell(report, phase)
    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


@in_long
@pytest.mark.parametrize("phase", ["branch", "write", "publish"])
def test_a_nessie_that_is_killed_in_the_middle_of_a_run_keeps_everything(
    own_nessie: Nessie, request: pytest.FixtureRequest, phase: str
) -> None:
    shop: Shop = request.getfixturevalue("shop")
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()

    with gone_from(phase, own_nessie.kill, own_nessie.start):
        report = shop.run(EVENTS)

    tell(report, phase)
    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


# S3.


@pytest.fixture
def storage(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """What stands between this RAT and its S3, of which it has everything."""
    where = urlsplit(s3_server.endpoint)
    with Proxy.to(str(where.hostname), int(where.port or 0)) as storage:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{storage.address}")
        monkeypatch.setenv("RAT_STORE", f"s3://{bucket}/store")
        monkeypatch.setenv("RAT_WAREHOUSE", f"s3://{bucket}/warehouse")
        yield storage


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("compile", marks=in_long),
        "write",
        "test",
        pytest.param("publish", marks=in_long),
    ],
)
def test_no_landing_file_is_blamed_for_an_s3_that_is_gone(
    storage: Proxy,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    shop: Shop = request.getfixturevalue("shop")
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()

    with when(phase, storage.cut):
        report = shop.run(EVENTS)
    storage.open()

    print(f"cut in {phase}: {report.tables[0].error or 'published'}")  # noqa: T201
    assert set(shop.claims) == {ClaimState.COMMITTED}
    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


def test_a_landing_file_that_s3_did_not_send_to_its_end_is_read_by_the_next_run(
    storage: Proxy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    shop: Shop = request.getfixturevalue("shop")
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()

    with when("compile", lambda: storage.lose_answer(after=b"0001.csv")):
        report = shop.run(EVENTS)

    assert storage.lost.is_set()
    assert not report.succeeded
    assert shop.claims == [ClaimState.COMMITTED]
    scene.finish(tables=[EVENTS])


@in_long
@pytest.mark.parametrize("phase", ["compile", "write", "test", "publish"])
def test_a_run_goes_on_or_ends_clean_when_s3_was_gone_a_while(
    storage: Proxy, request: pytest.FixtureRequest, phase: str
) -> None:
    shop: Shop = request.getfixturevalue("shop")
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()

    with gone_from(phase, storage.cut, storage.open):
        report = shop.run(EVENTS)

    tell(report, phase)
    assert report.succeeded or GONE > S3_IS_ASKED
    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


# Postgres.


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("branch", marks=in_long),
        "write",
        pytest.param("publish", marks=in_long),
    ],
)
def test_a_run_goes_on_or_ends_clean_when_postgres_was_gone_a_while(
    shop: Shop, phase: str
) -> None:
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()
    url = make_url(os.environ["RAT_POSTGRES_URL"])
    server, name = url.set(database="postgres"), url.database
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    go = [
        # Or a heartbeat is there again before it has another name.
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"{ended} WHERE datname = '{name}'",
        f"ALTER DATABASE {name} RENAME TO {name}_gone",
    ]
    back = [
        f"ALTER DATABASE {name}_gone RENAME TO {name}",
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
    ]

    in_process(phase, partial(tell_all, server, go), partial(tell_all, server, back))

    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


def tell_all(server: URL, statements: Sequence[str]) -> None:
    """Run statements, one after the other."""
    for statement in statements:
        administrate(server, statement)


@pytest.fixture
def own_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresServer]:
    """A Postgres that this test may kill and start again, with a RAT of local files on it."""
    folder = tmp_path / "postgres"
    folder.mkdir()
    own = postgres.start(folder)
    name_rat(monkeypatch, tmp_path / "rat", own.url(own.make_database(postgres.ADMIN)))
    yield own
    opened.cache_clear()
    postgres.stop(folder)


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("branch", marks=in_long),
        pytest.param("write", marks=in_long),
        "publish",
    ],
)
def test_a_postgres_that_is_killed_in_the_middle_of_a_run_keeps_everything(
    own_postgres: PostgresServer, tmp_path: Path, phase: str
) -> None:
    whole = platform()
    with open_instance() as instance:
        shop = Shop(whole, instance, tmp_path / "project")
        scene = Scene.set_up(shop, tables=[EVENTS])
        scene.land()

        in_process(phase, own_postgres.halt, own_postgres.resume)

        scene.set_right()
        scene.look()
        scene.finish(tables=[EVENTS])
    whole.metadata.dispose()


def in_process(
    phase: str, go: Callable[[], object], back: Callable[[], object]
) -> None:
    """Let a process run events whose server goes when it comes to *phase*, and comes back."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=act, args=(dict(os.environ), phase, go, back))
    process.start()
    process.join()
    assert process.exitcode == 0  # whatever became of the run, there are words for it


def act(
    environ: Mapping[str, str],
    phase: str,
    go: Callable[[], object],
    back: Callable[[], object],
) -> None:
    """Be a process whose Postgres goes away when its run comes to *phase*."""
    os.environ.clear()  # the server of forks may be that of another test
    os.environ.update(environ)
    opened.cache_clear()
    whole = platform()
    with open_instance() as instance, gone_from(phase, go, back):
        shop = Shop(whole, instance, whole.settings.home.parent / "project")
        try:
            tell(shop.run(EVENTS), phase)
        except MetadataError as error:
            print(f"gone from {phase} on: {error}", flush=True)  # noqa: T201


# Both.


@contextmanager
def gone_from(
    phase: str, go: Callable[[], object], back: Callable[[], object]
) -> Iterator[None]:
    """Let a server *go* when a run comes to *phase*; it is *back* a while later, and at the end."""
    later = Timer(GONE, back)

    def go_away() -> None:
        go()
        later.start()

    with when(phase, go_away) as heard:
        try:
            yield
        finally:
            assert phase in {each.phase for each in heard}
            later.join()


def tell(report: RunReport, phase: str) -> None:
    """Print how a run ended."""
    (table,) = report.tables
    how = "finished" if report.succeeded else f"ended: {table.error}"
    print(f"gone from {phase} on for {GONE:g} s: {how}", flush=True)  # noqa: T201
