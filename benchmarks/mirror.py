"""What mirroring Dagster's log costs: runs told per second, many together and one at a time.

The runs are copies of real ones: a shop's pipeline with three tests, executed once, whose rows in
Dagster's tables are multiplied by SQL under new ids. Told are the run, its step, its job and its task.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from sqlalchemy import text

from benchmarks.paper import Figures, keep
from benchmarks.place import RAT, command, own_place
from benchmarks.run_overhead import ONE
from rat_resources.metadata import Metadata
from rat_resources.mirror import log, positions
from rat_resources.settings import Settings

RUNS = 20_000
ALONE = 200
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

COPY_RUNS = """
    INSERT INTO dagster.runs
        (run_id, snapshot_id, pipeline_name, status, run_body, create_timestamp,
         update_timestamp, start_time, end_time)
    SELECT
        copy.run_id, runs.snapshot_id, pipeline_name, status,
        replace(run_body, runs.run_id, copy.run_id), create_timestamp,
        update_timestamp, start_time, end_time
    FROM copies AS copy
    CROSS JOIN (SELECT * FROM dagster.runs ORDER BY id LIMIT 1) AS runs
"""
COPY_TAGS = """
    INSERT INTO dagster.run_tags (run_id, key, value)
    SELECT copy.run_id, key, value
    FROM copies AS copy
    CROSS JOIN dagster.run_tags AS tags
    WHERE tags.run_id = (SELECT run_id FROM dagster.runs ORDER BY id LIMIT 1)
"""
COPY_EVENTS = """
    INSERT INTO dagster.event_logs
        (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT copy.run_id, replace(event, events.run_id, copy.run_id), dagster_event_type,
           timestamp, step_key, asset_key, partition
    FROM copies AS copy
    CROSS JOIN dagster.event_logs AS events
    WHERE events.run_id = (SELECT run_id FROM dagster.runs ORDER BY id LIMIT 1)
    ORDER BY copy.number, events.id
"""
LONG_AGO = "UPDATE rat.mirror_positions SET seen_at = now() - interval '1 day'"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def main() -> None:
    """Measure, and write the section."""
    with own_place() as place:
        command([str(RAT), "publish", str(place.tree(ONE))])
        command([str(RAT), "run", "bench.gold.one"])
        with Metadata.open(Settings.load()) as metadata:
            events = multiply(metadata)
            figures = Figures(
                (
                    f"{RUNS:,} runs of {events} events",
                    "runs a second",
                    "of processor time",
                ),
                [
                    ("many together", *together(metadata)),
                    ("again, where nothing changed", *together(metadata)),
                    ("one at a time", *alone(metadata)),
                ],
            )
            idle = f"A look at an idle log takes {idling(metadata) * 1000:.1f} ms."
    keep("mirror", figures, idle)


def multiply(metadata: Metadata) -> int:
    """Copy the one run that there is; how many events it has."""
    with metadata.transaction() as tx:
        tx.execute(
            text(
                "CREATE TEMPORARY TABLE copies ON COMMIT DROP AS "
                "SELECT number, gen_random_uuid()::text AS run_id "
                f"FROM generate_series(1, {RUNS - 1}) AS number"
            )
        )
        for statement in (COPY_RUNS, COPY_TAGS, COPY_EVENTS):
            tx.execute(text(statement))
        count = tx.scalar(text("SELECT count(*) FROM dagster.event_logs")) or 0
    with metadata.engine.connect() as connection:
        vacuum = connection.execution_options(isolation_level="AUTOCOMMIT")
        vacuum.execute(text("VACUUM ANALYZE"))
    return round(count / RUNS)


def together(metadata: Metadata) -> tuple[str, str]:
    """Everything that there is, in batches."""
    with metadata.transaction() as tx:
        positions.restart(tx)
    with spent(metadata) as took:
        progress = log.catch_up(metadata)
    return rates(progress.read, took)


def alone(metadata: Metadata) -> tuple[str, str]:
    """A transaction for each run."""
    with metadata.transaction() as tx:
        newest = f"SELECT run_id FROM dagster.runs ORDER BY id DESC LIMIT {ALONE}"
        run_ids = list(tx.scalars(text(newest)))
        for table in ("fact_job_task_run_timeline", "fact_job_run_timeline"):
            tx.execute(
                text(f"DELETE FROM lakeflow.{table} WHERE run_id = ANY(:ids)"),
                {"ids": run_ids},
            )
    with spent(metadata) as took:
        for run_id in run_ids:
            with metadata.transaction() as tx:
                log.tell(tx, [run_id], progress=log.Progress())
    return rates(ALONE, took)


def idling(metadata: Metadata) -> float:
    """Seconds of a look at a log to which nothing came."""
    # A look settles what was seen before it.
    for _ in range(2):
        with metadata.transaction() as tx:
            tx.execute(text(LONG_AGO))
        log.catch_up(metadata)
    with spent(metadata) as took:
        for _ in range(ALONE):
            log.catch_up(metadata)
    return took[0] / ALONE


@contextmanager
def spent(metadata: Metadata) -> Iterator[list[float]]:
    """Seconds on the clock, and of the processor: this process and its Postgres."""
    took: list[float] = []
    clock, processor = perf_counter(), processor_time(metadata)
    yield took
    took += [perf_counter() - clock, processor_time(metadata) - processor]


def processor_time(metadata: Metadata) -> float:
    """Seconds that this process and its sessions of Postgres have computed."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    with metadata.transaction() as tx:
        pids = list(tx.scalars(text(SESSIONS)))
    return own.ru_utime + own.ru_stime + sum(map(seconds_of, pids))


def seconds_of(pid: int) -> float:
    """Seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def rates(runs: int, took: list[float]) -> tuple[str, str]:
    """Runs a second, by the clock and by the processor."""
    clock, processor = took
    return f"{runs / clock:,.0f}", f"{runs / max(processor, 0.01):,.0f}"


if __name__ == "__main__":
    main()
