"""Quality: what a test says, and that it says something whatever happens."""

from collections.abc import Iterator

import duckdb
import pytest

from rat_assets.quality import Bench, TestResult, describe_failure
from rat_resources.metadata.quality import Verdict
from rat_resources.names import TableName
from rat_resources.specs import QualityTest
from tests.factories import Shop

ENDLESS = "SELECT max(a.range * b.range) FROM range(4000000) a, range(4000000) b"


def a_test(severity: str = "error") -> QualityTest:
    return QualityTest("small", "tests/quality/small.sql", severity=severity)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with duckdb.connect() as connection:
        yield Bench(connection)


@pytest.mark.parametrize(
    ("sql", "severity", "verdict", "blocks"),
    [
        ("SELECT 1 WHERE false", "error", Verdict.PASSED, False),
        ("SELECT 1 WHERE false", "warn", Verdict.PASSED, False),
        ("SELECT 1", "error", Verdict.FAILED, True),
        ("SELECT 1", "warn", Verdict.WARNED, False),
        ("SELECT missing", "error", Verdict.ERROR, True),
        ("SELECT missing", "warn", Verdict.ERROR, False),
        ("SELECT error('no')", "error", Verdict.ERROR, True),
    ],
)
def test_a_query_for_offenders_is_a_verdict(
    bench: Bench,
    sql: str,
    severity: str,
    verdict: Verdict,
    *,
    blocks: bool,
) -> None:
    result = bench.run(a_test(severity), sql=sql)

    assert (result.verdict, result.blocks) == (verdict, blocks)
    assert bench.results == [result]


def test_offenders_are_counted_and_some_are_kept(bench: Bench) -> None:
    result = bench.run(a_test(), sql="SELECT range AS n FROM range(30)")

    assert result.offenders == 30
    assert list(result.sample) == [{"n": n} for n in range(20)]


def test_a_test_that_takes_too_long_could_not_run(bench: Bench) -> None:
    bench.time_limit = 0.1

    late = bench.run(a_test(), sql=ENDLESS)
    bench.time_limit = 60
    next_one = bench.run(a_test(), sql="SELECT 1 WHERE false")

    assert (late.verdict, late.message) == (
        Verdict.ERROR,
        "took more than 0.1 s; let it read less",
    )
    assert next_one.verdict == Verdict.PASSED


@pytest.mark.parametrize(
    ("offenders", "summary"),
    [
        (0, "small: passed, no offenders"),
        (1, "small: failed, 1 offending row"),
        (1200, "small: failed, 1,200 offending rows"),
    ],
)
def test_a_result_is_one_line(bench: Bench, offenders: int, summary: str) -> None:
    result = bench.run(a_test(), sql=f"FROM range({offenders})")

    assert result.summary == summary


@pytest.mark.parametrize(
    ("count", "said"), [(1, "1 quality test "), (2, "2 quality tests ")]
)
def test_a_failure_counts_what_stopped_it(bench: Bench, count: int, said: str) -> None:
    results: list[TestResult] = [
        *(bench.run(a_test(), sql="SELECT 1") for _ in range(count)),
        bench.run(a_test("warn"), sql="SELECT 1"),
    ]

    failure = describe_failure(results, table=TableName("shop", "bronze", "numbers"))

    assert failure.startswith(f"shop.bronze.numbers: {said}stopped the publication")
    assert len(failure.splitlines()) == count + 1


@pytest.mark.parametrize(
    "code",
    [
        "SELECT chr(0) || 'x' AS a",  # kept as a sample
        "SELECT error(chr(0) || 'x') AS a",
    ],
)
def test_a_run_ends_whatever_characters_its_rows_hold(shop: Shop, code: str) -> None:
    shop.publish(
        {
            "shop/pipelines/bronze/zeros/pipeline.sql": code,
            "shop/pipelines/bronze/zeros/config.yaml": (
                "columns: {a: {tests: [accepted_values: [b]]}}"
            ),
        }
    )

    shop.run()

    (run,) = shop.runs()
    assert run.status == "failed"
    assert run.error
    assert shop.branches == []


def test_of_long_cells_the_beginning_is_kept() -> None:
    query = "SELECT repeat('x', 2000) AS a, [repeat('y', 2000)] AS b, 'z' AS c, 1 AS d"

    with duckdb.connect() as connection:
        result = Bench(connection).run(a_test(), sql=query)

    (row,) = result.sample
    assert (len(row["a"]), len(row["b"])) == (1_000, 1_000)
    assert (row["c"], row["d"]) == ("z", 1)
    assert row["b"].startswith('["y')
