"""What mirroring Dagster's log costs: runs told per second, many together and one at a time.

The runs are copies of real ones: a shop's pipeline with three tests, executed once, whose rows in
Dagster's tables and in `rat.runs` are multiplied by SQL under new ids. Told are the run, its step, its
job and its task.
The peer only reads the same runs, by Dagster's own storage: what a mirror in Python would begin with.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from sqlalchemy import text

from benchmarks.paper import Figures, keep
from benchmarks.place import RAT, command, own_place, seconds
from benchmarks.run_overhead import ONE
from rat_resources.instance import open_instance
from rat_resources.metadata import Metadata
from rat_resources.mirror import following, log, positions
from rat_resources.settings import Settings

RUNS = 40_000
ALONE = 200
LOOKS = 50
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
# What RAT itself tells of a run stands by then.
COPY_OURS = """
    INSERT INTO rat.runs
    SELECT copied.*
    FROM copies AS copy
    JOIN rat.runs AS ours ON ours.id = (SELECT id FROM rat.runs ORDER BY created_at LIMIT 1)
    CROSS JOIN LATERAL jsonb_populate_record(
        ours,
        jsonb_build_object('id', gen_random_uuid(), 'dagster_run_id', copy.run_id)
    ) AS copied
    RETURNING id
"""
# As after a rebuild, or at the first look at an old log …
FROM_RUNS = """
    UPDATE rat.mirror_positions
    SET position = CASE feed WHEN 'runs' THEN 0 ELSE latest.id END
    FROM (SELECT max(id) AS id FROM dagster.event_logs) AS latest
"""
# … and as after a time in which nobody read.
FROM_EVENTS = "UPDATE rat.mirror_positions SET position = 0"
LONG_AGO = "UPDATE rat.mirror_positions SET seen_at = now() - interval '1 day'"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def main() -> None:
    """Measure, and write the section."""
    with own_place() as place:
        command([str(RAT), "publish", str(place.tree(ONE))])
        command([str(RAT), "run", "bench.gold.one"])
        with Metadata.open(Settings.load()) as metadata:
            events = multiply(metadata)
            peer = reading(metadata)
            _, first = together(metadata)
            batches, again = together(metadata, of=FROM_EVENTS)
            told = [
                ("told, many together", first),
                ("told again of every event, where nothing changed", again),
                ("told, one at a time", alone(metadata)),
            ]
            figures = Figures(
                (
                    f"{RUNS:,} runs of {events} events",
                    "runs a second",
                    "of processor time",
                    "to the peer",
                ),
                [
                    ("read by Dagster, one at a time", *peer.shown, "1.0"),
                    *(
                        (what, *rate.shown, f"{rate.clock / peer.clock:,.1f}")
                        for what, rate in told
                    ),
                ],
            )
            looks = Figures(
                ("with that log", "p50", "p95"),
                [
                    ("a transaction of the backlog", *shown(batches)),
                    (
                        "a look after one more run, as `rat run` ends",
                        *shown(ending(metadata)),
                    ),
                    ("a look at an idle log", *shown(idling(metadata))),
                ],
            )
    keep("mirror", figures, looks)


def multiply(metadata: Metadata) -> int:
    """Make a log of many runs out of the one run that there is; how many events each has."""
    copy(metadata, runs=RUNS - 1)
    with metadata.transaction() as tx:
        count = tx.scalar(text("SELECT count(*) FROM dagster.event_logs")) or 0
    with metadata.engine.connect() as connection:
        vacuum = connection.execution_options(isolation_level="AUTOCOMMIT")
        vacuum.execute(text("VACUUM ANALYZE"))
    return round(count / RUNS)


def copy(metadata: Metadata, *, runs: int) -> None:
    """Write the one run that there was so many times more."""
    with metadata.transaction() as tx:
        tx.execute(
            text(
                "CREATE TEMPORARY TABLE copies ON COMMIT DROP AS "
                "SELECT number, gen_random_uuid()::text AS run_id "
                f"FROM generate_series(1, {runs}) AS number"
            )
        )
        for statement in (COPY_RUNS, COPY_TAGS, COPY_EVENTS):
            tx.execute(text(statement))
        following.follow_runs(tx, tx.scalars(text(COPY_OURS)).all())


@dataclass(frozen=True)
class Rate:
    """Runs a second."""

    clock: float
    processor: float

    @property
    def shown(self) -> tuple[str, str]:
        """By the clock, and by the processor."""
        return f"{self.clock:,.0f}", f"{self.processor:,.0f}"


def reading(metadata: Metadata) -> Rate:
    """What it takes Dagster to read runs with their events."""
    with open_instance() as instance:
        records = instance.get_run_records(limit=ALONE)
        with spent(metadata) as took:
            for record in records:
                run_id = record.dagster_run.run_id
                instance.get_run_by_id(run_id)
                instance.all_logs(run_id)
    return rate(ALONE, took)


def together(metadata: Metadata, *, of: str = FROM_RUNS) -> tuple[list[float], Rate]:
    """Everything that there is, in transactions of the reader's; seconds of each."""
    progress, batches, is_last = log.Progress(), list[float](), False
    read_to = dict.fromkeys(positions.FEEDS, positions.Place(0, 0))
    with metadata.transaction() as tx:
        tx.execute(text(of))
    with spent(metadata) as took:
        while not is_last:
            began = perf_counter()
            with metadata.transaction() as tx:
                is_last = log.read_on(tx, read_to, late=(), progress=progress)
            batches.append(perf_counter() - began)
    return batches, rate(progress.read, took)


def alone(metadata: Metadata) -> Rate:
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
    return rate(ALONE, took)


def ending(metadata: Metadata) -> list[float]:
    """Seconds of a look each time that one more run has ended, on a log that was read."""
    looks = []
    for _ in range(LOOKS):
        settle(metadata)
        copy(metadata, runs=1)
        looks.append(seconds(lambda: log.catch_up(metadata)))
    return looks


def idling(metadata: Metadata) -> list[float]:
    """Seconds of a look at a log to which nothing came."""
    settle(metadata)
    return [seconds(lambda: log.catch_up(metadata)) for _ in range(ALONE)]


def settle(metadata: Metadata) -> None:
    """Let everything be read, as it is half a minute later: a look settles what was seen before it."""
    for _ in range(2):
        with metadata.transaction() as tx:
            tx.execute(text(LONG_AGO))
        log.catch_up(metadata)


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


def rate(runs: int, took: list[float]) -> Rate:
    """Runs a second, by the clock and by the processor."""
    clock, processor = took
    return Rate(runs / clock, runs / max(processor, 0.01))


def shown(looks: list[float]) -> tuple[str, str]:
    """The middle, and what nineteen in twenty stay below."""
    return (
        f"{median(looks) * 1000:,.1f} ms",
        f"{quantiles(looks, n=20)[-1] * 1000:,.1f} ms",
    )


if __name__ == "__main__":
    main()
