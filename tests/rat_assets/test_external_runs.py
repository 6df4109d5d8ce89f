import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select, text

from rat_assets.external_runs import ingest_job, sync_job
from rat_resources.metadata import Metadata
from rat_resources.metadata.audit import AuditLog
from rat_resources.wiring import resources
from tests.factories import Shop
from tests.rat_resources.external_runs.partner_server import (
    PartnerServer,
    Reply,
    page,
    serve,
)
from tests.rat_resources.external_runs.rows import make_client, make_external, runs

TOKEN = "t0p-s3cr3t-t0k3n"  # noqa: S105 - nobody's
GOOD = {"client": "acme", "pipeline": "orders", "id": "1", "status": "success"}


@pytest.fixture
def acme(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[PartnerServer]:
    """A partner's API, and the client whose it is with two pipelines."""
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    with serve() as acme:
        with shop.whole.metadata.transaction() as tx:
            partner = {"base_url": acme.url, "token": "env:ACME_TOKEN", "retries": 0}
            client = make_client(tx, partner=partner)
            make_external(tx, client, name="a")
            make_external(tx, client, name="b")
        yield acme


def launch(
    shop: Shop, job: dg.JobDefinition, **config: object
) -> tuple[bool, dict[str, Any], str]:
    """Run a job; whether it succeeded, what it shows, and everything that Dagster logged."""
    op = job.nodes[0].name
    result = job.execute_in_process(
        instance=shop.instance,
        resources=dict(resources()),
        run_config={"ops": {op: {"config": config}}},
        raise_on_error=False,
    )
    metadata: dict[str, Any] = {}
    for event in result.all_events:
        if event.is_step_failure:
            shown = event.step_failure_data.user_failure_data
            metadata = dict(shown.metadata) if shown else {}
        elif event.event_type_value == "STEP_OUTPUT":
            metadata = dict(event.step_output_data.metadata)
    logged = "\n".join(str(entry) for entry in shop.instance.all_logs(result.run_id))
    values = {name: value.value for name, value in metadata.items()}
    return result.success, values, logged


def tables_with(metadata: Metadata, secret: str) -> list[str]:
    """The tables of every schema that hold a text anywhere."""
    with metadata.transaction() as tx:
        tables = tx.scalars(
            text(
                "SELECT format('%I.%I', table_schema, table_name)"
                " FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
                " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
        ).all()
        found = "SELECT EXISTS (SELECT FROM {} AS t WHERE strpos(t::text, :secret) > 0)"
        return [
            table
            for table in tables
            if tx.scalar(text(found.format(table)), {"secret": secret})
        ]


def noted(shop: Shop) -> list[tuple[str, str, str]]:
    """What the log of what people did says of runs of others."""
    with shop.whole.metadata.transaction() as tx:
        found = select(AuditLog).where(AuditLog.action.startswith("external_runs"))
        return [
            (row.action, row.resource, row.detail) for row in tx.scalars(found).all()
        ]


def test_a_sync_shows_its_numbers(shop: Shop, acme: PartnerServer) -> None:
    acme.replies = [page([{"id": "1", "status": "ok?"}, {}], "2"), page([GOOD])]

    succeeded, shown, logged = launch(shop, sync_job)

    assert succeeded
    assert shown["pipelines_processed"] == 2
    assert shown["pages_processed"] == 3
    assert (shown["runs_inserted"], shown["runs_unchanged"]) == (1, 0)
    assert (shown["runs_ignored"], shown["runs_rejected"]) == (1, 1)
    assert "neither external_run_id nor id" in shown["rejected_events"]
    assert "acme/a: there is neither" in logged
    ((action, resource, detail),) = noted(shop)
    assert (action, resource) == ("external_runs.sync", "all partners")
    assert detail.startswith("pipelines_processed 2, pages_processed 3, ")


def test_a_sync_fails_at_its_end_and_tells_no_secret(
    shop: Shop, acme: PartnerServer
) -> None:
    acme.replies = [
        Reply(f"no {TOKEN}".encode(), status=401),
        page([GOOD | {"note": TOKEN}]),
    ]

    succeeded, shown, logged = launch(shop, sync_job)

    assert not succeeded
    assert (shown["pipelines_processed"], shown["failed"]) == (1, 1)
    assert "acme/a" in shown["failures"]
    assert TOKEN not in f"{shown}{logged}"
    assert tables_with(shop.whole.metadata, "acme/a")
    assert tables_with(shop.whole.metadata, TOKEN) == []


def test_a_policy_that_there_is_not_is_met_with_the_nearest(
    shop: Shop, acme: PartnerServer
) -> None:
    succeeded, _, logged = launch(shop, sync_job, policy="ignor")

    assert not succeeded
    assert "did you mean ignore?" in logged
    assert acme.paths == []


def test_an_intake_shows_good_and_bad(shop: Shop) -> None:
    content = f"{json.dumps(GOOD)}\nno json\n"
    shop.land("a.jsonl", content, zone="chm/external_runs")

    succeeded, shown, _ = launch(shop, ingest_job)

    assert succeeded
    assert (shown["files_processed"], shown["lines_good"], shown["lines_bad"]) == (
        1,
        1,
        1,
    )
    assert "a.jsonl:2: the line is no JSON" in shown["rejected_lines"]
    assert "client acme" in shown["created_inactive"]
    with shop.whole.metadata.transaction() as tx:
        assert len(runs(tx)) == 1
    ((action, resource, detail),) = noted(shop)
    assert (action, resource) == ("external_runs.ingest", "chm/external_runs")
    assert detail.startswith("files_processed 1, lines_good 1, lines_bad 1, ")


def test_a_file_without_a_good_line_fails_its_run(shop: Shop) -> None:
    shop.land("a.csv", "id,status\n1,success\n", zone="chm/external_runs")

    succeeded, shown, _ = launch(shop, ingest_job)

    assert not succeeded
    assert shown["lines_bad"] == 2
