"""Lakes: a RAT with tables that are written without runs, and what time does to its files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy import text

from rat_resources.collection import Collected, collect
from rat_resources.lake.locations import duckdb_path, is_local
from rat_resources.lake.refs import MAIN, Delete, ReferenceType
from rat_resources.lake.storage import files_of
from rat_resources.platform import Platform

TABLE = "shop.silver.orders"
WEEK = timedelta(days=7)
# After so long nothing of main's history is kept any more.
LONG = timedelta(days=40)


@dataclass
class Lake:
    """A RAT whose clock a test sets, as far as the collector asks for it."""

    whole: Platform
    now: datetime

    @classmethod
    def over(cls, whole: Platform) -> "Lake":
        return cls(whole, datetime.now(UTC))

    @property
    def warehouse(self) -> str:
        return self.whole.lake.catalog(MAIN).warehouse

    def write(
        self, *ids: int, table: str = TABLE, branch: str = MAIN, anew: bool = True
    ) -> None:
        """Let a table on a branch hold rows, instead of those that it has or beside them."""
        rows = pa.table({"id": pa.array(ids, pa.int64())})
        catalog = self.whole.lake.catalog(branch)
        try:
            found = catalog.load_table(table)
        except NoSuchTableError:
            # In one commit, as runs make them.
            with catalog.create_table_transaction(table, rows.schema) as new:
                new.append(rows)
            return
        if anew:
            found.overwrite(rows)
        else:
            found.append(rows)

    def rows(self, *, table: str = TABLE, at: str = MAIN) -> list[int]:
        """The rows of a table, read by PyIceberg from whatever files there are."""
        found = self.whole.lake.catalog(at).load_table(table).scan().to_arrow()
        return sorted(found["id"].to_pylist())

    def drop(self, *, table: str = TABLE, branch: str = MAIN) -> None:
        refs = self.whole.lake.refs
        key = tuple(table.split("."))
        refs.commit(branch, [Delete(key)], message=f"drop {table}")

    def branch(self, name: str, *, at: str = MAIN) -> str:
        self.whole.lake.refs.create(name, at=at)
        return name

    def tag(self, name: str, *, at: str = MAIN) -> str:
        self.whole.lake.refs.create(name, at=at, kind=ReferenceType.TAG)
        return name

    def forget(self, name: str) -> None:
        refs = self.whole.lake.refs
        refs.delete(name, expected_hash=refs.head(name))

    def wait(self, span: timedelta) -> None:
        self.now += span

    def collect(self, *, dry_run: bool = False, adopt: bool = False) -> Collected:
        return collect(self.whole, dry_run=dry_run, adopt=adopt, now=self.now)

    def collect_all(self) -> Collected:
        """Note what nothing needs, and remove it when that was so for long enough."""
        self.collect()
        self.wait(timedelta(days=3))
        return self.collect()

    def files(self, *, table: str = TABLE) -> set[str]:
        """The files in a table's folder."""
        folder = f"{self.warehouse}/{table.replace('.', '/')}"
        return {each.location for each in files_of(folder).list(folder)}

    def make_file(self, inner: str, content: bytes = b"PAR1") -> str:
        """Put some file into the warehouse; its location."""
        location = f"{self.warehouse}/{inner}"
        files_of(self.warehouse).write(location, content, anew=True)
        return location

    def remove_file(self, location: str) -> None:
        assert not files_of(self.warehouse).remove([location])

    def tell(self, statement: str, **values: object) -> None:
        with self.whole.metadata.transaction() as tx:
            tx.execute(text(statement), values)

    def make_pipeline(self, name: str) -> None:
        namespace = "INSERT INTO rat.namespaces (name) VALUES ('shop')"
        self.tell(f"{namespace} ON CONFLICT DO NOTHING")
        self.tell(
            "INSERT INTO rat.pipelines (namespace, layer, name)"
            " VALUES ('shop', 'silver', :name)",
            name=name,
        )

    @contextmanager
    def unreadable(self, location: str) -> Iterator[None]:
        """A block in which nobody makes sense of a file."""
        files = files_of(location)
        content = files.read(location)
        assert content is not None
        files.write(location, b"nonsense", anew=False)
        yield
        files.write(location, content, anew=False)


def is_there(location: str) -> bool:
    """Whether there is such a file."""
    assert is_local(location), duckdb_path(location)
    return files_of(location).read(location) is not None
