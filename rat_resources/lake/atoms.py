"""Atoms: which rows of a relation may be others since its inputs have changed, as conditions.

An atom is a condition on a few columns of a relation. Rows for which none of its atoms holds are the
same rows before and after, counted with duplicates. How atoms go through a query is `narrowing`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlglot
from duckdb import DuckDBPyConnection
from sqlglot import exp

from rat_resources.lake.pruning import Range
from rat_resources.lake.sql import literal, quote

Places = Mapping[str, exp.Expr]

KEY = "k"  # the columns of a table of values are k0, k1, …
_ORDERED = ("INTEGER", "BIGINT", "SMALLINT", "TINYINT", "VARCHAR", "DATE", "TIMESTAMP")


@dataclass(frozen=True)
class Atom:
    """A condition on columns of a relation; where it lists values, the temp table of them."""

    columns: tuple[str, ...]
    test: exp.Expr  # names the columns by themselves
    values: str | None = None
    rows: int = 0  # how many values it lists
    within: tuple[Range, ...] = ()  # where all rows lie for which it holds

    def on(self, places: Places) -> exp.Expr:
        """The condition, where each column is what *places* say."""

        def placed(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Column) and not node.table and node.name in places:
                return places[node.name].copy()
            return node

        return self.test.copy().transform(placed)

    def renamed(self, names: Mapping[str, str]) -> "Atom":
        """The same condition on columns of other names."""
        places = {old: exp.column(new, quoted=True) for old, new in names.items()}
        columns = tuple(names[each] for each in self.columns)
        within = tuple(each.renamed(names) for each in self.within)
        return replace(self, columns=columns, test=self.on(places), within=within)

    def sql(self, *, of: str) -> str:
        """The condition as DuckDB reads it, on the columns of the relation *of*; it may be NULL."""
        places = {each: column(of, each) for each in self.columns}
        return self.on(places).sql(dialect="duckdb")


@dataclass(frozen=True)
class Located:
    """An atom inside a SELECT: where each of its columns is found there."""

    atom: Atom
    places: Places

    @property
    def test(self) -> exp.Expr:
        """The condition as the SELECT can ask it."""
        return self.atom.on(self.places)

    @property
    def words(self) -> frozenset[str]:
        """What it looks at, each as SQL."""
        return frozenset(each.sql(dialect="duckdb") for each in self.places.values())


def column(table: str, name: str) -> exp.Column:
    """A column of a table, which nothing else can be meant by."""
    return exp.column(name, table=table, quoted=True)


def any_of(tests: Iterable[exp.Expr]) -> exp.Expr:
    """The condition that one of *tests* holds."""
    found = list(tests)
    return exp.or_(*found) if found else exp.false()


def of_filter(
    condition: str, columns: Sequence[str], *, within: Sequence[Range] = ()
) -> Atom:
    """The atom of a row filter, given as a condition on *columns*."""
    test = sqlglot.parse_one(condition, read="duckdb")
    return Atom(tuple(columns), test, within=tuple(within))


def of_values(
    connection: DuckDBPyConnection,
    table: str,
    columns: Sequence[str],
    *,
    bounded: bool,
) -> Atom | None:
    """The atom that the columns are, together, one of the rows of *table*; None: it has none.

    *bounded*: the columns have its types, so that its least and greatest values are theirs.
    """
    keys = [f"{KEY}{number}" for number in range(len(columns))]
    asked = ", ".join(
        f"min({key})::VARCHAR, max({key})::VARCHAR, count(*) - count({key}), any_value(typeof({key}))"
        for key in keys
    )
    ((rows, *found),) = connection.execute(
        f"SELECT count(*), {asked} FROM {table}"
    ).fetchall()
    if not rows:
        return None
    within: list[Range] = []
    for name, place in zip(columns, range(0, len(found), 4), strict=True):
        low, high, nulls, kind = found[place : place + 4]
        if bounded and kind.startswith(_ORDERED):
            least, most = (
                None if each is None else f"CAST({literal(each)} AS {kind})"
                for each in (low, high)
            )
            within.append(Range(name, least, most, nulls=nulls > 0))
    tests = list(map(_asked, within))
    same = " AND ".join(
        f"{table}.{key} IS NOT DISTINCT FROM {quote(name)}"
        for key, name in zip(keys, columns, strict=True)
    )
    tests.append(f"EXISTS (SELECT 1 FROM {table} WHERE {same})")
    test = sqlglot.parse_one(" AND ".join(tests), read="duckdb")
    return Atom(tuple(columns), test, table, rows=rows, within=tuple(within))


def _asked(within: Range) -> str:
    """A range as SQL, by which DuckDB leaves out row groups."""
    name = quote(within.column)
    if within.low is None:
        return f"{name} IS NULL"
    asked = f"{name} >= {within.low} AND {name} <= {within.high}"
    return f"({name} IS NULL OR ({asked}))" if within.nulls else asked
