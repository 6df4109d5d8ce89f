"""Tests of rat_resources.later and of what our processes do without."""

import subprocess
import sys


def loaded(code: str, *, of: tuple[str, ...]) -> set[str]:
    """Which modules *of* a few a fresh interpreter has imported after *code*."""
    script = f"{code}\nimport sys; print(*sys.modules.keys() & {set(of)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_lake_comes_without_pandas() -> None:
    found = loaded("import rat_resources.lake", of=("pandas", "pyiceberg.table"))

    assert found == {"pyiceberg.table"}


def test_asking_tables_comes_without_dagster() -> None:
    found = loaded(
        "import rat_assets.commands.querying", of=("dagster", "pandas", "duckdb")
    )

    assert found == {"duckdb"}


def test_what_came_later_is_all_there_when_it_is_used() -> None:
    code = """
import rat_resources.lake, pyarrow as pa, pyarrow.dataset
import pandas as pd
table = pa.Table.from_pandas(pd.DataFrame({"a": [1, 2]}))
assert pyarrow.dataset.dataset(table).count_rows() == 2
from pyiceberg.io.pyarrow import ds
assert ds.dataset is pyarrow.dataset.dataset
"""

    assert "pyarrow._dataset" in loaded(code, of=("pyarrow._dataset",))


def test_a_module_that_is_there_already_stays_itself() -> None:
    code = """
import pyarrow.dataset
before = pyarrow.dataset
import rat_resources.lake
assert pyarrow.dataset is before
"""

    assert "pyarrow._dataset" in loaded(code, of=("pyarrow._dataset",))
