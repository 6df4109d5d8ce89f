"""`rat mirror`: what it says of what it did, and its exit code."""

import pytest

from rat_assets.commands import mirroring
from tests.factories import Shop
from tests.rat_resources.mirror.dagster_jobs import change, execute, run_of, succeeds


def test_it_says_what_it_told_and_then_that_there_is_nothing_new(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(shop.instance, succeeds)
    capsys.readouterr()

    codes = [mirroring.mirror(everything=everything) for everything in (False, True)]

    assert codes == [0, 0]
    assert capsys.readouterr().out.splitlines()[:3] == [
        "1 run of Dagster's log read; rows written: 1 run, 2 steps; 0 items could not be read",
        "0 runs of pipelines told anew",
        "1 run of Dagster's log read; rows written: 0 runs, 0 steps; 0 items could not be read",
    ]


def test_what_cannot_be_read_is_named_and_the_rest_is_told(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, whole = (execute(shop.instance, succeeds) for _ in range(2))
    change(
        shop.whole.metadata,
        "UPDATE dagster.runs SET run_body = '{' WHERE run_id = :run",
        run=broken,
    )

    code = mirroring.mirror(everything=False)

    assert code == 1
    assert f"run {broken}: its body is no JSON" in capsys.readouterr().err
    assert run_of(shop.whole.metadata, whole).result_state == "SUCCEEDED"
