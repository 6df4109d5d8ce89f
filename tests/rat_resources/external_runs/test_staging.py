"""Staging: a copy is gone when its reader is, however that ended."""

import subprocess
import sys
from pathlib import Path

from rat_resources.external_runs.staging import remove_left, staged

KILLED = """
import os, signal, sys
from pathlib import Path
from rat_resources.external_runs.staging import staged

with staged(Path(sys.argv[1])) as folder:
    folder.mkdir(parents=True)
    (folder / "events").write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_process_stages_is_gone_when_it_is_done(tmp_path: Path) -> None:
    with staged(tmp_path) as folder:
        folder.mkdir(parents=True)

    assert not [*(tmp_path / "external_runs").iterdir()]


def test_what_a_killed_process_staged_is_removed_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)

    removed = [[*remove_left(tmp_path)] for _ in range(2)]

    assert [len(each) for each in removed] == [1, 0]
    assert not [*(tmp_path / "external_runs").iterdir()]


def test_what_a_living_process_stages_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "external_runs" / "somebody elses").mkdir(parents=True)

    with staged(tmp_path) as folder:
        folder.mkdir(parents=True)
        removed = [*remove_left(tmp_path)]

        assert (removed, folder.is_dir()) == ([], True)
