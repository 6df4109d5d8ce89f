"""Store, warehouse and landing zones: whether they can be written and read; and DuckDB, which does."""

import os
import uuid
from pathlib import Path

from rat_resources import landing
from rat_resources.doctor.findings import Findings, fine, problem, warning
from rat_resources.doctor.machine import free_space, nearest_existing
from rat_resources.metadata import Metadata, find_server
from rat_resources.places import Place
from rat_resources.settings import Settings


def store(settings: Settings) -> Findings:
    """What is to be said of the store."""
    yield from place("store", "RAT_STORE", settings.store)


def warehouse(settings: Settings) -> Findings:
    """What is to be said of the warehouse."""
    yield from place("warehouse", "RAT_WAREHOUSE", settings.warehouse)


def place(part: str, variable: str, where: Place) -> Findings:
    """Whether a place can be written and read."""
    if isinstance(where, Path):
        yield from folder(part, variable, where)
        return
    from rat_resources.doctor import bucket  # noqa: PLC0415 - a RAT of local files has none

    yield from bucket.examine(part, where)


def folder(part: str, variable: str, path: Path) -> Findings:
    """Whether a folder of this machine can be written and read; one that is not there yet is made later."""
    there = nearest_existing(path)
    probe = there / f".rat-doctor-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"rat")
        read = probe.read_bytes()
        probe.unlink()
    except OSError as error:
        fix = f"let user {os.geteuid()} write there, or set {variable}"
        yield problem(part, f"{there} cannot be used: {error.strerror}", fix=fix)
        return
    if read == b"rat":
        yield fine(part, f"{path} can be written and read")
    yield free_space(f"{part} disk", there)


def duckdb(settings: Settings) -> Findings:
    """Whether DuckDB runs, and reads S3 itself where there is something to read."""
    import duckdb as engine  # noqa: PLC0415 - a tenth of a second

    with engine.connect() as connection:
        ((threads,),) = connection.sql("SELECT current_setting('threads')").fetchall()
        memory = (
            f"{settings.memory} of memory for each run and query (RAT_MEMORY_LIMIT)"
        )
        yield fine("DuckDB", f"{engine.__version__}, {memory}, {threads} threads")
        if isinstance(settings.warehouse, Path):
            return
        from rat_resources.lake import s3_files  # noqa: PLC0415 - a RAT of local files has none

        if s3_files.let_in(connection):
            yield fine("DuckDB httpfs", "loaded: it reads and writes S3 by itself")
            return
    what = "does not load: rows of S3 go through Arrow, some times slower"
    fix = f"install duckdb-extension-httpfs=={engine.__version__}"
    yield warning("DuckDB httpfs", what, fix=fix)


def zones(settings: Settings) -> Findings:
    """Whether every landing zone can be read."""
    root = settings.store
    if not isinstance(root, Path):
        yield fine("landing zones", f"they lie in {root}")
        return
    with (
        Metadata.connect(find_server(settings)) as metadata,
        metadata.transaction() as tx,
    ):
        found = landing.active_zones(tx)
    unreadable = 0
    for each in found:
        path = root / each.namespace / "landing" / each.name
        if path.exists() and not os.access(path, os.R_OK | os.X_OK):
            unreadable += 1
            fix = f"let user {os.geteuid()} read it"
            yield problem("landing zones", f"{path} cannot be read", fix=fix)
    if not unreadable:
        yield fine("landing zones", f"{len(found)} can be read")
