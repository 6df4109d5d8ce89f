"""The latest run of each pipeline: what triggers keep is what the runs say, whatever is done to them."""

import random
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.metadata import Metadata
from rat_resources.metadata.chm import Client, Pipeline

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
MOMENTS = [NOON + timedelta(hours=each) for each in range(6)]
# As the questions were defined: the index is searched for each pipeline.
LATEST = """
    SELECT pipelines.name, latest.id, latest.status
    FROM chm.pipelines
    LEFT JOIN LATERAL (
        SELECT * FROM chm.runs
        WHERE pipeline_id = pipelines.id AND COALESCE(started_at, created_at) <= :as_of
        ORDER BY started_at DESC NULLS LAST, finished_at DESC NULLS LAST, id DESC
        LIMIT 1
    ) AS latest ON true
    ORDER BY 1
"""
SUCCESS = """
    SELECT pipelines.name, latest.event_time
    FROM chm.pipelines
    LEFT JOIN LATERAL (
        SELECT * FROM chm.runs
        WHERE pipeline_id = pipelines.id AND status = 'success' AND event_time <= :as_of
        ORDER BY started_at DESC NULLS LAST, event_time DESC
        LIMIT 1
    ) AS latest ON true
    ORDER BY 1
"""


def make_pipelines(tx: Session, count: int = 4) -> list[uuid.UUID]:
    """Pipelines of one client, in the order of their names."""
    client = Client(name="acme")
    tx.add(client)
    tx.flush()
    rows = [
        Pipeline(
            client_id=client.id,
            name=f"p{each}",
            platform="cron",
            pipeline_type="export",
        )
        for each in range(count)
    ]
    tx.add_all(rows)
    tx.flush()
    return [row.id for row in rows]


def rows(tx: Session, sql: str, **values: object) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return [tuple(row) for row in tx.execute(text(sql), values)]


def change(tx: Session, chance: random.Random, pipelines: Sequence[uuid.UUID]) -> None:
    """Do something to a few runs at once: mostly insert, often update, sometimes delete."""
    deed = chance.choice(["insert", "insert", "update", "upsert", "move", "delete"])
    if deed == "delete":
        tx.execute(text("DELETE FROM chm.runs WHERE random() < 0.3"))
        return
    if deed == "move":
        tx.execute(
            text("""
                UPDATE chm.runs SET pipeline_id = :id
                WHERE length(external_run_id) > 1 AND random() < 0.2
            """),
            {"id": chance.choice(pipelines)},
        )
        return
    statement = {
        "update": """
            UPDATE chm.runs SET started_at = :started, finished_at = :finished
            WHERE pipeline_id = :pipeline AND random() < 0.5
        """,
        "insert": """
            INSERT INTO chm.runs (pipeline_id, external_run_id, status, started_at, finished_at, created_at)
            VALUES (:pipeline, gen_random_uuid()::text, :status, :started, :finished, :created)
        """,
        "upsert": """
            INSERT INTO chm.runs (pipeline_id, external_run_id, status, started_at, finished_at, created_at)
            SELECT id, :key, :status, :started, :finished, :created FROM chm.pipelines
            ON CONFLICT (pipeline_id, external_run_id) DO UPDATE SET
                status = excluded.status, finished_at = excluded.finished_at
            WHERE runs.status = 'running'
        """,
    }[deed]
    tx.execute(
        text(statement),
        {
            "pipeline": chance.choice(pipelines),
            "key": str(chance.randrange(3)),
            "status": chance.choice(["running", "success", "success", "failed"]),
            "started": chance.choice([None, *MOMENTS]),
            "finished": chance.choice([None, *MOMENTS]),
            "created": chance.choice(MOMENTS),
        },
    )


def kept(tx: Session, source: str = "chm.latest_runs") -> list[tuple[Any, ...]]:
    """The latest of each pipeline; of successes that are it alike, no matter which."""
    return rows(
        tx,
        f"""
            SELECT
                pipeline_id, succeeded, started_at, event_time,
                CASE WHEN NOT succeeded THEN (run_id, status, finished_at, created_at) END
            FROM {source} ORDER BY 1, 2
        """,
    )


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_is_what_the_runs_say(metadata: Metadata, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test
    with metadata.transaction() as tx:
        pipelines = make_pipelines(tx)
        tx.execute(text("SELECT setseed(:seed)"), {"seed": seed / 10})

        for _ in range(40):
            change(tx, chance, pipelines)

            assert kept(tx) == kept(tx, "chm.find_latest()")
        for moment in [MOMENTS[0] - timedelta(hours=1), *MOMENTS]:
            status = (
                "SELECT pipeline, run_id, latest_status FROM chm.latest_status(:as_of)"
            )
            fresh = """
                SELECT pipeline, last_success_at FROM chm.freshness_watchlist(:as_of) ORDER BY 1
            """
            assert rows(tx, status, as_of=moment) == rows(tx, LATEST, as_of=moment)
            assert rows(tx, fresh, as_of=moment) == rows(tx, SUCCESS, as_of=moment)


def test_runs_that_are_all_gone_leave_nothing_kept(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        add_runs(tx, make_pipelines(tx, 1), NOON)

        tx.execute(text("TRUNCATE chm.runs"))

        assert kept(tx) == []


def test_those_who_write_at_once_keep_the_latest_of_all(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        pipelines = make_pipelines(tx, 3)

    def write(number: int) -> None:
        """A run of each pipeline, in one statement, and every third time a deletion."""
        for turn in range(10):
            with metadata.transaction() as tx:
                if (number + turn) % 3 == 0:
                    tx.execute(text(DELETION))
                else:
                    add_runs(tx, pipelines, NOON + timedelta(minutes=13 * turn % 10))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    with metadata.transaction() as tx:
        assert kept(tx) == kept(tx, "chm.find_latest()")


# In order, as everybody who writes several does.
DELETION = """
    DELETE FROM chm.runs WHERE id IN (
        SELECT id FROM chm.runs ORDER BY started_at DESC, id LIMIT 2 FOR UPDATE SKIP LOCKED
    )
"""


def add_runs(tx: Session, pipelines: Sequence[uuid.UUID], moment: datetime) -> None:
    """A successful run of each pipeline."""
    tx.execute(
        text("""
            INSERT INTO chm.runs (pipeline_id, external_run_id, status, started_at)
            SELECT id, gen_random_uuid()::text, 'success', :moment
            FROM unnest(CAST(:ids AS uuid[])) AS id
            ORDER BY id DESC
        """),
        {"ids": list(pipelines), "moment": moment},
    )
