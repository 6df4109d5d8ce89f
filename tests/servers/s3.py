"""S3-compatible storage for tests: moto's server, in a process of its own, all in memory.

`python -m tests.servers.s3 FOLDER` runs it until it is told to end or FOLDER is gone, and writes where
it listens to FOLDER/s3.json once it does.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import boto3
from botocore.config import Config

from rat_resources.metadata.embedded import await_true, locked

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds
ADDRESS = "s3.json"
KEY = "rat-tests"
SECRET = "rat-tests-secret"  # noqa: S105 - the server takes any
REGION = "us-east-1"
# Python warns of a child that nobody holds any more.
CHILDREN: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class S3Server:
    """One server that answers."""

    pid: int
    endpoint: str

    @property
    def environ(self) -> dict[str, str]:
        """What a client needs in its environment to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # Nobody asks a cloud's metadata service who this machine is.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def pause(self) -> None:
        """Let it answer nothing: connections are taken, and wait."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer everything that has waited."""
        os.kill(self.pid, signal.SIGCONT)

    def client(self) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """A client of its own, whatever the environment says."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )

    def make_bucket(self, *, versioned: bool = True) -> str:
        """The name of a new bucket."""
        name = f"rat-{uuid.uuid4().hex}"
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": "Enabled"}
            )
        return name


def start(folder: Path) -> S3Server:
    """The server of *folder*: whoever comes first starts it."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "s3.lock"):
        if found := running(folder):
            return found
        with (folder / "s3.log").open("ab") as log:
            # One worker starts it for all: it must not end with that worker's group.
            child = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(folder)],
                cwd=PROJECT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        CHILDREN.append(child)
        if not await_true(
            lambda: child.poll() is not None or is_up(folder), seconds=PATIENCE
        ):
            child.kill()
        found = running(folder)
        if found is None:
            said = (folder / "s3.log").read_text(errors="replace")
            message = f"the S3 server does not start: {said[-2000:]}"
            raise RuntimeError(message)
        return found


def stop(folder: Path) -> None:
    """End the server of *folder*, if it has one."""
    found = running(folder)
    (folder / ADDRESS).unlink(missing_ok=True)
    if found is None:
        return
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGKILL)
    for child in CHILDREN:
        if child.pid == found.pid:
            child.wait()


def running(folder: Path) -> S3Server | None:
    """The server of *folder*; None when it has none that lives."""
    if not is_up(folder):
        return None
    found = S3Server(**json.loads((folder / ADDRESS).read_text()))
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return None
    return found


def is_up(folder: Path) -> bool:
    """Whether the server has said where it listens."""
    return (folder / ADDRESS).is_file()


def serve(folder: Path) -> None:
    """Run the server until somebody ends it, or its folder."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - a second, for the server only
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    Thread(target=server.serve_forever, daemon=True).start()
    here = S3Server(os.getpid(), f"http://127.0.0.1:{server.server_port}")
    draft = folder / f"{ADDRESS}.new"
    draft.write_text(json.dumps(asdict(here)))
    draft.rename(folder / ADDRESS)
    pause = Event()
    while folder.is_dir():
        pause.wait(1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
