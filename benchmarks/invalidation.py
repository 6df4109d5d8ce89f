"""What a correction of one day costs: the year of flights, made anew in part and altogether.

One day of bronze flights is corrected by a commit from outside and invalidated; its readers run, hop
by hop, until nobody has anything to make anew. Then every table is made anew altogether, and has to
hold the same rows. Touched are the rows that were written or deleted, and the files that came or went.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.paper import Figures, keep, ms
from benchmarks.place import own_place

FLIGHTS = "nyc.bronze.flights"
DAY = {"year": 2013, "month": 1, "day": 5}
ON_THE_DAY = "year = 2013 AND month = 1 AND day = 5"
# Some arrive later than was said, and some were never flown.
CORRECTED = f"""
    SELECT * REPLACE (arr_delay + 20 AS arr_delay) FROM "{FLIGHTS}"
    WHERE {ON_THE_DAY} AND flight % 10 > 0
    UNION ALL FROM "{FLIGHTS}" WHERE NOT ({ON_THE_DAY})
"""


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
        keep("invalidation", *measure(place))


def measure(place: Any) -> Iterator[Figures | str]:  # noqa: ANN401 - its module imports none of ours
    """The tables that ran, in part and altogether."""
    import dagster as dg  # noqa: PLC0415 - after the environment

    from rat_resources.platform import platform  # noqa: PLC0415

    del place
    whole = platform()
    with dg.DagsterInstance.get() as instance:
        year = Year(whole, instance)
        year.play()
        year.correct()
        scoped = dict(year.invalidate())
        rows = {name: year.rows(name) for name in scoped}
        full = dict(year.make_anew(list(scoped)))
        for name, before in rows.items():
            assert year.rows(name) == before, name  # noqa: S101 - or there is nothing to measure
    yield Figures(
        (
            "one day of 365 corrected in bronze.flights",
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
        "named here were not run. Finding the groups costs a small table more than making all of it."
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
    """The demo, with a whole year of flights in it."""

    whole: Any
    instance: Any

    def play(self) -> None:
        """Publish the demo's pipelines, land a year, and run it all."""
        from rat_assets import actions, demo  # noqa: PLC0415

        actions.publish(self.whole, demo.example_folder())
        folder = Path(str(self.whole.settings.store)) / "nyc" / "landing"
        demo.write_references(folder)
        for month in demo.MONTHS:
            demo.write_month(folder, month=month)
        self.run()

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
        from rat_resources.lake.replacing import EVERYTHING  # noqa: PLC0415
        from rat_resources.lake.strategies import WriteConfig, apply  # noqa: PLC0415
        from rat_resources.names import TableName  # noqa: PLC0415

        lake, name, branch = self.whole.lake, TableName.parse(FLIGHTS), f"fix-{uuid4()}"
        base = lake.refs.head(MAIN)
        lake.refs.create(branch, at=f"{MAIN}@{base}")
        with lake.connect() as connection:
            register(connection, lake.tables([name]))
            apply(
                connection,
                query=CORRECTED,
                catalog=lake.catalog(branch),
                table_name=name,
                config=WriteConfig(),
                attempt_time=datetime.now(UTC),
                scope=EVERYTHING,
            )
        head = lake.refs.head(branch)
        lake.refs.merge(branch, from_hash=head, into=MAIN, expected_hash=base)

    def invalidate(self) -> Iterator[tuple[str, Touched]]:
        """Say that the day was corrected; what its readers' runs touched."""
        from rat_resources import invalidations, propagation, row_filters, wishes  # noqa: PLC0415
        from rat_resources.names import TableName  # noqa: PLC0415
        from rat_sensors.wishes import graph_of  # noqa: PLC0415

        types = dict.fromkeys(DAY, "integer")
        with self.whole.metadata.transaction() as tx:
            rows = row_filters.parse(DAY, columns=types)
            table = TableName.parse(FLIGHTS)
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

    def rows(self, name: str) -> list[Any]:
        """The rows of a table, but for when they were loaded."""
        from rat_resources.lake import register  # noqa: PLC0415
        from rat_resources.names import TableName  # noqa: PLC0415

        known = TableName.parse(name)
        with self.whole.lake.connect() as connection:
            register(connection, self.whole.lake.tables([known]))
            query = f'SELECT * FROM "{known}" ORDER BY ALL'
            return list(connection.sql(query).fetchall())


if __name__ == "__main__":
    main()
