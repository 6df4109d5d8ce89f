"""What the dashboards cost: every question on a year of 10,000 pipelines and 5 million runs.

Warm: each question again and again, in turns. Cold: the server is restarted and its files are dropped
from the page cache (posix_fadvise) before each. Then the sizes on disk, and what one more run costs
there, alone and a thousand at once. `--scale 0.01` tries it small, and writes nothing. `--keep DIR`
leaves the year in DIR, and measures the one that is there already.
"""

import argparse
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from sqlalchemy import text

from benchmarks import past_runs
from benchmarks.paper import Figures, keep, ms, s
from benchmarks.place import Place, kept_place, own_place, seconds
from rat_resources import mirror
from rat_resources.instance import RatStorage
from rat_resources.metadata import Metadata, embedded
from rat_resources.metadata.health import LOOKUPS, QUESTIONS, Question

WARM, COLD = 10, 2
SINGLE, BATCHES, BATCH = 200, 5, 1000


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    given = parser.parse_args()
    scale: float = given.scale
    with kept_place(given.keep) if given.keep else own_place() as place:
        from rat_resources.platform import platform  # noqa: PLC0415 - after the environment

        metadata = platform().metadata
        RatStorage(metadata.dagster_url).dispose()  # the mirror reads Dagster's tables
        year = past_runs.year(metadata, scale=scale)
        parts: list[Figures | str] = [
            measure_questions(place, metadata, as_of=year.ends_at),
            measure_sizes(metadata),
            measure_inserts(metadata, as_of=year.ends_at),
            f"Making the year took {year.seconds:,.0f} s; its indexes were built afterwards. "
            f"The load average was {os.getloadavg()[2]:.1f} in the last 15 minutes.",
        ]
    if scale == 1:
        keep("dashboards", *parts)
        return
    print(*parts, sep="\n\n")  # noqa: T201 - a try is for the terminal


# Questions.


@dataclass(frozen=True)
class Asked:
    """A question with what it is given."""

    question: Question
    given: Mapping[str, object]

    def ask(self, metadata: Metadata) -> tuple[float, int]:
        """How long it takes, its rows read and thrown away, and how many those are."""
        statement = text(self.question.sql(self.given))
        with metadata.engine.connect() as connection:
            found: list[object] = []
            took = seconds(
                lambda: found.extend(connection.execute(statement, dict(self.given)))
            )
        return took, len(found)


def asked(metadata: Metadata, *, as_of: datetime) -> list[Asked]:
    """Every question; those about one pipeline or client about the busiest."""
    busiest = text("""
        SELECT runs.pipeline_id, pipelines.client_id
        FROM (SELECT pipeline_id FROM chm.runs ORDER BY event_time DESC LIMIT 1000) AS runs
        JOIN chm.pipelines ON pipelines.id = runs.pipeline_id
        GROUP BY 1, 2
        ORDER BY count(*) DESC, 1
        LIMIT 1
    """)
    with metadata.engine.connect() as connection:
        ids = connection.execute(busiest).mappings().one()
    return [
        *(Asked(each, {subject: ids[subject]}) for each, subject in LOOKUPS.items()),
        *(Asked(each, {"as_of": as_of}) for each in QUESTIONS),
    ]


def measure_questions(place: Place, metadata: Metadata, *, as_of: datetime) -> Figures:
    """Every question, warm and cold."""
    questions = asked(metadata, as_of=as_of)
    rows = [each.ask(metadata)[1] for each in questions]
    turns = [[each.ask(metadata)[0] for each in questions] for _ in range(WARM)]
    cold = [
        [each.ask(chilled(place, metadata))[0] for _ in range(COLD)]
        for each in questions
    ]
    columns = ("question", "rows", "warm p50", "warm p95", "cold p50", "cold, worst")
    return Figures(
        columns,
        [
            (
                f"`{each.question.name}`",
                f"{count:,}",
                *(ms(value) for value in points(warm)),
                ms(median(chill)),
                ms(max(chill)),
            )
            for each, count, warm, chill in zip(
                questions, rows, zip(*turns, strict=True), cold, strict=True
            )
        ],
    )


