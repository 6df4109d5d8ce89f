"""A Nessie server: whether it answers, and lets us do on branches what a run does."""

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from rat_resources.doctor.findings import (
    Finding,
    Findings,
    compare_clocks,
    fine,
    problem,
    warning,
)
from rat_resources.errors import NotFoundError, RatError
from rat_resources.lake.asides import name_aside
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.lake.refs import MAIN, Unchanged
from rat_resources.nessie_settings import UNCHECKED, NessieSettings

PART = "Nessie"
TIMEOUT = 5.0  # seconds


def server(settings: NessieSettings) -> Findings:
    """What is to be said of the server of *settings*."""
    refs = NessieRefs(replace(settings, timeout=min(TIMEOUT, settings.timeout)))
    yield reached(refs, settings)
    yield encryption(settings)
    try:
        main = refs.reference(MAIN)
    except NotFoundError:
        what = f"the branch {settings.branch} is not there yet"
        yield warning(f"{PART} rights", what, fix="the first command makes it")
        return
    if main.hash == refs.root:
        what = f"the branch {settings.branch} is empty"
        yield warning(f"{PART} rights", what, fix="the first command commits to it")
        return
    yield from rights(refs)


def reached(refs: NessieRefs, settings: NessieSettings) -> Finding:
    """Where the server is, and what it speaks."""
    began = time.perf_counter()
    said = refs.server.check()
    took = 1000 * (time.perf_counter() - began)
    version = said.get("specVersion", said["maxSupportedApiVersion"])
    what = f"{settings.url}, branch {settings.branch}, API {version}, answered in {took:.0f} ms"
    return fine(PART, what)


def encryption(settings: NessieSettings) -> Finding:
    """Whether somebody on the way can read along."""
    part = f"{PART} TLS"
    local = settings.url.startswith(("http://localhost", "http://127.0.0.1"))
    if settings.ca == UNCHECKED:
        what = "encrypted, but any server is taken for the right one"
        return warning(part, what, fix="set RAT_NESSIE_CA to its authority's file")
    if settings.url.startswith("https://"):
        return fine(part, "encrypted, and the server's certificate is verified")
    if local:
        return fine(part, "none is needed: it is on this machine")
    what = "what goes to Nessie and back is not encrypted"
    return warning(part, what, fix="write RAT_NESSIE_URL=https://…")


def rights(refs: NessieRefs) -> Findings:
    """Whether we may do on branches what a run does; the probe leaves nothing, and main alone."""
    part = f"{PART} rights"
    name = name_aside("doctor", id=uuid.uuid4())
    doing = "make a branch"
    made: list[str] = []
    try:
        for each in (name, f"{name}-target"):
            refs.create(each)
            made.append(each)
        doing = "commit to a branch"
        before = datetime.now(UTC)
        commit = refs.commit(
            name, [Unchanged(("rat",))], message="Look whether RAT may commit"
        )
        ours = before + (datetime.now(UTC) - before) / 2
        doing = "merge a branch"
        refs.merge(name, from_hash=commit.hash, into=f"{name}-target")
        refs.merge(name, from_hash=commit.hash, dry_run=True)
        (theirs,) = (each.time for each in refs.history(f"@{commit.hash}", limit=1))
        doing = "delete a branch"
        for each in tuple(made):
            refs.delete(each, expected_hash=refs.head(each))
            made.remove(each)
    except RatError as error:
        yield problem(part, f"we may not {doing}: {error.message}", fix=error.fix)
    else:
        yield fine(part, "makes, commits to, merges and deletes branches")
        yield compare_clocks(f"{PART} clock", theirs=theirs, ours=ours)
    finally:
        forget(refs, made)


def forget(refs: NessieRefs, names: list[str]) -> None:
    """Delete the branches of a probe that went wrong, where that is possible."""
    for each in names:
        try:
            refs.delete(each, expected_hash=refs.head(each))
        except RatError:
            continue
