"""What a correction of one day costs: what is made of a year, made anew in part and altogether.

One day of a table is corrected by a commit from outside and invalidated; its readers run, hop by hop,
until nobody has anything to make anew. Then every table is made anew altogether, and has to hold the
same rows. Touched are the rows that were written or deleted, and the files that came or went. The
year is that of the demo's flights, and another one of many more rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.paper import Figures, keep, ms
from benchmarks.place import Place, own_place

ROWS = 10_000_000
SALES = {
    "shop/pipelines/bronze/sales/pipeline.sql": f"""
-- @merge_strategy: full_refresh
SELECT
    DATE '2025-01-01' + (i * 365 // {ROWS})::INTEGER AS day,
    i AS id,
    hash(i) % 20000 AS customer,
    (hash(i + 1) % 10000)::INTEGER AS cents,
    TIMESTAMPTZ '2026-01-01' AS loaded_at
FROM range({ROWS}) AS sales(i)
""",
    "shop/pipelines/bronze/sales/config.yaml": "partition_by: [{column: day}]\n",
    "shop/pipelines/silver/sales/pipeline.sql": """
-- @merge_strategy: incremental
-- @unique_key: day, id
-- @watermark_column: loaded_at
SELECT day, id, customer::BIGINT AS customer, cents / 100 AS amount, loaded_at
FROM {{ ref('bronze.sales') }}
{% if watermark_value %}WHERE loaded_at > '{{ watermark_value }}'{% endif %}
""",
    "shop/pipelines/silver/sales/config.yaml": (
        "partition_by: [{column: day, transform: month}]\n"
    ),
    "shop/pipelines/gold/days/pipeline.sql": """
SELECT day, count(*) AS sales, sum(amount::DECIMAL(12, 2)) AS amount
FROM {{ ref('silver.sales') }}
GROUP BY day
""",
    "shop/pipelines/gold/customers/pipeline.sql": """
SELECT customer, count(*) AS sales, sum(amount::DECIMAL(12, 2)) AS amount
FROM {{ ref('silver.sales') }}
GROUP BY customer
""",
}


@dataclass(frozen=True)
class Correction:
    """Other rows of one day of a table."""

    table: str
    day: dict[str, int | str]
    types: dict[str, str]
    rows: str  # a query for those in their place

    @property
    def condition(self) -> str:
        """Which rows they take the place of."""
        return " AND ".join(
            f"old.{name} = '{value}'" for name, value in self.day.items()
        )


FLIGHTS = Correction(
    "nyc.bronze.flights",
    {"year": 2013, "month": 1, "day": 5},
    dict.fromkeys(("year", "month", "day"), "integer"),
    # Some arrive later than was said, and some were never flown.
    "SELECT * REPLACE (arr_delay + 20 AS arr_delay) "
    'FROM "nyc.bronze.flights" AS old WHERE flight % 10 > 0 AND ',
)
ONE_DAY = Correction(
    "shop.bronze.sales",
    {"day": "2025-03-01"},
    {"day": "date"},
    "SELECT * REPLACE (cents + 1 AS cents) "
    'FROM "shop.bronze.sales" AS old WHERE id % 10 > 0 AND ',
)


@dataclass(frozen=True)
class Touched:
    """What a run did to its table."""

    level: str
    rows: int
    of_rows: int
    files: int
    of_files: int
    ms: int


def main() -> None:
    """Measure, and write the section."""
    with own_place() as place:
        import dagster as dg  # noqa: PLC0415 - after the environment

        from rat_resources.platform import platform  # noqa: PLC0415

        with dg.DagsterInstance.get() as instance:
            flights = Year(platform(), instance, FLIGHTS)
            flights.play()
            sales = Year(platform(), instance, ONE_DAY)
            sales.sell(place)
            keep("invalidation", *measure(flights), *measure(sales))


def measure(year: "Year") -> Iterator[Figures | str]:
    """The tables that ran, in part and altogether."""
    year.correct()
    scoped = dict(year.invalidate())
    sums = {name: year.summed_up(name) for name in scoped}
    full = dict(year.make_anew(list(scoped)))
    for name, before in sums.items():
        assert year.summed_up(name) == before, name  # noqa: S101 - or there is nothing to measure
    yield Figures(
        (
            f"one day of 365 corrected in {year.correction.table}",
            "made anew",
            "rows touched",
            "files touched",
            "time",
            "a full rebuild",
            "ratio",
        ),
        [line(name, part, full[name]) for name, part in scoped.items()],
    )
    part, all_of_it = (
        sum(each.ms for each in runs.values()) for runs in (scoped, full)
    )
    yield (
        f"Together {ms(part / 1000)} beside {ms(all_of_it / 1000)}; all rows equal. Tables that are not "
        "named here were not run."
    )


def line(name: str, part: Touched, full: Touched) -> tuple[str, ...]:
    """One table's line."""
    return (
        name,
        part.level,
        f"{part.rows:,} of {part.of_rows:,}",
        f"{part.files:,} of {part.of_files:,}",
        ms(part.ms / 1000),
        ms(full.ms / 1000),
        f"{full.ms / part.ms:.1f}×",
    )


@dataclass
class Year:
    """A table with a year in it, and all that is made of it."""

    whole: Any
    instance: Any
    correction: Correction

    def play(self) -> None:
        """Publish the demo's pipelines, land a year of flights, and run it all."""
        from rat_assets import actions, demo  # noqa: PLC0415

        actions.publish(self.whole, demo.example_folder())
        folder = Path(str(self.whole.settings.store)) / "nyc" / "landing"
        demo.write_references(folder)
        for month in demo.MONTHS:
            demo.write_month(folder, month=month)
        self.run()

    def sell(self, place: Place) -> None:
        """Publish pipelines over a year of sales, and run them."""
        from rat_assets import actions  # noqa: PLC0415

        actions.publish(self.whole, place.tree(SALES))
        self.run("shop.*")

    def run(self, *names: str, **asked: Any) -> None:  # noqa: ANN401 - the fields of RunAsk
        """Run pipelines, all without names."""
        from rat_assets import runner  # noqa: PLC0415
        from rat_assets.runner import RunAsk  # noqa: PLC0415

        ask = RunAsk(names, everything=not names, **asked)
        runner.run(self.whole, ask, instance=self.instance)

    def correct(self) -> None:
        """Put other rows in the place of one day's, by a commit that no run made."""
        from rat_resources.lake import register  # noqa: PLC0415
        from rat_resources.lake.refs import MAIN  # noqa: PLC0415
        from rat_resources.lake.replacing import Part, Scope  # noqa: PLC0415
        from rat_resources.lake.strategies import WriteConfig, apply  # noqa: PLC0415
        from rat_resources.names import TableName  # noqa: PLC0415

        correction = self.correction
        name, condition = TableName.parse(correction.table), correction.condition
        lake, branch = self.whole.lake, f"fix-{uuid4()}"
        base = lake.refs.head(MAIN)
        lake.refs.create(branch, at=f"{MAIN}@{base}")
        with lake.connect() as connection:
            register(connection, lake.tables([name]))
            apply(
                connection,
                query=correction.rows + condition,
                catalog=lake.catalog(branch),
                table_name=name,
                config=WriteConfig(),
                attempt_time=datetime.now(UTC),
                scope=Scope((Part(condition, tuple(correction.day)),)),
            )
        head = lake.refs.head(branch)
        lake.refs.merge(branch, from_hash=head, into=MAIN, expected_hash=base)

    def invalidate(self) -> Iterator[tuple[str, Touched]]:
        """Say that the day was corrected; what its readers' runs touched."""
        from rat_resources import invalidations, propagation, row_filters, wishes  # noqa: PLC0415
        from rat_resources.names import TableName  # noqa: PLC0415
        from rat_sensors.wishes import graph_of  # noqa: PLC0415

        correction = self.correction
        with self.whole.metadata.transaction() as tx:
            rows = row_filters.parse(correction.day, columns=correction.types)
            table = TableName.parse(correction.table)
            invalidations.invalidate(tx, table, reason="correction", rows=rows)
            propagation.route(tx)
        while True:
            with self.whole.metadata.transaction() as tx:
                asks = wishes.plan(wishes.due(tx), graph=graph_of(tx), active=()).asks
            if not asks:
                return
            for ask in asks:
                (name,) = map(str, ask.selection)
                yield name, self.touched(name, trigger=ask.label)

    def make_anew(self, names: list[str]) -> Iterator[tuple[str, Touched]]:
        """Make tables anew altogether; what that touched."""
        for name in names:
            yield name, self.touched(name, full_refresh=True)

    def touched(self, name: str, **asked: Any) -> Touched:  # noqa: ANN401 - the fields of RunAsk
        """Run one pipeline; what it did."""
        before = self.files(name)
        self.run(name, **asked)
        after = self.files(name)
        run = self.last_run()
        changes = run.changes or {"added": 0, "removed": 0, "changed": 0}
        anew = changes["changed"] is None
        return Touched(
            level=run.settings.get("scope", {"level": "table"})["level"],
            rows=changes["rows_after"]
            if anew
            else sum(changes[each] for each in ("added", "removed", "changed")),
            of_rows=run.rows_total,
            files=len(before ^ after),
            of_files=len(after),
            ms=run.duration_ms,
        )

    def last_run(self) -> Any:  # noqa: ANN401 - a row
        """What Postgres knows of the newest run."""
        from sqlalchemy import select  # noqa: PLC0415

        from rat_resources.metadata.runs import Run  # noqa: PLC0415

        with self.whole.metadata.transaction() as tx:
            return tx.scalars(
                select(Run).order_by(Run.created_at.desc()).limit(1)
            ).one()

    def files(self, name: str) -> set[str]:
        """The files of a table."""
        table = self.table(name)
        if table is None:
            return set()
        return {task.file.file_path for task in table.scan().plan_files()}

    def table(self, name: str) -> Any:  # noqa: ANN401 - PyIceberg's
        """A table as it is on main."""
        from rat_resources.names import TableName  # noqa: PLC0415

        known = TableName.parse(name)
        return self.whole.lake.tables([known]).get(known)

    def summed_up(self, name: str) -> Any:  # noqa: ANN401 - two numbers
        """How many rows a table has, and what tells them from others."""
        from rat_resources.lake import register  # noqa: PLC0415
        from rat_resources.names import TableName  # noqa: PLC0415

        known = TableName.parse(name)
        with self.whole.lake.connect() as connection:
            register(connection, self.whole.lake.tables([known]))
            query = f'SELECT count(*), sum(hash(t)::HUGEINT) FROM "{known}" AS t'
            return connection.sql(query).fetchone()


if __name__ == "__main__":
    main()
