"""Narrowing: which part of a query's result may be another one, when some rows of its inputs are.

Where rows of an input have changed, atoms (`atoms`) say which; they are carried through the query
relation by relation. A condition on columns that a relation hands on stays as it is; where it does
not, the values that the affected rows have there, in the old inputs and in the new ones, take its
place: of what is grouped the groups, of windows the partitions, of a join the keys. All rows
outside the atoms of the result are the same as before. What is not understood is the whole table.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from uuid import uuid4

import duckdb
import sqlglot
from duckdb import DuckDBPyConnection
from sqlglot import exp

from rat_resources.lake.atoms import (
    KEY,
    Atom,
    Located,
    any_of,
    column,
    of_filter,
    of_values,
)
from rat_resources.lake.complaints import first_line
from rat_resources.lake.lineage import WORDS
from rat_resources.lake.namings import (
    CALLED,
    Named,
    Naming,
    calls,
    conjuncts,
    is_star,
    own_nodes,
)
from rat_resources.lake.replacing import Part, Scope
from rat_resources.lake.sql import name_list, quote

LEVELS = ("rows", "keys", "groups", "table")
MOST_VERSIONS = 8
UNIT = re.compile(rf"'({'|'.join(WORDS)})'")
SAME = {
    "list": "array_agg",
    "string_agg": "listagg",
    "group_concat": "listagg",
    "max_by": "arg_max",
    "min_by": "arg_min",
}
INEXACT = ("FLOAT", "DOUBLE", "STRUCT", "MAP", "UNION", "INTERVAL", "BIT", "VARIANT")


@dataclass(frozen=True)
class Invalidated:
    """An input of which some rows are not what they were."""

    name: str  # as the query says it
    condition: str  # which rows, on its columns by themselves
    columns: tuple[str, ...]  # that the condition names
    olds: tuple[str, ...] = ()  # relations that show it as it was


@dataclass(frozen=True)
class Plan:
    """What of a table is made anew: all of it, or the rows for which one of the atoms holds."""

    level: str
    why: str
    atoms: tuple[Atom, ...] = ()
    query: str = ""  # the rows that are there instead

    @property
    def is_whole(self) -> bool:
        """Whether the whole table is made anew."""
        return self.level == "table"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the result by which its affected rows are known."""
        return tuple(
            dict.fromkeys(name for atom in self.atoms for name in atom.columns)
        )

    def scope(self, *, keys: Sequence[str] = ()) -> Scope:
        """The rows of the table that make way for those of the query."""
        parts = tuple(part_of(atom) for atom in self.atoms)
        return Scope(parts, keys=tuple(keys))

    def condition(self, *, of: str) -> str:
        """Which rows of the relation *of* are in scope, as a condition that is never NULL."""
        tests = " OR ".join(f"({atom.sql(of=of)})" for atom in self.atoms)
        return f"coalesce({tests or 'false'}, false)"


def part_of(atom: Atom) -> Part:
    """The rows of the table for which an atom holds."""
    condition, values = atom.sql(of="old"), None
    if atom.values is not None and atom.bounded:
        names = ", ".join(
            f"{KEY}{number} AS {quote(name)}"
            for number, name in enumerate(atom.columns)
        )
        values = f"(SELECT {names} FROM {atom.values})"
    return Part(condition, atom.columns, values)


def narrow(
    connection: DuckDBPyConnection,
    query: str,
    *,
    invalidated: Sequence[Invalidated],
    passing: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    keys: Sequence[str] = (),
) -> Plan:
    """The part of *query*'s result that may be another one than over the old inputs.

    *passing* are texts in it that are others in every run; *types* what its columns are cast to in
    the end, *keys* those of which one row is kept.
    """
    try:
        return Narrowing(connection, invalidated, passing=passing).plan(
            query, types=types or {}, keys=keys
        )
    except WideError as error:
        return Plan("table", str(error))
    except (sqlglot.errors.SqlglotError, RecursionError):
        return Plan("table", "the query is not understood")
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        return Plan(
            "table",
            f"a part of the query does not stand by itself: {first_line(error)}",
        )


class WideError(Exception):
    """No part of the table can be told from the rest; says why."""


# Relations.


@dataclass
class Relation:
    """A table, or whatever a query does not tell us about."""

    node: exp.Expr  # as it stands after FROM, or a query
    columns: list[Named]
    atoms: list[Atom] = field(default_factory=list)
    touched: bool = False  # whether it reads what has changed
    exact: bool = True  # whether the same rows always come out

    def build(self, atoms: Sequence[Atom] | None, *, loose: bool) -> exp.Query:  # noqa: ARG002
        """A query for those of its rows for which one of the *atoms* holds; None: for all.

        *loose*: or for more of them, where which ones come out is not decided by the rows.
        """
        source = self.node
        if isinstance(source, exp.Query) and not isinstance(source, exp.Subquery):
            source = exp.Subquery(this=source.copy())
        return filtered(source, atoms)

    def names(self) -> list[str]:
        """The names of its columns."""
        return [each.name for each in self.columns]


@dataclass
class Source:
    """What one SELECT reads, and how it is joined to what stands before."""

    alias: str
    relation: Relation
    node: exp.Expr
    join: exp.Join | None = None
    is_optional: bool = False  # whether its rows may be missing beside those of others
    tells: bool = True  # whether its columns can be named

    @property
    def side(self) -> str:
        """LEFT, RIGHT, FULL or nothing."""
        return "" if self.join is None else self.join.side.upper()

    @property
    def kind(self) -> str:
        """SEMI, ANTI, CROSS, INNER or nothing."""
        return "" if self.join is None else self.join.kind.upper()

    def rendered(self, atoms: Sequence[Atom] | None, *, loose: bool) -> exp.Expr:
        """What stands after FROM or JOIN, with the rows for which one of the *atoms* holds."""
        loose = loose and not self.relation.exact and not self.is_optional
        if atoms is None and not loose:
            return self.node.copy()
        query = self.relation.build(atoms, loose=loose)
        return exp.Subquery(this=query, alias=table_alias(self.alias))


