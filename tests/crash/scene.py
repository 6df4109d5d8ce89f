"""The scene of the crashes: a table a strategy, processes that come to harm, and what must hold then.

A round lands a file, lets a process a table come to harm while another one goes on with a table of its
own, reconciles, and looks. Each process is forked, of a server that has imported everything.
"""

import multiprocessing as mp
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess

import pytest
from sqlalchemy import text

from rat_resources import audit, faults
from rat_resources.errors import RatError
from rat_resources.instance import open_instance
from rat_resources.lake import register
from rat_resources.leftovers import left_open
from rat_resources.mirror import log
from rat_resources.names import TableName
from rat_resources.platform import platform
from rat_resources.reconciliation import long_enough, reconcile
from tests.factories import Shop

BRONZE = "shop/pipelines/bronze/events"
ROWS = 3  # of a landing file
ROUNDS = int(os.environ.get("RAT_CRASH_ROUNDS", "1"))  # of six that come to harm
IS_LONG = len(faults.STEPS) <= ROUNDS
in_long = pytest.mark.long
# All that is there, as of each run: so every run of every table has something to write.
SEEN = """
SELECT id, customer, amount, '{{ run_started_at }}'::TIMESTAMPTZ AS seen_at
FROM {{ ref('bronze.events') }}
"""
STRATEGIES = {
    "full_refresh": "-- @merge_strategy: full_refresh",
    "incremental": "-- @merge_strategy: incremental\n-- @unique_key: id",
    "delete_insert": "-- @merge_strategy: delete_insert\n-- @unique_key: customer",
    "snapshot": "-- @merge_strategy: snapshot\n-- @partition_column: customer",
    "scd2": "-- @merge_strategy: scd2\n-- @unique_key: id",
}
HAS_ID = "SELECT * FROM {{ this }} WHERE id IS NULL"
PROJECT = {
    f"{BRONZE}/pipeline.sql": """
-- @merge_strategy: append_only
FROM read_csv('{{ landing_zone('events', new=true) }}/*.csv', header = true)
""",
    f"{BRONZE}/tests/quality/has_id.sql": HAS_ID,
    "shop/pipelines/gold/beside/pipeline.sql": "SELECT '{{ run_started_at }}' AS at",
    # An event for each row that is published.
    "shop/alerts/arrived.yaml": """
condition: {kind: threshold, dataset: bronze.events, column: id, op: gte, value: 0, per: row, key: id}
""",
    **{
        f"shop/pipelines/silver/{name}/{file}": content
        for name, said in STRATEGIES.items()
        for file, content in (
            ("pipeline.sql", f"{said}\n{SEEN}"),
            ("tests/quality/has_id.sql", HAS_ID),
        )
    },
}
EVENTS = "shop.bronze.events"
TABLES = (EVENTS, *(f"shop.silver.{name}" for name in STRATEGIES))
BESIDE = "shop.gold.beside"


@dataclass(frozen=True)
class Harm:
    """What is to happen to a process that runs a table, and where."""

    table: str
    fault: str  # STEP:ACTION[:N]
    full_refresh: bool = False

    @property
    def is_deadly(self) -> bool:
        """Whether the process dies of it."""
        return ":kill" in self.fault


