"""What a run's mistake is told, and that nothing is lost or half-done after it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from rat_resources.metadata.landing import ClaimState
from rat_resources.settings import Settings
from tests import conftest
from tests.factories import Shop, folder_of
from tests.hooks import settle, when
from tests.rat_assets.test_cli import spawn

# What runs leave is looked at, so each test has a RAT of its own.
shop = conftest.shop

GOOD = {"shop/pipelines/bronze/numbers/pipeline.sql": "SELECT range AS n FROM range(3)"}
INTERVAL = "cast it to BIGINT seconds (epoch(x)::BIGINT) or to VARCHAR"


def bronze(
    pipelines: Mapping[str, str], *, file: str = "pipeline.sql"
) -> dict[str, str]:
    """The files of bronze pipelines, by their names."""
    return {
        f"shop/pipelines/bronze/{name}/{file}": code for name, code in pipelines.items()
    }


def leftovers(shop: Shop) -> list[str]:
    """The files and folders that only a run that is still active may have."""
    home = shop.whole.settings.home
    kept = [*home.glob("spill/*"), *home.glob("staging/*")]
    return [str(path) for path in kept]


def assert_nothing_is_half_done(shop: Shop, *, main: str) -> None:
    """Main stands where it stood, and no run holds or left anything."""
    assert (shop.main, shop.branches, shop.holders) == (main, [], 0)
    assert leftovers(shop) == []


def failures(shop: Shop, dagster_run_id: str) -> dict[str, str]:
    """What Dagster shows of each failed step, by the name of its pipeline."""
    told = {}
    entries = shop.instance.all_logs(
        dagster_run_id, of_type=dg.DagsterEventType.STEP_FAILURE
    )
    for entry in entries:
        assert entry.dagster_event is not None
        error = entry.dagster_event.step_failure_data.user_failure_data
        assert error is not None
        name, _, rest = (error.description or "").partition(": ")
        told[name.rpartition(".")[2]] = rest
    return told


# Queries and scripts.

QUERIES = {
    "a_function_that_fails": (
        "SELECT 1 AS n,\n  error('boom') AS m",
        " (write): Invalid Input Error: boom; correct the query",
    ),
    "a_number_too_great": (
        "SELECT range + 9223372036854775807 AS n FROM range(3)",
        " (write): Out of Range Error: Overflow in addition of INT64 "
        "(1 + 9223372036854775807); "
        "cast to a wider type first, such as HUGEINT or DOUBLE",
    ),
    "a_value_of_another_type": (
        "SELECT range AS n,\n  CASE WHEN range > 1 THEN 'x' ELSE '1' END::INTEGER AS m\n"
        "FROM range(3)",
        ":2: Conversion Error: Could not convert string 'x' to INT32; "
        "use TRY_CAST, or leave such values out",
    ),
    "a_misspelt_column": (
        "SELECT\n  rnge AS n\nFROM range(3)",
        ':2: Binder Error: Referenced column "rnge" not found in FROM clause; '
        'candidate bindings: "range"',
    ),
    "a_misspelt_function": (
        "SELECT\n  summ(range) AS n\nFROM range(3)",
        ":2: Catalog Error: Scalar Function with name summ does not exist; "
        'did you mean "sum"?',
    ),
    "a_file_that_is_not_there": (
        "FROM\n  read_csv('/nowhere/x.csv')",
        ':2: IO Error: No files found that match the pattern "/nowhere/x.csv"; '
        "see that it is there and can be read",
    ),
    "no_columns": (
        "SELECT * EXCLUDE (range) FROM range(3)",
        " (write): Binder Error: SELECT list is empty after resolving * expressions; "
        "select at least one column",
    ),
    "two_columns_of_one_name": (
        "SELECT 1 AS a, 2 AS A",
        " (write): the query returns the column 'a' 2 times; "
        'name each one, as in "a" AS "a_2"',
    ),
    "a_type_of_no_table": (
        "SELECT INTERVAL 1 DAY AS d",
        f" (write): column 'd' has the type INTERVAL, which a table cannot hold; {INTERVAL}",
    ),
}
SCRIPTS = {
    "no_result": (
        "if False:\n    result = 1",
        ":2: the script left no result; assign a table, frame or relation to `result`",
    ),
    "an_exception": (
        "def find():\n    return {}['key']\n\nresult = find()",
        ":2: KeyError: 'key'; correct the script",
    ),
    "a_query_that_fails": (
        "\nresult = duckdb_conn.sql('FROM nowhere')",
        ":2: Catalog Error: Table with name nowhere does not exist; "
        "name tables by ref(): ref('layer.name')",
    ),
    "no_columns": (
        "\nresult = pa.table({})",
        ":2: result has no columns; give it at least one",
    ),
    "two_columns_of_one_name": (
        "\nresult = pa.Table.from_arrays([pa.array([1])] * 2, names=['a', 'a'])",
        ":2: result has the column 'a' 2 times; rename one of them",
    ),
    "a_type_of_no_table": (
        "\nresult = pa.table({'d': pa.array([1], pa.duration('s'))})",
        f":2: column 'd' has the type INTERVAL, which a table cannot hold; {INTERVAL}",
    ),
    "out_of_memory": (
        "duckdb_conn.execute(\"SET memory_limit = '10MB'; SET temp_directory = ''\")\n"
        "result = duckdb_conn.sql('FROM range(5000000) ORDER BY hash(range)')",
        ":2: out of memory: it needs more than it may use (9.5 MiB); let it keep less "
        "at once (fewer columns, aggregate before joining), or give it more memory",
    ),
}


@pytest.mark.parametrize(
    ("mistakes", "file"),
    [(QUERIES, "pipeline.sql"), (SCRIPTS, "pipeline.py")],
    ids=["queries", "scripts"],
)
def test_a_mistake_names_its_file_its_line_and_the_fix(
    shop: Shop, mistakes: Mapping[str, tuple[str, str]], file: str
) -> None:
    shop.publish(bronze({n: code for n, (code, _) in mistakes.items()}, file=file))
    before = shop.main

    report = shop.run()

    told = {each.table.name: each.error for each in report.tables}
    assert told == {
        name: f"shop/pipelines/bronze/{name}/{file}{said}"
        for name, (_, said) in mistakes.items()
    }
    unchanged = f"; main is unchanged at {before[:12]}"
    shown = failures(shop, report.dagster_run_id)
    assert shown == {name: f"{said}{unchanged}" for name, said in told.items()}
    assert [run.error for run in shop.runs()] == list(told.values())
    assert_nothing_is_half_done(shop, main=before)


def test_a_script_that_prints_a_lot_fills_no_log(shop: Shop) -> None:
    code = """