@dataclass
class Selection(Relation):
    """A SELECT."""

    select: exp.Select = field(default_factory=exp.Select)
    sources: list[Source] = field(default_factory=list)
    outputs: list[exp.Expr | None] = field(default_factory=list)  # in full, if known
    partitions: frozenset[str] | None = None  # of all its windows; None: it has none
    is_grouped: bool = False
    is_one_row: bool = False  # summed up over all that it reads
    loosened: list[exp.Expr] = field(default_factory=list)  # conditions left out

    def build(self, atoms: Sequence[Atom] | None, *, loose: bool) -> exp.Query:
        """The SELECT with the condition as far inside as it may go."""
        if atoms is None:
            return self.body([], loose=loose)
        located = self.locate(atoms)
        if located is None:
            return filtered(exp.Subquery(this=self.body([], loose=loose)), atoms)
        return self.body(located, loose=loose, restricted=True)

    def locate(self, atoms: Sequence[Atom]) -> list[Located] | None:
        """The atoms on its result as atoms on what it reads; None where that is not the same."""
        if self.select.args.get("limit") or self.select.args.get("offset"):
            return None
        if self.is_one_row:
            return None
        known = {
            each.name: place
            for each, place in zip(self.columns, self.outputs, strict=True)
            if place is not None and each.pure
        }
        if any(name not in known for atom in atoms for name in atom.columns):
            return None
        found = [Located(a, {name: known[name] for name in a.columns}) for a in atoms]
        if self.partitions is not None and not all(
            each.words <= self.partitions for each in found
        ):
            return None
        return found

    def body(
        self, located: Sequence[Located], *, loose: bool, restricted: bool = False
    ) -> exp.Select:
        """The SELECT over what it reads, only the rows where one of *located* holds."""
        select = self.select.copy()
        for source, holder in zip(self.sources, places_of(select), strict=True):
            inner = self.inside(source, located) if restricted else None
            new = source.rendered(inner, loose=loose)
            if new != holder.this:
                holder.set("this", new)
        if loose:
            self.loosen(select)
        if restricted:
            select = select.where(any_of(each.test for each in located), copy=False)
        return select

    def inside(self, source: Source, located: Sequence[Located]) -> list[Atom] | None:
        """The atoms as atoms on one source alone, if that is where all of them look."""
        if source.is_optional or not source.tells or not located:
            return None
        if not isinstance(source.relation, Selection | Union):
            return None
        atoms = []
        for each in located:
            names = {}
            for old, place in each.places.items():
                if not isinstance(place, exp.Column) or place.table != source.alias:
                    return None
                names[old] = place.name
            atoms.append(each.atom.renamed(names))
        return atoms

    def loosen(self, select: exp.Select) -> None:
        """Leave out what lets rows pass by more than the rows themselves."""
        select.set("qualify", None)
        select.set("having", None)
        select.set("order", None)
        distinct = select.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is not None:
            select.set("distinct", None)
        if self.loosened:
            kept = [
                each
                for each in conjuncts(where_of(select))
                if each not in self.loosened
            ]
            select.set("where", exp.Where(this=exp.and_(*kept)) if kept else None)


@dataclass
class Union(Relation):
    """UNION, INTERSECT or EXCEPT."""

    operation: exp.SetOperation = field(default_factory=exp.Union)
    left: Relation = field(default_factory=lambda: Relation(exp.Select(), []))
    right: Relation = field(default_factory=lambda: Relation(exp.Select(), []))

    def build(self, atoms: Sequence[Atom] | None, *, loose: bool) -> exp.Query:
        """The operation over the rows of both sides for which one of the *atoms* holds."""
        loose = loose and isinstance(self.operation, exp.Union)
        sides = [self.left, self.right]
        inner = [atoms, atoms]
        if atoms is not None:
            if not self.goes_inside(atoms):
                return filtered(exp.Subquery(this=self.build(None, loose=loose)), atoms)
            inner = [[self.moved(atom, side) for atom in atoms] for side in sides]
        operation = self.operation.copy()
        operation.set("order", None)
        for place, side, each in zip(("this", "expression"), sides, inner, strict=True):
            operation.set(place, exp.Subquery(this=side.build(each, loose=loose)))
        return operation

    def goes_inside(self, atoms: Sequence[Atom]) -> bool:
        """Whether both sides have the columns of *atoms* by the very same types."""
        own = {each.name: number for number, each in enumerate(self.columns)}
        return not self.operation.args.get("by_name") and all(
            side.columns[own[name]].type == self.columns[own[name]].type
            for side in (self.left, self.right)
            for atom in atoms
            for name in atom.columns
        )

    def moved(self, atom: Atom, side: Relation) -> Atom:
        """The atom on the columns of one side."""
        names = dict(zip(self.names(), side.names(), strict=True))
        return atom.renamed({name: names[name] for name in atom.columns})


def filtered(source: exp.Expr, atoms: Sequence[Atom] | None) -> exp.Select:
    """A query for the rows of *source* for which one of the *atoms* holds."""
    source = source.copy()
    alias = f"rat_{uuid4().hex[:8]}"
    source.set("alias", table_alias(alias))
    select = exp.select("*").from_(source)
    if atoms is None:
        return select
    tests = [a.on({name: column(alias, name) for name in a.columns}) for a in atoms]
    return select.where(any_of(tests))


def table_alias(name: str) -> exp.TableAlias:
    """The name of what stands after FROM."""
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def places_of(select: exp.Select) -> list[exp.Expr]:
    """What holds each relation that a SELECT reads: its FROM, and its joins."""
    start = select.args.get("from_")
    return [*([] if start is None else [start]), *(select.args.get("joins") or [])]


def where_of(select: exp.Select) -> exp.Expr | None:
    """The condition of a SELECT."""
    where = select.args.get("where")
    return None if where is None else where.this


# The way through a query.


