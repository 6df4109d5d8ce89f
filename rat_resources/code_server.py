"""The code server, that of `rat dev` or of a deployment: where it listens, and how it learns of a release."""

import os
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

from rat_resources.settings import Settings

# macOS allows 103 bytes, Linux 107.
LONGEST_SOCKET_PATH = 103
PROCESSES = Path("/proc")


class Address(TypedDict, total=False):
    """What a client of Dagster's needs to find a server."""

    host: str
    port: int
    socket: str


def socket_path(settings: Settings) -> Path:
    """Where the code server of this RAT_HOME listens; every process computes the same."""
    path = settings.home / "dev" / "code.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = sha256(os.fsencode(settings.home.resolve())).hexdigest()[:12]
    return Path(f"/tmp/rat-dev-{os.geteuid()}-{digest}/code.sock")  # noqa: S108 - `rat dev` makes it private


def reload(settings: Settings) -> bool:
    """Let a running code server load the current release; False when none runs."""
    place = address(settings)
    if place is None:
        return False
    from dagster._core.errors import DagsterUserCodeUnreachableError  # noqa: PLC0415
    from dagster._grpc.client import DagsterGrpcClient  # noqa: PLC0415

    try:
        DagsterGrpcClient(**place).reload_code(timeout=60)
    except DagsterUserCodeUnreachableError:
        return False
    return True


def address(settings: Settings) -> Address | None:
    """Where the code server listens; None when none does."""
    if settings.code_server is not None:
        host, port = settings.code_server
        return Address(host=host, port=port)
    path = socket_path(settings)
    return Address(socket=str(path)) if path.exists() else None


def is_dagster_dev_running() -> bool:
    """Whether somebody seems to run Dagster's own UI on this machine."""
    return any(
        b"dagster-webserver" in command or b"dagster\0dev" in command
        for command in commands()
    )


def commands() -> list[bytes]:
    """The command lines of this user's processes, where the system shows them."""
    lines = []
    for process in PROCESSES.glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.geteuid():
                lines.append((process / "cmdline").read_bytes())
        except OSError:
            continue  # it just ended
    return lines