print('x' * 10_000_000)
for n in range(5_000):
    log.info('line %s', n)
    print(n, end=' ')
result = pa.table({'n': [1]})
"""
    shop.publish(bronze({"numbers": code}, file="pipeline.py"))

    report = shop.run()

    (run,) = shop.runs()
    assert report.succeeded, report.tables
    path = folder_of(shop.whole.settings.store) / (run.logs_s3_path or "")
    assert path.stat().st_size < 200_000
    assert "printed more than 1000 lines" in path.read_text()


# Tests.


def test_tests_that_cannot_run_say_why_and_nothing_is_published(shop: Shop) -> None:
    tests = "shop/pipelines/bronze/numbers/tests/quality"
    shop.publish(
        GOOD
        | {
            f"{tests}/column.sql": "SELECT *\nFROM {{ this }}\nWHERE nn > 1",
            f"{tests}/value.sql": "SELECT *\nFROM {{ this }}\nWHERE 'x'::INTEGER = n",
            f"{tests}/memory.sql": "SELECT error('no')",
        }
    )
    before = shop.main

    report = shop.run()

    folder = f"shop.bronze.numbers: 3 quality tests stopped the publication\n  column: could not run: {tests}"
    assert report.tables[0].error == (
        f'{folder}/column.sql:3: Binder Error: Referenced column "nn" not found in FROM '
        'clause; candidate bindings: "n"\n'
        f"  memory: could not run: {tests}/memory.sql (test): Invalid Input Error: no; "
        "correct the query\n"
        f"  value: could not run: {tests}/value.sql:3: Conversion Error: Could not "
        "convert string 'x' to INT32; use TRY_CAST, or leave such values out"
    )
    assert_nothing_is_half_done(shop, main=before)


# Disks.


@pytest.fixture
def small_disk(rat_home: Path) -> Iterator[Path]:
    """A RAT_HOME on a file system of three megabytes; Postgres is elsewhere."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(rat_home)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    for folder in ("store", "warehouse"):
        (rat_home / folder).mkdir()
    yield rat_home
    subprocess.run(["umount", "--lazy", str(rat_home)], check=True)