@dataclass
class Narrowing:
    """Carries atoms from inputs to the result of a query."""

    connection: DuckDBPyConnection
    invalidated: Sequence[Invalidated]
    passing: Sequence[str] = ()
    ctes: dict[str, exp.CTE] = field(default_factory=dict)
    known: dict[str, Relation] = field(default_factory=dict)
    level: str = "rows"
    why: list[str] = field(default_factory=list)
    visited: int = 0  # mentions of what has changed that have been understood

    @cached_property
    def changed(self) -> dict[str, list[Invalidated]]:
        """What has changed, by its name."""
        found: dict[str, list[Invalidated]] = {}
        for each in self.invalidated:
            found.setdefault(each.name.casefold(), []).append(each)
        return found

    @property
    def aggregates(self) -> frozenset[str]:
        """The functions that make one value of many rows."""
        return functions("function_type = 'aggregate'")

    def plan(
        self, query: str, *, types: Mapping[str, str], keys: Sequence[str]
    ) -> Plan:
        """The plan of a query."""
        parsed = spoken(sqlglot.parse_one(query, read="duckdb"))
        if not isinstance(parsed, exp.Query):
            raise WideError("the query is not understood")
        self.refuse_other_reading(query, parsed)
        self.refuse_volatile(parsed)
        root = self.take_ctes(parsed)
        for name in self.ctes:
            self.cte(name)
        mentions = [root, *(each.this for each in self.ctes.values())]
        relation = self.relation(root)
        relation, final = self.finish(relation, types=types, keys=keys)
        if self.visited != self.count_mentions(mentions):
            raise WideError("it reads the table in a way that is not understood")
        query = self.sql(final.build(relation.atoms, loose=False), version={})
        if not relation.atoms:
            return Plan("rows", "no row of the result depends on it", (), query)
        return Plan(self.level, self.reason(), tuple(relation.atoms), query)

    def reason(self) -> str:
        """Why the scope is what it is."""
        return (
            "; ".join(dict.fromkeys(self.why)) or "each row depends on rows of its own"
        )

    def reach(self, level: str, why: str) -> None:
        """Note that rows alone do not do."""
        self.level = max(self.level, level, key=LEVELS.index)
        self.why.append(why)

    # What the query says as a whole.

    def refuse_other_reading(self, query: str, parsed: exp.Expr) -> None:
        """WideError where DuckDB does not read our words as it reads the author's."""
        plans = [
            self.connection.execute(f"EXPLAIN (FORMAT json) {text}").fetchall()[0][1]
            for text in (query, parsed.sql(dialect="duckdb"))
        ]
        if canonical(plans[0]) != canonical(plans[1]):
            raise WideError("the query has words that are not understood")

    def refuse_volatile(self, parsed: exp.Expr) -> None:
        """WideError where the same rows give another result at another time."""
        volatile = functions("stability <> 'CONSISTENT'")
        words = parsed.sql(dialect="duckdb").lower()
        always = ("current_date", "current_time", "current_timestamp", "localtime")
        if calls(parsed, volatile) or any(word in words for word in always):
            raise WideError("it calls a function that gives something else each time")

    def take_ctes(self, root: exp.Query) -> exp.Query:
        """Take every WITH out of a query, so that what it names stands in one list."""
        clauses = [root, *root.find_all(exp.Query)]
        for query in reversed(list(dict.fromkeys(clauses))):
            clause = query.args.get("with_")
            if clause is None:
                continue
            if clause.recursive:
                raise WideError("a recursive query may reach any row")
            query.set("with_", None)
            for cte in clause.expressions:
                if cte.alias.casefold() in self.ctes or not isinstance(
                    cte.this, exp.Query
                ):
                    raise WideError("two parts of the query have one name")
                self.ctes[cte.alias.casefold()] = cte
        if self.ctes.keys() & self.changed.keys():
            raise WideError("two parts of the query have one name")
        self.in_order()
        return root

    def in_order(self) -> None:
        """Put each CTE after those that it reads."""
        done: dict[str, exp.CTE] = {}

        def take(name: str) -> None:
            if name in done:
                return
            for table in self.ctes[name].this.find_all(exp.Table):
                if table.name.casefold() in self.ctes:
                    take(table.name.casefold())
            done[name] = self.ctes[name]

        for name in self.ctes:
            take(name)
        self.ctes = done

    def count_mentions(self, queries: Iterable[exp.Expr]) -> int:
        """How often what has changed is read, by itself or through a CTE."""
        touched = {name for name, each in self.known.items() if each.touched}
        names = touched | self.changed.keys()
        return sum(
            table.name.casefold() in names
            for query in queries
            for table in query.find_all(exp.Table)
        )

    def finish(
        self, relation: Relation, *, types: Mapping[str, str], keys: Sequence[str]
    ) -> tuple[Relation, Relation]:
        """The relation as it is kept, with its columns cast and one row a key; and without the latter."""
        casts = {name.casefold(): kind for name, kind in types.items()}
        items: list[exp.Expr] = []
        for each in relation.columns:
            kind = casts.get(each.name.casefold(), each.type)
            item: exp.Expr = column("rat_result", each.name)
            if kind.upper() != each.type.upper():
                item = sqlglot.parse_one(
                    f"CAST(rat_result.{quote(each.name)} AS {kind})", read="duckdb"
                )
            items.append(exp.alias_(item, each.name, quoted=True))
        node = exp.Subquery(
            this=relation.build(None, loose=False), alias=table_alias("rat_result")
        )
        select = exp.Select(expressions=items).from_(node)
        final = self.selection(select, given=relation)
        if not keys:
            return final, final
        known = {name.casefold(): name for name in final.names()}
        names = [known[key.casefold()] for key in keys if key.casefold() in known]
        window = f"row_number() OVER (PARTITION BY {name_list(names)}) = 1"
        kept = select.copy()
        kept.set("qualify", exp.Qualify(this=sqlglot.parse_one(window, read="duckdb")))
        return self.selection(kept, given=relation), final

    # Relations.

    def relation(self, query: exp.Expr) -> Relation:
        """What is affected of a query's result."""
        match query:
            case exp.Select():
                return self.selection(query)
            case exp.SetOperation():
                return self.union(query)
            case exp.Subquery() if not any(
                query.args.get(each) for each in ("pivots", "joins", "limit", "sample")
            ):
                return self.relation(query.this)
        return self.unread(query)

    def unread(self, node: exp.Expr) -> Relation:
        """Something of which only the columns are known; WideError where it reads what has changed."""
        self.refuse_touched(node)
        return Relation(node, self.describe(node))

    def refuse_touched(self, node: exp.Expr) -> None:
        """WideError where a part that is not understood reads what has changed."""
        for table in node.find_all(exp.Table):
            name = table.name.casefold()
            if name in self.changed or (name in self.ctes and self.cte(name).touched):
                raise WideError("it reads the table in a way that is not understood")

    def cte(self, name: str) -> Relation:
        """What is affected of a CTE."""
        if name not in self.known:
            cte = self.ctes[name]
            relation = self.relation(cte.this)
            self.known[name] = self.relabelled(relation, cte.alias_column_names)
        return self.known[name]

    def relabelled(self, relation: Relation, names: Sequence[str]) -> Relation:
        """A relation whose columns are called otherwise."""
        if not names:
            return relation
        if relation.touched:
            raise WideError("it renames the columns of a part in a list")
        labels = [*names, *relation.names()[len(names) :]]
        columns = [
            replace(c, name=name)
            for c, name in zip(relation.columns, labels, strict=True)
        ]
        return replace(Relation(relation.node, columns), exact=relation.exact)

    def describe(self, node: exp.Expr) -> list[Named]:
        """The columns of a query or of what stands after FROM."""
        body = node.sql(dialect="duckdb")
        if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
            body = f"({body}) AS rat_described"
        found = self.connection.sql(f"{self.prefix({})}SELECT * FROM {body}")
        return [
            Named(name, str(kind))
            for name, kind in zip(found.columns, found.types, strict=True)
        ]

    def union(self, query: exp.SetOperation) -> Relation:
        """What is affected of a UNION, INTERSECT or EXCEPT."""
        for word in ("limit", "offset", "on"):
            if query.args.get(word):
                return self.unread(query)
        left, right = self.relation(query.this), self.relation(query.expression)
        is_union = isinstance(query, exp.Union)
        columns = self.describe(query)
        sides = [left, right]
        if query.args.get("by_name"):
            if left.touched or right.touched:
                raise WideError("UNION BY NAME is not read")
            return Relation(query, [replace(c, pure=False) for c in columns])
        exact = left.exact and right.exact
        columns = [
            replace(c, pure=one.pure and other.pure and (exact or is_union))
            for c, one, other in zip(columns, left.columns, right.columns, strict=True)
        ]
        made = Union(
            query,
            columns,
            exact=exact,
            operation=query,
            left=left,
            right=right,
            touched=left.touched or right.touched,
        )
        for side in sides:
            made.atoms += self.lifted(made, side)
        return made

    def lifted(self, union: Union, side: Relation) -> list[Atom]:
        """The atoms of one side as atoms of the whole."""
        names = dict(zip(side.names(), union.columns, strict=True))
        types = {c.name: c.type for c in side.columns}
        atoms, others = [], []
        for atom in side.atoms:
            if all(names[each].type == types[each] for each in atom.columns):
                atoms.append(atom.renamed({n: names[n].name for n in atom.columns}))
            else:
                others.append(atom)
        if others:
            pure = [
                (mine, whole)
                for mine, whole in zip(side.columns, union.columns, strict=True)
                if whole.pure and is_exact(whole.type)
            ]
            inner = exp.Subquery(
                this=side.build(others, loose=True), alias=table_alias("rat_side")
            )
            items = [
                sqlglot.parse_one(
                    f"CAST(rat_side.{quote(mine.name)} AS {whole.type})", read="duckdb"
                )
                for mine, whole in pure
            ]
            found = self.values(
                exp.Select(expressions=items).from_(inner),
                [whole.name for _, whole in pure],
            )
            atoms += found
        return atoms

    # A SELECT.

    def selection(
        self, select: exp.Select, *, given: Relation | None = None
    ) -> Relation:
        """What is affected of a SELECT; *given* is what it reads, where that is known already."""
        refuse = [
            word
            for word in ("laterals", "pivots", "sample", "connect", "match", "into")
            if select.args.get(word)
        ]
        if refuse or (select.args.get("limit") and self.reads_changed(select)):
            self.refuse_touched(select)
            return Relation(
                select,
                [replace(c, pure=False) for c in self.describe(select)],
                exact=False,
            )
        sources = self.sources(select, given=given)
        naming = name_sources(sources)
        naming.aliases = aliases_of(select)
        columns = (
            self.describe(select)
            if given is None
            else [Named(item.alias, "") for item in select.expressions]
        )
        made = Selection(
            select,
            columns,
            select=select,
            sources=sources,
            touched=any(each.relation.touched for each in sources),
        )
        self.read_outputs(made, naming)
        impure = self.impure_tables(sources, naming)
        self.read_conditions(made, naming)
        located = self.located(made, naming)
        located += self.located_members(made, naming)
        made.touched = made.touched or bool(located)
        if given is not None:
            made.columns = self.types_of(made, given)
        self.read_purity(made, impure, naming)
        if made.touched:
            refuse_totals(select)
            located = self.through_windows(made, located, naming)
            made.atoms = self.through_outputs(made, located)
        return made

    def types_of(self, made: Selection, given: Relation) -> list[Named]:
        """The columns of the result as they are kept."""
        types = {each.name: each.type for each in given.columns}
        return [
            replace(
                each,
                type=types[each.name]
                if isinstance(place, exp.Column)
                else place.args["to"].sql(dialect="duckdb"),
            )
            for each, place in zip(made.columns, made.outputs, strict=True)
            if place is not None
        ]

    def reads_changed(self, node: exp.Expr) -> bool:
        """Whether a part reads what has changed."""
        try:
            self.refuse_touched(node)
        except WideError:
            return True
        return False

    def sources(self, select: exp.Select, *, given: Relation | None) -> list[Source]:
        """What a SELECT reads."""
        found: list[Source] = []
        start = select.args.get("from_")
        joins = select.args.get("joins") or []
        for node, join in [(start and start.this, None), *((j.this, j) for j in joins)]:
            if node is None:
                continue
            relation = given if given is not None else self.item(node)
            alias = node.alias_or_name
            if not alias:
                alias = f"rat_from_{uuid4().hex[:8]}"
                node.set("alias", table_alias(alias))
            if alias.casefold() in (each.alias.casefold() for each in found):
                raise WideError("two parts of the query have one name")
            source = Source(alias, relation, node.copy(), join)
            self.refuse_join(source)
            if source.side in ("RIGHT", "FULL"):
                for each in found:
                    each.is_optional = True
            source.is_optional = (
                source.side in ("LEFT", "FULL") or source.kind == "ANTI"
            )
            source.tells = source.kind not in ("SEMI", "ANTI")
            found.append(source)
        return found

    def refuse_join(self, source: Source) -> None:
        """WideError for a join that is not one of the usual ones."""
        join = source.join
        if join is None:
            return
        usual = join.kind.upper() in ("", "INNER", "CROSS", "OUTER", "SEMI", "ANTI")
        if join.method or not usual or join.args.get("expressions"):
            raise WideError(f"a {join.method or join.kind} join is not read")

    def item(self, node: exp.Expr) -> Relation:
        """What is affected of one thing after FROM."""
        extra = [
            w for w in ("joins", "pivots", "laterals", "sample") if node.args.get(w)
        ]
        alias = node.args.get("alias")
        names = [each.name for each in alias.columns] if alias else []
        if extra or (names and self.reads_changed(node)):
            self.refuse_touched(node)
            raise WideError("what it reads is not understood")
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            return self.relabelled(self.relation(node.this), names)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            name = node.name.casefold()
            if node.args.get("db"):
                return self.unread(node)
            if name in self.ctes:
                relation = self.cte(name)
                self.visited += relation.touched
                return self.relabelled(relation, names)
            if name in self.changed:
                return self.changed_table(node)
        return self.unread(node)

    def changed_table(self, node: exp.Table) -> Relation:
        """An input that has changed."""
        self.visited += 1
        bare = node.copy()
        bare.set("alias", None)
        columns = self.describe(bare)
        spelled = {each.name.casefold(): each.name for each in columns}
        atoms = []
        for each in self.changed[node.name.casefold()]:
            if not each.columns:
                raise WideError("every row of what it reads may be another one")
            names = {name: spelled[name.casefold()] for name in each.columns}
            atoms.append(of_filter(each.condition, each.columns).renamed(names))
        return Relation(bare, columns, atoms, touched=True)

    # What its columns are.

    def read_outputs(self, made: Selection, naming: Naming) -> None:
        """Find what each column of the result is."""
        outputs: list[exp.Expr | None] = []
        for item in made.select.expressions:
            if is_star(item):
                outputs += [place for _, place in naming.star(item)]
            else:
                outputs.append(naming.resolve(item.unalias()))
        if len(outputs) != len(made.columns):
            raise WideError("its columns are not understood")
        made.outputs = outputs
        nodes = [*made.select.expressions, made.select.args.get("having")]
        group, distinct = (made.select.args.get(each) for each in ("group", "distinct"))
        sums = any(self.aggregates_in(node) for node in nodes if node is not None)
        made.is_one_row = sums and group is None
        made.is_grouped = sums or group is not None or distinct is not None

    def aggregates_in(self, node: exp.Expr) -> bool:
        """Whether an expression makes one value of many rows, windows aside."""
        bare = node.copy()
        for window in list(bare.find_all(exp.Window)):
            if window is bare:
                return False
            window.replace(exp.null())
        for query in list(bare.find_all(exp.Query)):
            query.replace(exp.null())
        return bool(bare.find(exp.AggFunc)) or calls(bare, self.aggregates)

    def impure_tables(self, sources: Sequence[Source], naming: Naming) -> set[str]:
        """The tables of which it is not decided by the rows which ones are joined."""
        impure: set[str] = set()
        seen: list[str] = []
        for each in sources:
            loose = not each.relation.exact or self.joins_impurely(each, naming)
            if loose and each.side == "LEFT":
                impure.add(each.alias)
            elif loose and (each.side or each.kind == "ANTI" or each.relation.exact):
                impure |= {*seen, each.alias}
            if each.side in ("RIGHT", "FULL") and any(
                not s.relation.exact for s in sources if s.alias in seen
            ):
                impure |= {*seen, each.alias}
            seen.append(each.alias)
        return impure

    def joins_impurely(self, source: Source, naming: Naming) -> bool:
        """Whether it is joined by what may be something else each time."""
        join = source.join
        if join is None:
            return False
        if join.args.get("using"):
            shared = {each.name.casefold() for each in join.args["using"]}
            return any(
                not c.pure
                for columns in naming.tables.values()
                for c in columns
                if c.name.casefold() in shared
            )
        on = join.args.get("on")
        return on is not None and self.is_doubtful(on, naming)

    def is_doubtful(self, condition: exp.Expr, naming: Naming) -> bool:
        """Whether a condition looks at what is not pure."""
        if any(text in condition.sql(dialect="duckdb") for text in self.passing):
            raise WideError("which rows it takes depends on the time of the run")
        impure = {
            c.name.casefold()
            for columns in naming.tables.values()
            for c in columns
            if not c.pure
        }
        if not impure and not condition.find(exp.Window):
            return False
        full = naming.resolve(condition)
        if full is not None:
            return bool(full.find(exp.Window)) or any(
                not naming.named(each).pure for each in full.find_all(exp.Column)
            )
        names = {each.name.casefold() for each in condition.find_all(exp.Identifier)}
        return bool(names & impure) or bool(condition.find(exp.Window))

    def read_conditions(self, made: Selection, naming: Naming) -> None:
        """Find which conditions are left out where more rows do no harm."""
        made.loosened = [
            each
            for each in conjuncts(where_of(made.select))
            if self.is_doubtful(each, naming)
        ]
        words = ("qualify", "having", "limit", "offset")
        distinct = made.select.args.get("distinct")
        for word in ("having", "qualify"):
            node = made.select.args.get(word)
            if node is not None and any(
                t in node.sql(dialect="duckdb") for t in self.passing
            ):
                raise WideError("which rows it takes depends on the time of the run")
        made.exact = (
            not made.loosened
            and not any(made.select.args.get(word) for word in words)
            and not (distinct is not None and distinct.args.get("on"))
            and all(each.relation.exact for each in made.sources)
        )

    def read_purity(self, made: Selection, impure: set[str], naming: Naming) -> None:
        """Find which columns have the same values whenever they are computed of the same rows."""
        if made.select.args.get("limit"):
            impure = set(naming.tables)
        made.columns = [
            replace(
                each,
                pure=place is not None and self.is_pure(place, impure, naming),
            )
            for each, place in zip(made.columns, made.outputs, strict=True)
        ]

    def is_pure(self, place: exp.Expr, impure: set[str], naming: Naming) -> bool:
        """Whether rows alone decide the value of an expression."""
        if place.find(exp.Window, exp.AggFunc) or calls(place, self.aggregates):
            return False
        if any(
            text in each.name
            for each in place.find_all(exp.Literal)
            for text in self.passing
        ):
            return False
        columns = list(place.find_all(exp.Column))
        return not any(
            each.table in impure or not naming.named(each).pure for each in columns
        )

    # Where its rows are affected.

    def located(self, made: Selection, naming: Naming) -> list[Located]:
        """Where the rows that it joins are affected."""
        found: list[Located] = []
        for number, source in enumerate(made.sources):
            own = [
                Located(atom, {n: column(source.alias, n) for n in atom.columns})
                for atom in source.relation.atoms
            ]
            if source.side in ("RIGHT", "FULL"):
                before = self.before(made, number, naming, located=found)
                if source.side == "FULL":
                    before += self.beside(made, number, naming)
                    found = [*before]
                else:
                    found = [*before, *own]
            elif source.side == "LEFT" or source.kind in ("SEMI", "ANTI"):
                found += self.beside(made, number, naming)
            else:
                found += own
        return found

    def beside(self, made: Selection, number: int, naming: Naming) -> list[Located]:
        """Where rows are affected that may stand without a partner from one source."""
        source = made.sources[number]
        if not source.relation.atoms:
            return []
        mine, theirs = self.join_keys(made, number, naming)
        inner = exp.Subquery(
            this=source.relation.build(source.relation.atoms, loose=True),
            alias=table_alias(source.alias),
        )
        select = exp.Select(expressions=[each.copy() for each in theirs]).from_(inner)
        places = [mine, theirs] if source.side == "FULL" else [mine]
        return self.keyed(select, places, source=source.alias)

    def before(
        self,
        made: Selection,
        number: int,
        naming: Naming,
        *,
        located: Sequence[Located],
    ) -> list[Located]:
        """Where rows are affected of which all before one source may be missing."""
        if not located:
            return []
        if any(not each.relation.exact for each in made.sources[:number]):
            raise WideError("it joins what is not decided by the rows")
        mine, theirs = self.join_keys(made, number, naming)
        select = exp.Select(expressions=[each.copy() for each in mine])
        select.set("from_", made.select.args["from_"].copy())
        joins = made.select.args["joins"][: number - 1]
        select.set("joins", [each.copy() for each in joins])
        select = select.where(any_of(each.test for each in located))
        source = made.sources[number]
        places = [mine, theirs] if source.side == "FULL" else [theirs]
        return self.keyed(select, places, source=source.alias)

    def keyed(
        self,
        select: exp.Select,
        places: Sequence[Sequence[exp.Expr]],
        *,
        source: str,
    ) -> list[Located]:
        """The rows whose join keys are those that *select* finds."""
        names = [f"{KEY}{number}" for number in range(len(places[0]))]
        atoms = self.values(select, names, bounded=False)
        if atoms:
            self.reach(
                "keys", f"{source} is joined and may be missing: by the join's keys"
            )
        return [
            Located(atom, dict(zip(names, each, strict=True)))
            for atom in atoms
            for each in places
        ]

    def join_keys(
        self, made: Selection, number: int, naming: Naming
    ) -> tuple[list[exp.Expr], list[exp.Expr]]:
        """What must be equal for rows to be joined: before one source, and of it."""
        source, join = made.sources[number], made.sources[number].join
        before = {each.alias for each in made.sources[:number]}
        pairs: list[tuple[exp.Expr, exp.Expr]] = []
        assert join is not None  # noqa: S101 - the first source is joined to nothing
        for name in join.args.get("using") or ():
            mine = self.before_using(made, number, name.name, naming)
            theirs = naming.column_of(source.alias, name.name)
            if mine is not None and theirs is not None:
                pairs.append((mine, theirs))
        for each in conjuncts(join.args.get("on")):
            inner = each.unnest()
            if isinstance(inner, exp.EQ):
                pairs += self.equal(
                    inner, source=source.alias, before=before, naming=naming
                )
        pure = [
            pair
            for pair in pairs
            if all(self.is_pure(side, set(), naming) for side in pair)
            and all(
                is_exact(naming.named(each).type)
                for side in pair
                for each in side.find_all(exp.Column)
            )
        ]
        if not pure:
            raise WideError(
                f"{source.alias} is joined by no equal keys, and may be missing"
            )
        return [mine for mine, _ in pure], [theirs for _, theirs in pure]

    def before_using(
        self, made: Selection, number: int, name: str, naming: Naming
    ) -> exp.Expr | None:
        """The column of USING before one source, if there is just one."""
        found = [
            place
            for each in made.sources[:number]
            if (place := naming.column_of(each.alias, name)) is not None
        ]
        return found[0] if len(found) == 1 else None

    def equal(
        self, condition: exp.EQ, *, source: str, before: set[str], naming: Naming
    ) -> list[tuple[exp.Expr, exp.Expr]]:
        """The two sides of an equation between one source and those before it."""
        left, right = naming.resolve(condition.left), naming.resolve(condition.right)
        for mine, theirs in ((left, right), (right, left)):
            if mine is None or theirs is None:
                break
            tables = tables_of(mine)
            if tables_of(theirs) == {source} and tables and tables <= before:
                return [(mine, theirs)]
        return []

    def located_members(self, made: Selection, naming: Naming) -> list[Located]:
        """Where rows are affected because of what `IN (SELECT …)` asks for."""
        found: list[Located] = []
        for each in conjuncts(where_of(made.select)):
            asked = each.unnest()
            query = asked.args.get("query") if isinstance(asked, exp.In) else None
            if query is None or not self.reads_changed(query):
                continue
            inner = self.relation(
                query.this if isinstance(query, exp.Subquery) else query
            )
            place = naming.resolve(asked.this)
            if (
                place is None
                or not self.is_pure(place, set(), naming)
                or len(inner.columns) != 1
            ):
                raise WideError("what IN asks for is not understood")
            if not inner.atoms:
                continue
            if not (inner.columns[0].pure and is_exact(inner.columns[0].type)):
                raise WideError("what IN asks for is not decided by the rows")
            query = inner.build(inner.atoms, loose=not inner.exact)
            atoms = self.values(
                query, [f"{KEY}0"], moved_only=inner.exact, bounded=False
            )
            found += [Located(atom, {f"{KEY}0": place}) for atom in atoms]
            if atoms:
                self.reach(
                    "keys", "rows are taken by what IN (SELECT …) finds: by its values"
                )
        return found

    def through_windows(
        self, made: Selection, located: list[Located], naming: Naming
    ) -> list[Located]:
        """The atoms behind the windows: whole partitions."""
        partitions = self.partitions(made, naming)
        if partitions is None:
            return located
        if made.is_grouped and not self.is_distinct_on(made):
            raise WideError("a window over groups is not read")
        keys = {each.sql(dialect="duckdb"): each for each in partitions}
        made.partitions = frozenset(keys)
        staying = [each for each in located if each.words <= made.partitions]
        others = [each for each in located if not each.words <= made.partitions]
        if not others:
            return staying
        pure = [e for e in keys.values() if self.is_pure(e, set(), naming)]
        if not pure:
            raise WideError("a window sees all rows")
        select = self.affected(made, others)
        select.set("expressions", [each.copy() for each in pure])
        select.set("distinct", None)
        atoms = self.values(select, [f"{KEY}{n}" for n in range(len(pure))])
        if atoms:
            self.reach("keys", "windows see whole partitions: by " + words(pure))
        return staying + [
            Located(atom, {f"{KEY}{n}": e for n, e in enumerate(pure)})
            for atom in atoms
        ]

    def is_distinct_on(self, made: Selection) -> bool:
        """Whether a SELECT keeps one row of each of some values."""
        distinct = made.select.args.get("distinct")
        return distinct is not None and distinct.args.get("on") is not None

    def partitions(self, made: Selection, naming: Naming) -> list[exp.Expr] | None:
        """What all windows of a SELECT are divided by; None: it has none."""
        select = made.select
        named = {
            each.name.casefold(): each for each in select.args.get("windows") or ()
        }
        nodes = [*select.expressions, select.args.get("qualify")]
        lists: list[list[exp.Expr]] = []
        for node in filter(None, nodes):
            windows = [n for n in own_nodes(node) if isinstance(n, exp.Window)]
            lists += [self.partition_of(each, named, naming) for each in windows]
        distinct = select.args.get("distinct")
        if distinct is not None and (on := distinct.args.get("on")) is not None:
            if select.args.get("group"):
                raise WideError("DISTINCT ON over groups is not read")
            found = [naming.resolve(each) for each in on.expressions]
            lists.append([each for each in found if each is not None])
        if not lists:
            return None
        shared = set.intersection(
            *({each.sql(dialect="duckdb") for each in found} for found in lists)
        )
        if not shared:
            raise WideError("a window sees all rows")
        return [each for each in lists[0] if each.sql(dialect="duckdb") in shared]

    def partition_of(
        self, window: exp.Window, named: Mapping[str, exp.Expr], naming: Naming
    ) -> list[exp.Expr]:
        """What one window is divided by."""
        keys = window.args.get("partition_by") or []
        alias = window.args.get("alias")
        if alias is not None and not keys:
            definition = named.get(alias.name.casefold())
            keys = (definition.args.get("partition_by") if definition else None) or []
        found = [naming.resolve(each) for each in keys]
        return [each for each in found if each is not None]

    def through_outputs(self, made: Selection, located: list[Located]) -> list[Atom]:
        """The atoms on the result: those whose columns are handed on, and values in place of the rest."""
        handed = {
            place.sql(dialect="duckdb"): each.name
            for place, each in reversed(
                list(zip(made.outputs, made.columns, strict=True))
            )
            if place is not None
        }
        atoms, others = [], []
        for each in located:
            names = {
                n: handed.get(p.sql(dialect="duckdb")) for n, p in each.places.items()
            }
            if any(name is None for name in names.values()):
                others.append(each)
            else:
                atoms.append(
                    each.atom.renamed({n: str(name) for n, name in names.items()})
                )
        if others:
            atoms += self.rekeyed(made, others)
        return atoms

    def rekeyed(self, made: Selection, located: Sequence[Located]) -> list[Atom]:
        """The values that affected rows have in the columns of the result."""
        pure = [each.name for each in made.columns if each.pure and is_exact(each.type)]
        if not pure:
            raise WideError(
                "it is summed up over all rows"
                if made.is_grouped
                else "its rows have no columns that tell them apart"
            )
        inner = self.affected(made, located)
        select = exp.Select(
            expressions=[column("rat_affected", name) for name in pure]
        ).from_(exp.Subquery(this=inner, alias=table_alias("rat_affected")))
        found = self.values(select, pure)
        if found and made.is_grouped:
            self.reach(
                "groups", "rows are put together: the groups by " + ", ".join(pure)
            )
        elif found:
            self.why.append("by the values of " + ", ".join(pure))
        return found

    def affected(self, made: Selection, located: Sequence[Located]) -> exp.Select:
        """A SELECT over the affected rows alone, or more of them."""
        return made.body(located, loose=True, restricted=True)

    # Values.

    def values(
        self,
        query: exp.Query,
        columns: Sequence[str],
        *,
        moved_only: bool = False,
        bounded: bool = True,
    ) -> list[Atom]:
        """The atom of what *query* finds in the old inputs and in the new ones; none where nothing.

        *moved_only*: of what it finds in one of two versions and not in the other. *bounded*: what
        is compared with the values has their type.
        """
        table = f"rat_scope_{uuid4().hex}"
        keys = ", ".join(f"{KEY}{number}" for number in range(len(columns)))
        new = f"SELECT * FROM ({self.sql(query, version={})}) AS found({keys})"
        parts = [] if moved_only else [new]
        for version in self.versions:
            old = f"SELECT * FROM ({self.sql(query, version=version)}) AS found({keys})"
            parts += (
                [f"(({old}) EXCEPT ({new}))", f"(({new}) EXCEPT ({old}))"]
                if moved_only
                else [old]
            )
        self.connection.execute(
            f"CREATE TEMP TABLE {table} AS SELECT DISTINCT * FROM ({' UNION ALL '.join(parts)})"
        )
        atom = of_values(self.connection, table, columns, bounded=bounded)
        return [] if atom is None else [atom]

    @cached_property
    def versions(self) -> list[dict[str, str]]:
        """The old versions of the inputs together, each by what takes whose place."""
        found: list[dict[str, str]] = [{}]
        for name, each in self.changed.items():
            olds = list(dict.fromkeys(old for one in each for old in one.olds))
            found = [
                {**version, name: old} for version in found for old in olds or [name]
            ]
        if len(found) > MOST_VERSIONS:
            raise WideError("there are too many old versions of what it reads")
        return [version for version in found if any(k != v for k, v in version.items())]

    def sql(self, query: exp.Expr, *, version: Mapping[str, str]) -> str:
        """A query over one version of the inputs, with the CTEs that it may name."""
        return (
            f"{self.prefix(version)}{versioned(query, version).sql(dialect='duckdb')}"
        )

    def prefix(self, version: Mapping[str, str]) -> str:
        """The WITH of a query over one version of the inputs."""
        if not self.ctes:
            return ""
        bodies = (versioned(each, version) for each in self.ctes.values())
        return f"WITH {', '.join(each.sql(dialect='duckdb') for each in bodies)} "


