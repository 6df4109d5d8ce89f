"""Publishing: everything at once or nothing, and a way back."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from rat_resources import retirement
from rat_resources.errors import NotFoundError, Problem, PublishError
from rat_resources.metadata import Metadata
from rat_resources.metadata.audit import AuditLog
from rat_resources.metadata.automation import PipelineTrigger, Schedule
from rat_resources.metadata.catalog import TableMetadata
from rat_resources.metadata.landing import LandingZone
from rat_resources.metadata.pipelines import Pipeline, PipelineVersion
from rat_resources.metadata.pipelines import Release as ReleaseRow
from rat_resources.metadata.quality import QualityTest
from rat_resources.metadata.runs import Run
from rat_resources.names import TableName
from rat_resources.releases import (
    PublishedPipeline,
    Release,
    current,
    load,
    publish,
    read_source,
    retire,
    roll_back,
)
from rat_resources.retirement import ReadError
from rat_resources.specs import PipelineSpec
from rat_resources.store import LocalStore, Store
from tests.factories import folder_of

BRONZE = "SELECT * FROM '{{ landing_zone('z') }}/a.csv'"
SILVER = "SELECT * FROM {{ ref('bronze.a') }}"
A, B = TableName("nyc", "bronze", "a"), TableName("nyc", "silver", "b")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two pipelines, the second of which reads the first."""
    root = tmp_path / "tree"
    write(root, {"bronze/a/pipeline.sql": BRONZE, "silver/b/pipeline.sql": SILVER})
    return root


def write(root: Path, files: dict[str, str | None]) -> None:
    """Write files below nyc/pipelines; None takes one away."""
    for name, content in files.items():
        path = root / "nyc" / "pipelines" / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


def write_zone(root: Path, name: str, content: str) -> None:
    path = root / "nyc" / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def loaded(
    metadata: Metadata, release: int | None = None
) -> dict[TableName, PublishedPipeline]:
    with metadata.transaction() as tx:
        return {each.spec.table: each for each in load(tx, release=release)}


def refused(metadata: Metadata, store: Store, tree: Path) -> list[str]:
    """The problems of a publish, without the folder that they have in common."""
    with pytest.raises(PublishError) as error:
        publish(metadata, store, tree)
    lines = str(error.value).splitlines()
    return [line.partition("tree/nyc/")[2] or line for line in lines]


def count(metadata: Metadata, model: type) -> int:
    with metadata.transaction() as tx:
        return tx.scalar(select(func.count()).select_from(model)) or 0


