"""Alerts in files: published with the pipelines, withdrawn, and brought back."""

from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from rat_resources import plans, releases, retirement, rollback
from rat_resources.alerts import definitions, events, overview
from rat_resources.alerts.definitions import Definition, Source
from rat_resources.alerts.events import Event, Payload
from rat_resources.errors import PublishError
from rat_resources.metadata import Metadata
from rat_resources.names import TableName
from rat_resources.releases import Release
from rat_resources.store import LocalStore, Store

LATE = """
condition: {kind: threshold, dataset: bronze.flights, column: delay, op: gt, value: 60}
"""
FAILED = """
condition: {kind: run_status, statuses: failed}
"""
FILE = "nyc/alerts/late.yaml"
FLIGHTS = TableName("nyc", "bronze", "flights")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two pipelines, and an alert about the table of one."""
    root = tmp_path / "tree"
    write(root, "nyc/pipelines/bronze/flights/pipeline.sql", "SELECT 1 AS delay")
    write(root, "nyc/pipelines/bronze/planes/pipeline.sql", "SELECT 1 AS id")
    write(root, FILE, LATE)
    return root


def write(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def loaded(metadata: Metadata) -> dict[str, Definition]:
    """The definitions that are enabled."""
    with metadata.transaction() as tx:
        return {each.name: each for each in definitions.load(tx)}


def give_columns(metadata: Metadata, table: TableName, **columns: str) -> None:
    """Let a table stand on main, as far as Postgres knows."""
    namespace, layer, name = table.key
    key = {"namespace": namespace, "layer": layer, "name": name}
    with metadata.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO rat.iceberg_tables (namespace, layer, name, metadata_location)"
                " VALUES (:namespace, :layer, :name, 'somewhere')"
            ),
            key,
        )
        for ordinal, (column, kind) in enumerate(columns.items()):
            tx.execute(
                text(
                    "INSERT INTO rat.iceberg_columns"
                    " (namespace, layer, table_name, name, ordinal, type, nullable)"
                    " VALUES (:namespace, :layer, :name, :column, :ordinal, :kind, true)"
                ),
                key | {"column": column, "ordinal": ordinal, "kind": kind},
            )


def refused(metadata: Metadata, store: Store, tree: Path) -> str:
    with pytest.raises(PublishError) as error:
        releases.publish(metadata, store, tree)
    return str(error.value)


def test_alerts_are_published_with_the_pipelines(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    release = releases.publish(metadata, store, tree)

    [late] = loaded(metadata).values()
    assert (late.table, late.source, late.enabled) == (FLIGHTS, Source.FILE, True)
    assert release.alerts == ("new alert nyc/late: threshold on nyc.bronze.flights",)
    assert store.read(FILE).decode() == LATE


def test_publishing_the_same_alerts_again_changes_nothing(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)

    again = releases.publish(metadata, store, tree)
    stored = releases.publish(metadata, store)

    assert (again.number, again.is_new, again.alerts) == (1, False, ())
    assert not stored.is_new


def test_a_changed_alert_is_a_release_and_keeps_its_id(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)
    before = loaded(metadata)["late"]
    write(tree, FILE, f"{LATE}severity: critical\n")

    release = releases.publish(metadata, store, tree)

    after = loaded(metadata)["late"]
    assert (release.number, release.alerts) == (2, ("alert nyc/late: severity",))
    assert (after.id, after.severity) == (before.id, "critical")


def test_removing_the_file_disables_the_alert(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)
    (tree / FILE).unlink()

    release = releases.publish(metadata, store, tree)

    assert release.alerts == ("alert nyc/late goes: its file is gone; its events stay",)
    assert loaded(metadata) == {}
    assert not store.exists(FILE)
    with metadata.transaction() as tx:
        kept = definitions.load(tx, only_enabled=False)
    assert [(each.name, each.enabled) for each in kept] == [("late", False)]


@pytest.mark.parametrize("content", [None, f"{LATE}enabled: false\n"])
def test_what_an_alert_raised_is_over_when_nobody_looks_for_it_any_more(
    metadata: Metadata, store: Store, tree: Path, content: str | None
) -> None:
    releases.publish(metadata, store, tree)
    late = loaded(metadata)["late"]
    payload = Payload(kind="threshold", title="late", table=str(FLIGHTS))
    with metadata.transaction() as tx:
        events.add(tx, Event("alert:1", payload, definition_id=late.id, raises="all"))
    if content is None:
        (tree / FILE).unlink()
    else:
        write(tree, FILE, content)

    releases.publish(metadata, store, tree)

    with metadata.transaction() as tx:
        assert overview.raised_now(tx) == []
        states = [each.state for each in overview.history(tx)]
    assert sorted(states) == ["firing", "resolved"]


def test_a_folder_with_a_part_of_a_namespace_withdraws_none_of_its_alerts(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    releases.publish(metadata, store, tree)
    lone = tmp_path / "lone"
    write(lone, "nyc/pipelines/bronze/planes/pipeline.sql", "SELECT 2 AS id")

    release = releases.publish(metadata, store, lone)

    assert release.alerts_left_out == (FILE,)
    assert list(loaded(metadata)) == ["late"]


def test_a_folder_with_nothing_but_alerts_can_be_published(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    releases.publish(metadata, store, tree)
    lone = tmp_path / "lone"
    write(lone, "nyc/alerts/failed.yaml", FAILED)

    releases.publish(metadata, store, lone)

    assert list(loaded(metadata)) == ["failed", "late"]


def test_a_plan_says_what_would_become_of_alerts_and_changes_none(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)
    write(tree, FILE, LATE.replace("60", "90"))
    write(tree, "nyc/alerts/failed.yaml", FAILED)

    planned = plans.plan(metadata, store, tree)

    assert not planned.is_empty
    assert planned.release.alerts == (
        "new alert nyc/failed: run_status",
        "alert nyc/late: condition",
    )
    assert loaded(metadata)["late"].condition["value"] == 60


def test_a_rollback_brings_back_the_alerts_of_the_release(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)
    write(tree, FILE, LATE.replace("60", "90"))
    write(tree, "nyc/alerts/failed.yaml", FAILED)
    releases.publish(metadata, store, tree)

    foreseen = rollback.roll_back(metadata, store, 1, dry_run=True)
    untouched = loaded(metadata)
    release = rollback.roll_back(metadata, store, 1)

    assert foreseen.alerts == release.alerts
    assert untouched["late"].condition["value"] == 90
    assert list(loaded(metadata)) == ["late"]
    assert loaded(metadata)["late"].condition["value"] == 60
    assert store.read(FILE).decode() == LATE
    assert not store.exists("nyc/alerts/failed.yaml")
    assert not releases.publish(metadata, store).is_new


def test_a_rollback_brings_back_an_alert_that_was_withdrawn(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)
    before = loaded(metadata)
    (tree / FILE).unlink()
    releases.publish(metadata, store, tree)

    rollback.roll_back(metadata, store, 1)

    assert loaded(metadata) == before


def test_a_function_goes_with_the_alert_that_pins_it(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    first, second = "def odd(lake): ...\n", "def odd(lake): return True\n"
    code = "nyc/alerts/checks/odd.py"
    write(tree, code, first)
    write(tree, FILE, pinned(first))
    releases.publish(metadata, store, tree)
    write(tree, code, second)

    said = refused(metadata, store, tree)
    write(tree, FILE, pinned(second))
    releases.publish(metadata, store, tree)
    changed = store.read(code).decode()
    rollback.roll_back(metadata, store, 1)

    assert "nyc/alerts/checks/odd.py is another file than it says" in said
    assert sha256(second.encode()).hexdigest() in said
    assert changed == second
    assert store.read(code).decode() == first
    assert not releases.publish(metadata, store).is_new


def pinned(code: str) -> str:
    """An alert that names a function by its hash."""
    digest = sha256(code.encode()).hexdigest()
    return f"condition: {{kind: udf, entrypoint: 'checks.odd:odd', sha256: {digest}}}"


def test_retiring_a_pipeline_withdraws_the_alerts_of_its_table(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    write(tree, "nyc/alerts/failed.yaml", FAILED)
    releases.publish(metadata, store, tree)

    release = retirement.retire(metadata, store, [str(FLIGHTS)])

    assert release.alerts == (
        "alert nyc/late goes: its table is retired; its events stay",
    )
    assert list(loaded(metadata)) == ["failed"]
    assert not store.exists(FILE)


def test_a_name_that_the_job_saved_is_refused(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    releases.publish(metadata, store, tree)
    with metadata.transaction() as tx:
        tx.execute(text("UPDATE trace.alert_definitions SET source = 'job'"))

    said = refused(metadata, store, tree)

    assert "the job save_alert has an alert nyc/late already" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LATE.replace("flights", "flihgts"), "did you mean nyc.bronze.flights?"),
        (LATE.replace("threshold", "treshold"), "did you mean threshold?"),
        (
            "condition: {kind: quality, dataset: bronze.flights, test: no_nulls}",
            "nyc.bronze.flights has no test no_nulls",
        ),
    ],
)
def test_an_alert_that_fits_nothing_is_refused_with_the_pipelines(
    metadata: Metadata, store: Store, tree: Path, content: str, said: str
) -> None:
    write(tree, FILE, content)

    problems = refused(metadata, store, tree)

    assert said in problems
    assert "late.yaml" in problems
    assert loaded(metadata) == {}


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("dleay", "did you mean 'delay'?"),
        ("day", "is date, which does not compare with 60"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_unless_the_next_run_may_bring_it(
    metadata: Metadata, store: Store, tree: Path, column: str, said: str
) -> None:
    releases.publish(metadata, store, tree)
    give_columns(metadata, FLIGHTS, delay="integer", day="date")
    write(tree, FILE, LATE.replace("delay", column))

    problems = refused(metadata, store, tree)
    write(tree, "nyc/pipelines/bronze/flights/pipeline.sql", "SELECT 2 AS delay")
    release = releases.publish(metadata, store, tree)

    assert said in problems
    assert any(said in str(each) for each in release.warnings)


def test_a_pattern_that_no_pipeline_goes_by_is_a_warning(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    content = "condition: {kind: run_status, pipelines: gold.*, statuses: failed}"
    write(tree, FILE, content)

    release = releases.publish(metadata, store, tree)

    said = [str(each) for each in release.warnings if "late" in str(each)]
    assert ["nyc.gold.* is the name of no pipeline" in each for each in said] == [True]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nyc/alerts/late.yml", "rename it to late.yaml"),
        ("nyc/alerts/Late flights.yaml", "rename it to late_flights"),
    ],
)
def test_a_file_that_nobody_reads_is_a_problem(
    metadata: Metadata, store: Store, tree: Path, name: str, said: str
) -> None:
    write(tree, name, LATE)

    assert said in refused(metadata, store, tree)


def test_a_link_that_leads_out_of_the_folder_is_not_read(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    write(tmp_path, "elsewhere.yaml", LATE)
    (tree / "nyc/alerts/linked.yaml").symlink_to(tmp_path / "elsewhere.yaml")

    assert "a symbolic link that leads out" in refused(metadata, store, tree)


def test_every_change_is_in_the_audit_log(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    release: Release = releases.publish(metadata, store, tree)

    with metadata.transaction() as tx:
        detail = tx.execute(
            text("SELECT detail FROM rat.audit_log ORDER BY created_at DESC LIMIT 1")
        ).scalar_one()
    assert release.alerts[0] in detail
