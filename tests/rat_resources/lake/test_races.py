"""Many change one table at once, each on a branch of its own: nothing is lost, nothing is doubled.

Of two that went on from one commit the slower one is refused, and does its work again on what it finds.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from rat_resources.errors import ConflictError
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.rebasing import Sides
from rat_resources.lake.refs import MAIN, Refs
from rat_resources.maintenance import compacting
from rat_resources.maintenance.plans import Bin, Layout, by_partition
from tests.rat_resources.lake.tables import (
    NAME,
    load,
    make_config,
    make_connection,
    read,
    values,
    write,
)

UPSERT = make_config("incremental", unique_key=["id"], write_mode="merge_on_read")
APPEND = make_config("append_only")
TURNS = 2
KEYS = range(2)

# Two keepers of refs promise the same (`test_refs`); this is about what is done with them.
pytestmark = pytest.mark.parametrize("refs", ["embedded"], indirect=True)

Work = Callable[[DuckDBPyConnection, RefCatalog], None]


@pytest.fixture
def warehouse(refs: Refs, tmp_path: Path) -> Path:
    """A warehouse with the table on main: a row for each key, and many others."""
    query = "SELECT i AS id, 0 AS v FROM range(500) t(i)"
    with make_connection() as connection:
        write(connection, RefCatalog(refs, ref=MAIN, warehouse=tmp_path), query)
    return tmp_path


def publish(refs: Refs, warehouse: Path, work: Work, names: Iterator[int]) -> int:
    """Do *work* on a branch and merge it, anew until nobody was faster; how often it took."""
    for attempt in count(1):
        branch = f"race-{next(names)}"
        refs.create(branch, at=MAIN)
        with duckdb.connect(config={"threads": 1}) as connection:
            work(connection, RefCatalog(refs, ref=branch, warehouse=warehouse))
        try:
            refs.merge(branch)
        except ConflictError:
            continue
        return attempt
    raise AssertionError


def set_value(key: int, value: int) -> Work:
    """Let the row of a key have a value."""
    query = values([(key, value)], "id, v")
    return lambda connection, catalog: void(
        write(connection, catalog, query, config=UPSERT)
    )


def add_row(number: int) -> Work:
    """Add a row."""
    query = values([(1_000 + number, number)], "id, v")
    return lambda connection, catalog: void(
        write(connection, catalog, query, config=APPEND)
    )


def compact(connection: DuckDBPyConnection, catalog: RefCatalog) -> None:
    """Let all files be one."""
    table = load(catalog)
    packed = [Bin(tuple(files), key) for key, files in by_partition(table).items()]
    done = [
        compacting.rewrite(connection, table, each, layout=Layout()) for each in packed
    ]
    compacting.commit(table, done)


def void(_result: object) -> None:
    """Nothing."""


def test_merges_appends_and_compactions_at_once_lose_and_double_nothing(
    refs: Refs, warehouse: Path
) -> None:
    names = count()

    def keep_setting(key: int) -> None:
        for value in range(1, TURNS + 1):
            publish(refs, warehouse, set_value(key, value), names)

    def keep_adding(_: int) -> None:
        for number in range(TURNS):
            publish(refs, warehouse, add_row(number), names)

    def keep_compacting(_: int) -> None:
        publish(refs, warehouse, compact, names)

    with ThreadPoolExecutor(len(KEYS) + 2) as pool:
        tasks = [pool.submit(keep_setting, key) for key in KEYS]
        tasks += [pool.submit(keep_adding, 0), pool.submit(keep_compacting, 0)]
        for task in tasks:
            task.result()

    with make_connection() as connection:
        found = read(connection, RefCatalog(refs, ref=MAIN, warehouse=warehouse))
    unchanged = [(key, 0) for key in range(len(KEYS), 500)]
    added = [(1_000 + number, number) for number in range(TURNS)]
    assert found == [*((key, TURNS) for key in KEYS), *unchanged, *added]
    assert NAME.key in [entry.key for entry in refs.entries(at=MAIN)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (set_value(1, 1), add_row(1)),
        (set_value(1, 1), set_value(2, 2)),
        (set_value(1, 1), compact),
        (add_row(1), set_value(1, 1)),
    ],
    ids=["added meanwhile", "marked meanwhile", "compacted meanwhile", "marked before"],
)
def test_dead_rows_are_never_put_on_top_of_what_others_published(
    refs: Refs, warehouse: Path, ours: Work, theirs: Work
) -> None:
    base = load(RefCatalog(refs, ref=MAIN, warehouse=warehouse))
    sides = {}
    for name, work in (("ours", ours), ("theirs", theirs)):
        refs.create(name, at=MAIN)
        catalog = RefCatalog(refs, ref=name, warehouse=warehouse)
        with make_connection() as connection:
            work(connection, catalog)
        sides[name] = load(catalog)

    refusal = Sides(base, sides["ours"], sides["theirs"]).refusal

    refs.merge("theirs")
    with pytest.raises(ConflictError):
        refs.merge("ours")
    assert refusal is not None
    assert "did not only add rows" in refusal