def test_what_is_published_is_current_and_can_be_read(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    release = publish(metadata, store, tree, message="first", published_by="ada")

    published = loaded(metadata)
    assert release == Release(1, is_new=True, created=(A, B))
    assert list(published) == [A, B]
    assert published[B].version_number == 1
    assert published[B].spec.refs == (A,)
    assert read_source(store, published[B]).files == {"pipeline.sql": SILVER}
    assert store.read("nyc/pipelines/silver/b/pipeline.sql").decode() == SILVER
    with metadata.transaction() as tx:
        entry = tx.scalars(select(AuditLog)).one()
        pipeline = tx.scalars(select(Pipeline).where(Pipeline.name == "b")).one()
        assert (entry.action, entry.user_id) == ("pipeline.publish", "ada")
        assert entry.detail == "first; created nyc.bronze.a, nyc.silver.b"
        assert pipeline.s3_path == "nyc/pipelines/silver/b"
        assert pipeline.published_versions == published[B].files


def test_before_the_first_publish_nothing_is_current(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        number = current(tx)

    assert number is None
    assert loaded(metadata) == {}


def test_publishing_the_same_again_changes_nothing(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)

    from_tree = publish(metadata, store, tree)
    from_store = publish(metadata, store)

    assert from_tree == from_store == Release(1, is_new=False, unchanged=(A, B))
    assert count(metadata, PipelineVersion) == 2
    assert count(metadata, ReleaseRow) == 1


def test_only_what_changed_gets_a_new_version(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(tree, {"silver/b/pipeline.sql": SILVER + " WHERE true"})

    release = publish(metadata, store, tree)

    assert release == Release(2, is_new=True, changed=(B,), unchanged=(A,))
    versions = {table: each.version_number for table, each in loaded(metadata).items()}
    assert versions == {A: 1, B: 2}


def test_a_release_stays_what_it_was(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(
        tree,
        {
            "silver/b/pipeline.sql": SILVER + " WHERE true",
            "silver/c/pipeline.sql": SILVER,
        },
    )

    publish(metadata, store, tree)

    first = loaded(metadata, release=1)
    assert list(first) == [A, B]
    assert read_source(store, first[B]).code == SILVER
    assert len(loaded(metadata, release=2)) == 3


def test_only_the_wanted_pipelines_are_loaded(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)

    with metadata.transaction() as tx:
        published = load(tx, only=[B])

    assert [each.spec.table for each in published] == [B]


def test_what_the_folder_does_not_hold_stays_as_it_is(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    publish(metadata, store, tree)
    write(
        tmp_path / "other",
        {"gold/c/pipeline.sql": "SELECT * FROM {{ ref('silver.b') }}"},
    )

    release = publish(metadata, store, tmp_path / "other")

    assert len(release.created) == 1
    assert len(loaded(metadata)) == 3


def test_a_file_that_left_the_folder_leaves_the_store(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    write(tree, {"silver/b/tests/quality/t.sql": "SELECT * FROM {{ this }}"})
    publish(metadata, store, tree)
    write(tree, {"silver/b/tests/quality/t.sql": None})

    publish(metadata, store, tree)

    assert store.list("nyc/pipelines/silver") == ["nyc/pipelines/silver/b/pipeline.sql"]
    with metadata.transaction() as tx:
        assert [test.active for test in tx.scalars(select(QualityTest))] == [False]


def test_nothing_is_published_when_anything_is_wrong(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    write(
        tree,
        {
            "silver/b/config.yaml": "ownr: x",
            "silver/c/pipeline.sql": "\nSELECT * FROM {{ ref('silver.bb') }}",
            "silver/c/tests/quality/t.sql": "SELECT * FROM {{ ref('gold.none') }}",
            "silver/Bad/pipeline.sql": "SELECT 1",
            "tin/x/pipeline.sql": "SELECT 1",
        },
    )
    (tree / "nyc/pipelines/bronze/a/notes.md").write_bytes(b"\n\xff")
    write_zone(tree, "z.yaml", "owner: x\nexpected_schema:\n  columns:\n    a: strin\n")
    write_zone(tree, "y.yml", "")

    lines = refused(metadata, store, tree)

    assert lines == [
        "landing/y.yml:1: nobody reads this file; rename it to y.yaml",
        "landing/z.yaml:4: expected_schema: 'strin' is no type that DuckDB knows; "
        "write integer, varchar, timestamptz, …",
        "pipelines/bronze/a/notes.md:2: this is no UTF-8 text; save it as UTF-8",
        "pipelines/silver/Bad:1: 'Bad' is no name; rename it to bad; use at most 63 "
        "lower-case letters, digits, _ and -, starting with a letter",
        "pipelines/silver/b/config.yaml:1: ownr is not known; did you mean owner?",
        "pipelines/silver/c/pipeline.sql:2: ref('nyc.silver.bb') names no pipeline and no table; "
        "did you mean nyc.silver.b?",
        "pipelines/silver/c/tests/quality/t.sql:1: ref('nyc.gold.none') names no pipeline and "
        "no table; publish it too, or correct the name",
        "pipelines/tin:1: tin is no layer; layers are bronze, silver, gold",
    ]
    assert loaded(metadata) == {}
    assert not folder_of(store.root).exists()


def test_a_circle_is_refused_with_its_way(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(
        tree,
        {
            "silver/b/pipeline.sql": "SELECT * FROM {{ ref('silver.c') }}",
            "silver/c/pipeline.sql": "\nSELECT * FROM {{ ref('silver.b') }}",
        },
    )

    (line,) = refused(metadata, store, tree)

    assert line.startswith("pipelines/silver/")
    assert "pipelines read each other in a circle: nyc.silver." in line
    assert line.endswith("; remove one of these ref()s")


def test_a_chain_that_dagster_cannot_take_is_refused(
    metadata: Metadata, store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rat_resources.validation.LONGEST_CHAIN", 1)

    lines = refused(metadata, store, tree)

    assert lines == [
        "pipelines/silver/b/pipeline.sql:1: nyc.silver.b is number 2 in a chain of pipelines, "
        "and Dagster fails; read from a table nearer to the landing zone"
    ]


def test_a_trigger_waits_for_a_zone_that_somebody_reads(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    write(
        tree,
        {
            "silver/b/config.yaml": "triggers:\n- {type: landing_zone_upload, zone_name: zz}"
        },
    )

    lines = refused(metadata, store, tree)

    assert lines == [
        "pipelines/silver/b/config.yaml:1: a trigger waits for the zone nyc/zz, "
        "which no pipeline reads; did you mean nyc/z?"
    ]


def test_a_table_that_no_pipeline_writes_may_be_read(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    write(tree, {"silver/b/pipeline.sql": "SELECT * FROM {{ ref('bronze.outside') }}"})

    release = publish(
        metadata, store, tree, table_exists=lambda table: table.name == "outside"
    )

    assert release.created == (A, B)


def test_reading_against_the_current_is_a_warning(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    write(
        tree,
        {
            "silver/c/pipeline.sql": "SELECT * FROM {{ ref('gold.d') }}",
            "gold/d/pipeline.sql": BRONZE,
        },
    )
    write_zone(tree, "unread.yaml", "owner: x")

    release = publish(metadata, store, tree)

    warnings = [str(warning).partition("tree/nyc/")[2] for warning in release.warnings]
    assert warnings == [
        "pipelines/gold/d/pipeline.sql:1: gold reads the landing zone z itself; "
        "let gold read silver or gold",
        "pipelines/silver/c/pipeline.sql:1: silver reads nyc.gold.d, which comes after it; "
        "let silver read bronze or silver",
        "landing/unread.yaml:1: no pipeline reads the zone nyc/unread, so it does not exist yet; "
        "read it with landing_zone('unread')",
    ]


def test_what_the_orchestrator_refuses_is_not_published(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    def check(specs: Sequence[PipelineSpec]) -> list[Problem]:
        return [Problem(str(spec.table), 1, "no", "never") for spec in specs]

    with pytest.raises(
        PublishError, match=r"nyc.bronze.a:1: no; never\nnyc.silver.b:1: no"
    ):
        publish(metadata, store, tree, check=check)

    assert loaded(metadata) == {}


def test_a_folder_without_pipelines_is_no_release(
    metadata: Metadata, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(
        PublishError, match="there is no pipeline here; publish the folder"
    ):
        publish(metadata, store, tmp_path)
    with pytest.raises(PublishError, match="there is no such folder; name the folder"):
        publish(metadata, store)


def test_declarations_become_rows_that_keep_their_history(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    config = (
        "owner: team:x\ndescription: All of it\n"
        "schedules:\n- {cron: 0 6 * * *, timezone: Europe/Berlin}\n- {cron: 0 7 * * *}\n"
        "triggers:\n- {type: landing_zone_upload, zone_name: z, pattern: '*.csv'}\n"
    )
    write(tree, {"bronze/a/config.yaml": config})
    write_zone(
        tree, "z.yaml", "owner: team:y\nexpected_schema: {columns: {a: integer}}"
    )
    publish(metadata, store, tree)
    with metadata.transaction() as tx:
        tx.execute(update(Schedule).values(last_run_at=func.now()))
        tx.execute(update(PipelineTrigger).values(last_triggered_at=func.now()))
        tx.execute(update(TableMetadata).values(description="By a person"))
    changed = config.replace("- {cron: 0 7 * * *}\n", "").replace(
        "pattern", "cooldown_seconds: 5, pattern"
    )
    write(
        tree,
        {
            "bronze/a/config.yaml": changed.replace("All of it", "Else").replace(
                ":x", ":w"
            )
        },
    )

    publish(metadata, store, tree)

    with metadata.transaction() as tx:
        schedule = tx.scalars(select(Schedule)).one()
        trigger = tx.scalars(select(PipelineTrigger)).one()
        zone = tx.scalars(select(LandingZone).filter_by(name="z")).one()
        table = tx.scalars(select(TableMetadata).where(TableMetadata.name == "a")).one()
        assert (schedule.cron_expr, schedule.timezone) == ("0 6 * * *", "Europe/Berlin")
        assert schedule.last_run_at is not None
        assert trigger.config == {
            "namespace": "nyc",
            "zone_name": "z",
            "pattern": "*.csv",
        }
        assert (trigger.cooldown_seconds, trigger.last_triggered_at is None) == (
            5,
            False,
        )
        assert (zone.owner, zone.expected_columns) == ("team:y", {"a": "integer"})
        assert (table.description, table.owner) == ("By a person", "team:w")


def test_a_zone_lives_as_long_as_a_pipeline_reads_it(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(tree, {"bronze/a/pipeline.sql": "SELECT 1 AS a"})
    publish(metadata, store, tree)
    with metadata.transaction() as tx:
        active = {zone.name: zone.active for zone in tx.scalars(select(LandingZone))}
    assert active == {"z": False, "external_runs": True}

    write(tree, {"bronze/a/pipeline.sql": BRONZE})
    publish(metadata, store, tree)

    with metadata.transaction() as tx:
        assert all(zone.active for zone in tx.scalars(select(LandingZone)))


def test_a_changed_zone_description_is_a_release(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write_zone(tree, "z.yaml", "description: Files\narchive: true")

    release = publish(metadata, store, tree)

    assert release == Release(2, is_new=True, unchanged=(A, B))
    assert not publish(metadata, store, tree).is_new
    assert store.read("nyc/landing/z.yaml").startswith(b"description: Files")


def test_rolling_back_is_a_new_version_of_the_old_content(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(tree, {"silver/b/pipeline.sql": "SELECT 2 AS b"})
    publish(metadata, store, tree)

    release = roll_back(metadata, store, B, version_number=1, published_by="ada")

    published = loaded(metadata)[B]
    assert release == Release(3, is_new=True, changed=(B,))
    assert published.version_number == 3
    assert read_source(store, published).code == SILVER
    assert not publish(metadata, store).is_new
    with metadata.transaction() as tx:
        newest = tx.get_one(PipelineVersion, published.version_id)
        assert newest.message == "Rollback to v1"


def test_rolling_back_leaves_an_unpublished_draft_alone(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(tree, {"silver/b/pipeline.sql": "SELECT 2 AS b"})
    publish(metadata, store, tree)
    store.write("nyc/pipelines/silver/b/pipeline.sql", b"SELECT 3 AS b")

    roll_back(metadata, store, B, version_number=1)

    assert store.read("nyc/pipelines/silver/b/pipeline.sql") == b"SELECT 3 AS b"
    with metadata.transaction() as tx:
        assert tx.scalars(
            select(Pipeline.draft_dirty).where(Pipeline.name == "b")
        ).one()
    publish(metadata, store)
    assert read_source(store, loaded(metadata)[B]).code == "SELECT 3 AS b"


def test_a_version_that_no_longer_fits_is_not_rolled_back_to(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    write(tree, {"silver/b/pipeline.sql": "SELECT 2 AS b"})
    publish(metadata, store, tree)
    with metadata.transaction() as tx:
        retire(tx, [A])

    with pytest.raises(PublishError, match=r"ref\('nyc.bronze.a'\) names no pipeline"):
        roll_back(metadata, store, B, version_number=1)


def test_rolling_back_to_nothing_says_what_there_is(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)

    with pytest.raises(NotFoundError, match=r"nyc.silver.b has no version 7; it has 1"):
        roll_back(metadata, store, B, version_number=7)
    with pytest.raises(NotFoundError, match=r"did you mean nyc.silver.b\?"):
        roll_back(metadata, store, TableName("nyc", "silver", "bb"), version_number=1)


def test_a_retired_pipeline_is_gone_from_then_on(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    old = loaded(metadata)[B]

    with metadata.transaction() as tx:
        release = retire(tx, [B], retired_by="ada")

    assert release == Release(2, is_new=True, retired=(B,))
    assert list(loaded(metadata)) == [A]
    assert list(loaded(metadata, release=1)) == [A, B]
    assert publish(metadata, store, tree).created == (B,)
    assert loaded(metadata)[B].pipeline_id != old.pipeline_id
    assert loaded(metadata, release=1)[B] == old


def test_what_others_read_is_retired_only_with_them(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)

    with pytest.raises(ReadError, match=r"nyc.bronze.a is read by nyc.silver.b;"):
        retirement.retire(metadata, store, ["nyc.bronze.a"])
    release = retirement.retire(metadata, store, ["nyc.silver.b", "nyc.bronze.a"])

    assert release.retired == (B, A)
    assert release.number == 2
    assert loaded(metadata) == {}


def test_retiring_an_unknown_name_suggests_the_nearest(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)

    with pytest.raises(NotFoundError, match=r"did you mean nyc.silver.b\?"):
        retirement.retire(metadata, store, ["nyc.silver.bb"])

    assert list(loaded(metadata)) == [A, B]


def test_what_is_retired_does_not_come_back_with_the_store(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)

    retirement.retire(metadata, store, ["nyc.silver.b"])

    assert not publish(metadata, store).is_new
    assert list(loaded(metadata)) == [A]


def test_a_draft_of_what_is_retired_stays(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    store.write("nyc/pipelines/silver/b/pipeline.sql", b"SELECT 7 AS b")

    retirement.retire(metadata, store, ["nyc.silver.b"])

    assert store.exists("nyc/pipelines/silver/b/pipeline.sql")


def test_a_publish_names_what_its_folder_does_not_hold(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    publish(metadata, store, tree)
    write(tmp_path / "less", {"silver/c/pipeline.sql": "SELECT 1 AS c"})

    release = publish(metadata, store, tmp_path / "less")

    assert release.left_out == (A, B)


def test_old_versions_are_pruned_unless_something_pins_them(
    metadata: Metadata, store: Store, tree: Path
) -> None:
    publish(metadata, store, tree)
    running = loaded(metadata)[B]
    with metadata.transaction() as tx:
        tx.execute(update(Pipeline).values(max_versions=2))
        tx.add(Run(pipeline_id=running.pipeline_id, version_id=running.version_id))

    for n in range(2, 7):
        write(tree, {"silver/b/pipeline.sql": f"SELECT {n} AS b"})
        publish(metadata, store, tree, pinned=[3])

    with metadata.transaction() as tx:
        versions = select(PipelineVersion.version_number).where(
            PipelineVersion.pipeline_id == running.pipeline_id
        )
        assert sorted(tx.scalars(versions)) == [1, 3, 5, 6]


def test_two_publishes_at_once_become_two_releases(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    publish(metadata, store, tree)
    for name in ("one", "two"):
        write(tmp_path / name, {f"silver/{name}/pipeline.sql": SILVER})
    releases = []

    def run(name: str) -> None:
        releases.append(publish(metadata, store, tmp_path / name).number)

    threads = [threading.Thread(target=run, args=[name]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(releases) == [2, 3]
    assert len(loaded(metadata)) == 4


def test_a_publish_that_dies_leaves_what_was_current(
    metadata: Metadata, store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(metadata, store, tree)
    write(
        tree, {"bronze/a/pipeline.sql": "SELECT 2", "silver/b/pipeline.sql": "SELECT 3"}
    )

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rat_resources.releases.prune_versions", die)
        with pytest.raises(KeyboardInterrupt):
            publish(metadata, store, tree)

    assert {each.version_number for each in loaded(metadata).values()} == {1}
    assert publish(metadata, store, tree).changed == (A, B)


def test_a_link_is_not_followed_and_not_forgotten(
    metadata: Metadata, store: Store, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tests" / "quality").mkdir(parents=True)
    folder = tree / "nyc" / "pipelines" / "silver" / "b"
    (folder / "config.yaml").symlink_to(tmp_path / "secret")
    (folder / "tests").symlink_to(tmp_path / "tests")

    lines = refused(metadata, store, tree)

    assert lines == [
        "pipelines/silver/b/config.yaml:1: this is a symbolic link that leads out of the folder; "
        "replace it by the file itself",
        "pipelines/silver/b/tests:1: this is a symbolic link to a folder, and nobody reads what "
        "is in it; replace it by the folder itself",
    ]
