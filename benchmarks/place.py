"""Place: a RAT of a benchmark's own, pipelines for it, and commands that are timed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

PROJECT = Path(__file__).resolve().parents[1]
RAT = Path(sys.executable).with_name("rat")


@dataclass(frozen=True)
class Place:
    """A folder with a RAT_HOME in it, which the environment names while it lasts."""

    folder: Path

    @property
    def home(self) -> Path:
        """The RAT_HOME."""
        return self.folder / "home"

    def tree(self, files: Mapping[str, str], *, name: str = "tree") -> Path:
        """A folder of *files*."""
        root = self.folder / name
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return root


@contextmanager
def own_place() -> Iterator[Place]:
    """A place that is gone afterwards, with its Postgres."""
    with tempfile.TemporaryDirectory(prefix="rat-benchmark-") as folder:
        try:
            with kept_place(Path(folder)) as place:
                yield place
        finally:
            forget_cluster(place.home)


@contextmanager
def kept_place(folder: Path) -> Iterator[Place]:
    """The place in *folder*, which stays; its Postgres is stopped afterwards."""
    place = Place(folder)
    os.environ |= {"RAT_HOME": str(place.home), "DAGSTER_HOME": str(PROJECT)}
    try:
        yield place
    finally:
        command([str(RAT), "stop"])


def forget_cluster(home: Path) -> None:
    """Remove the Postgres cluster, which root keeps outside of the RAT_HOME."""
    from rat_resources.metadata import embedded  # noqa: PLC0415 - after the environment

    shutil.rmtree(embedded.Place.of(home).folder, ignore_errors=True)


def command(words: Sequence[str], *, folder: Path | None = None) -> float:
    """How many seconds a command takes, start to exit; it must succeed."""
    started = perf_counter()
    done = subprocess.run(  # noqa: S603 - a benchmark's own words
        words, cwd=folder, capture_output=True, text=True, check=False
    )
    took = perf_counter() - started
    if done.returncode:
        message = f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}"
        raise SystemExit(message)
    return took


def in_turns(
    tasks: Mapping[str, Callable[[], float]], *, rounds: int
) -> dict[str, float]:
    """The median of what each task took; they take turns, so that a busy moment hits all."""
    for task in tasks.values():
        task()  # warm
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            taken[name].append(task())
    return {name: median(times) for name, times in taken.items()}


def seconds(task: Callable[[], object]) -> float:
    """How long a call takes."""
    started = perf_counter()
    task()
    return perf_counter() - started
