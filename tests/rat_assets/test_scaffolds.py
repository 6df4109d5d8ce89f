"""Scaffolds: what is made works as it is, and what is there stays."""

import os
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rat_assets import scaffolds
from rat_assets.cli import rat
from rat_assets.scaffolds import ExistsError, find_source, init_project, new_pipeline
from rat_resources.errors import AuthorError, OperatorError
from rat_resources.names import LAYERS, TableName
from rat_resources.settings import Settings
from rat_resources.specs import parse_pipeline
from rat_resources.trees import read_tree
from tests.factories import Shop

PROJECT = Path(__file__).resolve().parents[2]
GOLD = TableName("shop", "gold", "revenue")


def call(*arguments: str) -> Result:
    """What a call of the command comes to."""
    return CliRunner().invoke(rat, list(arguments))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project, and we in it."""
    folder = tmp_path / "a lake é"
    init_project(folder)
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(folder)
    return folder


# A project.


def test_a_new_project_is_one(project: Path) -> None:
    settings = Settings.load({})

    assert settings.project == project
    assert settings.home == project / ".rat"
    assert ".rat/" in (project / ".gitignore").read_text()


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
def test_a_new_project_has_the_instance_of_the_checkout(
    project: Path, name: str
) -> None:
    assert (project / name).read_text() == (PROJECT / name).read_text()


def test_the_example_of_a_new_project_comes_out_in_silver(
    project: Path, shop: Shop
) -> None:
    sample = project / "shop/landing/orders/_samples/orders_2026-01.csv"
    shop.folder = project
    shop.publish({})
    shop.land(sample.name, sample.read_text())

    report = shop.run()

    assert report.succeeded
    assert [row[:2] for row in shop.rows("shop.silver.orders")] == [
        (1, "Ada"),
        (2, "Grace"),
        (3, "Ada"),
        (4, "Edsger"),
    ]


def test_what_is_in_the_way_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "shop").mkdir()

    with pytest.raises(ExistsError, match=r"README\.md, .*shop exist already"):
        init_project(tmp_path)

    assert sorted(each.name for each in tmp_path.iterdir()) == ["README.md", "shop"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_with_other_things_in_it_becomes_a_project(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    init_project(tmp_path)

    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "dagster.yaml").is_file()


def test_no_project_is_made_inside_of_another(project: Path) -> None:
    with pytest.raises(ExistsError, match="inside of the project") as caught:
        init_project(Path("lake"))
    init_project(Path("../other"))

    assert str(project) in str(caught.value)
    assert not (project / "lake").exists()
    assert (project.parent / "other" / "workspace.yaml").is_file()


def test_a_file_where_the_folder_should_be_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("mine")

    with pytest.raises(OperatorError, match="lake cannot be written"):
        init_project(tmp_path / "lake")

    assert (tmp_path / "lake").read_text() == "mine"


def test_a_project_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(scaffolds, "copy", fail)

    with pytest.raises(OperatorError, match="No space left"):
        init_project(tmp_path / "deep" / "lake")

    assert list(tmp_path.iterdir()) == []


# A pipeline.


def test_whatever_is_scaffolded_can_be_published(shop: Shop) -> None:
    shop.folder.mkdir()
    for (number, layer), python in product(enumerate(LAYERS), (False, True)):
        table = TableName("shop", layer, f"orders-{number}{'_py' if python else ''}")
        new_pipeline(shop.folder, table, python=python)

    release = shop.publish({})

    assert len(release.created) == 2 * len(LAYERS)
    assert release.warnings == ()


@pytest.mark.parametrize("python", [False, True])
def test_what_is_scaffolded_runs(shop: Shop, *, python: bool) -> None:
    shop.folder.mkdir()
    for layer in LAYERS:
        new_pipeline(shop.folder, TableName("shop", layer, "orders"), python=python)
    shop.publish({})
    shop.land("a.csv", "id\n1\n2\n")

    report = shop.run()

    assert [(each.status, each.passed) for each in report.tables] == [
        ("published", 1)
    ] * 3
    assert [row[0] for row in shop.rows("shop.gold.orders")] == [1, 2]


@pytest.mark.parametrize(
    ("layer", "name", "source"),
    [
        ("bronze", "orders", None),
        ("silver", "orders", "shop.bronze.orders"),
        ("silver", "customer", "shop.bronze.customers"),
        ("silver", "xyz", "shop.bronze.customers"),
        ("gold", "revenue", "shop.silver.revenue"),
    ],
)
def test_a_pipeline_reads_the_nearest_table_of_the_layer_below(
    tmp_path: Path, layer: str, name: str, source: str | None
) -> None:
    for known in ("orders", "customers"):
        (tmp_path / "shop" / "pipelines" / "bronze" / known).mkdir(parents=True)

    found = find_source(tmp_path, TableName("shop", layer, name))

    assert found == (TableName.parse(source) if source else None)


def test_the_command_makes_a_pipeline_where_publishing_finds_it(project: Path) -> None:
    (project / "shop" / "pipelines" / "silver").mkdir(exist_ok=True)

    result = call("new", "shop.gold.revenue")

    assert result.exit_code == 0, result.output
    assert "made shop/pipelines/gold/revenue/pipeline.sql" in result.output
    sources = {each.table: each for each in read_tree(project).sources}
    assert parse_pipeline(sources[GOLD]).spec.refs == (
        TableName("shop", "silver", "orders"),
    )


def test_a_pipeline_that_exists_is_not_overwritten(project: Path) -> None:
    code = project / "shop/pipelines/silver/orders/pipeline.sql"
    before = code.read_text()

    result = call("new", "shop.silver.orders", "--python")

    assert result.exit_code == 1
    assert "shop/pipelines/silver/orders exists already" in result.output
    assert code.read_text() == before
    assert not code.with_name("pipeline.py").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("orders", "write namespace.layer.name"),
        ("shop.sliver.orders", "did you mean shop.silver.orders?"),
        ("Shop.Silver.X", "did you mean shop.silver.x?"),
        ("Shop.silver.x", "did you mean shop.silver.x?"),
        ("shop.platinum.orders", "layers are bronze, silver, gold"),
        ("shop.gold.Orders", "'Orders' is no name"),
        ("../x.gold.y", "write namespace.layer.name"),
        ("sh/op.gold.y", "'sh/op' is no name"),
    ],
)
def test_a_name_that_is_none_is_met_with_advice(name: str, said: str) -> None:
    with pytest.raises(AuthorError) as caught:
        scaffolds.read_name(name)

    assert said in str(caught.value)


def test_outside_of_a_project_a_pipeline_has_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

    result = call("new", "shop.gold.revenue")

    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []
