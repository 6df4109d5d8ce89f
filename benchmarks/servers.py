"""What servers cost a run: the same small pipeline on what is embedded, on Nessie, on Nessie and S3.

The servers are real and on this machine, so their own work counts, and the way to them does not.
Each place has processes of its own, in turns; a run is that of run_overhead, one row and three tests.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.paper import Figures, keep, ms
from benchmarks.place import PROJECT, RAT, Place, command, forget_cluster
from benchmarks.run_overhead import ONE

ROUNDS = 3
RUNS = 10
CHILD = "measure"
PHASES = ("branch", "compile", "write", "test", "publish")


def main() -> None:
    """Measure, and write the section."""
    if sys.argv[1:] == [CHILD]:
        sys.stdout.write(json.dumps(measure_here()))
        return
    with tempfile.TemporaryDirectory(prefix="rat-benchmark-") as folder:
        found = measure_places(Path(folder))
    names = list(found)
    rows = [
        ("a whole run", *(ms(found[name]["run"]) for name in names)),
        *(
            (f"… of it, phase {phase}", *(ms(found[name][phase]) for name in names))
            for phase in PHASES
        ),
        ("requests to Nessie", *(f"{found[name]['calls']:.0f}" for name in names)),
    ]
    keep("servers", Figures((f"median of {ROUNDS * RUNS}", *names), rows))


def measure_places(folder: Path) -> dict[str, dict[str, float]]:
    """What a run takes in each place."""
    from tests.servers import nessie, s3  # noqa: PLC0415 - the sections that need none

    with ExitStack() as stack:
        storage = s3.start(folder / "s3")
        stack.callback(s3.stop, folder / "s3")
        server = stack.enter_context(nessie.running(folder / "nessie"))
        bucket = storage.make_bucket()
        places = {
            "embedded": {},
            "Nessie": {"RAT_NESSIE_URL": server.url, "RAT_NESSIE_BRANCH": "local"},
            "Nessie + S3": {
                "RAT_NESSIE_URL": server.url,
                "RAT_NESSIE_BRANCH": "far",
                "RAT_STORE": f"s3://{bucket}/store",
                "RAT_WAREHOUSE": f"s3://{bucket}/warehouse",
                **storage.environ,
            },
        }
        homes = {name: Place(folder / f"place{n}") for n, name in enumerate(places)}
        for name, place in homes.items():
            stack.callback(forget, place, places[name])
            use(place, places[name])
            command([str(RAT), "publish", str(place.tree(ONE))])
        rounds = [
            {name: measure(homes[name], places[name]) for name in places}
            for _ in range(ROUNDS)
        ]
    return {
        name: {each: median(turn[name][each] for turn in rounds) for each in first}
        for name, first in rounds[0].items()
    }


def use(place: Place, variables: Mapping[str, str]) -> None:
    """Let the environment name a place and its servers."""
    for name in [each for each in os.environ if each.startswith(("RAT_", "AWS_"))]:
        del os.environ[name]
    os.environ |= {"RAT_HOME": str(place.home), "DAGSTER_HOME": str(PROJECT)}
    os.environ.update(variables)


def measure(place: Place, variables: Mapping[str, str]) -> dict[str, float]:
    """What runs take in a process of their own."""
    use(place, variables)
    done = subprocess.run(  # noqa: S603 - this very script
        [sys.executable, __file__, CHILD], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def forget(place: Place, variables: Mapping[str, str]) -> None:
    """Stop the place's Postgres and remove it."""
    use(place, variables)
    command([str(RAT), "stop"])
    forget_cluster(place.home)


# In a process of its own.


def measure_here() -> dict[str, float]:
    """The medians of some runs in this process."""
    import dagster as dg  # noqa: PLC0415 - after the environment

    from benchmarks.run_overhead import phases  # noqa: PLC0415
    from rat_assets import runner  # noqa: PLC0415
    from rat_assets.runner import RunAsk  # noqa: PLC0415
    from rat_resources.platform import platform  # noqa: PLC0415

    whole = platform()
    calls = count_calls(whole.lake.refs)
    ask = RunAsk(("bench.gold.one",))
    taken = []
    with dg.DagsterInstance.get() as instance:
        runner.run(whole, ask, instance=instance)  # warm
        calls.clear()
        for _ in range(RUNS):
            started = perf_counter()
            if not runner.run(whole, ask, instance=instance).succeeded:
                raise SystemExit("a run failed")
            taken.append(perf_counter() - started)
        found = {"run": median(taken), "calls": calls.total() / RUNS}
        return found | dict(phases(whole))


def count_calls(refs: Any) -> Counter[str]:  # noqa: ANN401 - of any keeper
    """How often a server of branches is asked from now on; never, where there is none."""
    calls: Counter[str] = Counter()
    server = getattr(refs, "server", None)
    if server is not None:
        session = server.session
        request = session.request

        def count(method: str, url: str, **what: Any) -> Any:  # noqa: ANN401
            calls[method] += 1
            return request(method, url, **what)

        session.request = count
    return calls


if __name__ == "__main__":
    main()
