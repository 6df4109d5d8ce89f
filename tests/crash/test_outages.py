"""Servers that go away in the middle of runs, and come back: runs end clean, or finish."""

import multiprocessing as mp
import os
from collections.abc import Iterator, Mapping
from threading import Timer
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from rat_resources.instance import open_instance
from rat_resources.metadata.landing import ClaimState
from rat_resources.platform import opened, platform
from tests.conftest import administrate
from tests.crash.scene import EVENTS, Scene, in_long
from tests.factories import Shop
from tests.hooks import when
from tests.servers.nessie import Nessie
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3Server

GONE = 1.5  # seconds; a lease would be fine with twenty times as many
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
    back = Timer(GONE, proxy.open)

    def go_away() -> None:
        proxy.cut()
        back.start()

    with when(phase, go_away):
        scene.shop.run(EVENTS)
    back.join()

    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


@in_long
def test_a_nessie_that_is_killed_in_the_middle_of_a_run_keeps_everything(
    own_nessie: Nessie, request: pytest.FixtureRequest
) -> None:
    shop: Shop = request.getfixturevalue("shop")
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()

    with when("publish", own_nessie.restart):
        scene.shop.run(EVENTS)

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
def test_a_run_outlasts_an_s3_that_was_gone_a_while(
    storage: Proxy, request: pytest.FixtureRequest, phase: str
) -> None:
    shop: Shop = request.getfixturevalue("shop")
    scene = Scene.set_up(shop, tables=[EVENTS])
    scene.land()
    back = Timer(GONE, storage.open)

    def go_away() -> None:
        storage.cut()
        back.start()

    with when(phase, go_away):
        report = shop.run(EVENTS)
    back.join()

    assert report.succeeded, report.tables[0].error
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
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=run_without, args=(dict(os.environ), phase))

    process.start()
    process.join()

    scene.set_right()
    scene.look()
    scene.finish(tables=[EVENTS])


def run_without(environ: Mapping[str, str], phase: str) -> None:
    """Be a process whose Postgres goes away when its run comes to *phase*."""
    os.environ.clear()  # the server of forks may be that of another test
    os.environ.update(environ)
    opened.cache_clear()
    whole = platform()
    url = make_url(environ["RAT_POSTGRES_URL"])
    server, name = url.set(database="postgres"), url.database
    back = Timer(
        GONE,
        lambda: administrate(server, f"ALTER DATABASE {name}_gone RENAME TO {name}"),
    )

    def go_away() -> None:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        administrate(server, f"{ended} WHERE datname = '{name}'")
        administrate(server, f"ALTER DATABASE {name} RENAME TO {name}_gone")
        back.start()

    with open_instance() as instance:
        shop = Shop(whole, instance, whole.settings.home.parent / "project")
        with when(phase, go_away):
            try:
                shop.run(EVENTS)
            finally:
                back.join()
