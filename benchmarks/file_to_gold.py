"""How long a file takes from its drop to gold, through bronze, silver and gold under `rat dev`.

A file with one order is copied into the landing zone, again and again, each time at another moment
of Dagster's loops; a drop is over when gold's publication stands in Postgres.
"""

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles

from sqlalchemy import text

from benchmarks.paper import Figures, keep, s
from benchmarks.place import RAT, Place, command, own_place
from rat_resources.metadata import Metadata
from rat_resources.platform import platform

DROPS = 50
PATIENCE = 120.0
LANDING = """
SELECT * FROM read_csv('{{ landing_zone('orders', new=true) }}/*.csv', header = true)
"""
PIPELINES = {
    "shop/pipelines/bronze/orders/pipeline.sql": (
        f"-- @merge_strategy: append_only\n{LANDING}"
    ),
    "shop/pipelines/bronze/orders/config.yaml": (
        "triggers: [{type: landing_zone_upload, zone_name: orders}]\n"
    ),
    "shop/pipelines/bronze/orders/tests/quality/amount_is_positive.sql": (
        "SELECT * FROM {{ this }} WHERE amount <= 0\n"
    ),
    "shop/pipelines/silver/orders/pipeline.sql": (
        "-- @merge_strategy: incremental\n-- @unique_key: id\n"
        "SELECT * FROM {{ ref('bronze.orders') }}\n"
    ),
    "shop/pipelines/silver/orders/tests/quality/id_is_unique.sql": (
        "SELECT id FROM {{ this }} GROUP BY id HAVING count(*) > 1\n"
    ),
    "shop/pipelines/gold/revenue/pipeline.sql": (
        "SELECT customer, sum(amount) AS revenue FROM {{ ref('silver.orders') }} GROUP BY ALL\n"
    ),
}
MOMENTS = text("""
    SELECT min(f.uploaded_at) AS noticed, min(r.created_at) AS began,
           max(r.finished_at) FILTER (WHERE p.layer = 'gold') AS gold
    FROM rat.landing_files AS f
    JOIN rat.run_files AS used ON used.file_id = f.id
    JOIN rat.runs AS first ON first.id = used.run_id
    JOIN rat.runs AS r ON r.dagster_run_id = first.dagster_run_id AND r.status = 'success'
    JOIN rat.pipelines AS p ON p.id = r.pipeline_id
    WHERE f.filename = :name
""")
LAUNCHED = text("""
    SELECT to_timestamp(min(d.create_timestamp_epoch)) FROM (
        SELECT extract(epoch FROM create_timestamp) AS create_timestamp_epoch
        FROM dagster.runs JOIN rat.runs AS r ON r.dagster_run_id = dagster.runs.run_id
        JOIN rat.run_files AS used ON used.run_id = r.id
        JOIN rat.landing_files AS f ON f.id = used.file_id
        WHERE f.filename = :name) AS d
""")


@dataclass(frozen=True)
class Drop:
    """The moments of one file, as Postgres and this machine's clock have them."""

    dropped: float
    noticed: float
    asked: float
    began: float
    gold: float

    @property
    def parts(self) -> tuple[float, ...]:
        """The whole, and what it consists of."""
        return (
            self.gold - self.dropped,
            self.noticed - self.dropped,
            self.asked - self.noticed,
            self.began - self.asked,
            self.gold - self.began,
        )


PARTS = (
    "file dropped → gold published",
    "… until it was noticed and had settled",
    "… until a run was asked for",
    "… until the run's worker had begun with bronze",
    "… until bronze, silver and gold were published",
)


def main() -> None:
    """Measure, and write the section."""
    drops = int(sys.argv[1]) if len(sys.argv) > 1 else DROPS
    with own_place() as place:
        command([str(RAT), "publish", str(place.tree(PIPELINES))])
        metadata = platform().metadata
        with serving():
            drop(place, metadata, name="first.csv")
            found = [drop(place, metadata, name=f"{n}.csv") for n in range(drops)]
    columns = list(zip(*(each.parts for each in found), strict=True))
    rows = [row(name, column) for name, column in zip(PARTS, columns, strict=True)]
    keep("file_to_gold", Figures((f"{drops} files, one at a time", *POINTS), rows))


POINTS = ("p50", "p95", "greatest")


def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    """The median, the 95th percentile and the greatest of *values*."""
    hundredths = quantiles(values, n=100, method="inclusive")
    return name, s(hundredths[49]), s(hundredths[94]), s(max(values))


@contextmanager
def serving() -> Iterator[None]:
    """`rat dev`, from when its UI answers until it is not needed any more."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        [RAT, "dev", "--port", "3900"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None  # noqa: S101 - for the type
    try:
        while not re.search(r"the UI is at", line := process.stdout.readline()):
            if not line:
                message = "rat dev ended"
                raise SystemExit(message)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def drop(place: Place, metadata: Metadata, *, name: str) -> Drop:
    """Drop a file at a moment of its own and wait until it is gold."""
    time.sleep(random.uniform(0, 5))  # noqa: S311 - Dagster's loop is five seconds long
    zone = place.home / "store" / "shop" / "landing" / "orders"
    draft = place.folder / name
    draft.write_text(f"id,customer,amount\n{time.time_ns()},ann,1.5\n")
    zone.mkdir(parents=True, exist_ok=True)
    dropped = time.time()
    (zone / name).write_text(draft.read_text())
    while time.time() < dropped + PATIENCE:
        with metadata.engine.connect() as connection:
            noticed, began, gold = connection.execute(MOMENTS, {"name": name}).one()
            asked = connection.execute(LAUNCHED, {"name": name}).scalar()
        if gold is not None:
            return Drop(dropped, *map(stamp, (noticed, asked, began, gold)))
        time.sleep(0.2)
    message = f"{name} is not gold after {PATIENCE:.0f} s; see `rat runs`"
    raise SystemExit(message)


def stamp(moment: datetime) -> float:
    """A moment on this machine's clock, which Postgres here shares."""
    return moment.timestamp()


if __name__ == "__main__":
    main()
