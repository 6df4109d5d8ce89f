"""What steps print is in the store where that is S3, and can be read on another machine."""

import sys
from pathlib import Path
from typing import NoReturn

import pytest
from dagster import DagsterInstance
from dagster._core.storage.compute_log_manager import ComputeIOType

from rat_resources.compute_logs import StoredComputeLogManager
from rat_resources.places import S3Place
from rat_resources.s3_store import S3Store
from rat_resources.settings import Settings

KEY = ["a-run", "compute_logs", "a-step"]


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(S3Place(bucket, "rat"))


def say(manager: StoredComputeLogManager) -> None:
    with manager.capture_logs(KEY):
        sys.stdout.write("out\n")
        sys.stderr.write("err\n")
        sys.stdout.flush()
        sys.stderr.flush()


def test_what_a_step_printed_is_shown_on_another_machine(
    store: S3Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = StoredComputeLogManager(store, str(tmp_path / "here"))
    there = StoredComputeLogManager(store, str(tmp_path / "there"))

    with capfd.disabled():
        say(here)

    shown = there.get_log_data(KEY)
    assert (shown.stdout, shown.stderr) == (b"out\n", b"err\n")
    assert there.is_capture_complete(KEY)
    assert [path for path in (tmp_path / "here").rglob("*") if path.is_file()] == []
    there.delete_logs(prefix=KEY[:1])
    assert store.list() == []


def test_what_an_interrupted_step_printed_is_kept(
    store: S3Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = StoredComputeLogManager(store, str(tmp_path / "here"))
    there = StoredComputeLogManager(store, str(tmp_path / "there"))

    def interrupt() -> NoReturn:
        with here.capture_logs(KEY):
            sys.stdout.write("so far\n")
            sys.stdout.flush()
            raise KeyboardInterrupt

    with capfd.disabled(), pytest.raises(KeyboardInterrupt):
        interrupt()

    assert there.get_log_data(KEY).stdout == b"so far\n"
    assert there.is_capture_complete(KEY)


def test_a_store_that_takes_nothing_stops_no_step(
    bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = S3Store(S3Place(f"{bucket}-not", "rat"))
    manager = StoredComputeLogManager(nowhere, str(tmp_path))

    with capfd.disabled():
        say(manager)

    assert manager.local_path(KEY, ComputeIOType.STDOUT).read_text() == "out\n"


def test_dagster_gets_the_manager_that_the_store_calls_for(
    bucket: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAT_STORE", f"s3://{bucket}/rat")

    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        manager = instance.compute_log_manager

    assert isinstance(manager, StoredComputeLogManager)
    assert str(manager.store.root) == f"s3://{bucket}/rat"
