"""Finding what is needed: every root of one moment, and what branches were made or moved since."""

from collections.abc import Iterable, Iterator

from sqlalchemy import text

from rat_resources.collection import roots
from rat_resources.collection.limits import Limits
from rat_resources.collection.live import Live
from rat_resources.collection.roots import Root
from rat_resources.lake.locations import is_local
from rat_resources.lake.refs import MAIN
from rat_resources.lake.storage import is_within, spelled_out
from rat_resources.platform import Platform


class Finder:
    """What is needed of a warehouse."""

    def __init__(self, whole: Platform, warehouse: str, limits: Limits) -> None:
        self.whole = whole
        self.refs = whole.lake.refs
        self.warehouse = warehouse
        self.limits = limits
        catalog = whole.lake.catalog(MAIN)
        io = catalog._load_file_io(catalog.properties, warehouse)  # noqa: SLF001 - ours
        self.live = Live(io, is_local=is_local(warehouse))
        self.main = self.refs.head(MAIN)
        self.seen = {self.main}  # commits that references pointed to
        self.tables: set[str] = set()  # the folders of those that are needed

    def find_all(self) -> None:
        """Find out what is needed in this moment."""
        main = self.main
        standing = list(roots.of_main(self.refs, main))
        self.live.add(standing)
        self.catch_up()
        since, backups = self.limits.history, self.limits.backups
        self.live.add(roots.of_history(self.refs, main, since=since))
        with self.whole.metadata.transaction() as tx:
            told = list(roots.of_postgres(tx, since=since, backups=backups))
            told += roots.of_intents(self.refs, tx, main=main)
        self.live.add(root for root in told if root.is_promised)
        # Of a table that is gone nothing is compared any more.
        names = {root.table for root in standing}
        others = (root for root in told if not root.is_promised)
        self.live.add(root for root in others if root.table in names)

    def catch_up(self) -> None:
        """Find out what is needed by references that were not there before, or elsewhere."""
        fresh = [each for each in self.refs.heads() if each.hash not in self.seen]
        if not fresh:
            return
        ours = {each.hash for each in self.refs.references()}
        for each in fresh:
            found = roots.of_reference(self.refs, each, main=self.main)
            self.live.add(found if each.hash in ours else self.at_hand(found))
        self.seen.update(each.hash for each in fresh)

    def at_hand(self, found: Iterable[Root]) -> Iterator[Root]:
        """The tables of other people that lie in this warehouse."""
        for root in found:
            if self.is_here(root.metadata_location):
                yield root

    def is_here(self, location: str) -> bool:
        """Whether a file or folder is in the warehouse."""
        return is_within(location, self.warehouse)

    def why_kept(self, location: str, table: str) -> str:
        """Why nothing of a folder may go; empty where it may."""
        for known, why in self.live.broken.items():
            if known == table or self.is_same(known, location):
                return why
        return ""

    def is_same(self, one: str, other: str) -> bool:
        """Whether two locations are one folder of the warehouse."""
        return self.is_here(one) and self.as_here(one) == other

    def folders(self) -> dict[str, str]:
        """The folders of the warehouse that hold tables, or have held them, with their names."""
        with self.whole.metadata.transaction() as tx:
            known = {row.location: row.table for row in tx.execute(KNOWN)}
            names = [".".join(row) for row in tx.execute(PIPELINES)]
        default = {f"{self.warehouse}/{n.replace('.', '/')}": n for n in names}
        here = [each for each in self.live.locations if self.is_here(each)]
        self.tables = set(map(self.as_here, here))
        found: dict[str, str] = {}
        for location, table in {**default, **known, **self.live.locations}.items():
            if self.is_here(location):
                found[self.as_here(location)] = table
        return dict(sorted(found.items()))

    def as_here(self, location: str) -> str:
        """A folder of the warehouse, spelled as the warehouse is."""
        if location.startswith(f"{self.warehouse}/"):
            return location.rstrip("/")
        inner = spelled_out(location).removeprefix(spelled_out(self.warehouse))
        return f"{self.warehouse}{inner}"


KNOWN = text('SELECT location, "table" FROM rat.lake_folders')
PIPELINES = text("SELECT namespace, layer, name FROM rat.pipelines")
