"""Any order: whatever is done to a lake, what is referred to reads whole and nothing else stays for long."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rat_resources.backup.taking import back_up
from rat_resources.collection.limits import read_limits
from rat_resources.lake.refs import MAIN, IcebergTable
from rat_resources.retention import Retention
from tests.rat_resources.collection.lakes import Lake

TABLES = ("shop.silver.orders", "shop.gold.sums")
STEPS = 50


class Story:
    """A lake, and what everything that refers to it must read as."""

    def __init__(self, lake: Lake, seed: int, folder: Path) -> None:
        self.lake = lake
        self.chance = random.Random(seed)  # noqa: S311 - a story, no secret
        self.folder = folder
        self.count = 0
        for table in TABLES:
            lake.make_pipeline(table.rpartition(".")[2])
        # Places, with the rows of each table there.
        self.refs: dict[str, dict[str, list[int]]] = {MAIN: {}}
        self.history: list[tuple[datetime, str, dict[str, list[int]]]] = []
        self.backups: list[tuple[datetime, dict[str, str], dict[str, list[int]]]] = []

    def branches(self) -> list[str]:
        return [name for name in self.refs if not name.startswith("tag")]

    def act(self) -> None:
        """Do something."""
        deeds: list[Callable[[], None]] = [
            *[self.write] * 5,
            *[self.branch] * 2,
            self.tag,
            *[self.merge] * 2,
            *[self.forget] * 2,
            self.drop,
            self.save,
            *[self.wait] * 3,
            *[self.collect] * 3,
        ]
        self.chance.choice(deeds)()

    def write(self) -> None:
        self.count += 1
        branch = self.chance.choice(self.branches())
        table = self.chance.choice(TABLES)
        anew = self.chance.random() < 0.5
        rows = self.refs[branch].get(table, [])
        self.lake.write(self.count, table=table, branch=branch, anew=anew)
        kept = [] if anew else rows
        self.refs[branch] = {**self.refs[branch], table: [*kept, self.count]}
        self.remember(branch)

    def remember(self, branch: str) -> None:
        """Know what main held, and let that have been at the time of the story."""
        if branch == MAIN:
            head = self.lake.whole.lake.refs.head(MAIN)
            self.lake.tell(
                "UPDATE lake.commits SET committed_at = :now WHERE hash = :head",
                now=self.lake.now,
                head=head,
            )
            self.history.append((self.lake.now, head, self.refs[MAIN]))

    def branch(self) -> None:
        self.count += 1
        name = self.lake.branch(f"branch-{self.count}")
        self.refs[name] = self.refs[MAIN]

    def tag(self) -> None:
        self.count += 1
        of = self.chance.choice(self.branches())
        name = self.lake.tag(f"tag-{self.count}", at=of)
        self.refs[name] = self.refs[of]

    def merge(self) -> None:
        """Bring a branch into main, if nobody changed what it changed."""
        name = self.chance.choice(self.branches())
        if name == MAIN:
            return
        refs = self.lake.whole.lake.refs
        foreseen = refs.merge(name, into=MAIN, dry_run=True)
        if foreseen.conflicts:
            return
        refs.merge(name, into=MAIN)
        self.refs[MAIN] = {
            table: self.lake.rows(table=table)
            for table in TABLES
            if self.lake.whole.lake.catalog(MAIN).table_exists(table)
        }
        self.remember(MAIN)

    def forget(self) -> None:
        name = self.chance.choice(list(self.refs))
        if name != MAIN:
            self.lake.forget(name)
            del self.refs[name]

    def drop(self) -> None:
        branch = self.chance.choice(self.branches())
        if self.refs[branch]:
            table = self.chance.choice(list(self.refs[branch]))
            self.lake.drop(table=table, branch=branch)
            self.refs[branch] = {
                key: rows for key, rows in self.refs[branch].items() if key != table
            }
            self.remember(branch)

    def save(self) -> None:
        """Take a backup, and know where its tables were."""
        self.count += 1
        back_up(self.lake.whole, self.folder / f"{self.count}.backup")
        at = {
            ".".join(entry.key): entry.content.metadata_location
            for entry in self.lake.whole.lake.refs.entries(at=MAIN)
            if isinstance(entry.content, IcebergTable)
        }
        self.lake.tell(
            "UPDATE rat.backups SET made_at = :now WHERE made_at < now() AND path LIKE :end",
            now=self.lake.now,
            end=f"%/{self.count}.backup",
        )
        self.backups.append((self.lake.now, at, self.refs[MAIN]))

    def wait(self) -> None:
        self.lake.wait(timedelta(hours=self.chance.choice((1, 20, 60, 400, 1500))))

    def collect(self) -> None:
        self.lake.wait(timedelta(seconds=1))
        collected = self.lake.collect()
        assert not collected.problems

    def check(self) -> None:
        """Everything that is promised reads as it was."""
        for name, tables in self.refs.items():
            self.compare(tables, at=name)
        limits = read_limits(self.lake.whole, self.lake.warehouse, now=self.lake.now)
        assert limits.history is not None
        assert limits.backups is not None
        for made, commit, tables in self.history:
            if made >= limits.history:
                self.compare(tables, at=f"@{commit}")
        for made, at, tables in self.backups:
            if made >= limits.backups:
                for table, location in at.items():
                    catalog = self.lake.whole.lake.catalog(MAIN)
                    key = tuple(table.split("."))
                    found = catalog.load_table_at(key, IcebergTable(location))
                    rows = found.scan().to_arrow()["id"].to_pylist()
                    assert sorted(rows) == sorted(tables[table])

    def compare(self, tables: dict[str, list[int]], *, at: str) -> None:
        for table, rows in tables.items():
            assert self.lake.rows(table=table, at=at) == sorted(rows), (at, table)

    def end(self) -> None:
        """Let everything be forgotten; what is left is what main holds."""
        for name in list(self.refs):
            if name != MAIN:
                self.lake.forget(name)
        self.refs = {MAIN: self.refs[MAIN]}
        longest = Retention().backups
        assert longest is not None
        self.lake.wait(longest + timedelta(days=1))
        self.lake.collect_all()


@pytest.mark.parametrize("seed", range(1))
def test_what_is_referred_to_reads_whole_and_nothing_else_stays(
    lake: Lake, tmp_path: Path, seed: int
) -> None:
    story = Story(lake, seed, tmp_path)
    for _ in range(STEPS):
        story.act()
    story.check()

    story.end()

    story.check()
    left = lake.collect()
    looked_at = [left.total(fate) for fate in ("noted", "waiting", "young", "strange")]
    assert not any(looked_at)
    for table in TABLES:
        if table not in story.refs[MAIN]:
            assert lake.files(table=table) == set()
