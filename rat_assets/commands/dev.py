"""`rat dev`: Dagster's web server and daemon over one code server, for as long as it runs.

    code server   the current release, on a socket where publishing finds it (`code_server`)
    web server    the UI, on this machine alone
    daemon        sensors, schedules and the queue

They write their logs to RAT_HOME/dev. Whatever ends this process ends them too.
"""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from rat_assets import location
from rat_assets.commands.links import graph_path
from rat_assets.commands.opening import open_platform
from rat_resources import code_server
from rat_resources.errors import OperatorError
from rat_resources.metadata.embedded import Place
from rat_resources.platform import Platform
from rat_resources.settings import Settings

HOST = "127.0.0.1"
LAST_PORT = 65535
PATIENCE = 90.0  # seconds until everything answers
GRACE = 10.0  # seconds until what does not end is killed
CODE_GRACE = 1.0  # the proxy of the code server hears no SIGTERM; what it started does
PR_SET_PDEATHSIG = 1
LOG_LINES = 15
WORKSPACE = """\
load_from:
  - grpc_server:
      socket: {socket}
      location_name: rat
"""


@dataclass(frozen=True)
class Child:
    """A process that lives as long as `rat dev` does."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    grace: float

    def refuse_end(self) -> None:
        """OperatorError when it has ended by itself."""
        code = self.process.poll()
        if code is None:
            return
        tail = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        said = "\n".join(["", *tail])
        message = f"the {self.name} ended with code {code}:{said}"
        raise OperatorError(message, fix=f"its log is {self.log}")

    def end(self) -> None:
        """End it and all that it started: politely, then by force."""
        for wanted in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, wanted)
                self.process.wait(self.grace)
            except ProcessLookupError:
                self.process.wait()
                return
            except subprocess.TimeoutExpired:
                continue


def serve(port: int) -> int:
    """Serve the UI until somebody stops it; the exit code."""
    whole = open_platform()
    settings = whole.settings
    folder = settings.home / "dev"
    folder.mkdir(parents=True, exist_ok=True)
    with whole.metadata.transaction() as tx:
        graph = graph_path(tx)
    reconcile_first(whole)
    whole.metadata.dispose()
    stopped = [signal.SIGTERM, signal.SIGHUP]
    before = {each: signal.signal(each, interrupt) for each in stopped}
    try:
        with only_one(folder) as address, ExitStack() as children:
            serve_until_stopped(
                settings, port=port, address=address, children=children, graph=graph
            )
    except KeyboardInterrupt:
        forget_own_daemon(settings)
        click.echo("stopped")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return 0


def reconcile_first(whole: Platform) -> None:
    """Finish or undo what was left open when this RAT was last stopped; the sensor does the rest."""
    from rat_resources.instance import open_instance
    from rat_resources.reconciliation import reconcile

    with open_instance() as instance:
        for line in reconcile(whole, instance):
            click.echo(line)


def forget_own_daemon(settings: Settings) -> None:
    """Let runs that are launched from now on start at once: no daemon would take them up."""
    if settings.postgres_url is None and not Place.of(settings.home).is_ready():
        return  # somebody stopped it, and it shall not start again for this
    from dagster import DagsterInstance

    from rat_resources.instance import forget_daemon

    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        forget_daemon(instance)


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def serve_until_stopped(
    settings: Settings, *, port: int, address: Path, children: ExitStack, graph: str
) -> None:
    """Start the three, say where the UI is, and watch them."""
    folder = address.parent
    code_socket = private_socket(settings)
    workspace = folder / "workspace.yaml"
    workspace.write_text(WORKSPACE.format(socket=code_socket))
    begin = partial(start, settings=settings, folder=folder, children=children)
    code = begin(
        "code server",
        [
            *("dagster", "code-server", "start", "--socket", str(code_socket)),
            *location.find_location(settings.project).get_cli_args(),
            *("--location-name", location.NAME),
        ],
        grace=CODE_GRACE,
    )
    click.echo("starting Dagster …")
    wait_for(lambda: is_serving_code(code_socket), what=[code])
    wanted, port = port, free_port(port)
    if port != wanted:
        click.echo(f"port {wanted} is taken by somebody else; {port} is free")
    web = begin(
        "web server",
        ["dagster_webserver", "-w", str(workspace), "-h", HOST, "-p", str(port)],
    )
    daemon = begin("daemon", ["dagster._daemon", "run", "-w", str(workspace)])
    url = f"http://{HOST}:{port}"
    wait_for(lambda: answers(f"{url}/server_info"), what=[code, web, daemon])
    address.write_text(url)
    click.echo(f"the UI is at {url}; Ctrl-C stops it; its logs are in {folder}")
    click.echo(f"from files to gold: {url}{graph}")
    try:
        while True:
            for child in (code, web, daemon):
                child.refuse_end()
            time.sleep(0.5)
    except KeyboardInterrupt:
        click.echo("\nstopping …")
        raise


# Processes.


def start(
    name: str,
    arguments: Sequence[str],
    *,
    settings: Settings,
    folder: Path,
    children: ExitStack,
    grace: float = GRACE,
) -> Child:
    """Start a module of this Python's as a child."""
    log = folder / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own Python's modules
            [sys.executable, "-m", *arguments],
            cwd=settings.project,
            env=os.environ | settings.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for us; we end them in order.
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509 - no thread runs yet
        )
    child = Child(name, process, log, grace)
    children.callback(child.end)
    return child


def end_with_parent(parent: int) -> None:
    """Let this process end when its parent is gone, however that came.

    What the code server started misses its heartbeats then, and ends within half a minute.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def wait_for(claim: Callable[[], bool], *, what: Sequence[Child]) -> None:
    """Wait until *claim* is true; OperatorError when a child ends or it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not claim():
        for child in what:
            child.refuse_end()
        if time.monotonic() > deadline:
            names = " and ".join(child.name for child in what)
            message = f"the {names} did not answer within {PATIENCE:.0f} s"
            raise OperatorError(message, fix=f"the logs are in {what[0].log.parent}")
        time.sleep(0.1)


# Who answers.


def is_serving_code(path: Path) -> bool:
    """Whether the code server answers."""
    if not path.exists():
        return False
    try:
        DagsterGrpcClient(socket=str(path)).ping("rat")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether the web server answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own
            return bool(response.status == 200)  # noqa: PLR2004 - OK
    except (OSError, urllib.error.URLError):
        return False


def free_port(port: int) -> int:
    """*port*, or the next one that nobody listens on."""
    for candidate in range(port, LAST_PORT + 1):
        with closing(socket.socket()) as probe:
            # What has just been left may be taken; what is in use may not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    message = f"no port from {port} on is free"
    raise OperatorError(message, fix="name another one: rat dev --port N")


def private_socket(settings: Settings) -> Path:
    """Where the code server shall listen, with nothing left there of an earlier one."""
    path = code_server.socket_path(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat(follow_symlinks=False).st_uid != os.geteuid():
        message = f"{path.parent} belongs to somebody else"
        raise OperatorError(message, fix="remove it, or use another RAT_HOME")
    path.unlink(missing_ok=True)
    return path


@contextmanager
def only_one(folder: Path) -> Iterator[Path]:
    """Be the only `rat dev` of this RAT_HOME; the file that tells others its address."""
    address = folder / "address"
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            where = address.read_text() if address.exists() else "it is just starting"
            message = f"`rat dev` is running already for {folder.parent}"
            raise OperatorError(message, fix=f"open {where}") from error
        try:
            yield address
        finally:
            address.unlink(missing_ok=True)
