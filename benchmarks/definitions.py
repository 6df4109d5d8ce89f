"""What loading the code location costs with 100, 1,000 and 5,000 published pipelines.

Each load is a process of its own, so that imports and memory count: the code server's (assets,
jobs, sensors, and the snapshot that it sends to the web server and the daemon), a launched
worker's, and `rat run` of one pipeline.
"""

import json
import subprocess
import sys

from benchmarks.paper import Figures, keep, s
from benchmarks.place import RAT, Place, command, own_place, seconds

SIZES = (100, 1000, 5000)
SERVER = """
import json, resource, time
started = time.perf_counter()
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value
import rat_assets.definitions as location
imported = time.perf_counter()
definitions = location.defs()
repository = definitions.get_repository_def()
built = time.perf_counter()
sent = len(serialize_value(RepositorySnap.from_def(repository)))
snapped = time.perf_counter()
print(json.dumps({
    "import": imported - started, "build": built - imported, "snap": snapped - built,
    "sent": sent, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


def main() -> None:
    """Measure, and write the section."""
    rows = []
    with own_place() as place:
        for size in SIZES:
            publish(place, size)
            rows.append(measure(size))
    columns = (
        "pipelines published",
        "load a code location",
        "… imports",
        "… building",
        "… its snapshot",
        "snapshot sent",
        "memory",
        "`rat run` of one",
        "`rat query 'select 1'`",
    )
    keep("definitions", Figures(columns, rows))


def publish(place: Place, size: int) -> None:
    """See that so many pipelines are published, each with a test and every fifth reading another."""
    files = {}
    for n in range(size):
        folder = f"bench/pipelines/gold/m{n}"
        reads = f"SELECT id FROM {{{{ ref('gold.m{n - 1}') }}}}\n" if n % 5 else ""
        files[f"{folder}/pipeline.sql"] = reads or f"SELECT {n} AS id\n"
        files[f"{folder}/tests/quality/id_is_there.sql"] = (
            "SELECT * FROM {{ this }} WHERE id IS NULL\n"
        )
    took = seconds(lambda: command([str(RAT), "publish", str(place.tree(files))]))
    print(f"published {size}: {s(took)}", file=sys.stderr)  # noqa: T201 - how far it is


def measure(size: int) -> tuple[str, ...]:
    """One line of the table."""
    loaded = load()
    whole = loaded["import"] + loaded["build"] + loaded["snap"]
    one = [str(RAT), "run", "bench.gold.m0"]
    command(one)
    return (
        f"{size:,}",
        s(whole),
        s(loaded["import"]),
        s(loaded["build"]),
        s(loaded["snap"]),
        f"{loaded['sent'] / 1e6:.1f} MB",
        f"{loaded['memory'] / 1e6:.0f} MB",
        s(command(one)),
        s(command([str(RAT), "query", "select 1"])),
    )


def load() -> dict[str, float]:
    """Load the code location in a process of its own, as the code server does."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", SERVER], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
