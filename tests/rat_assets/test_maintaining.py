"""The job that maintains: it plans until it is told to do it."""

from collections.abc import Mapping
from typing import Any

import pytest

from rat_assets.commands import maintaining
from rat_assets.maintaining import OP, maintain_job
from rat_resources.lake.appending import append
from rat_resources.names import TableName
from tests.factories import Shop

BRONZE = TableName("shop", "bronze", "orders")


def maintain(shop: Shop, **asked: object) -> Mapping[str, Any]:
    """Run the job; what it says it did."""
    done = maintain_job.execute_in_process(
        run_config={"ops": {OP: {"config": asked}}},
        instance=shop.instance,
        resources={"platform": shop.whole},
    )
    (event,) = done.events_for_node(OP)[1:2]
    metadata = event.step_output_data.metadata
    return {key: value.value for key, value in metadata.items()}


@pytest.fixture
def scattered(open_shop: Shop) -> Shop:
    """A shop whose orders came in a file each."""
    for number in range(4):
        query = (
            f"SELECT {number} AS id, 'eve' AS customer, 1 AS amount, now() AS loaded_at"
        )
        with open_shop.whole.lake.connect() as connection:
            append(open_shop.whole.lake, BRONZE, connection=connection, query=query)
    return open_shop


def test_the_job_plans_until_it_is_told_to_do_it(scattered: Shop) -> None:
    before = scattered.main

    planned = maintain(scattered, tables=[str(BRONZE)])
    after_plan = scattered.main
    done = maintain(scattered, tables=[str(BRONZE)], dry_run=False)

    (would,), (did,) = (said["what"].records for said in (planned, done))
    assert after_plan == before != scattered.main
    assert would.data["files"] == 5
    assert did.data["files after"] == 1


def test_the_command_says_what_it_would_do_and_does_it(
    scattered: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    del scattered

    codes = [
        maintaining.maintain([str(BRONZE)], dry_run=dry, adopt=False, as_json=False)
        for dry in (True, False, True)
    ]

    said = capsys.readouterr().out
    assert codes == [0, 0, 0]
    assert "small files (5)  5 → 1" in said
    assert f"{BRONZE}: 5 files became 1" in said
    assert said.endswith("no table needs anything\n")
