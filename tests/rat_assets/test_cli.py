"""What a user types, and what is said when it goes wrong."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from rat_assets import cli
from rat_assets.cli import rat
from rat_assets.demo import example_folder
from rat_resources.errors import Problem, PublishError, QueryError
from rat_resources.settings import Settings
from tests.factories import Shop

# A command pins its settings in the environment for good.

RAT = str(Path(sys.executable).parent / "rat")
HEAVY = ("dagster", "duckdb", "pyiceberg", "sqlalchemy", "pandas", "pyarrow")


def call(*arguments: str) -> Result:
    """What a call of the command comes to."""
    return CliRunner().invoke(rat, list(arguments))


def spawn(arguments: Sequence[str], settings: Settings) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [RAT, *arguments],
        env=os.environ | settings.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Help.


def test_help_waits_for_nothing_that_a_command_needs() -> None:
    code = "import sys, rat_assets.cli; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("name", sorted(rat.commands))
def test_every_command_explains_itself(name: str) -> None:
    result = call(name, "--help")

    assert result.exit_code == 0
    assert rat.commands[name].get_short_help_str(200) in result.output


def test_no_explanation_is_cut_off() -> None:
    commands = call("--help").output.partition("Commands:")[2]

    assert "query" in commands
    assert "..." not in commands


# Wrong calls.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["qery"], "did you mean query?"),
        (["xyzzy"], "rat --help"),
        (["run", "nyc", "--downstrem"], "--downstream"),
        (["run"], "name what to run"),
        (["run", "nyc", "--all"], "name what to run"),
        (["query"], "SQL"),
        (["query", "SELECT 1", "--format", "xml"], "parquet"),
        (["query", "SELECT 1", "--limit", "-1"], "--limit"),
        (["publish", "nowhere"], "nowhere"),
        (["upload", "nyc/flights", "nowhere.csv"], "nowhere.csv"),
        (["runs", "--limit", "x"], "--limit"),
        (["dev", "--port", "0"], "--port"),
    ],
)
def test_a_wrong_call_is_met_with_advice(arguments: list[str], said: str) -> None:
    result = call(*arguments)

    assert result.exit_code == 2
    assert said in result.output


# Errors.


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> "Failing":
    """A command that fails as it is told."""
    return Failing(monkeypatch)


class Failing:
    """A way to call a command that raises something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, error: BaseException) -> Result:
        """What a command that raises *error* comes to."""

        @click.command()
        def fail() -> None:
            raise error

        self.monkeypatch.setitem(rat.commands, "fail", fail)
        return call("fail")


def test_an_error_is_one_line(failing: Failing) -> None:
    result = failing(QueryError("no such column", fix="look again"))

    assert result.exit_code == 1
    assert result.stderr == "rat: no such column; look again\n"
    assert result.stdout == ""


def test_every_problem_of_a_publish_is_a_line(failing: Failing) -> None:
    problems = [Problem("a.sql", 3, "is wrong", "mend it"), Problem("b", 1, "x", "y")]

    result = failing(PublishError(problems))

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "a.sql:3: is wrong; mend it",
        "b:1: x; y",
        "rat: nothing was published; solve 2 problems",
    ]


def test_what_nobody_expected_is_one_line_too(failing: Failing) -> None:
    result = failing(RuntimeError("first\nsecond"))

    assert result.exit_code == 1
    assert result.stderr == (
        "rat: RuntimeError: first; set RAT_DEBUG=1 for the traceback\n"
    )


