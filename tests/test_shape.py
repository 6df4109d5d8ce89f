"""The shape of the project: which way imports point, and what every module says of itself."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("rat_assets", "rat_resources", "rat_sensors")
MAY_SEE = {
    "rat_assets": {"rat_assets", "rat_resources"},
    "rat_resources": {"rat_resources"},
    "rat_sensors": {"rat_sensors", "rat_resources"},
}
# Everything is assembled, launched and typed here.
SEE_ALL = ("rat_assets/definitions.py", "rat_assets/runner.py", "rat_assets/cli.py")
NOBODY_KNOWS_WHAT = {"utils", "util", "helpers", "common", "misc"}
CHARTER_LENGTH = 20


def modules() -> list[Path]:
    """Every module of the three packages."""
    return [
        path for name in PACKAGES for path in sorted((PROJECT / name).rglob("*.py"))
    ]


def name_of(path: Path) -> str:
    """A module as people call it."""
    return path.relative_to(PROJECT).as_posix()


def imported_packages(path: Path) -> Iterator[str]:
    """Our packages that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]


def named_dependencies() -> set[str]:
    """The distributions that pyproject.toml names for those who use RAT."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *optional["demo"]]
    return {re.split(r"[^\w-]", each, maxsplit=1)[0].lower() for each in wanted}


def may_see(path: Path) -> set[str]:
    """The packages that a module may import."""
    name = name_of(path)
    if name in SEE_ALL or name.startswith("rat_assets/commands/"):
        return set(PACKAGES)
    return MAY_SEE[path.relative_to(PROJECT).parts[0]]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    seen = set(imported_packages(path)) & {*PACKAGES, "tests"}

    assert seen <= may_see(path)


def test_what_is_imported_is_named_as_a_dependency() -> None:
    imported = {name for path in modules() for name in imported_packages(path)}
    theirs = imported - {*PACKAGES, *sys.stdlib_module_names}
    brought_by, named = packages_distributions(), named_dependencies()

    unnamed = [
        name
        for name in sorted(theirs)
        if not named & {each.lower() for each in brought_by.get(name, [])}
    ]

    assert not unnamed


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_is_a_noun(path: Path) -> None:
    assert path.stem not in NOBODY_KNOWS_WHAT


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_opens_with_its_charter(path: Path) -> None:
    charter = ast.get_docstring(ast.parse(path.read_text())) or ""

    assert len(charter) >= CHARTER_LENGTH


def test_the_packages_import_nothing_by_themselves() -> None:
    for name in PACKAGES:
        body = ast.parse((PROJECT / name / "__init__.py").read_text()).body

        assert all(isinstance(node, ast.Expr) for node in body)


def test_only_settings_reads_the_environment() -> None:
    readers = [
        name_of(path)
        for path in modules()
        if "RAT_" in path.read_text()
        and any(
            isinstance(node, ast.Subscript | ast.Call)
            and ast.unparse(node).startswith(("os.environ.get('RAT", "os.environ['RAT"))
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]

    assert readers in ([], ["rat_resources/settings.py"])
