"""Queries: SQL that only reads, over tables under the names that people know them by.

A table is `ns.layer.name`, or `layer.name` where one namespace alone has it, quoted or not. Which
tables there are, and how DuckDB comes to read one, the caller says.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb
import sqlglot
from duckdb import DuckDBPyConnection, StatementType
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rat_resources.errors import NotFoundError, QueryError
from rat_resources.lake.complaints import complaint, first_line
from rat_resources.lake.sql import literal, quote
from rat_resources.names import TableName, nearest
from rat_resources.places import Place

READING = (StatementType.SELECT, StatementType.EXPLAIN)
BATCH = 10_000
ONLY_READING = "write one SELECT, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN"
# No namespace is called so: DuckDB's own catalogs keep their names, and `silver` may be both.
CATALOG = "namespace "
EXPLAIN = re.compile(r"^\s*EXPLAIN(\s+ANALYZE)?\b", re.IGNORECASE)

Register = Callable[[DuckDBPyConnection, Collection[TableName]], None]
"""Makes the temporary views `"ns.layer.name"` of these tables."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """The rows of a query, as they come."""

    connection: DuckDBPyConnection

    @property
    def columns(self) -> list[str]:
        """The names of the columns; no two are the same."""
        names: list[str] = []
        for name, *_ in self.connection.description or ():
            names.append(distinct(str(name), names))
        return names

    def rows(self) -> Iterator[Row]:
        """The rows, in constant memory."""
        with translated():
            while batch := self.connection.fetchmany(BATCH):
                yield from batch


@contextmanager
def answering(
    connection: DuckDBPyConnection,
    sql: str,
    *,
    known: Collection[TableName],
    register: Register,
    readable: Place,
) -> Iterator[Answer]:
    """The answer to *sql*, which reads *known* tables and no files but those below *readable*."""
    tokens = tokenize(sql)
    refuse_writing(sql, tokens)
    spellings = Spellings.of(known)
    if asks_for_tables(tokens):
        sql = list_tables(known)
        tokens = tokenize(sql)
    spelled = spellings.spell(sql, tokens)
    register(connection, spelled.tables)
    for table in sorted(spelled.tables):
        name_table(connection, table, short=table in spellings.short.values())
    lock(connection, readable=readable)
    try:
        with translated():
            connection.execute(spelled.sql)
    except NotFoundError as error:
        raise spellings.explain(sql, error) from error
    yield Answer(connection)


# What may be asked.


def tokenize(sql: str) -> list[Token]:
    """The words of *sql*; QueryError where one never ends."""
    # sqlglot takes what EXPLAIN explains for one long string.
    seen = EXPLAIN.sub(lambda match: " " * len(match.group()), sql)
    try:
        return sqlglot.tokenize(seen, read="duckdb")
    except TokenError as error:
        message = f"this is no SQL: {first_line(error)}"
        raise QueryError(message, fix="close every quote and comment") from error


def refuse_writing(sql: str, tokens: Iterable[Token]) -> None:
    """QueryError unless *sql* is one statement that reads."""
    kinds = [token.token_type for token in tokens]
    while kinds and kinds[-1] == TokenType.SEMICOLON:
        kinds.pop()
    if not kinds:
        message = "there is nothing to ask"
        raise QueryError(message, fix=ONLY_READING)
    if TokenType.SEMICOLON in kinds:
        message = "these are several statements"
        raise QueryError(message, fix=ONLY_READING)
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error:
        return  # names are not quoted yet; what is wrong beside that, DuckDB will say
    # PIVOT is two of them: the first makes a type for the second.
    if statements and statements[-1].type not in READING:
        message = f"{statements[-1].type.name} does not only read"
        raise QueryError(message, fix=ONLY_READING)


def asks_for_tables(tokens: Iterable[Token]) -> bool:
    """Whether a query asks which tables there are."""
    words = [token.text.upper() for token in tokens if token.text != ";"]
    return words in (["SHOW", "TABLES"], ["SHOW", "ALL", "TABLES"], ["SHOW"])


def list_tables(known: Iterable[TableName]) -> str:
    """A query for the names of *known* tables: DuckDB knows those alone that a query names."""
    names = ", ".join(literal(str(table)) for table in sorted(known))
    return f"SELECT unnest([{names}]::VARCHAR[]) AS name"


def lock(connection: DuckDBPyConnection, *, readable: Place) -> None:
    """Let SQL on *connection* read files below *readable* alone, for good."""
    connection.execute(f"SET allowed_directories = [{literal(f'{readable}/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


# What tables are called.


@dataclass(frozen=True)
class Spelled:
    """A query in which every table stands under its quoted name."""

    sql: str
    tables: frozenset[TableName]


@dataclass(frozen=True)
class Spellings:
    """How tables may be written."""

    full: Mapping[str, TableName]
    short: Mapping[str, TableName]  # `layer.name` of one namespace alone
    ambiguous: Mapping[str, list[TableName]]  # `layer.name` of several

    @classmethod
    def of(cls, known: Collection[TableName]) -> "Spellings":
        """The spellings of *known* tables."""
        shared: dict[str, list[TableName]] = {}
        for table in sorted(known):
            shared.setdefault(f"{table.layer}.{table.name}", []).append(table)
        return cls(
            full={str(table): table for table in known},
            short={name: each[0] for name, each in shared.items() if len(each) == 1},
            ambiguous={name: each for name, each in shared.items() if len(each) > 1},
        )

    def spell(self, sql: str, tokens: list[Token]) -> Spelled:
        """*sql* with the tables that it names quoted, and which they are."""
        pattern, by_group = self.pattern(sql)
        ends = {token.end for token in tokens}
        after_dot = {
            later.start
            for token, later in pairwise(tokens)
            if token.token_type == TokenType.DOT
        }
        pieces, tables, done = [], set(), 0
        for token in tokens:
            if token.start < done or token.start in after_dot:
                continue
            match = pattern.match(sql, token.start)
            if match is None or match.end() - 1 not in ends:
                continue
            name = by_group[match.lastgroup or ""]
            tables.add(self.full.get(name) or self.short[name])
            pieces += [sql[done : token.start], self.quoted(name)]
            done = match.end()
        return Spelled("".join([*pieces, sql[done:]]), frozenset(tables))

    def pattern(self, sql: str) -> tuple[re.Pattern[str], dict[str, str]]:
        """What matches any name that *sql* may contain, the longest first, and which one it was."""
        text = sql.lower()
        names = sorted(
            (
                name
                for name in [*self.full, *self.short]
                if name.rpartition(".")[2] in text
            ),
            key=len,
            reverse=True,
        )
        groups = {f"n{number}": name for number, name in enumerate(names)}
        parts = [f"(?P<{group}>{spelling(name)})" for group, name in groups.items()]
        # Nothing matches what is nowhere.
        return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE), groups

    def quoted(self, name: str) -> str:
        """A name as DuckDB finds it whatever it contains."""
        if name in self.short:
            return ".".join(map(quote, name.split(".")))
        namespace, layer, table = name.split(".")
        return ".".join(map(quote, (CATALOG + namespace, layer, table)))

    def explain(self, sql: str, error: NotFoundError) -> NotFoundError:
        """What to say of a name that DuckDB does not find."""
        text = sql.lower().replace('"', "")
        for name, tables in self.ambiguous.items():
            if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text):
                known = ", ".join(map(str, tables))
                message = f"{name} is in more than one namespace"
                return NotFoundError(message, fix=f"write one of {known}")
        word = missing_name(text, said=error.message)
        if word is None:
            return error
        guess = nearest(word, [*self.full, *self.short])
        fix = f"did you mean {guess}?" if guess else "see `rat tables`"
        return NotFoundError(f"no published table is called {word}", fix=fix)


def spelling(name: str) -> str:
    """The pattern of a dotted name whose every part may be quoted, or the whole of it."""
    parts = [
        rf"(?:{re.escape(quote(part))}|{re.escape(part)})" for part in name.split(".")
    ]
    return rf"(?:{re.escape(quote(name))}|" + r"\s*\.\s*".join(parts) + ")"


def missing_name(text: str, *, said: str) -> str | None:
    """The dotted name in *text* that DuckDB did not find."""
    said = said.partition(" Error: ")[2]
    found = re.search(r"(?:name|Catalog|[Ss]chema) \"?([^\s\"!]+)\"?", said)
    if found is None:
        return None
    last = re.escape(found.group(1).lower())
    written = re.search(rf"(?:[\w-]+\.)*{last}(?:\.[\w-]+)*", text)
    return written.group() if written else None


def name_table(
    connection: DuckDBPyConnection, table: TableName, *, short: bool
) -> None:
    """Let DuckDB find a registered table by its parts, so that columns can be qualified too."""
    view = f"FROM temp.main.{quote(str(table))}"
    catalog, layer, name = map(quote, (CATALOG + table.namespace, *table.key[1:]))
    connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {catalog}")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {catalog}.{layer}")
    connection.execute(f"CREATE VIEW {catalog}.{layer}.{name} AS {view}")
    if short:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}")
        connection.execute(f"CREATE VIEW {layer}.{name} AS {view}")


# What DuckDB says.


@contextmanager
def translated() -> Iterator[None]:
    """Turn DuckDB's errors into ours."""
    try:
        yield
    except duckdb.PermissionException as error:
        message = "a query reads published tables, and no files or servers"
        fix = "`rat upload` a file, and let a pipeline read it"
        raise QueryError(message, fix=fix) from error
    except duckdb.CatalogException as error:
        if "does not exist" in str(error) and is_about_tables(str(error)):
            raise NotFoundError(first_line(error)) from error
        raise complaint(error) from error
    except duckdb.BinderException as error:
        if first_line(error).startswith('Binder Error: Catalog "'):
            raise NotFoundError(first_line(error)) from error
        raise complaint(error) from error
    except duckdb.Error as error:
        raise complaint(error) from error


def is_about_tables(said: str) -> bool:
    """Whether DuckDB misses a table, not a function or a type."""
    return said.startswith(("Catalog Error: Table with", "Catalog Error: Schema with"))


def distinct(name: str, taken: Collection[str]) -> str:
    """*name*, or the first of name_1, name_2, … that is not taken."""
    free, number = name, 0
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