def spoken(query: exp.Expr) -> exp.Expr:
    """A query whose words DuckDB plans as it plans the author's."""

    def spoken_node(node: exp.Expr) -> exp.Expr:
        is_null = node.this if isinstance(node, exp.Not) else None
        if isinstance(is_null, exp.Is) and isinstance(is_null.expression, exp.Null):
            return exp.Is(this=is_null.this, expression=exp.Not(this=exp.null()))
        return node

    return query.transform(spoken_node)


def canonical(plan: str) -> str:
    """A plan, with functions of two names called by one, and units of time in small letters."""
    plan = UNIT.sub(lambda found: found[0].lower(), plan)
    return CALLED.sub(lambda found: f"{SAME.get(found[1], found[1])}(", plan)


@cache
def functions(condition: str) -> frozenset[str]:
    """DuckDB's functions of which its list says this."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            f"WHERE {condition}"
        ).fetchall()
    return frozenset(name for (name,) in rows)


def versioned(node: exp.Expr, version: Mapping[str, str]) -> exp.Expr:
    """A part of a query that reads other versions of what it reads."""
    if not version:
        return node
    node = node.copy()
    for table in node.find_all(exp.Table):
        old = version.get(table.name.casefold())
        if old is not None and isinstance(table.this, exp.Identifier):
            if not table.alias:
                table.set("alias", table_alias(table.name))
            table.set("this", exp.to_identifier(old, quoted=True))
    return node


def name_sources(sources: Sequence[Source]) -> Naming:
    """What can be named of what a SELECT reads."""
    naming = Naming()
    for each in sources:
        if not each.tells:
            # It can be named in its own condition, and nowhere else.
            naming.tables[each.alias] = each.relation.columns
            naming.hidden |= {
                (each.alias, c.name.casefold()) for c in each.relation.columns
            }
            continue
        shared = each.join.args.get("using") or () if each.join is not None else ()
        for name in shared:
            key = name.name.casefold()
            mine = naming.merged.get(key) or naming.place(exp.column(name.name))
            theirs = column(
                each.alias,
                next(c.name for c in each.relation.columns if c.name.casefold() == key),
            )
            naming.merged[key] = {"RIGHT": theirs, "FULL": None}.get(each.side, mine)
            naming.hidden.add((each.alias, key))
        naming.tables[each.alias] = each.relation.columns
    return naming


def aliases_of(select: exp.Select) -> dict[str, exp.Expr]:
    """What the aliases of a SELECT list stand for."""
    found: dict[str, exp.Expr] = {}
    for each in select.expressions:
        if isinstance(each, exp.Alias):
            found.setdefault(each.alias.casefold(), each.this)
    return found


def refuse_totals(select: exp.Select) -> None:
    """WideError where rows are in several groups, up to that of all rows."""
    group = select.args.get("group")
    several = (exp.Rollup, exp.Cube, exp.GroupingSets)
    if group is None:
        return
    others = [key for key, each in group.args.items() if each]
    if group.find(*several) or not set(others) <= {"expressions", "all"}:
        raise WideError("a total over all rows is among its groups")


def tables_of(place: exp.Expr) -> set[str]:
    """The tables whose columns an expression names."""
    return {each.table for each in place.find_all(exp.Column)}


def is_exact(kind: str) -> bool:
    """Whether values of a type are equal only where they are the same."""
    return not kind.upper().startswith(INEXACT) and "[" not in kind


def words(nodes: Iterable[exp.Expr]) -> str:
    """Expressions as a person would say them."""
    names = (
        each.name if isinstance(each, exp.Column) else each.sql(dialect="duckdb")
        for each in nodes
    )
    return ", ".join(names)