def chilled(place: Place, metadata: Metadata) -> Metadata:
    """The same database when nothing of it is in memory."""
    metadata.engine.dispose()
    embedded.stop(place.home)
    for path in embedded.Place.of(place.home).data.rglob("*"):
        if path.is_file():
            forget(str(path))
    embedded.start(place.home)
    with metadata.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return metadata


def forget(path: str) -> None:
    """Drop a file from the page cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def points(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    hundredths = quantiles(values, n=100, method="inclusive")
    return hundredths[49], hundredths[94]


# Sizes.


def measure_sizes(metadata: Metadata) -> Figures:
    """What the tables take on disk."""
    return Figures(("table", "rows", "table", "indexes"), list(read_sizes(metadata)))


def read_sizes(metadata: Metadata) -> Iterator[tuple[str, ...]]:
    """The rows and the bytes of every large table, and the whole."""
    with metadata.engine.connect() as connection:
        for table in past_runs.TABLES:
            size = text(
                f"SELECT count(*), pg_table_size('{table}'), pg_indexes_size('{table}')"
                f" FROM {table}"
            )
            count, heap, indexes = connection.execute(size).one()
            yield f"`{table}`", f"{count:,}", megabytes(heap), megabytes(indexes)
        whole = text("SELECT pg_database_size(current_database())")
        yield (
            "the whole database",
            "",
            megabytes(connection.execute(whole).scalar_one()),
            "",
        )


def megabytes(size: int) -> str:
    """A size in megabytes."""
    return f"{size / 1e6:,.0f} MB"


# Inserts.


def measure_inserts(metadata: Metadata, *, as_of: datetime) -> Figures:
    """What one more run costs, with its rows in every schema."""
    with metadata.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT id FROM chm.pipelines WHERE origin = 'rat' ORDER BY id LIMIT 1000"
            )
        )
        pipelines = [row.id for row in found]
    added: list[uuid.UUID] = []

    def add_more(some: Sequence[uuid.UUID]) -> None:
        added.extend(add_runs(metadata, some, as_of=as_of))

    alone = [
        seconds(partial(add_more, [pipelines[number % len(pipelines)]]))
        for number in range(SINGLE)
    ]
    batches = [seconds(partial(add_more, pipelines)) for _ in range(BATCHES)]
    remove_runs(metadata, added)
    half, most = points(alone)
    return Figures(
        ("one more run, in `rat.runs` and mirrored", "p50", "p95"),
        [
            ("alone, a transaction each", ms(half), ms(most)),
            (
                f"{len(pipelines):,} at once, in one transaction",
                s(median(batches)),
                f"{len(pipelines) / median(batches):,.0f} a second",
            ),
        ],
    )


def add_runs(
    metadata: Metadata, pipelines: Sequence[uuid.UUID], *, as_of: datetime
) -> list[uuid.UUID]:
    """Write a run that ended of each pipeline, and mirror it; their ids."""
    ids = [uuid.uuid4() for _ in pipelines]
    row = text("""
        INSERT INTO rat.runs (
            id, pipeline_id, status, started_at, finished_at, duration_ms, rows_written,
            rows_total, snapshot_id, created_at
        )
        SELECT id, pipeline_id, 'success', :now, :now, 0, 1, 1, 1, :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:pipelines AS uuid[])) AS each (id, pipeline_id)
    """)
    with metadata.transaction() as tx:
        tx.execute(row, {"ids": ids, "pipelines": list(pipelines), "now": as_of})
        mirror.reflect_runs(tx, ids)
    return ids


def remove_runs(metadata: Metadata, run_ids: Sequence[uuid.UUID]) -> None:
    """Make the year what it was."""
    names = {"ids": [str(each) for each in run_ids]}
    with metadata.transaction() as tx:
        for owner, key in (
            ("lakeflow.fact_pipeline_update_timeline", "update_id = ANY(:ids)"),
            ("chm.runs", "id = ANY(CAST(:ids AS uuid[]))"),
            ("rat.runs", "id = ANY(CAST(:ids AS uuid[]))"),
        ):
            tx.execute(text(f"DELETE FROM {owner} WHERE {key}"), names)


if __name__ == "__main__":
    main()
