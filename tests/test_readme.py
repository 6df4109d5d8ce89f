"""The README names everything that exists, and what it tells people to type works."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rat_resources.metadata
from rat_assets.cli import rat
from rat_assets.scripts import NAMES
from rat_resources.configuration import KEYS
from rat_resources.metadata.base import metadata
from rat_resources.settings import VARIABLES, Settings
from rat_resources.templates import WORDS

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()
PIPELINES = (PROJECT / "docs" / "pipelines.md").read_text()
PAGES = [PROJECT / "README.md", *(PROJECT / "docs").glob("**/*.md")]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def targets() -> list[str]:
    """The targets of the Makefile that people call."""
    makefile = (PROJECT / "Makefile").read_text()
    return re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)


def tables() -> list[str]:
    """Every table of the platform's own schema."""
    for module in pkgutil.iter_modules(rat_resources.metadata.__path__):
        importlib.import_module(f"rat_resources.metadata.{module.name}")
    return [name for name in metadata.tables if name.startswith("rat.")]


def shell_blocks() -> list[tuple[Path, str]]:
    """Every block of commands of the README and the docs, in the order in which they stand there."""
    return [
        (page, block) for page in PAGES for block in BLOCK.findall(page.read_text())
    ]


@pytest.mark.parametrize("name", sorted(rat.commands))
def test_the_readme_names_every_command(name: str) -> None:
    assert f"`rat {name}" in README


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_the_readme_names_every_variable(name: str) -> None:
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("name", sorted(targets()))
def test_the_readme_names_every_make_target(name: str) -> None:
    assert f"`make {name}`" in README


@pytest.mark.parametrize("name", sorted(tables()))
def test_the_readme_names_every_table(name: str) -> None:
    assert f"`{name}`" in README


def test_the_readme_names_nothing_that_is_gone() -> None:
    commands = set(re.findall(r"`rat ([a-z]+)", README))
    called = set(re.findall(r"`make ([a-z]+)`", README))
    named = set(re.findall(r"`(rat\.[a-z_]+)`", README))
    variables = set(re.findall(r"`(RAT_[A-Z_]+)[`/]", README))

    assert commands <= set(rat.commands)
    assert called <= set(targets())
    assert named <= set(tables())
    assert variables <= set(VARIABLES)


def test_every_command_of_the_readme_works(settings: Settings, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    for page, command in shell_blocks():
        folder = tmp_path / page.stem
        folder.mkdir(exist_ok=True)
        if not (folder / "examples").exists():
            (folder / "examples").symlink_to(PROJECT / "examples")
        # What make would run is the suite itself, the demo or a server.
        line = command.replace("make ", f"make --dry-run -C {PROJECT} ")
        done = subprocess.run(  # noqa: S602 - as a reader types it
            f"set -e\n{line}",
            shell=True,
            check=False,
            cwd=folder,
            env=os.environ | settings.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}"


@pytest.mark.parametrize("key", KEYS)
def test_the_page_on_pipelines_names_every_key(key: str) -> None:
    assert f"`{key}`" in PIPELINES


@pytest.mark.parametrize("word", [*WORDS, *NAMES])
def test_the_page_on_pipelines_names_every_word(word: str) -> None:
    assert f"`{word}" in PIPELINES
