"""Python pipelines: what a script finds, what it may leave, and what is said when it fails."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from rat_assets.scripts import NAMES, ScriptContext, run_script
from rat_resources.configuration import PipelineConfig
from rat_resources.errors import QueryError
from rat_resources.names import TableName
from tests.factories import Shop

PATH = "shop/pipelines/bronze/numbers/pipeline.py"
STARTED = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Stage:
    """Where a script runs."""

    connection: duckdb.DuckDBPyConnection
    said: list[str] = field(default_factory=list)

    def run(self, code: str) -> list[tuple[Any, ...]]:
        """Run a script; the rows that it left."""
        context = ScriptContext(
            table=TableName("shop", "bronze", "numbers"),
            config=PipelineConfig(),
            run_id=uuid.UUID(int=1),
            run_started_at=STARTED,
            is_incremental=True,
            watermark_value="7",
            landing_zones={"orders": "/staged/orders"},
            log=self.said.append,
        )
        query = run_script(code, path=PATH, connection=self.connection, context=context)
        return self.connection.execute(query).fetchall()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with duckdb.connect() as connection:
        yield Stage(connection)


# Results.


@pytest.mark.parametrize(
    "code",
    [
        "result = pa.table({'n': [0, 1, 2]})",
        "result = pa.record_batch({'n': [0, 1, 2]})",
        "t = pa.table({'n': [0, 1, 2]})\nresult = t.to_reader()",
        "result = duckdb_conn.sql('SELECT range AS n FROM range(3)')",
        "result = duckdb_conn.sql('SELECT range AS n FROM range(3)').to_arrow_table()",
        "result = duckdb_conn.sql('SELECT range AS n FROM range(3)').to_arrow_reader(2)",
        "result = duckdb_conn.cursor().sql('SELECT range AS n FROM range(3)')",
        "import pandas\nresult = pandas.DataFrame({'n': [0, 1, 2]})",
        "import pandas\nd = pandas.DataFrame({'n': [5, 0, 1, 2]})\nresult = d[d.n < 5]",
        "import pandas\nresult = pandas.DataFrame({'n': [0, 1, 2]}).set_index('n')",
        "import polars\nresult = polars.DataFrame({'n': [0, 1, 2]})",
    ],
    ids=[
        "an Arrow table",
        "a batch",
        "a reader",
        "a relation",
        "an Arrow table of DuckDB",
        "a reader of DuckDB",
        "a relation of a cursor",
        "a pandas frame",
        "a filtered pandas frame",
        "a pandas frame with a named index",
        "a polars frame",
    ],
)
def test_a_result_is_whatever_exports_arrow(stage: Stage, code: str) -> None:
    assert stage.run(code) == [(0,), (1,), (2,)]


def test_a_relation_of_another_connection_is_met_with_advice(stage: Stage) -> None:
    code = (
        "import duckdb\nother = duckdb.connect()\nresult = other.sql('SELECT 1 AS n')"
    )

    with pytest.raises(QueryError, match="duckdb_conn") as caught:
        stage.run(code)

    assert str(caught.value).startswith(f"{PATH}:3: ")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("result = 1\nresult = None\n", f"{PATH}:2: the script left no result"),
        ("if False:\n    result = 1\n", f"{PATH}:2: the script left no result"),
        ("result = 1\ndel result", f"{PATH}:1: the script left no result"),
        ("\nresult = 'rows'", f"{PATH}:2: result is a str, which exports no Arrow"),
    ],
)
def test_a_result_that_is_none_names_its_line(
    stage: Stage, code: str, said: str
) -> None:
    with pytest.raises(QueryError) as caught:
        stage.run(code)

    assert str(caught.value).startswith(said)


# Failures.


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nresult = x / 0", ":2: ZeroDivisionError: division by zero"),
        (
            "def divide(x):\n    return x / 0\n\nresult = divide(1)",
            ":2: ZeroDivisionError",
        ),
        ("import json\nresult = json.loads('{')", ":2: JSONDecodeError"),
        ("\nresult = duckdb_conn.sql('SELECT missing')", ":2: Binder Error"),
        ("import sys\nresult = sys.exit('enough')", ":2: SystemExit: enough"),
        ("\n\nresult = ref('a.b.c.d')", ":3: "),
        ("result = landing_zone('nowhere')", ":1: "),
        (
            "\nresult = duckdb_conn.sql(\"SELECT CAST(x AS INT) FROM (VALUES ('x')) t(x)\")",
            ":2: Conversion Error",
        ),
        (
            '\nresult = duckdb_conn.sql("SELECT CASE WHEN range > 9000 '
            "THEN error('no') ELSE 1 END FROM range(10000)\").to_arrow_reader(10)",
            ":2: ",
        ),
    ],
    ids=[
        "its own",
        "a function's",
        "a library's",
        "a query's",
        "an exit",
        "a bad ref",
        "an unknown zone",
        "a lazy relation",
        "a reader that breaks",
    ],
)
def test_an_error_names_the_scripts_own_line(
    stage: Stage, code: str, said: str
) -> None:
    with pytest.raises(QueryError) as caught:
        stage.run(code)

    assert str(caught.value).startswith(f"{PATH}{said}")


# What a script finds and says.


def test_the_injected_names_are_those_that_are_documented(stage: Stage) -> None:
    names = ", ".join(f"'{name}'" for name in NAMES)

    stage.run(f"log(all(n in globals() for n in [{names}]))\n{NOTHING}")

    assert stage.said == ["True"]


NOTHING = "result = pa.table({'n': pa.array([], pa.int32())})"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("ref('bronze.orders')", '"shop.bronze.orders"'),
        ("ref('crm.bronze.people')", '"crm.bronze.people"'),
        ("this", '"shop.bronze.numbers"'),
        ("landing_zone('orders')", "/staged/orders"),
        ("landing_zone('orders', new=True)", "/staged/orders"),
        ("run_started_at", STARTED.isoformat()),
        ("is_incremental", "True"),
        ("watermark_value", "7"),
        ("run_id", str(uuid.UUID(int=1))),
        ("config.merge_strategy", "full_refresh"),
        ("__name__", "__rat_pipeline__"),
    ],
)
def test_a_script_knows_its_run(stage: Stage, expression: str, value: str) -> None:
    stage.run(f"log({expression})\n{NOTHING}")

    assert stage.said == [value]


def test_what_it_prints_is_said_line_by_line(stage: Stage) -> None:
    stage.run(
        "print('one')\nprint('two\\nthree')\nlog.info('%s!', 'four')\n"
        f"print('five', end='')\n{NOTHING}"
    )

    assert stage.said == ["one", "two", "three", "four!", "five"]


def test_printing_without_end_is_cut_off(stage: Stage) -> None:
    stage.run(f"for n in range(2000):\n    print(n)\n{NOTHING}")

    assert len(stage.said) == 1001
    assert "the rest is left out" in stage.said[-1]


# In a run.

SCRIPT = {
    "shop/pipelines/bronze/orders/pipeline.py": """
