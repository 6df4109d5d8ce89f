"""How much memory each path takes that rows go: the peak of a process, under limits that the rows exceed.

Every strategy brings a tenth of the table in again, other values for random keys; the refreshes write all of
it. Each in a process of its own, the write alone, with the DuckDB that a run has.
"""

from collections.abc import Iterator

from benchmarks.merge import batch_of, own_folder
from benchmarks.paper import Figures, keep
from benchmarks.peers import Took, measured, sales, sample, short, sizes
from benchmarks.refresh import Writer

LIMITS = ("512MB", "2GB")
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "refresh": ("full_refresh", {}),
    "refresh, sorted": ("full_refresh", {"sort_by": "customer"}),
    "refresh, a partition a day": ("full_refresh", {"partition_by": "day"}),
    "append": ("append_only", {}),
    "incremental": ("incremental", {"unique_key": "id"}),
    "delete_insert": ("delete_insert", {"unique_key": "id"}),
    "scd2": ("scd2", {"unique_key": "id"}),
    "snapshot": ("snapshot", {"partition_column": "day"}),
}
REFRESHES = ("full_refresh", "append_only")
SHARE = 10  # a batch is a tenth of the table


def main() -> None:
    """Measure, and write the section."""
    found = sizes("1M,10M", about=__doc__ or "")
    keep("memory", *(part for rows in found for part in table(rows)))


def table(rows: int) -> Iterator[Figures | str]:
    """The figures of a table of so many rows."""
    lines = [
        (name, *cells(rows, strategy, layout))
        for name, (strategy, layout) in PATHS.items()
    ]
    lines.append(
        (
            "read all",
            *(
                word
                for limit in LIMITS
                for each in [sample(read_all, rows, limit)]
                for word in (each.time, each.memory)
            ),
        )
    )
    heads = (word for limit in LIMITS for word in (f"time, {limit}", f"peak, {limit}"))
    yield Figures((f"{short(rows)} rows", *heads), lines)


def cells(rows: int, strategy: str, layout: dict[str, str]) -> Iterator[str]:
    """The time and the peak of one path, under each limit."""
    for limit in LIMITS:
        found = sample(write, rows, strategy, layout, limit)
        yield from (found.time, found.memory)


def write(rows: int, strategy: str, layout: dict[str, str], limit: str) -> Took:
    """One write, over a table that is there."""
    with own_folder() as folder, batch_of(rows, "random", rows // SHARE) as batch:
        writer = Writer(folder, budget(limit), strategy, layout)
        writer(sales(1_000 if strategy in REFRESHES else rows))
        with measured() as took:
            writer(sales(rows) if strategy in REFRESHES else str(batch))
        return took


def read_all(rows: int, limit: str) -> Took:
    """Every row of the table, each once."""
    from rat_resources.lake.reading import register_table  # noqa: PLC0415

    with own_folder() as folder:
        writer = Writer(folder, budget(limit), "full_refresh", {})
        writer(sales(rows))
        there = writer.catalog.load_table(writer.name.key)
        with writer.connect() as connection, measured() as took:
            register_table(connection, there, view="sales")
            found = connection.execute("SELECT * FROM sales")
            while found.fetchmany(10_000):
                pass
        return took


def budget(limit: str) -> object:
    """What a step may take."""
    from rat_resources.memory import read_budget  # noqa: PLC0415

    return read_budget({"RAT_MEMORY_LIMIT": limit})


if __name__ == "__main__":
    main()
