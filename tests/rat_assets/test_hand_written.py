"""Hand-written assets: the example as it stands, and what is said when one is wrong."""

import shutil
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import func, select

from rat_assets import location
from rat_assets.commands import authoring
from rat_assets.hand_written import LakeAsset, PinnedLake, lake_asset
from rat_assets.location import find_assets, find_location
from rat_assets.scaffolds import init_project
from rat_resources import graph, hand_written, releases
from rat_resources.errors import NotFoundError, PublishError, SettingsError
from rat_resources.metadata.automation import Wish
from rat_resources.metadata.pipelines import PipelineVersion
from rat_resources.names import TableName
from rat_sensors.wishes import graph_of
from tests.factories import Shop
from tests.hooks import cancel, when

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hand_written"
FORECAST = TableName("shop", "gold", "forecast")
FALLING = "id,customer,amount,ordered_at\n1,Ada,90,2026-01-01\n2,Ada,1,2026-01-02\n"
STEADY = "id,customer,amount,ordered_at\n3,Ada,5,2026-02-01\n4,Ada,5,2026-02-02\n"
WEEK = "shop/pipelines/gold/week/pipeline.sql"
FOLLOWER = {WEEK: "SELECT sum(revenue) AS r FROM {{ ref('gold.forecast') }}"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the example in it, which is the one that settings find."""
    folder = tmp_path / "lake"
    init_project(folder)
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


@pytest.fixture
def lake(project: Path, shop: Shop) -> Shop:
    """The RAT of that project, with its pipelines published."""
    shop.folder = project
    shop.publish({})
    return shop


def edit(project: Path, old: str, new: str) -> None:
    """Change the code of the example."""
    file = project / "definitions.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    # A process keeps what it has imported; a new one would not.
    sys.modules.pop("definitions", None)


# The example.


def test_the_example_reads_a_published_table_and_publishes_its_own(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)

    report = lake.run()

    forecast = report.tables[-1]
    assert (forecast.table, forecast.status) == (FORECAST, "published")
    assert (forecast.rows_written, forecast.passed) == (7, 2)
    assert {row[1] for row in lake.rows("shop.gold.forecast")} == {5.0}
    (event,) = lake.materializations("shop.gold.forecast")
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["dagster/row_count"].value == 7
    assert lake.branches == []


def test_a_test_that_fails_stops_its_publication(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()
    before = lake.rows("shop.gold.forecast")
    lake.land("falling.csv", FALLING)

    report = lake.run()

    forecast = report.tables[-1]
    assert (forecast.status, forecast.failed) == ("failed", 1)
    assert "revenue_is_positive: failed" in (forecast.error or "")
    assert lake.rows("shop.gold.forecast") == before
    assert len(lake.materializations("shop.gold.forecast")) == 1
    assert lake.branches == []


def test_an_exception_names_the_authors_line_and_leaves_nothing(
    lake: Shop, project: Path
) -> None:
    lake.land("steady.csv", STEADY)
    edit(project, "    orders = ", "    raise OSError('no network')\n    orders = ")
    above = (project / "definitions.py").read_text().partition("raise OSError")[0]

    report = lake.run()

    error = report.tables[-1].error or ""
    assert f"definitions.py:{len(above.splitlines())}: OSError: no network" in error
    assert FORECAST not in lake.whole.lake.published()
    assert lake.branches == []


def test_a_cancelled_one_leaves_nothing(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run("shop.silver.orders", upstream=True)

    with when("test", lambda: cancel(lake)):
        report = lake.run("shop.gold.forecast")

    assert report.tables[0].status == "cancelled"
    assert FORECAST not in lake.whole.lake.published()
    assert lake.branches == []


def test_dagster_shows_it_beside_the_pipelines(lake: Shop, project: Path) -> None:
    found = location.pointer(find_location(project)).load_target()
    assert callable(found)

    definitions = found()

    assert isinstance(definitions, dg.Definitions)
    graph = definitions.resolve_asset_graph()
    node = graph.get(dg.AssetKey([*FORECAST.key]))
    assert node.parent_keys == {dg.AssetKey(["shop", "silver", "orders"])}
    assert node.group_name == "shop/gold"
    assert node.description is not None
    assert node.description.startswith("The revenue of the next seven days")
    assert (
        node.key
        in definitions.resolve_job_def("pipelines").asset_layer.selected_asset_keys
    )
    assert len(node.check_keys) == 3


# Its versions.


def count_versions(shop: Shop) -> int:
    """How many versions of the forecast there are."""
    with shop.whole.metadata.transaction() as tx:
        return (
            tx.scalar(
                select(func.count())
                .select_from(PipelineVersion)
                .where(PipelineVersion.spec["table"].astext == str(FORECAST))
            )
            or 0
        )


def test_what_ran_is_kept_once_for_each_text_of_the_code(
    lake: Shop, project: Path
) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()
    lake.run(FORECAST.key[0])
    once = count_versions(lake)

    edit(project, "DAYS = 7", "DAYS = 14")
    lake.run("shop.gold.forecast")

    assert (once, count_versions(lake)) == (1, 2)
    assert len(lake.rows("shop.gold.forecast")) == 14
    with lake.whole.metadata.transaction() as tx:
        (published,) = releases.load(tx, only=[FORECAST])
    assert published.spec.hand_written == "definitions.py:forecast"
    source = releases.read_source(lake.whole.store, published)
    assert source.code == (project / "definitions.py").read_text()


def test_what_the_code_no_longer_has_is_retired(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()

    said = hand_written.retire_missing(lake.whole.metadata, known=[])
    again = hand_written.retire_missing(lake.whole.metadata, known=[])

    assert said == ["shop.gold.forecast: retired, the code no longer has it"]
    assert again == []
    assert len(lake.rows("shop.gold.forecast")) == 7
    with lake.whole.metadata.transaction() as tx:
        assert releases.load(tx, only=[FORECAST]) == []


def test_what_the_code_has_is_not_retired(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()

    said = hand_written.retire_missing(lake.whole.metadata, known=[FORECAST])

    assert said == []


def test_sensors_ask_for_what_their_own_code_has(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()

    with lake.whole.metadata.transaction() as tx:
        other = {node.table for node in graph_of(tx)}
        ours = {node.table for node in graph_of(tx, written=[FORECAST])}

    assert ours - other == {FORECAST}


# Beside pipelines.


def test_a_pipeline_may_read_what_is_written_by_hand(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()
    lake.publish(FOLLOWER)

    report = lake.run("shop.gold.forecast", downstream=True)

    assert [str(each.table) for each in report.tables] == [
        "shop.gold.forecast",
        "shop.gold.week",
    ]
    assert lake.rows("shop.gold.week") == [(35.0,)]


def test_what_follows_it_is_wished_for_when_it_was_published(
    lake: Shop, project: Path
) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()
    lake.publish(FOLLOWER)
    edit(project, "DAYS = 7", "DAYS = 14")

    lake.run("shop.gold.forecast")

    with lake.whole.metadata.transaction() as tx:
        wished = {(each.label, each.pipeline_id) for each in tx.scalars(select(Wish))}
        following = graph.followers(tx, FORECAST)
        of_orders = graph.followers(tx, TableName("shop", "silver", "orders"))
    assert {("auto", each) for each in following.values()} <= wished
    assert [*of_orders] == [FORECAST]


def test_a_pipeline_of_its_name_is_not_published(lake: Shop) -> None:
    lake.land("steady.csv", STEADY)
    lake.run()

    with pytest.raises(PublishError) as caught:
        lake.publish({"shop/pipelines/gold/forecast/pipeline.sql": "SELECT 1 AS n"})

    assert "gold/forecast/pipeline.sql:1" in str(caught.value)
    assert "is written by hand already, in definitions.py:forecast" in str(caught.value)


def test_it_does_not_run_where_a_pipeline_of_its_name_is_published(lake: Shop) -> None:
    lake.publish({"shop/pipelines/gold/forecast/pipeline.sql": "SELECT 1 AS n"})

    with pytest.raises(
        PublishError, match=r"definitions\.py:forecast writes"
    ) as caught:
        lake.run("shop.gold.forecast")

    assert "a published pipeline does so too" in str(caught.value)
    code = (EXAMPLE / "definitions.py").read_text().partition("@lake_asset")[0]
    assert f"definitions.py:{len(code.splitlines()) + 1}:" in str(caught.value)
    assert caught.value.outcome == "nothing was run"
    assert lake.runs() == []


# What is wrong with one.


def asset(**said: object) -> LakeAsset:
    """A hand-written asset that says this and that."""

    def nothing(lake: PinnedLake) -> None:
        """Nothing."""

    return lake_asset("shop.gold.numbers", **said)(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"merge_strategy": "incremntal"}, "did you mean incremental?"),
        ({"merge_strategy": "incremental"}, "unique_key"),
        ({"uniqe_key": "n"}, "did you mean unique_key?"),
        ({"reads": ["sliver.orders"]}, "reads: 'sliver.orders' is no table name"),
        ({"tests": {"x": "SELEC 1"}}, "x.sql:1: "),
        ({"tests": {"No Name": "SELECT 1"}}, "is no name for a test"),
        ({"tests": {"x": "FROM shop.silver.y"}}, "without ref()"),
        ({"materialized": "view"}, "this pipeline is a script"),
    ],
)
def test_a_mistake_is_told_at_the_function(said: dict[str, object], told: str) -> None:
    with pytest.raises(PublishError) as caught:
        _ = asset(**said).parsed

    assert told in str(caught.value)
    assert "test_hand_written.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("lake.read('silver.order')", "did you mean shop.silver.orders?"),
        ("lake.read('bronze.orders')", "bronze.orders; add 'bronze.orders' to reads"),
        ("None", "the function returned nothing"),
        ("[1, 2]", "is a list, which exports no Arrow"),
    ],
)
def test_a_mistake_of_the_body_is_told(
    lake: Shop, project: Path, body: str, told: str
) -> None:
    lake.land("steady.csv", STEADY)
    edit(project, "    orders = ", f"    return {body}\n    orders = ")

    report = lake.run()

    assert told in (report.tables[-1].error or "")
    assert "definitions.py:" in (report.tables[-1].error or "")


def test_a_misspelt_input_is_told_at_the_function(lake: Shop, project: Path) -> None:
    lake.land("steady.csv", STEADY)
    lake.run("shop.silver.orders", upstream=True)
    edit(project, 'reads=["silver.orders"]', 'reads=["silver.order"]')

    report = lake.run("shop.gold.forecast")

    error = report.tables[-1].error or ""
    assert "definitions.py:" in error
    assert "shop.silver.order: no such table on main yet" in error
    assert "did you mean shop.silver.orders?" in error


def test_its_tests_can_be_run_on_main(
    lake: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.land("steady.csv", STEADY)
    asked: dict[str, Any] = {"everything": False, "timeout": 60.0, "as_json": False}

    with pytest.raises(NotFoundError, match="has never run"):
        authoring.test((str(FORECAST),), **asked)
    lake.run()
    code = authoring.test((str(FORECAST),), **asked)

    assert code == 0
    assert "2 tests of 1 pipeline, 0 failed" in capsys.readouterr().out


def test_tests_may_stand_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "positive.sql").write_text("-- @severity: warn\nFROM {{ this }}")

    (test,) = asset(tests=tmp_path).parsed.spec.tests

    assert (test.name, test.severity) == ("positive", "warn")


def test_its_own_rows_can_be_read_once_there_are_any(lake: Shop, project: Path) -> None:
    lake.land("steady.csv", STEADY)
    own = (
        "    first = lake.this is None\n    lake.log(f'first: {first}')\n    orders = "
    )
    edit(project, "    orders = ", own)
    logs = []

    for full_refresh in (False, True):
        lake.run(full_refresh=full_refresh)
        logs.append(str(lake.runs()[-1].logs))

    assert "first: True" in logs[0]
    assert "first: False" in logs[1]


# Where they are found.


def test_a_project_without_any_has_none() -> None:
    project = EXAMPLE.parents[1]

    assert find_assets(project) == []
    assert find_location(project) == location.OURS


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "\nimport nothing_like_it",
            r"definitions.py:2: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        ("def x(:", r"definitions.py:1: SyntaxError: invalid syntax"),
        ("x = 1", r"definitions.py has no defs; add @dg.definitions"),
        ("import dagster as dg\ndefs = dg.Definitions()", "when it is imported"),
    ],
)
def test_a_location_that_cannot_be_loaded_says_why(
    project: Path, code: str, told: str
) -> None:
    (project / "definitions.py").write_text(code)

    with pytest.raises(SettingsError, match=told):
        find_assets(project)


def test_a_workspace_without_our_location_is_told(project: Path) -> None:
    workspace = project / "workspace.yaml"
    workspace.write_text(workspace.read_text().replace("name: rat", "name: other"))

    with pytest.raises(SettingsError, match="names no code location rat"):
        find_location(project)
