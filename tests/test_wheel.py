"""The wheel: installed elsewhere, a project of one's own works without the checkout."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Shell:
    """A place where commands are typed."""

    folder: Path
    environ: Mapping[str, str]

    def __call__(self, *arguments: str) -> str:
        """What a command says; it must end well."""
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}"
        return done.stdout


def install(folder: Path) -> Path:
    """Build the wheel and install it, with what it declares to need; where its programs are."""
    shell = Shell(PROJECT, os.environ)
    needed, wheels, venv = folder / "needed.txt", folder / "wheels", folder / "venv"
    shell("uv", "venv", "-q", "--python", sys.executable, str(venv))
    python = ("uv", "pip", "install", "-q", "--no-deps", "--python", str(venv))
    for offline in (["--offline"], []):
        try:
            shell("uv", "build", "-q", "--wheel", "-o", str(wheels), *offline)
            # The very versions of the lock, without what only developing needs.
            locked = ("uv", "export", "-q", "--locked", "--no-dev", "--no-emit-project")
            shell(*locked, "-o", str(needed), *offline)
            shell(*python, "-r", str(needed), *map(str, wheels.glob("*.whl")), *offline)
        except AssertionError:
            if not offline:
                raise  # nor does the index have it
        else:
            break
    return venv / "bin"


@pytest.mark.filterwarnings("ignore")
def test_a_project_of_ones_own_works_where_only_the_wheel_is(tmp_path: Path) -> None:
    programs = install(tmp_path)
    lake = tmp_path / "lake"
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DAGSTER_HOME", "PYTHONPATH", "VIRTUAL_ENV")
    }
    path = {"PATH": f"{programs}:{clean['PATH']}", "COLUMNS": "200"}
    Shell(tmp_path, clean | path)("rat", "init", "lake")
    shell = Shell(lake, clean | path | {"DAGSTER_HOME": str(lake)})

    try:
        published = shell("rat", "publish", ".")
        sample = "shop/landing/orders/_samples/orders_2026-01.csv"
        shell("rat", "upload", "shop/orders", sample)
        shell("rat", "run", "shop.bronze.orders")
        validated = shell("dagster", "definitions", "validate")
        for file in ("definitions.py", "workspace.yaml"):
            shutil.copy(PROJECT / "examples" / "hand_written" / file, lake)
        listed = shell("dagster", "asset", "list", "-f", "definitions.py", "-a", "defs")
        # The worker that this launches builds the location anew, at the same release.
        shell("dagster", "job", "launch", "-w", "workspace.yaml", "-j", "pipelines")
        asked = shell("rat", "query", "SELECT count(*) AS n FROM gold.forecast")
        example = (
            "import rat_assets.demo as d; print(*d.example_folder().rglob('*.sql'))"
        )
        demo = shell("python", "-c", example)
    finally:
        shell("rat", "stop")

    assert "created    shop.silver.orders" in published
    assert "passed validation" in validated
    assert {"shop/silver/orders", "shop/gold/forecast"} <= set(listed.split())
    assert asked.split()[-1] == "7"
    assert str(programs.parent) in demo
    assert str(PROJECT) not in demo
