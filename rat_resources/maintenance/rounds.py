"""Rounds: what is planned for a table is done in bounded parts, each on main at once or not at all.

A round writes new files, names them on a branch made from main's head, and merges that. Whoever is
killed leaves files that no commit names, a branch that goes by its age, or a row that the next one
settles; main is as it was, or has the same rows in other files.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import duckdb
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from rat_resources.errors import (
    CatalogError,
    ConflictError,
    LostAnswerError,
    NotFoundError,
    RatError,
)
from rat_resources.lake.asides import name_aside
from rat_resources.lake.refs import MAIN
from rat_resources.leases import Hold
from rat_resources.maintenance import compacting, records
from rat_resources.maintenance.compacting import Rewritten
from rat_resources.maintenance.expiring import expire
from rat_resources.maintenance.holding import holding
from rat_resources.maintenance.plans import Bin, TablePlan, current_bins
from rat_resources.metadata.maintenance import Maintenance
from rat_resources.names import TableName
from rat_resources.platform import Platform
from rat_resources.reconciliation import settle_pipeline

ROUND_BYTES = 1024 * 1024 * 1024  # that are written anew at once; a kill loses no more


@dataclass
class Done:
    """What became of one table's plan."""

    plan: TablePlan
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    dead_rows: int = 0
    snapshots: int = 0
    metadata_files: int = 0
    commits: list[str] = field(default_factory=list)  # of main
    problem: str = ""  # why not all of it was done

    def add(self, row: Maintenance, *, commit: str) -> None:
        """A round is on main."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(row, name))
        self.commits.append(commit)

    def to_json(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            **{name: getattr(self, name) for name in COUNTED},
            "commits": self.commits,
            "problem": self.problem,
        }


COUNTED = (
    "files_before",
    "files_after",
    "bytes_before",
    "bytes_after",
    "rows",
    "dead_rows",
    "snapshots",
    "metadata_files",
)


class OvertakenError(Exception):
    """Somebody else committed to the table meanwhile."""


TROUBLE = (OvertakenError, RatError, OSError, duckdb.Error)


@dataclass
class Work:
    """The plan of one table, as it is carried out."""

    whole: Platform
    plan: TablePlan
    pipeline_id: uuid.UUID | None  # None: no pipeline's runs can be in the way
    by: str
    patience: timedelta
    say: Callable[[str], None]

    @property
    def name(self) -> TableName:
        """The table."""
        return self.plan.name

    def run(self) -> Done:
        """Do what is planned, round by round, until it is done or somebody is in the way."""
        done = Done(self.plan)
        for part in parts(self.plan):
            try:
                with self.alone() as hold:
                    row, commit = self.round(part, hold=hold)
            except TROUBLE as error:
                # One table's is no other's.
                done.problem = str(error).strip().partition("\n")[0]
                break
            done.add(row, commit=commit)
            self.say(f"{self.name}: {records.describe(row)}")
        return done

    @contextmanager
    def alone(self) -> Iterator[Hold | None]:
        """Keep the runs of the table's pipeline away, and settle what was left of the table."""
        metadata, since = self.whole.metadata, records.ABANDONED
        if self.pipeline_id is None:
            context: Any = nullcontext()
        else:
            context = holding(metadata, self.pipeline_id, patience=self.patience)
            since = timedelta(0)
        with context as hold:
            if self.pipeline_id is not None:
                if hold is None:
                    message = (
                        "a run of its pipeline is active; it is left for the next time"
                    )
                    raise OvertakenError(message)
                settle_pipeline(self.whole, self.pipeline_id, say=self.say)
            with metadata.transaction() as tx:
                left = records.left(tx, table=self.name, since=since)
            for row_id in left:
                for line in records.settle(metadata, self.whole.lake.refs, row_id):
                    self.say(line)
            yield hold

    def round(self, part: TablePlan, *, hold: Hold | None) -> tuple[Maintenance, str]:
        """One part of the plan, on main; OvertakenError if the table is another one by now."""
        lake = self.whole.lake
        table = self.read(lake.refs.head(MAIN))
        rewritten = self.rewrite(table, part)
        head = lake.refs.head(MAIN)
        with self.branch(head) as branch:
            catalog = lake.catalog(branch, message=f"maintain {self.name}")
            ours = catalog.load_table(self.name.key)
            if ours.metadata_location != table.metadata_location:
                message = "somebody else committed to it meanwhile"
                raise OvertakenError(message)
            try:
                if rewritten:
                    ours = compacting.commit(ours, rewritten)
                ours = expire(ours, part)
            except CommitFailedException as error:
                raise OvertakenError(str(error)) from error
            row = self.describe(part, rewritten, before=table, after=ours)
            row.branch, row.expected_main = branch, head
            row.from_hash = lake.refs.head(branch)
            return row, self.merge(row, hold=hold)

    def read(self, head: str) -> Table:
        """The table as it stands on main."""
        table = self.whole.lake.tables([self.name], at=f"@{head}").get(self.name)
        if table is None:
            message = f"it is not on {MAIN} any more"
            raise OvertakenError(message)
        return table

    def rewrite(self, table: Table, part: TablePlan) -> list[Rewritten]:
        """Write the new files of a part; nobody is told about them."""
        packed = current_bins(table, part.bins)
        if len(packed) < len(part.bins):
            message = "somebody else wrote its files anew"
            raise OvertakenError(message)
        if not packed:
            return []
        with self.whole.lake.connect() as connection:
            return [
                compacting.rewrite(connection, table, each, layout=part.layout)
                for each in packed
            ]

    @contextmanager
    def branch(self, head: str) -> Iterator[str]:
        """A branch for one round, never made anew."""
        refs = self.whole.lake.refs
        name = name_aside("maintain", id=uuid.uuid4())
        refs.create(name, at=f"{MAIN}@{head}")
        try:
            yield name
        finally:
            # What is on main is there, whatever becomes of the branch; the janitor knows it.
            with suppress(CatalogError, LostAnswerError, NotFoundError):
                refs.delete(name, expected_hash=refs.head(name))

    def merge(self, row: Maintenance, *, hold: Hold | None) -> str:
        """Bring a branch into main, and say so; OvertakenError where somebody was faster."""
        metadata, refs = self.whole.metadata, self.whole.lake.refs
        with metadata.transaction() as tx:
            row_id = records.intend(tx, row)
        try:
            return records.merge(metadata, refs, row_id, hold=hold)
        except ConflictError as error:
            records.give_up(metadata, row_id)
            raise OvertakenError("somebody else committed to it meanwhile") from error
        except (LostAnswerError, NotFoundError):
            for line in records.settle(metadata, refs, row_id):
                self.say(line)
            commit = records.commit_of(metadata, row_id)
            if commit is None:
                raise
            return commit

    def describe(
        self,
        part: TablePlan,
        rewritten: Sequence[Rewritten],
        *,
        before: Table,
        after: Table,
    ) -> Maintenance:
        """A round as `rat.maintenance` keeps it."""
        was, now = before.current_snapshot(), after.current_snapshot()
        known = {each.snapshot_id for each in after.metadata.snapshots}
        return Maintenance(
            namespace=self.name.namespace,
            layer=self.name.layer,
            name=self.name.name,
            location_before=before.metadata_location,
            snapshot_before=was.snapshot_id if was else None,
            metadata_location=after.metadata_location,
            snapshot_id=now.snapshot_id if now else None,
            why=", ".join(part.why),
            size_bytes=int(
                (now and now.summary and now.summary["total-files-size"]) or 0
            ),
            files_before=sum(len(each.bin.files) for each in rewritten),
            files_after=sum(len(each.files) for each in rewritten),
            bytes_before=sum(each.bin.bytes for each in rewritten),
            bytes_after=sum(each.bytes for each in rewritten),
            rows=sum(each.rows for each in rewritten),
            dead_rows=sum(each.dead for each in rewritten),
            snapshots=sum(
                each.snapshot_id not in known for each in before.metadata.snapshots
            ),
            metadata_files=part.log_entries,
            user_id=self.by,
        )


def parts(plan: TablePlan) -> Iterator[TablePlan]:
    """The plan in parts that are done one by one; snapshots and metadata with the last."""
    some: list[Bin] = []
    for each in plan.bins:
        if some and sum(one.bytes for one in (*some, each)) > ROUND_BYTES:
            yield replace(plan, bins=tuple(some), expired=(), log_entries=0)
            some = []
        some.append(each)
    yield replace(plan, bins=tuple(some))