@pytest.fixture
def small_shop(small_disk: Path, request: pytest.FixtureRequest) -> Shop:
    """A RAT on that disk."""
    shop: Shop = request.getfixturevalue("shop")
    return shop


def reading(*, rows: int) -> str:
    """A query that reads landing files and writes so many rows for each of theirs."""
    return f"""
-- @merge_strategy: append_only
SELECT hash(range) AS a, hash(range + 1) AS b
FROM range({rows}), read_csv('{{{{ landing_zone('orders', new=true) }}}}/*.csv')
"""


def test_a_full_warehouse_is_cleaned_up_and_the_files_are_read_again(
    small_shop: Shop, settings: Settings
) -> None:
    small_shop.publish(bronze({"numbers": reading(rows=1_000_000)}))
    settle(small_shop.land("january.csv", "id\n1\n"))
    before = small_shop.main

    report = small_shop.run()
    told = report.tables[0].error or ""
    assert_nothing_is_half_done(small_shop, main=before)
    data = [*folder_of(settings.warehouse).rglob("*.parquet")]
    small_shop.publish(bronze({"numbers": reading(rows=10)}))
    again = small_shop.run()

    assert told.startswith("shop/pipelines/bronze/numbers/pipeline.sql (write): ")
    assert 'out of disk: Could not write file "' in told
    assert "No space left on device; make room there, then run it again" in told
    shown = failures(small_shop, report.dagster_run_id)
    assert shown == {"numbers": f"{told}; main is unchanged at {before[:12]}"}
    assert data == []
    assert (again.succeeded, again.tables[0].rows_total) == (True, 10)
    assert small_shop.claims == [ClaimState.COMMITTED]


def test_a_full_disk_under_what_memory_does_not_hold_is_told_so(
    small_shop: Shop,
) -> None:
    code = (
        "duckdb_conn.execute(\"SET memory_limit = '20MB'; SET threads = 1\")\n"
        "result = duckdb_conn.sql('FROM range(5000000) ORDER BY hash(range)')"
    )
    small_shop.publish(bronze({"numbers": code}, file="pipeline.py"))
    before = small_shop.main

    report = small_shop.run()

    told = report.tables[0].error or ""
    assert "pipeline.py:2: out of disk: no room (" in told
    assert "under RAT_HOME for what memory does not hold; make room there" in told
    assert_nothing_is_half_done(small_shop, main=before)


def test_a_log_that_does_not_fit_on_the_disk_holds_nothing_back(
    small_shop: Shop, settings: Settings
) -> None:
    small_shop.publish(GOOD)
    filler = settings.home / "filler"
    before = small_shop.main
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 4_000_000)

    report = small_shop.run()
    assert_nothing_is_half_done(small_shop, main=before)
    filler.unlink()
    again = small_shop.run()

    assert "No space left on device" in (report.tables[0].error or "")
    assert again.succeeded


# Others at the same time.

APPENDING = "-- @merge_strategy: append_only\nSELECT range AS n FROM range(3)"


