"""What steps print, kept in the store where that is S3: whoever shows it may run elsewhere.

A step's output goes to a local file first and to `_logs/dagster/…` when it ends, and every so often in
between. Where the store is a local folder, Dagster's own manager does (`rat_resources.instance`).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster import DagsterInstance
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.cloud_storage_compute_log_manager import (
    CloudStorageComputeLogManager,
    PollingComputeLogSubscriptionManager,
)
from dagster._core.storage.compute_log_manager import (
    CapturedLogContext,
    CapturedLogSubscription,
    ComputeIOType,
)
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from rat_resources.errors import RatError
from rat_resources.settings import Settings
from rat_resources.store import COMPUTE_LOGS, Store, open_store

INTERVAL = 20  # seconds; who follows a step sees as much of it


class StoredComputeLogManager(
    CloudStorageComputeLogManager[DagsterInstance], ConfigurableClass
):
    """What steps print, in the store."""

    def __init__(
        self,
        store: Store,
        folder: str,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        self.store = store
        self._local = LocalComputeLogManager(folder)
        self._subscriptions = PollingComputeLogSubscriptionManager(self)  # type: ignore[no-untyped-call]
        self._inst_data = inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing: RAT's settings say where the store is."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003 - Dagster's signature
    ) -> Self:
        """The manager that the environment's settings mean."""
        settings = Settings.load()
        folder = f"{settings.home}/dagster/storage"
        return cls(open_store(settings.store), folder, inst_data)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What dagster.yaml said."""
        return self._inst_data

    @property
    def local_manager(self) -> LocalComputeLogManager:
        """Who captures what a step of this process prints."""
        return self._local

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Keep what a step prints, also of one that is interrupted."""
        capture = super().capture_logs(log_key)
        context = capture.__enter__()
        try:
            yield context
        finally:
            # Of an error it would leave its thread at work, and the last lines here.
            capture.__exit__(None, None, None)

    @property
    def upload_interval(self) -> int:
        """How often what there is so far is put into the store."""
        return INTERVAL

    def key(
        self, log_key: Sequence[str], io_type: ComputeIOType, *, partial: bool = False
    ) -> str:
        """Where the output of a step is in the store."""
        end = ".partial" if partial else ""
        return f"{COMPUTE_LOGS}/{'/'.join(log_key)}.{IO_TYPE_EXTENSION[io_type]}{end}"

    def local_path(
        self, log_key: Sequence[str], io_type: ComputeIOType, *, partial: bool = False
    ) -> Path:
        """Where the output of a step is on this machine."""
        extension = IO_TYPE_EXTENSION[io_type]
        return Path(
            self._local.get_captured_local_path(log_key, extension, partial=partial)
        )

    def display_path_for_type(
        self, log_key: Sequence[str], io_type: ComputeIOType
    ) -> str:
        """Where people find it."""
        return f"{self.store.root}/{self.key(log_key, io_type)}"

    def download_url_for_type(
        self, log_key: Sequence[str], io_type: ComputeIOType
    ) -> str | None:
        """None: who may read the bucket is not for a URL to decide."""
        del log_key, io_type
        return None

    def cloud_storage_has_logs(
        self,
        log_key: Sequence[str],
        io_type: ComputeIOType,
        partial: bool = False,  # noqa: FBT001, FBT002 - Dagster's signature
    ) -> bool:
        """Whether the store has it."""
        return self.store.exists(self.key(log_key, io_type, partial=partial))

    def upload_to_cloud_storage(
        self,
        log_key: Sequence[str],
        io_type: ComputeIOType,
        partial: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Put what there is into the store."""
        path = self.local_path(log_key, io_type)
        content = path.read_bytes() if path.is_file() else b""
        # That a step has ended is told by what it printed to its errors.
        if content or io_type is ComputeIOType.STDERR:
            self.store.write(self.key(log_key, io_type, partial=partial), content)

    def download_from_cloud_storage(
        self,
        log_key: Sequence[str],
        io_type: ComputeIOType,
        partial: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Get what the store has, to be shown."""
        path = self.local_path(log_key, io_type, partial=partial)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.store.read(self.key(log_key, io_type, partial=partial)))

    def delete_logs(
        self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None
    ) -> None:
        """Forget what one step printed, or all below *prefix*."""
        self._local.delete_logs(log_key=log_key, prefix=prefix)
        if log_key:
            for io_type in ComputeIOType:
                for partial in (False, True):
                    self.store.delete(self.key(log_key, io_type, partial=partial))
        elif prefix:
            for key in self.store.list(f"{COMPUTE_LOGS}/{'/'.join(prefix)}"):
                self.store.delete(key)

    def on_progress(self, log_key: Sequence[str]) -> None:
        """Put what there is so far into the store, where it takes it."""
        try:
            super().on_progress(log_key)  # type: ignore[no-untyped-call]
        except RatError as error:
            sys.stderr.write(f"what is printed is not kept for now: {error}\n")

    def _on_capture_complete(self, log_key: Sequence[str]) -> None:
        # What a step printed is no reason for it to fail; it stays here then.
        try:
            super()._on_capture_complete(log_key)
        except RatError as error:
            sys.stderr.write(f"what was printed is kept on this machine: {error}\n")

    def on_subscribe(self, subscription: CapturedLogSubscription) -> None:
        """Tell somebody what is printed from now on."""
        self._subscriptions.add_subscription(subscription)

    def on_unsubscribe(self, subscription: CapturedLogSubscription) -> None:
        """Tell them no more."""
        self._subscriptions.remove_subscription(subscription)

    def dispose(self) -> None:
        """End what runs in the background."""
        self._subscriptions.dispose()
        super().dispose()  # type: ignore[no-untyped-call]