# @merge_strategy: incremental
# @unique_key: id
# @watermark_column: id
folder = landing_zone('orders')
print(f'after {watermark_value}')
result = duckdb_conn.sql(f"FROM read_csv('{folder}/*.csv')")
""",
    "shop/pipelines/silver/orders/pipeline.py": """
import pandas
frame = duckdb_conn.sql(f"FROM {ref('bronze.orders')}").df()
result = frame.groupby('customer').agg(orders=('id', 'count'))
""",
}


def test_scripts_read_and_write_tables_like_queries(shop: Shop) -> None:
    shop.publish(SCRIPT)
    shop.land("a.csv", "id,customer\n1,ann\n2,bob\n3,ann\n")

    first = shop.run()
    again = shop.run("shop.bronze.orders")

    assert first.succeeded, [each.error for each in first.tables]
    assert shop.rows("shop.silver.orders") == [("ann", 2), ("bob", 1)]
    assert again.tables[0].rows_total == 3
    said = [
        line["message"]
        for run in shop.runs()
        for line in run.logs or []
        if line["message"].startswith("after")
    ]
    assert said == ["after None", "after 3"]


def test_a_script_that_exits_is_a_failed_run(shop: Shop) -> None:
    code = "import sys\nsys.exit(3)\nresult = None"
    shop.publish({"shop/pipelines/bronze/orders/pipeline.py": code})

    report = shop.run()

    (table,) = report.tables
    assert table.status == "failed"
    assert (table.error or "").startswith(
        "shop/pipelines/bronze/orders/pipeline.py:2: SystemExit: 3"
    )