def test_a_traceback_is_shown_to_who_asks(
    failing: Failing,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAT_DEBUG", "1")

    result = failing(RuntimeError("first"))

    assert "Traceback" in result.stderr + capsys.readouterr().err


def test_ctrl_c_is_no_error(failing: Failing) -> None:
    result = failing(KeyboardInterrupt())

    assert result.exit_code == 130
    assert result.stderr.strip() == "rat: stopped"


def test_who_reads_on_no_longer_is_not_bothered(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "forget_output", lambda: None)

    result = failing(BrokenPipeError())

    assert result.exit_code == 141
    assert result.stderr == ""


# Commands.


def test_what_is_published_runs_and_can_be_asked(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", "id,customer,amount\n1,ann,10.50\n2,bob,20\n")

    ran = call("run", "shop", "--json")
    asked = call("query", "FROM shop.bronze.orders ORDER BY id", "--format", "json")

    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert report["succeeded"] is True
    assert {each["status"] for each in report["tables"]} == {"published"}
    assert [row["id"] for row in json.loads(asked.stdout)] == [1, 2]


def test_a_run_shows_its_phases_and_what_came_of_it(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", "id,customer,amount\n1,ann,10.50\n")
    done = spawn(["run", "shop.bronze.orders"], shop.whole.settings)

    said, complained = done.communicate(timeout=60)

    assert done.returncode == 0, complained
    for phase in ("branch", "compile", "write", "test", "publish"):
        assert phase in said
    assert "✔ shop.bronze.orders: published, 1 row (+1)" in said


def test_a_run_that_is_stopped_by_its_tests_exits_with_one(shop: Shop) -> None:
    shop.publish()
    shop.land("broken.csv", "id,customer,amount\n5,eve,-1\n")

    ran = call("run", "shop", "--json")
    shown = call("runs", json.loads(ran.stdout)["dagster_run_id"], "--json")

    assert ran.exit_code == 1
    statuses = [each["status"] for each in json.loads(ran.stdout)["tables"]]
    assert statuses == ["failed", "skipped", "skipped"]
    assert json.loads(shown.stdout)["status"] == "failed"


def test_an_unknown_pipeline_is_a_failure_with_a_guess(shop: Shop) -> None:
    shop.publish()

    result = call("run", "shop.bronze.order")

    assert result.exit_code == 1
    assert "did you mean shop.bronze.orders?" in result.stderr


def test_tables_runs_and_files_are_listed(shop: Shop, tmp_path: Path) -> None:
    shop.publish()
    file = tmp_path / "january.csv"
    file.write_text("id,customer,amount\n1,ann,10.50\n")

    uploaded = call("upload", "shop/orders", str(file), "--json")
    call("run", "shop", "--json")
    tables = json.loads(call("tables", "--json").stdout)
    runs = json.loads(call("runs", "--json").stdout)
    shown = call("runs", runs[0]["run_id"][:10])

    assert json.loads(uploaded.stdout)[0]["file"] == "january.csv", uploaded.output
    assert [each["table"] for each in tables] == [
        "shop.bronze.orders",
        "shop.gold.revenue",
        "shop.silver.orders",
    ]
    assert tables[0]["rows"] == 1
    assert tables[0]["metadata_location"].endswith(".metadata.json")
    assert len(runs) == 3
    assert "publish" in shown.output


def test_an_unknown_zone_is_met_with_the_nearest(shop: Shop, tmp_path: Path) -> None:
    shop.publish()
    file = tmp_path / "january.csv"
    file.write_text("x\n")

    result = call("upload", "shop/order", str(file))

    assert result.exit_code == 1
    assert "did you mean shop/orders?" in result.stderr


@pytest.mark.parametrize(
    ("form", "printed"),
    [("table", "a\n─\n"), ("csv", "a\n"), ("json", "[]\n")],
)
@pytest.mark.usefixtures("shop")
def test_no_rows_are_no_rows_in_every_form(form: str, printed: str) -> None:
    result = call("query", "SELECT 1 AS a WHERE false", "--format", form)

    assert result.stdout == printed


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(("limit", "rows"), [("0", 3), ("2", 2)])
def test_parquet_is_a_file_of_the_rows(limit: str, rows: int) -> None:
    sql = "SELECT range AS n, 'x' AS x FROM range(3)"

    result = call("query", sql, "--format", "parquet", "--limit", limit)

    table = pq.read_table(pa.BufferReader(result.stdout_bytes))
    assert table.schema.names == ["n", "x"]
    assert table.num_rows == rows


def test_an_earlier_commit_can_be_asked(shop: Shop) -> None:
    shop.publish()
    shop.land("january.csv", "id,customer,amount\n1,ann,10.50\n")
    shop.run("shop.bronze.orders")
    then = shop.main
    shop.land("february.csv", "id,customer,amount\n2,bob,20\n")
    shop.run("shop.bronze.orders")
    sql = "SELECT count(*) AS n FROM bronze.orders"

    counts = [
        json.loads(call("query", sql, "--format", "json", "--ref", ref).stdout)
        for ref in ("main", then, then[:12], f"main@{then}")
    ]
    unknown = call("query", sql, "--ref", "maim")

    assert counts == [[{"n": 2}], [{"n": 1}], [{"n": 1}], [{"n": 1}]]
    assert "did you mean main?" in unknown.stderr


@pytest.mark.usefixtures("shop")
def test_json_has_numbers_and_iso_times() -> None:
    sql = "SELECT 1.50::DECIMAL(9,2) d, 2::HUGEINT h, DATE '2013-01-02' t, NULL n"

    result = call("query", sql, "--format", "json")

    assert json.loads(result.stdout) == [
        {"d": 1.5, "h": 2, "t": "2013-01-02", "n": None}
    ]


@pytest.mark.usefixtures("shop")
def test_cut_rows_are_said_beside_them() -> None:
    cut = call("query", "FROM range(5)", "--limit", "2", "--format", "csv")
    whole = call("query", "FROM range(2000)", "--limit", "0", "--format", "csv")

    assert cut.stdout == "range\n0\n1\n"
    assert "the first 2 rows" in cut.stderr
    assert len(whole.stdout.splitlines()) == 2001
    assert whole.stderr == ""


def test_settings_mask_secrets(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    del settings
    monkeypatch.setenv("RAT_POSTGRES_URL", "postgresql://me:hunter2@db/rat")

    result = call("settings")

    assert "hunter2" not in result.output
    assert "me:***@db" in result.output


def test_a_postgres_of_your_own_is_left_alone(settings: Settings) -> None:
    del settings

    stopped = call("stop")
    printed = call("dsn")

    assert "your own" in stopped.output
    assert printed.stdout.startswith("postgresql://")


@pytest.mark.usefixtures("shop")
def test_migrating_and_reconciling_twice_changes_nothing() -> None:
    migrated = [call("migrate").output for _ in range(2)]
    reconciled = json.loads(call("reconcile", "--json").stdout)

    assert all("already at" in each for each in migrated)
    assert reconciled == {"done": [], "left_open": []}


def test_a_publish_tells_what_became_current(shop: Shop) -> None:
    del shop
    folder = str(example_folder())

    first = json.loads(call("publish", folder, "-m", "why", "--json").stdout)
    second = json.loads(call("publish", folder, "--json").stdout)

    assert "nyc.silver.flights" in first["created"]
    assert second["is_new"] is False
    assert second["unchanged"] == first["created"]


# Processes.


def test_ctrl_c_stops_a_run_and_publishes_nothing(shop: Shop) -> None:
    endless = (
        "SELECT max(a.range + b.range) AS n FROM range(4000000) a, range(4000000) b"
    )
    shop.publish({"shop/pipelines/bronze/endless/pipeline.sql": endless})
    before = shop.main
    running = spawn(["run", "shop"], shop.whole.settings)
    assert running.stdout is not None

    said = ""
    while "compile" not in said:
        said += running.stdout.read(1)
    running.send_signal(signal.SIGINT)
    said, complained = running.communicate(timeout=60)

    assert running.returncode == 130
    assert complained.strip() == "rat: stopped"
    assert "endless: cancelled" in said
    assert (shop.main, shop.branches) == (before, [])


def test_a_reader_that_leaves_is_no_error(shop: Shop) -> None:
    sql = "SELECT range, repeat('x', 1000) FROM range(100000)"
    done = spawn(["query", sql, "--format", "csv", "--limit", "0"], shop.whole.settings)
    assert done.stdout is not None
    assert done.stderr is not None

    done.stdout.readline()
    done.stdout.close()

    assert done.wait(timeout=60) == 141
    assert done.stderr.read() == ""
    done.stderr.close()


def test_waiting_lists_the_files_of_a_failed_run(shop: Shop) -> None:
    shop.publish()
    shop.land("broken.csv", "id,customer,amount\n5,eve,-1\n")
    shop.run("shop.bronze.orders")

    listed = call("waiting")
    as_json = call("waiting", "--json")

    assert listed.exit_code == 0
    assert "broken.csv" in listed.stdout
    (file,) = json.loads(as_json.stdout)
    assert (file["zone"], file["pipeline"]) == ("shop/orders", "shop.bronze.orders")
    assert "amount_is_positive" in file["reason"]


# Staleness and impact.


def test_stale_says_what_why_and_by_its_exit_code_whether(open_shop: Shop) -> None:
    current = call("stale")
    open_shop.land("more.csv", "id,customer,amount\n9,eve,3\n")
    open_shop.run("shop.bronze.orders")

    listed = call("stale")
    (found,) = json.loads(call("stale", "--json").stdout)
    planned = call("run", "--stale", "--dry-run")

    assert (current.exit_code, current.output) == (0, "nothing is stale\n")
    assert listed.exit_code == 1
    assert "shop.bronze.orders has rows that it has not read" in listed.output
    assert found["table"] == "shop.silver.orders"
    assert [each["why"] for each in found["causes"]] == ["data"]
    assert planned.exit_code == 0
    assert "where their rows change: shop.gold.revenue" in planned.output


def test_what_is_stale_is_run_by_itself(open_shop: Shop) -> None:
    open_shop.land("more.csv", "id,customer,amount\n9,eve,3\n")
    open_shop.run("shop.bronze.orders")

    done = call("run", "--stale")
    refused = call("run", "shop.gold.revenue", "--stale")

    assert done.exit_code == 0, done.output
    assert "2 tables in 2 runs" in done.output
    assert ("eve",) in [row[:1] for row in open_shop.rows("shop.gold.revenue")]
    assert refused.exit_code == 2


@pytest.mark.usefixtures("open_shop")
def test_impact_shows_what_depends_on_a_column_as_a_tree() -> None:
    shown = call("impact", "shop.silver.orders.customer")
    found = json.loads(call("impact", "shop.landing.orders", "--json").stdout)
    missing = call("impact", "shop.silver.order")

    first, second, third, *_ = shown.output.splitlines()
    assert first == "shop.silver.orders.customer  2 rows"
    assert second.startswith("└─ → shop.gold.revenue  2 rows, ")
    assert third.strip().startswith("all of it: it chooses, joins, groups")
    assert "1 table reads it" in shown.output
    assert [each["table"] for each in found["readers"]] == [
        "shop.bronze.orders",
        "shop.silver.orders",
        "shop.gold.revenue",
    ]
    assert found["readers"][0]["owner"] == "team:shop"
    assert found["totals"]["longest_path"][-1] == "shop.gold.revenue"
    assert missing.exit_code == 1
    assert "did you mean shop.silver.orders?" in missing.output


# Lineage.


@pytest.mark.usefixtures("open_shop")
def test_a_column_is_followed_from_the_file_to_gold() -> None:
    up = call("lineage", "shop.gold.revenue.revenue", "--up")
    down = call("lineage", "shop.landing.orders.amount", "--down")
    both = call("lineage", "shop.silver.orders.AMOUNT")
    none = call("lineage", "shop.gold.revenue.orders")

    assert up.output.splitlines() == [
        "shop.gold.revenue.revenue",
        "└─ ← shop.silver.orders.amount",
        "   └─ ← shop.bronze.orders.amount",
        "      └─ ← shop.landing.orders.amount",
    ]
    assert down.output.splitlines() == [
        "shop.landing.orders.amount",
        "└─ → shop.bronze.orders.amount",
        "   └─ → shop.silver.orders.amount",
        "      └─ → shop.gold.revenue.revenue",
    ]
    assert both.output.splitlines() == [
        "shop.silver.orders.amount",
        "├─ ← shop.bronze.orders.amount",
        "│  └─ ← shop.landing.orders.amount",
        "└─ → shop.gold.revenue.revenue",
    ]
    assert none.output.splitlines() == [
        "shop.gold.revenue.orders",
        "└─ ← made here (from no column)",
    ]


def test_the_lineage_of_a_script_says_that_it_is_one(shop: Shop) -> None:
    script = 'result = duckdb_conn.sql("SELECT 1 AS id")'
    shop.publish({"shop/pipelines/gold/one/pipeline.py": script})
    shop.run()

    shown = call("lineage", "shop.gold.one.id")

    assert "← not traced: a Python pipeline" in shown.output


@pytest.mark.usefixtures("open_shop")
def test_the_lineage_of_a_table_is_that_of_each_column() -> None:
    shown = json.loads(call("lineage", "shop.gold.revenue", "--json", "--up").output)

    assert [each["column"] for each in shown["columns"]] == [
        "shop.gold.revenue.customer",
        "shop.gold.revenue.revenue",
        "shop.gold.revenue.orders",
    ]
    first = {"from": "shop.silver.orders.amount", "to": "shop.gold.revenue.revenue"}
    assert first in shown["up"]
    assert "down" not in shown


@pytest.mark.usefixtures("open_shop")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shop.gold.revenu", "did you mean shop.gold.revenue?"),
        ("shop.gold.revenue.revenu", "did you mean revenue?"),
        ("revenue", "there is shop.bronze.orders"),
    ],
)
def test_an_unknown_column_is_met_with_the_nearest(name: str, meant: str) -> None:
    done = call("lineage", name)

    assert done.exit_code == 1
    assert meant in done.output


def test_nothing_is_known_before_the_first_run(shop: Shop) -> None:
    shop.publish()

    done = call("lineage", "shop.gold.revenue")

    assert done.exit_code == 1
    assert "no lineage is known of shop.gold.revenue; rat run finds some" in done.output


# Taking away.


def test_a_retired_table_stays_and_says_so(shop: Shop) -> None:
    one, two = (f"shop/pipelines/gold/{name}/pipeline.sql" for name in ("one", "two"))
    shop.publish({one: "SELECT 1 AS id", two: "SELECT 2 AS id"})
    assert shop.run("shop.gold.two").succeeded
    (shop.folder / two).unlink()

    published = call("publish", str(shop.folder))
    retired = call("retire", "shop.gold.two")

    left = "1 published pipeline of shop is not in this folder: shop.gold.two"
    assert f"{left}; rat retire shop.gold.two takes it out" in published.stderr
    assert "retired    shop.gold.two" in retired.stdout
    assert 'its table stays on main, as for rat query "FROM shop.gold.two"' in (
        retired.stderr
    )
    asked = call("query", "FROM shop.gold.two", "--format", "csv")
    assert asked.stdout.split() == ["id", "2"]
