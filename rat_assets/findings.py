"""Findings: what the rows of a table say to the alerts that are about them.

All conditions on rows, and on figures of all rows, are asked in one scan; rows are fetched only for
what matches. What a condition means in SQL is `rat_resources.alerts.conditions`; what follows from a
match is `rat_resources.alerts.matches`.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Timer
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from rat_assets.samples import COLUMNS, MASK, mask, narrow
from rat_resources.alerts import conditions
from rat_resources.alerts.conditions import Aggregate, Columns, Deviation, RowTest
from rat_resources.alerts.definitions import Definition
from rat_resources.alerts.events import MOST_ROWS
from rat_resources.alerts.matches import ALL, COPIED, Looked, Match, identity_of, key_of
from rat_resources.errors import FilterError, QueryError, RatError
from rat_resources.lake.complaints import complaint
from rat_resources.lake.rows import as_json, as_objects
from rat_resources.lake.sql import literal, name_list, quote
from rat_resources.names import TableName

KINDS = ("threshold", "in", "aggregate", "zscore")
TIME_LIMIT = 60.0  # seconds for all conditions of a table
MOST_ROW_EVENTS = 10_000  # rows that are looked at where each is an event
MOST_GROUPS = 1_000
GROUPS_WITH_ROWS = 20  # whose rows are fetched too


@dataclass(frozen=True)
class Scene:
    """A table as SQL reads it, and what is known of its columns."""

    connection: DuckDBPyConnection
    table: TableName
    before: str | None = None  # as it was, by its name in SQL
    masked: frozenset[str] = frozenset()  # casefolded names
    order: str | None = None  # the column that tells what is later
    # The subjects that are raised, of which nothing more will be told.
    raised: Collection[tuple[uuid.UUID | None, str]] = frozenset()
    time_limit: float = TIME_LIMIT

    @property
    def view(self) -> str:
        """The table's name in SQL."""
        return quote(str(self.table))

    @property
    def columns(self) -> Columns:
        """The columns and their types."""
        relation = self.connection.sql(f"FROM {self.view}")
        return dict(zip(relation.columns, map(str, relation.types), strict=True))


Test = RowTest | Aggregate | Deviation


def look(scene: Scene, definitions: Sequence[Definition]) -> list[Looked]:
    """What each of *definitions* finds in a table; no mistake of one is another's."""
    wanted = [each for each in definitions if each.kind in KINDS]
    if not wanted:
        return []
    try:
        with limited(scene.connection, seconds=scene.time_limit):
            return Finder(scene, scene.columns).look(wanted)
    except QueryError as error:
        # Most of them are asked at once, so nobody knows which one takes so long.
        return [Looked(each, trouble=error) for each in wanted]


@contextmanager
def limited(connection: DuckDBPyConnection, *, seconds: float) -> Iterator[None]:
    """A time limit; QueryError after it, though not when somebody else interrupts."""
    expired = Event()

    def stop() -> None:
        expired.set()
        connection.interrupt()

    late = Timer(seconds, stop)
    late.daemon = True
    late.start()
    try:
        yield
    except duckdb.InterruptException as error:
        if not expired.is_set():
            raise
        what = f"it took more than {seconds:g} s"
        raise QueryError(what, fix="let it read less") from error
    finally:
        late.cancel()


