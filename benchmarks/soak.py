"""Soak: a thousand small runs on a Nessie server and S3-compatible storage, in one process.

Every turn runs two pipelines: one upserts a row, the other makes its table anew of all rows. What
must not grow with the runs is read again and again: the memory, threads and open files of the
process, the connections to Postgres, the branches, and the time that a run takes.

    python -m benchmarks.soak [--runs 1000] [--embedded]
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.paper import Figures, keep, ms
from benchmarks.place import RAT, command, own_place

RUNS = 1000
STAGES = 10
A_TURN = 2  # runs
# Neither table grows: what a run costs must not either.
PIPELINES = {
    "soak/pipelines/bronze/drops/pipeline.sql": """
-- @merge_strategy: incremental
-- @unique_key: id
SELECT epoch('{{ run_started_at }}'::TIMESTAMPTZ)::BIGINT % 10 AS id,
    '{{ run_started_at }}'::TIMESTAMPTZ AS fell_at
""",
    "soak/pipelines/bronze/drops/tests/quality/id_is_unique.sql": (
        "SELECT id FROM {{ this }} GROUP BY id HAVING count(*) > 1\n"
    ),
    "soak/pipelines/silver/level/pipeline.sql": """
SELECT count(*) AS drops, max(fell_at) AS fell_at FROM {{ ref('bronze.drops') }}
""",
}


@dataclass(frozen=True)
class Reading:
    """What a process has at one moment, after so many runs, of which the last took so long."""

    runs: int
    seconds: float  # a run, the median of the stage
    resident: int  # bytes
    files: int
    threads: int
    connections: int
    branches: int

    def row(self) -> tuple[str, ...]:
        """It as a line of the table."""
        return (
            f"{self.runs:,} runs",
            ms(self.seconds),
            f"{self.resident / 1e6:.0f} MB",
            str(self.files),
            str(self.threads),
            str(self.connections),
            str(self.branches),
        )


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--embedded", action="store_true", help="no servers")
    asked = parser.parse_args()
    with own_place() as place:
        stand = nullcontext() if asked.embedded else served(place.folder / "servers")
        with stand:
            command([str(RAT), "publish", str(place.tree(PIPELINES))])
            readings = soak(asked.runs)
    head = (
        "two pipelines, turn by turn",
        "a run",
        "resident",
        "open files",
        "threads",
        "connections",
        "branches",
    )
    figures = Figures(head, [each.row() for each in readings])
    keep("soak_embedded" if asked.embedded else "soak", figures)


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """A Nessie server and S3-compatible storage, which the environment names while they last."""
    from tests.servers import nessie, s3  # noqa: PLC0415 - the embedded one needs none

    before = dict(os.environ)
    try:
        storage = s3.start(folder)
        bucket = storage.make_bucket()
        os.environ |= storage.environ | {
            "RAT_STORE": f"s3://{bucket}/store",
            "RAT_WAREHOUSE": f"s3://{bucket}/warehouse",
        }
        with nessie.running(folder / "nessie") as keeper:
            os.environ["RAT_NESSIE_URL"] = keeper.url
            yield
    finally:
        s3.stop(folder)
        os.environ.clear()
        os.environ |= before


def soak(runs: int) -> list[Reading]:
    """What the process has at the start and after each stage."""
    import dagster as dg  # noqa: PLC0415 - after the environment

    from rat_assets import runner  # noqa: PLC0415
    from rat_assets.runner import RunAsk  # noqa: PLC0415
    from rat_resources.platform import platform  # noqa: PLC0415

    whole = platform()
    ask = RunAsk((), everything=True)
    turns = max(1, runs // STAGES // A_TURN)
    with dg.DagsterInstance.get() as instance:

        def turn() -> float:
            started = perf_counter()
            report = runner.run(whole, ask, instance=instance)
            if not report.succeeded:
                raise SystemExit(str(report))
            return (perf_counter() - started) / A_TURN

        def read(done: int, taken: list[float]) -> Reading:
            return Reading(
                runs=done,
                seconds=median(taken),
                resident=resident(),
                files=entries("/proc/self/fd"),
                threads=entries("/proc/self/task"),
                connections=connections(whole.metadata),
                branches=sum(1 for _ in whole.lake.refs.references()),
            )

        return stages(turn, read, turns=turns)


def stages(
    turn: Callable[[], float],
    read: Callable[[int, list[float]], Reading],
    *,
    turns: int,
) -> list[Reading]:
    """A reading after the first few turns, which import and connect, and after each stage."""
    warm = [turn() for _ in range(5)]
    readings = [read(len(warm) * A_TURN, warm)]
    for stage in range(STAGES):
        taken = [turn() for _ in range(turns)]
        readings.append(read((len(warm) + (stage + 1) * turns) * A_TURN, taken))
        print(*readings[-1].row(), flush=True)  # noqa: T201
    return readings


def entries(folder: str) -> int:
    """How many entries a folder has."""
    return sum(1 for _ in Path(folder).iterdir())


def resident() -> int:
    """The bytes of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def connections(metadata: object) -> int:
    """How many connections the database has."""
    from sqlalchemy import text  # noqa: PLC0415

    from rat_resources.metadata import Metadata  # noqa: PLC0415

    assert isinstance(metadata, Metadata)  # noqa: S101 - for the type
    counted = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    )
    with metadata.transaction() as tx:
        return tx.scalar(counted) or 0


if __name__ == "__main__":
    main()
