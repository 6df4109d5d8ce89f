"""The marker: a file in a warehouse that says which RAT's it is, and so who may remove files there.

A RAT marks a warehouse that is empty when it first opens it, and one that holds nothing but tables it knows
when it first collects. The database is named in it as well: a copy of a database is another RAT.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rat_resources.errors import CollectionError, RatError
from rat_resources.lake.storage import files_of
from rat_resources.metadata import Metadata
from rat_resources.metadata.collection import UnusedFile, Warehouse

NAME = ".rat-warehouse.json"
ADOPT = "`rat maintain --adopt-warehouse` takes it over"


@dataclass(frozen=True)
class Owner:
    """A RAT, as a marker names it."""

    rat: str
    database: str

    @classmethod
    def read(cls, content: bytes) -> "Owner":
        """What a marker says; ValueError where it makes no sense."""
        said = json.loads(content)
        if not isinstance(said, Mapping):
            raise TypeError(said)
        return cls(str(said.get("rat", "")), str(said.get("database", "")))

    def is_same(self, other: "Owner") -> bool:
        """Whether both are one RAT; one whose server may not be asked is known by its id alone."""
        databases = {self.database, other.database} - {""}
        return self.rat == other.rat and len(databases) <= 1

    def content(self) -> bytes:
        """A marker that names it."""
        said = {"rat": self.rat, "database": self.database}
        note = "RAT removes files here that no table needs; nobody else may"
        return json.dumps({**said, "note": note}, indent=1).encode()


@dataclass(frozen=True)
class Marker:
    """The marker of one warehouse."""

    metadata: Metadata
    warehouse: str

    @property
    def location(self) -> str:
        """Where it is."""
        return f"{self.warehouse}/{NAME}"

    def introduce(self) -> None:
        """Mark a warehouse that is opened for the first time, if it is empty; never fail."""
        with self.metadata.transaction() as tx:
            if tx.get(Warehouse, self.warehouse) is not None:
                return
        try:
            if files_of(self.warehouse).is_empty(self.warehouse):
                self.make()
            else:
                with self.metadata.transaction() as tx:
                    register(tx, self.warehouse)
        except RatError:
            return  # whoever writes to it will say what is wrong with it

    def make(self) -> None:
        """Mark the warehouse as this RAT's, unless somebody was; CollectionError if another was."""
        with self.metadata.transaction() as tx:
            owner = register(tx, self.warehouse)
        files_of(self.warehouse).write(self.location, owner.content(), anew=True)
        self.check()
        with self.metadata.transaction() as tx:
            tx.get_one(Warehouse, self.warehouse).marked_at = func.clock_timestamp()

    def check(self) -> bool:
        """Whether the warehouse is marked as this RAT's; CollectionError if it is another's."""
        found = self.owner()
        with self.metadata.transaction() as tx:
            ours = register(tx, self.warehouse)
        if found is None or found.is_same(ours):
            return found is not None
        what = "copy of this RAT's database" if found.rat == ours.rat else "RAT"
        message = (
            f"the warehouse {self.warehouse} belongs to another {what} ({found.rat})"
        )
        fix = f"if that one is gone, and its backups are not needed, {ADOPT}"
        raise CollectionError(message, fix=fix)

    def owner(self) -> Owner | None:
        """Who has marked the warehouse; None: nobody."""
        content = files_of(self.warehouse).read(self.location)
        if content is None:
            return None
        try:
            return Owner.read(content)
        except (ValueError, TypeError) as error:
            message = f"{self.location} does not say whose the warehouse is"
            raise CollectionError(message, fix=f"look at it; {ADOPT}") from error

    def take(self) -> str:
        """Mark the warehouse as this RAT's, whoever has marked it; who had, in words."""
        try:
            before = self.owner()
            had = f"marked by {before.rat}" if before else "not marked"
        except CollectionError as error:
            had = error.message
        with self.metadata.transaction() as tx:
            owner = register(tx, self.warehouse)
            # What a former owner needed is not known: everything is looked at anew.
            tx.query(UnusedFile).delete()
            tx.get_one(Warehouse, self.warehouse).marked_at = func.clock_timestamp()
        files_of(self.warehouse).write(self.location, owner.content(), anew=False)
        return had


def register(tx: Session, warehouse: str) -> Owner:
    """Know a warehouse; what its marker calls this RAT."""
    identity = tx.scalar(select(Warehouse.identity).limit(1)) or uuid.uuid4()
    row = insert(Warehouse).values(location=warehouse, identity=identity)
    tx.execute(row.on_conflict_do_nothing())
    ours = tx.get_one(Warehouse, warehouse, populate_existing=True)
    return Owner(str(ours.identity), database_of(tx))


def database_of(tx: Session) -> str:
    """What tells this database from every copy of it; empty where the server keeps that to itself."""
    if not tx.scalar(MAY_ASK):
        return ""
    found: Any = tx.execute(DATABASE).one()
    return f"{found.server}/{found.oid}"


MAY_ASK = text("SELECT has_function_privilege('pg_control_system()', 'execute')")
DATABASE = text("""
    SELECT (pg_control_system()).system_identifier AS server, oid
    FROM pg_database
    WHERE datname = current_database()
""")