def test_a_full_refresh_takes_nothing_from_a_run_that_reads(shop: Shop) -> None:
    reads = "SELECT count(*) AS rows, min(n) AS least FROM {{ ref('bronze.numbers') }}"
    shop.publish(GOOD | {"shop/pipelines/gold/total/pipeline.sql": reads})
    shop.run("shop.bronze.numbers")
    more = dict.fromkeys(GOOD, "SELECT range + 1 AS n FROM range(5)")

    def refresh() -> None:
        shop.publish(more)
        with ThreadPoolExecutor() as pool:
            refreshed = pool.submit(
                shop.run, "shop.bronze.numbers", full_refresh=True
            ).result(timeout=60)
        assert refreshed.succeeded

    with when("write", refresh):
        during = shop.run("shop.gold.total")
    rows = shop.rows("shop.gold.total")
    after = shop.run("shop.gold.total")

    assert (during.succeeded, rows) == (True, [(3, 0)])
    assert (after.succeeded, shop.rows("shop.gold.total")) == (True, [(5, 1)])
    assert_nothing_is_half_done(shop, main=shop.main)


def test_two_processes_run_one_pipeline_one_after_the_other(shop: Shop) -> None:
    shop.publish(bronze({"numbers": APPENDING}))

    both = [spawn(["run", "shop"], shop.whole.settings) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert len(shop.rows("shop.bronze.numbers")) == 6
    first, second = sorted(
        shop.runs(), key=lambda run: run.finished_at or run.created_at
    )
    assert (second.started_at or first.created_at) > (
        first.finished_at or first.created_at
    )
    assert_nothing_is_half_done(shop, main=shop.main)


# Ctrl-C.

ENDLESS = "SELECT max(a.range + b.range) AS n FROM range(4000000) a, range(4000000) b"
INTERRUPTED = {
    "branch": "shop.bronze.numbers",
    "compile": "shop.bronze.numbers",
    "write": "shop.bronze.endless",
    "test": "shop.bronze.tested",
    "publish": "shop.bronze.numbers",
}
# Says when a phase has begun; a phase that is over at once waits there for the signal.
CHILD = """
import os, sys, threading
from rat_assets import journal
from rat_assets.commands.running import run_ask
from rat_assets.runner import RunAsk
from rat_resources.platform import platform

screen = os.fdopen(os.dup(1), "w")
for word in sys.argv[1:]:
    phase, _, table = word.partition("=")

    def listen(progress):
        if (progress.phase, progress.state) == (phase, "begun"):
            print(phase, file=screen, flush=True)
            if phase not in ("write", "test"):
                threading.Event().wait(60)

    journal.listeners[:] = [listen]
    report, stopped = run_ask(platform(), RunAsk((table,)))
    print(report.tables[0].status, stopped, file=screen, flush=True)
"""


def test_ctrl_c_in_any_phase_publishes_nothing_and_leaves_nothing(shop: Shop) -> None:
    shop.publish(
        bronze(
            {"numbers": reading(rows=2), "endless": ENDLESS, "tested": "SELECT 1 AS n"}
        )
        | {"shop/pipelines/bronze/tested/tests/quality/endless.sql": ENDLESS}
    )
    settle(shop.land("january.csv", "id\n1\n"))
    before = shop.main
    words = [f"{phase}={table}" for phase, table in INTERRUPTED.items()]

    told = []
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        env=os.environ | shop.whole.settings.environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        for phase in INTERRUPTED:
            assert child.stdout.readline() == f"{phase}\n"
            child.send_signal(signal.SIGINT)
            told.append(child.stdout.readline())

    assert told == ["cancelled True\n"] * len(INTERRUPTED)
    assert {run.status for run in shop.runs()} == {"cancelled"}
    assert shop.claims == []
    assert_nothing_is_half_done(shop, main=before)
    assert shop.run("shop.bronze.numbers").tables[0].rows_total == 2