@dataclass
class Scene:
    """A shop whose runs come to harm, and what was landed in it."""

    shop: Shop
    files: int = 0
    deaths: int = 0

    @classmethod
    def set_up(cls, shop: Shop, *, tables: Sequence[str] = ()) -> "Scene":
        """A shop in which every table stands, or these."""
        shop.publish(PROJECT)
        scene = cls(shop)
        scene.land()
        report = shop.run(*tables)
        assert report.succeeded, [each.error for each in report.tables]
        return scene

    def land(self) -> None:
        """Land a file that nobody has seen."""
        first = self.files * ROWS
        rows = (f"{first + n},c{n},{first}\n" for n in range(ROWS))
        self.shop.land(
            f"{self.files:04}.csv",
            "id,customer,amount\n" + "".join(rows),
            zone="shop/events",
        )
        self.files += 1

    def play(self, harms: Sequence[Harm]) -> None:
        """Let a run a harm come to it, all at once and beside others; then set all right, and look."""
        self.land()
        beside = start([BESIDE, BESIDE], fault="")
        started = [
            start([each.table], fault=each.fault, full_refresh=each.full_refresh)
            for each in harms
        ]
        for harm, process in zip(harms, started, strict=True):
            process.join()
            died = process.exitcode == -signal.SIGKILL
            self.deaths += died
            assert died == harm.is_deadly, (harm, process.exitcode)
        beside.join()
        assert beside.exitcode == 0
        self.set_right()
        self.look()
        # A file that three runs have died of would wait for somebody.
        assert self.shop.run(EVENTS).succeeded
        print(f"{self.deaths} runs were killed so far", flush=True)  # noqa: T201

    def set_right(self) -> None:
        """Do what `rat reconcile` does, twice; the second time there is nothing to do."""
        whole, instance = self.shop.whole, self.shop.instance
        for said in reconcile(whole, instance, patience=long_enough(whole)):
            print(said, flush=True)  # noqa: T201
        assert left_open(whole, instance) == []
        assert reconcile(whole, instance) == []

    def finish(self, *, tables: Sequence[str] = TABLES) -> None:
        """Run tables once more, unharmed, and look whether all rows are there."""
        report = self.shop.run(*tables)
        assert report.succeeded, [each.error for each in report.tables]
        self.set_right()
        self.look()
        landed = list(range(self.files * ROWS))
        for table in tables:
            assert self.ids(table) == landed, table

    def look(self) -> None:
        """Nothing is lost, doubled, or held by anybody, and all tell the same story."""
        shop = self.shop
        log.catch_up(shop.whole.metadata)
        assert list(audit.audit(shop.whole).lines) == []
        assert (shop.branches, shop.holders, self.staged) == ([], 0, [])
        # A file that the store would not let us read waits for somebody, and nobody has it.
        assert "claimed" not in set(shop.claims)
        ids = self.ids(EVENTS)
        assert ids == sorted(set(ids))
        # What is read is what was consumed: a file is wholly there or not at all.
        assert len(ids) == ROWS * self.consumed
        assert self.told == ids

    def ids(self, table: str) -> list[int]:
        """The ids of the rows that a table holds now, sorted."""
        name, lake = TableName.parse(table), self.shop.whole.lake
        open_ones = "WHERE valid_to IS NULL" if name.name == "scd2" else ""
        with lake.connect() as connection:
            register(connection, lake.tables([name]))
            rows = connection.sql(f'SELECT id FROM "{name}" {open_ones} ORDER BY id')
            return [row[0] for row in rows.fetchall()]

    @property
    def told(self) -> list[int]:
        """The ids of the rows that events tell of, sorted."""
        told = text(
            "SELECT (payload #>> '{subject,id}')::bigint FROM trace.alert_events ORDER BY 1"
        )
        with self.shop.whole.metadata.transaction() as tx:
            return list(tx.scalars(told))

    @property
    def consumed(self) -> int:
        """How many files were committed."""
        committed = text(
            "SELECT count(*) FROM rat.landing_claims WHERE state = 'committed'"
        )
        with self.shop.whole.metadata.transaction() as tx:
            return tx.scalar(committed) or 0

    @property
    def staged(self) -> list[str]:
        """The folders of staged files."""
        return [each.name for each in self.shop.whole.staging.glob("*-*-*-*-*")]


def start(
    tables: Sequence[str], *, fault: str, full_refresh: bool = False
) -> ForkServerProcess:
    """Start a process that runs tables one after the other, and meets a fault in the first that has it."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    environ = dict(os.environ) | ({faults.VARIABLE: fault} if fault else {})
    process = context.Process(
        target=act, args=(environ, tables), kwargs={"full_refresh": full_refresh}
    )
    process.start()
    return process


def act(
    environ: Mapping[str, str], tables: Sequence[str], *, full_refresh: bool
) -> None:
    """Be a process that runs tables."""
    os.environ.clear()  # the server of forks may be that of another test
    os.environ.update(environ)
    whole = platform()
    with open_instance() as instance:
        shop = Shop(whole, instance, whole.settings.home.parent / "project")
        for table in tables:
            try:
                shop.run(table, full_refresh=full_refresh)
            except RatError as error:
                print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201


def rounds(
    steps: Sequence[str], *, action: str, full_refresh: bool = False
) -> Iterator[list[Harm]]:
    """Every table comes to harm at every step, each round each at another one."""
    for shift in range(len(steps)):
        yield [
            Harm(
                table, f"{steps[(shift + number) % len(steps)]}:{action}", full_refresh
            )
            for number, table in enumerate(TABLES)
        ]
