"""The whole way from a file to gold with everything that is kept in S3."""

from pathlib import Path

import pytest
from sqlalchemy import select

from rat_resources.lake import s3_files
from rat_resources.landing_files import files_at
from rat_resources.metadata.landing import FileState, LandingFile
from rat_resources.metadata.pipelines import PipelineVersion
from rat_resources.places import S3Place
from tests.factories import ORDERS, Shop
from tests.rat_assets.test_cli import call
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3Server

BRONZE = "shop/pipelines/bronze/orders"
ZONE = "shop/landing/orders"


@pytest.fixture
def rat_home(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of a RAT whose store and warehouse are in a bucket."""
    monkeypatch.setenv("RAT_STORE", f"s3://{bucket}/rat/store")
    monkeypatch.setenv("RAT_WAREHOUSE", f"s3://{bucket}/rat/warehouse")
    return tmp_path / "rat"


def land(shop: Shop, tmp_path: Path, name: str, content: str) -> None:
    """Put a file into the zone by the command."""
    (tmp_path / name).write_text(content)
    assert call("upload", "shop/orders", str(tmp_path / name)).exit_code == 0


def test_a_file_in_a_bucket_comes_out_in_gold(shop: Shop, tmp_path: Path) -> None:
    shop.publish(ORDERS | {f"{BRONZE}/config.yaml": "archive_landing_zones: true\n"})
    land(shop, tmp_path, "first.csv", "id,customer,amount\n1,ann,10\n2,bob,20\n")

    first = shop.run()
    land(shop, tmp_path, "second.csv", "id,customer,amount\n1,ann,11\n3,bob,20\n")
    preview = call("preview", "shop.bronze.orders")
    second = shop.run()

    assert first.succeeded
    assert second.succeeded
    assert preview.exit_code == 0
    assert "it would be published" in preview.output
    revenue = shop.rows("shop.gold.revenue")
    assert [(name, float(sum_)) for name, sum_, _ in revenue] == [
        ("ann", 11),
        ("bob", 40),
    ]
    asked = call(
        "query", "SELECT count(*) AS n FROM shop.silver.orders", "--format", "csv"
    )
    assert asked.stdout.split() == ["n", "3"]
    with shop.whole.metadata.transaction() as tx:
        files = tx.scalars(select(LandingFile)).all()
        versions = tx.scalars(select(PipelineVersion)).all()
    assert {file.state for file in files} == {FileState.ARCHIVED}
    assert all(file.s3_version_id for file in files)
    assert all(
        each.s3_version_ids.keys() == each.published_versions.keys()
        for each in versions
    )
    assert not files_at(shop.whole.store.root, ZONE).scan().found
    assert shop.whole.store.list("_logs/shop")


def test_what_the_store_holds_is_published_by_the_names_of_the_store(
    shop: Shop,
) -> None:
    shop.publish()
    code = shop.whole.store.read(f"{BRONZE}/pipeline.sql")
    shop.whole.store.write(f"{BRONZE}/pipeline.sql", code + b" WHERE (")
    refused = call("publish")
    shop.whole.store.write(f"{BRONZE}/pipeline.sql", code + b" WHERE true")

    published = call("publish")

    assert f"{shop.whole.store.root}/{BRONZE}/pipeline.sql" in refused.output
    assert "release 2" in published.output


def test_where_httpfs_does_not_load_the_rows_are_the_same(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_files, "extension", lambda: None)
    shop.publish()
    land(shop, tmp_path, "first.csv", "id,customer,amount\n1,ann,10\n2,bob,20\n")

    report = shop.run()

    assert report.succeeded, [t.error for t in report.tables]
    rows = [row[:3] for row in shop.rows("shop.bronze.orders")]
    assert rows == [(1, "ann", 10), (2, "bob", 20)]
    assert isinstance(shop.whole.settings.warehouse, S3Place)


def test_while_the_storage_is_gone_runs_fail_and_nothing_stays_open(
    bucket: str,
    shop: Shop,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    shop.publish()
    land(shop, tmp_path, "first.csv", "id,customer,amount\n1,ann,10\n")
    host, port = s3_server.endpoint.removeprefix("http://").split(":")
    with Proxy.to(host, int(port)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.address}")
        proxy.cut()
        gone = shop.run("shop.bronze.orders")
        proxy.open()
        back = shop.run("shop.bronze.orders")
        rows = shop.rows("shop.bronze.orders")

    (table,) = gone.tables
    assert table.status == "failed"
    assert "it does not answer" in (table.error or "")
    assert "check AWS_ENDPOINT_URL" in (table.error or "")
    assert back.succeeded
    assert (shop.branches, shop.holders) == ([], 0)
    assert len(rows) == 1