@dataclass
class Finder:
    """Who asks a table."""

    scene: Scene
    columns: Columns
    troubles: dict[int, RatError] = field(default_factory=dict)

    def look(self, definitions: Sequence[Definition]) -> list[Looked]:
        """What each definition finds."""
        tests = [self.understand(each) for each in definitions]
        counted = self.scan(tests) | self.scan_groups(tests)
        return [
            self.conclude(definition, test, counted.get(number))
            for number, (definition, test) in enumerate(
                zip(definitions, tests, strict=True)
            )
        ]

    def understand(self, definition: Definition) -> Test | RatError:
        """What a definition asks; an error where it does not fit the table."""
        scene = self.scene
        try:
            match definition.kind:
                case "aggregate":
                    return conditions.aggregate(
                        definition, self.columns, table=scene.view, order=scene.order
                    )
                case "zscore":
                    return conditions.deviation(
                        definition, self.columns, order=scene.order
                    )
            return conditions.row_test(definition, self.columns)
        except RatError as error:
            return error
        except (TypeError, ValueError, KeyError) as error:
            # Somebody's SQL wrote a document that no form would have taken.
            return FilterError(
                f"its condition makes no sense: {error}", fix="correct it"
            )

    def scan(self, tests: Sequence[Test | RatError]) -> dict[int, Any]:
        """How many rows match each test, and the figure of what has one, by one look at the rows."""
        wanted = {
            number: words
            for number, test in enumerate(tests)
            if (words := counting(test)) is not None
        }
        if not wanted:
            return {}
        try:
            return self.count(wanted)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            return self.count_each(wanted)

    def count(self, wanted: Mapping[int, str]) -> dict[int, Any]:
        """What is counted, all in one query."""
        query = f"SELECT {', '.join(wanted.values())} FROM {self.scene.view}"
        row = self.scene.connection.execute(query).fetchone() or ()
        return dict(zip(wanted, row, strict=True))

    def count_each(self, wanted: Mapping[int, str]) -> dict[int, Any]:
        """What is counted, one by one, since one of them fails."""
        found: dict[int, Any] = {}
        for number, words in wanted.items():
            try:
                found |= self.count({number: words})
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                found[number] = complaint(error)
        return found

    def scan_groups(self, tests: Sequence[Test | RatError]) -> dict[int, Any]:
        """The groups that match each test, by one query for those that group alike.

        Of a test that is alone, or whose groups are too many, nothing: it is asked by itself.
        """
        alike: dict[tuple[Any, str], list[int]] = {}
        for number, test in enumerate(tests):
            if isinstance(test, Aggregate) and test.group_by:
                alike.setdefault((test.group_by, test.rows), []).append(number)
        found: dict[int, Any] = {}
        for numbers in alike.values():
            if len(numbers) > 1:
                found |= self.count_groups({each: tests[each] for each in numbers})
        return found

    def count_groups(self, tests: Mapping[int, Any]) -> dict[int, Any]:
        """The groups that match any of these tests, for each those that match it."""
        query = conditions.groups_of_all(
            [*tests.values()], table=self.scene.view, limit=MOST_GROUPS + 1
        )
        try:
            rows = self.rows(query)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            return {}  # one of them fails, and will say so
        if len(rows) > MOST_GROUPS:
            return {}
        return {
            number: [
                row | {"__value": row[f"__value{turn}"]}
                for row in rows
                if row[f"__match{turn}"]
            ]
            for turn, number in enumerate(tests)
        }

    def conclude(
        self,
        definition: Definition,
        test: Test | RatError,
        counted: Any,  # noqa: ANN401 - whatever was counted
    ) -> Looked:
        """What a definition found."""
        if isinstance(test, RatError):
            return Looked(definition, trouble=test)
        if isinstance(counted, RatError):
            return Looked(definition, trouble=counted)
        try:
            return self.fetch(definition, test, counted)
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            return Looked(definition, trouble=complaint(error))
        except RatError as error:
            return Looked(definition, trouble=error)

    def fetch(self, definition: Definition, test: Test, counted: Any) -> Looked:  # noqa: ANN401
        """The matches of a definition with their rows, where there are any."""
        is_grouped = isinstance(test, Aggregate) and bool(test.group_by)
        per_row = conditions.is_per_row(definition)
        if not is_grouped and not per_row and self.is_raised(definition):
            return self.still(definition, test, counted)
        match test:
            case RowTest() if per_row and counted:
                return self.each_row(
                    definition,
                    test,
                    count=counted,
                    source=self.scene.view,
                    sql=test.sql,
                )
            case RowTest():
                found = [self.all_rows(test, count=counted)] if counted else []
                return Looked(definition, found)
            case Aggregate() if is_grouped:
                return self.groups(definition, test, found=counted)
            case Aggregate():
                is_so = counted and counted["matches"]
                found = [self.figure(test, counted, rows=test.rows)] if is_so else []
                return Looked(definition, found)
        return self.deviations(definition, test)

    def still(self, definition: Definition, test: Test, counted: Any) -> Looked:  # noqa: ANN401
        """Whether what is raised is so still; its rows are nobody's business any more."""
        if isinstance(test, Deviation):
            count = self.count_deviations(test)["n"]
        else:
            count = counted["matches"] if isinstance(counted, dict) else counted
        return Looked(definition, [Match(test.sentence)] if count else [])

    def is_raised(self, definition: Definition, subject: str = ALL) -> bool:
        """Whether a subject is raised, so that nobody asks for its rows."""
        return (definition.id, subject) in self.scene.raised

    # Rows.

    def all_rows(self, test: RowTest, *, count: int) -> Match:
        """The rows that match, as one."""
        has = "row has" if count == 1 else "rows have"
        copied = self.shared(test.sql)
        return Match(
            f"{count:,} {has} {test.sentence} in {self.scene.table}",
            figures={"rows": count},
            rows=self.sample(test.sql, shows=test.shows),
            rows_matching=count,
            copied=copied,
            identity=identity_of(copied),
        )

    def each_row(
        self,
        definition: Definition,
        test: RowTest | Deviation,
        *,
        count: int,
        source: str,
        sql: str,
    ) -> Looked:
        """The rows of *source* for which *sql* holds, each for itself, the newest first."""
        keys = conditions.key_columns(definition, self.columns)
        copied = [each for each in COPIED if each in self.columns]
        newest = [each for each in ("block_number", "event_time") if each in copied]
        order = [f"{quote(each)} DESC" for each in newest] + [*map(quote, keys)]
        shown = self.shown((*keys, *test.shows))
        wanted = list(dict.fromkeys([*keys, *copied, *shown]))
        query = (
            f"SELECT {name_list(wanted)} FROM {source} WHERE {sql}"
            f" ORDER BY {', '.join(order) or '1'} LIMIT {MOST_ROW_EVENTS}"
        )
        rows = self.rows(query)
        matches = [
            self.one_row(test, row, keys=keys, copied=copied, shown=shown)
            for row in rows
        ]
        # The same key twice is one subject.
        distinct = {(each.key, each.identity): each for each in matches}
        return Looked(definition, [*distinct.values()], more=count - len(rows))

    def one_row(
        self,
        test: RowTest | Deviation,
        row: Mapping[str, Any],
        *,
        keys: Sequence[str],
        copied: Sequence[str],
        shown: Sequence[str],
    ) -> Match:
        """A row that matches."""
        said = {name: as_json(row[name]) for name in keys}
        chain = {name: row[name] for name in copied}
        identity = identity_of(chain)
        public = self.public([said])[0]
        words = ", ".join(f"{name} {value}" for name, value in public.items())
        return Match(
            f"{words or 'a row'} has {test.sentence} in {self.scene.table}",
            subject=public,
            key=key_of(said),
            rows=self.public([{name: as_json(row[name]) for name in shown}]),
            rows_matching=1,
            copied=chain,
            identity=identity,
            # A block is what it is: another one is another event, and none is ever over.
            lasts=identity is None,
        )

    # Figures.

    def groups(
        self,
        definition: Definition,
        test: Aggregate,
        *,
        found: Any,  # noqa: ANN401
    ) -> Looked:
        """The groups that match, as they were *found*, or are looked for now."""
        if found is None:
            found = self.rows(
                conditions.groups(test, table=self.scene.view, limit=MOST_GROUPS + 1)
            )
        matches: list[Match] = []
        fetched = 0
        for row in found[:MOST_GROUPS]:
            subject = {name: row[name] for name in test.group_by}
            rows = None
            known = self.is_raised(definition, subject_key(subject))
            if not known and fetched < GROUPS_WITH_ROWS:
                fetched += 1
                values = {
                    name: as_value(value, self.columns[name])
                    for name, value in subject.items()
                }
                rows = conditions.of_group(test, values)
            counted = {"value": row["__value"], "rows": row["__rows"]}
            matches.append(self.figure(test, counted, rows=rows, subject=subject))
        return Looked(definition, matches, more=len(found) - len(matches))

    def figure(
        self,
        test: Aggregate,
        counted: Mapping[str, Any],
        *,
        rows: str | None,
        subject: Mapping[str, Any] | None = None,
    ) -> Match:
        """The match of a figure."""
        value = as_json(counted["value"])
        said = {name: as_json(each) for name, each in (subject or {}).items()}
        public = self.public([said])[0]
        group = ", ".join(f"{name} {each}" for name, each in public.items())
        about = f" for {group}" if group else ""
        shows_value = not {each.casefold() for each in test.shows} & self.scene.masked
        figures = {**test.figures, "value": value} if shows_value else test.figures
        sentence = f"{test.sentence}{about} in {self.scene.table}"
        return Match(
            f"{sentence} (it is {value})" if shows_value else sentence,
            subject=public,
            figures={**figures, "rows": counted["rows"]},
            rows=self.sample(rows, shows=test.shows) if rows else (),
            rows_matching=counted["rows"],
            key=subject_key(subject) if subject else ALL,
        )

    def deviations(self, definition: Definition, test: Deviation) -> Looked:
        """The rows that are too far from what came before."""
        query = self.deviating(test)
        count = self.count_deviations(test)
        if not count["n"]:
            return Looked(definition)
        if conditions.is_per_row(definition):
            return self.each_row(
                definition, test, count=count["n"], source=f"({query})", sql="true"
            )
        has = "row deviates" if count["n"] == 1 else "rows deviate"
        figures = {
            name: as_json(count[name]) for name in ("mean", "deviation", "z")
        } | {"k": test.deviations}
        said = (
            f"{count['n']:,} {has} from the mean of {test.column} in {self.scene.table}"
        )
        is_masked = test.column.casefold() in self.scene.masked
        match = Match(
            f"{said} by more than {test.deviations:g} standard deviations",
            figures={"k": test.deviations} if is_masked else figures,
            rows=self.public(
                self.json(f"SELECT {name_list(self.shown(test.shows))} FROM ({query})")
            ),
            rows_matching=count["n"],
        )
        return Looked(definition, [match])

    def deviating(self, test: Deviation) -> str:
        """The query for the rows that deviate."""
        return conditions.deviating(
            test, table=self.scene.view, before=self.scene.before
        )

    def count_deviations(self, test: Deviation) -> dict[str, Any]:
        """How many rows deviate, `n`, how far and from what."""
        (count,) = self.rows(
            "SELECT count(*) AS n, any_value(mean) AS mean,"
            " any_value(deviation) AS deviation, max(abs(z)) AS z"
            f" FROM ({self.deviating(test)})"
        )
        return count

    # Fetching.

    def sample(self, sql: str, *, shows: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The first rows for which *sql* holds, as they are shown."""
        names = self.shown(shows)
        selected = ", ".join(
            f"{literal(MASK)} AS {quote(each)}"
            if each.casefold() in self.scene.masked
            else quote(each)
            for each in names
        )
        return narrow(
            self.json(f"SELECT {selected} FROM {self.scene.view} WHERE {sql}")
        )

    def shown(self, shows: Sequence[str]) -> list[str]:
        """The columns that are shown: those that it is about, and the first others."""
        return list(dict.fromkeys([*shows, *self.columns]))[:COLUMNS]

    def shared(self, sql: str) -> dict[str, Any]:
        """What the rows for which *sql* holds say alike in the columns that an event copies."""
        names = [each for each in COPIED if each in self.columns]
        if not names:
            return {}
        wanted = ", ".join(
            f"min({quote(each)}) AS {quote(each)}, max({quote(each)}) AS {quote(f'__{each}')}"
            for each in names
        )
        row = self.rows(f"SELECT {wanted} FROM {self.scene.view} WHERE {sql}")[0]
        same = {name: row[name] for name in names if row[name] == row[f"__{name}"]}
        latest = row.get("__event_time")
        return same | ({"event_time": latest} if latest is not None else {})

    def json(self, query: str) -> list[dict[str, Any]]:
        """The first rows of a query, as JSON."""
        cursor = self.scene.connection.execute(f"{query} LIMIT {MOST_ROWS}")
        names = [each[0] for each in cursor.description or ()]
        return [*as_objects(names, cursor.fetchall())]

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        cursor = self.scene.connection.execute(query)
        names = [each[0] for each in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def public(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Rows without what is personal."""
        return narrow(mask(rows, masked=self.scene.masked))


def subject_key(subject: Mapping[str, Any]) -> str:
    """The key of a group, by its values as they were read."""
    return key_of({name: as_json(value) for name, value in subject.items()})


def counting(test: Test | RatError) -> str | None:
    """What a scan counts for a test; None where it takes a query of its own."""
    match test:
        case RowTest():
            return f"count(*) FILTER (WHERE {test.sql})"
        case Aggregate(group_by=()):
            return (
                f"{{'rows': count(*) FILTER (WHERE {test.rows}),"
                f" 'value': {test.value}, 'matches': {test.test}}}"
            )
    return None


def as_value(value: object, kind: str) -> str:
    """A value that was read as SQL has it."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"from_hex({literal(value.hex())})"
    return f"CAST({literal(str(value))} AS {kind})"
