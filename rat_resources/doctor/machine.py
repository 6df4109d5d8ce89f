"""This machine: Python and its packages, disks, ports."""

import importlib.metadata
import os
import platform
import shutil
import socket
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from packaging.requirements import Requirement

from rat_resources.doctor.findings import Finding, Findings, fine, problem, warning
from rat_resources.settings import Settings

PACKAGE = "rat-lakehouse"
GIGABYTE = 1024**3
LITTLE = 5 * GIGABYTE
TOO_LITTLE = GIGABYTE // 2
UI_PORT = 3000


def python(settings: Settings) -> Findings:
    """Whether this Python has what RAT was tried with."""
    del settings
    wrong = unmet(importlib.metadata.requires(PACKAGE) or ())
    for each in wrong:
        yield problem(
            "Python", each, fix="install the locked versions (`make install`)"
        )
    if not wrong:
        version = importlib.metadata.version(PACKAGE)
        what = f"{platform.python_version()}, RAT {version} with the packages that it names"
        yield fine("Python", what)


def unmet(requirements: Iterable[str]) -> list[str]:
    """What a package wants and this Python has not."""
    found = []
    for line in requirements:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{wanted.name} is not installed")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(
                f"{wanted.name} is {version}, RAT wants {wanted.specifier or 'another'}"
            )
    return found


def disks(settings: Settings) -> Findings:
    """Whether the folders of this machine can be written, and have space."""
    home = settings.home
    folders = {"RAT_HOME": home, "spill": home / "spill", "staging": home / "staging"}
    seen: set[int] = set()
    for name, folder in folders.items():
        there = nearest_existing(folder)
        if not os.access(there, os.W_OK | os.X_OK):
            yield problem(
                name,
                f"{there} cannot be written",
                fix=f"let user {os.geteuid()} write there, or set RAT_HOME",
            )
        elif (device := there.stat().st_dev) not in seen:
            seen.add(device)
            yield free_space(name, there)


def free_space(name: str, folder: Path) -> Finding:
    """What is to be said of the space on a folder's disk."""
    free = shutil.disk_usage(folder).free
    what = f"{free / GIGABYTE:.1f} GB free for {folder}"
    fix = "make space, or move RAT_HOME: staged files, spilled queries and logs need it"
    if free < TOO_LITTLE:
        return problem(name, what, fix=fix)
    if free < LITTLE:
        return warning(name, what, fix=fix)
    return fine(name, what)


def nearest_existing(folder: Path) -> Path:
    """*folder*, or the folder in which it would be made."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def ports(settings: Settings, *, port: int = UI_PORT) -> Findings:
    """Whether `rat dev` would find its port free, where it does not run already."""
    if (settings.home / "dev" / "address").is_file():
        yield fine("ports", "`rat dev` serves the UI")
        return
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            what = f"somebody else listens on {port}; `rat dev` takes the next one"
            yield warning("ports", what, fix="say `rat dev --port N`, or end the other")
            return
    yield fine("ports", f"{port} is free for `rat dev`")
