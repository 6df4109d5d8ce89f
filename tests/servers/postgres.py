"""A company's Postgres for tests: on TCP, by password; and pgbouncer before it, only with TLS.

The server is the wheel's, which is built without TLS; pgbouncer is Debian's package. The pooler is in
transaction mode with fewer connections than its clients have, and refuses every startup parameter
that it does not know.
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import URL

from rat_resources.metadata import addresses, embedded
from tests.servers import certificates

ADDRESS = "postgres.json"
ADMIN = "postgres"
# As a generator of passwords makes them, and people paste them.
PASSWORD: LiteralString = "p@ss/w:rd%?#"  # noqa: S105 - a server of tests
POOL = 3  # connections to the server for each database and role
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

RULES = "host all all 127.0.0.1/32 scram-sha-256\n"
PARAMETERS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "fsync": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
}
POOLER = """\
[databases]
* = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {pooler}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200
auth_type = scram-sha-256
auth_file = {folder}/users
client_tls_sslmode = require
client_tls_key_file = {folder}/server.key
client_tls_cert_file = {folder}/server.pem
pidfile = {folder}/pgbouncer.pid
logfile = {folder}/pgbouncer.log
"""


@dataclass(frozen=True)
class PostgresServer:
    """One server that answers, and its pooler."""

    folder: str
    port: int
    pooler: int | None  # its port; None where the machine has no pgbouncer

    @property
    def ca(self) -> Path:
        """The authority that vouches for the pooler."""
        return Path(self.folder) / "ca.pem"

    def url(self, database: str, *, role: str = ADMIN, pooled: bool = False) -> URL:
        """Where a database is, with everything that a client must say."""
        tls = {"sslmode": "verify-full", "sslrootcert": str(self.ca)}
        return URL.create(
            "postgresql",
            username=role,
            password=PASSWORD,
            host="localhost",
            port=self.pooler if pooled else self.port,
            database=database,
            query=tls if pooled else {},
        )

    def administrate(
        self, statement: LiteralString, *names: str, database: str = "postgres"
    ) -> None:
        """Run a statement as the administrator; each {} in it is the next of *names*."""
        quoted = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(addresses.write(self.url(database))) as connection:
            connection.autocommit = True
            connection.execute(quoted)

    def make_role(self) -> str:
        """A new role that may log in, here and at the pooler, and nothing else."""
        role = f"role_{uuid.uuid4().hex[:12]}"
        self.administrate(f"CREATE ROLE {{}} LOGIN PASSWORD '{PASSWORD}'", role)
        with embedded.locked(Path(self.folder) / "users.lock"):
            users = Path(self.folder) / "users"
            users.write_text(f'{users.read_text()}"{role}" "{PASSWORD}"\n')
        self.reload_pooler()
        return role

    def make_database(self, owner: str) -> str:
        """A new, empty database that belongs to *owner*."""
        name = f"rat_{uuid.uuid4().hex[:12]}"
        self.administrate("CREATE DATABASE {} OWNER {}", name, owner)
        return name

    def reload_pooler(self) -> None:
        """Let the pooler read its users again."""
        if self.pooler is not None:
            with psycopg.connect(
                host="localhost",
                port=self.pooler,
                dbname="pgbouncer",
                user=ADMIN,
                password=PASSWORD,
                autocommit=True,
            ) as connection:
                connection.pgconn.exec_(b"RELOAD")

    def restart(self) -> None:
        """Stop it under its clients, and start it again."""
        control(Path(self.folder), "restart", "-m", "immediate")

    def halt(self) -> None:
        """Stop it under its clients."""
        control(Path(self.folder), "stop", "-m", "immediate")

    def resume(self) -> None:
        """Start it again."""
        control(Path(self.folder), "start")


def start(home: Path) -> PostgresServer:
    """The server of *home*: whoever comes first starts it."""
    address = home / ADDRESS
    with embedded.locked(home / "postgres.lock"):
        if not address.is_file():
            made = create()
            address.write_text(json.dumps(asdict(made)))
        return PostgresServer(**json.loads(address.read_text()))


def stop(home: Path) -> None:
    """End the server of *home* and its pooler, and remove their files."""
    address = home / ADDRESS
    if not address.is_file():
        return
    made = PostgresServer(**json.loads(address.read_text()))
    folder = Path(made.folder)
    pid = embedded.first_number(folder / "pgbouncer.pid")
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    control(folder, "stop", "-m", "immediate", check=False)
    shutil.rmtree(folder)
    address.unlink()


def create() -> PostgresServer:
    """A new server with a pooler, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="rat-postgres-"))
    certificates.make(folder)
    (folder / "password").write_text(PASSWORD)
    own(folder)
    tool(
        "initdb",
        *("-D", f"{folder}/data", "-U", ADMIN, "--auth=scram-sha-256", "--no-sync"),
        *("--encoding=UTF8", "--locale=C", f"--pwfile={folder}/password"),
    )
    (folder / "data" / "pg_hba.conf").write_text(RULES)
    made = PostgresServer(str(folder), free_port(), free_port() if PGBOUNCER else None)
    given = PARAMETERS | {"port": str(made.port)}
    lines = [f"{name} = '{value}'\n" for name, value in given.items()]
    (folder / "data" / "postgresql.conf").write_text("".join(lines))
    made.resume()
    if made.pooler is not None:
        start_pooler(made)
    return made


def start_pooler(made: PostgresServer) -> None:
    """Start pgbouncer before a server."""
    folder = Path(made.folder)
    (folder / "users").write_text(f'"{ADMIN}" "{PASSWORD}"\n')
    written = POOLER.format(
        port=made.port, pooler=made.pooler, pool=POOL, folder=folder
    )
    (folder / "pgbouncer.ini").write_text(f"{written}admin_users = {ADMIN}\n")
    own(folder)
    run(str(PGBOUNCER), "-d", f"{folder}/pgbouncer.ini")
    # It has forked by now and may not listen yet.
    if not embedded.await_true(lambda: listens(made.pooler), seconds=30):
        raise RuntimeError((folder / "pgbouncer.log").read_text())


def control(folder: Path, *words: str, check: bool = True) -> None:
    """Start or stop the server of *folder*, and wait until it has."""
    tool(
        "pg_ctl",
        *("-D", f"{folder}/data", "-l", f"{folder}/server.log", "-w", "-s", *words),
        check=check,
    )


def tool(name: str, *words: str, check: bool = True) -> None:
    """Run one of Postgres's own programs."""
    binaries = (
        embedded.install_binaries()
        if embedded.is_root()
        else embedded.wheel_folder() / "bin"
    )
    run(str(binaries / name), *words, check=check)


def run(*command: str, check: bool = True) -> None:
    """Run a program as an account that may serve."""
    done = subprocess.run(
        command,
        check=False,
        cwd="/",
        env=embedded.server_environment(),
        stdin=subprocess.DEVNULL,
        # A server that is left behind would hold a pipe open.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **embedded.run_as(account()),
    )
    if check and done.returncode != 0:
        message = f"{' '.join(command)} ended with {done.returncode}"
        raise RuntimeError(message)


def account() -> pwd.struct_passwd | None:
    """The account that serves root; None: our own."""
    if not embedded.is_root():
        return None
    embedded.private_folder(embedded.ROOT_FOLDER)
    return embedded.find_account(embedded.ACCOUNT) or embedded.create_account()


def own(folder: Path) -> None:
    """Give a folder and what is in it to the account that serves."""
    for path in (folder, *folder.iterdir()):
        embedded.own(path, account())


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int | None) -> bool:
    """Whether somebody listens on a port."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
