"""The audit: what it says of a RAT, and that it only reads."""

import json
import uuid
from pathlib import Path

import pytest
from sqlalchemy import text

from rat_assets.commands import auditing
from rat_resources import audit
from rat_resources.audit import COMPARISONS
from rat_resources.errors import MetadataError
from rat_resources.lake.refs import MAIN, Namespace, Put
from rat_resources.mirror import log
from tests.factories import ORDERS, Shop, folder_of
from tests.hooks import when

PAGE = Path(__file__).parents[3] / "docs" / "audit.md"


def spoil(shop: Shop, statement: str) -> None:
    """Write to Postgres by hand."""
    with shop.whole.metadata.transaction() as tx:
        tx.execute(text("SET LOCAL session_replication_role = replica"))
        tx.execute(text(statement))


def lines(shop: Shop) -> list[str]:
    """What an audit says."""
    return list(audit.audit(shop.whole).lines)


def test_the_page_names_every_comparison_and_what_must_be_true() -> None:
    page = PAGE.read_text()

    for each in COMPARISONS:
        assert f"| `{each.name}` | {each.what} |" in page


def test_a_rat_to_which_nothing_happened_has_no_differences(shop: Shop) -> None:
    assert lines(shop) == []


def test_nothing_can_be_written_in_its_snapshot(shop: Shop) -> None:
    with (
        audit.snapshot(audit.read_only(shop.whole)) as scene,
        pytest.raises(MetadataError, match="read-only transaction"),
    ):
        scene.tx.execute(text("DELETE FROM rat.runs"))


def test_nor_by_the_catalog_that_it_reads(shop: Shop) -> None:
    refs = audit.read_only(shop.whole).lake.refs

    with pytest.raises(MetadataError, match="read-only transaction"):
        refs.create("branch", at=MAIN)


def test_a_run_that_goes_on_is_no_difference(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    said: list[str] = []

    def look() -> None:
        said.extend(lines(open_shop))

    with when("test", look):
        open_shop.run("shop.gold.revenue")

    assert said == []


def test_the_mirror_lagging_behind_is_told_with_what_to_do(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    spoil(open_shop, "DELETE FROM lakeflow.fact_job_run_timeline")

    said = lines(open_shop)

    assert said
    assert all("run `rat mirror" in line for line in said)


def test_a_commit_that_is_no_publication_is_told(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    refs = open_shop.whole.lake.refs
    made = refs.commit(MAIN, [Put(("elsewhere",), Namespace())], message="by hand")

    said = lines(open_shop)

    assert [line.split(":")[0] for line in said] == [
        "lake.head main",
        f"lake.commits {made.hash}",
    ]


def test_a_head_that_was_moved_back_is_told(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    refs = open_shop.whole.lake.refs
    head, before, *_ = refs.history(MAIN)
    refs.assign(MAIN, to=f"@{before.hash}", expected_hash=head.hash)

    said = lines(open_shop)

    assert any(line.startswith("lake.head main") for line in said)
    assert any(line.startswith(f"lake.commits {head.hash}") for line in said)


def test_a_branch_that_a_run_left_is_told(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    branch = open_shop.runs()[0].branch or ""
    open_shop.whole.lake.refs.create(branch, at=MAIN)

    (said,) = lines(open_shop)

    assert said.startswith(f"lake.branches {branch}")
    assert said.endswith("run `rat reconcile`")


def test_a_damaged_object_is_told(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    root = folder_of(open_shop.whole.settings.store) / "_objects" / "sha256"
    damaged = next(path for path in root.rglob("*") if path.is_file())
    damaged.write_text("else")

    (said,) = lines(open_shop)

    assert said.startswith("store.objects sha256:")


def test_all_are_counted_and_some_are_told(open_shop: Shop) -> None:
    log.catch_up(open_shop.whole.metadata)
    spoil(open_shop, "UPDATE chm.runs SET rows_processed = 77")

    report = audit.audit(open_shop.whole, at_most=2)

    assert report.differences == 3
    assert [*report.lines][-1] == "chm.runs: … and 1 more of this kind"


def test_a_dagster_run_that_was_deleted_in_dagster_is_no_difference(
    open_shop: Shop,
) -> None:
    log.catch_up(open_shop.whole.metadata)
    (run,) = open_shop.instance.get_runs()
    open_shop.instance.delete_run(run.run_id)

    assert lines(open_shop) == []


# The command.


def test_the_command_says_that_there_is_none_and_exits_with_0(
    open_shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    log.catch_up(open_shop.whole.metadata)

    code = auditing.audit(at_most=20, as_json=False)

    assert (code, capsys.readouterr().out) == (0, "0 differences\n")


def test_the_command_exits_with_1_and_tells_programs_too(
    open_shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    log.catch_up(open_shop.whole.metadata)
    lost = open_shop.runs()[0].id
    spoil(open_shop, f"DELETE FROM chm.runs WHERE id = '{lost}'")

    code = auditing.audit(at_most=20, as_json=True)

    said = json.loads(capsys.readouterr().out)
    found = {each["comparison"]: each for each in said["found"]}
    (difference,) = found["chm.runs"]["told"]
    # It was the latest of its pipeline, and its latest success, too.
    assert (code, {*found}) == (1, {"chm.runs", "chm.latest_runs"})
    assert (said["differences"], difference["id"]) == (3, str(lost))
    assert difference["said"]["chm.runs"] is None


def test_the_command_exits_with_2_when_it_could_not_compare(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAT_HOME", str(tmp_path))
    monkeypatch.setenv(
        "RAT_POSTGRES_URL", f"postgresql://nobody@127.0.0.1:1/{uuid.uuid4()}"
    )

    code = auditing.audit(at_most=20, as_json=False)

    assert code == 2
    assert "rat: nothing was compared: Postgres at" in capsys.readouterr().err


def test_an_alert_that_is_not_what_its_file_says_is_told(shop: Shop) -> None:
    late = "{kind: freshness, dataset: silver.orders, rhythm: {factor: 2.5}}"
    shop.publish({"shop/alerts/late.yaml": f"condition: {late}\n", **ORDERS})
    before = lines(shop)

    spoil(shop, "UPDATE trace.alert_definitions SET severity = 'info'")
    changed = lines(shop)
    spoil(shop, "UPDATE trace.alert_definitions SET source = 'job'")
    gone = lines(shop)

    assert before == []
    assert changed == [
        "trace.alert_definitions shop/late: severity: rat.alert_versions says"
        ' "warning", trace.alert_definitions says "info"; publish it again: `rat publish`'
    ]
    assert "trace.alert_definitions does not" in gone[0]
