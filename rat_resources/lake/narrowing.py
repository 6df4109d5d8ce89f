"""Narrowing: which part of a query's result may be another one, when some rows of its inputs are.

Where rows of an input have changed, atoms (`atoms`) say which; they are carried through the query
relation by relation. A condition on columns that a relation hands on stays as it is; where it does
not, the values that the affected rows have there, in the old inputs and in the new ones, take its
place: of what is grouped the groups, of windows the partitions, of a join the keys. All rows
outside the atoms of the result are the same as before. What is not understood is the whole table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

import duckdb
import sqlglot
from duckdb import DuckDBPyConnection
from sqlglot import exp

from rat_resources.lake.atoms import (
    Atom,
    column,
    of_filter,
)
from rat_resources.lake.carrying import Carrying
from rat_resources.lake.complaints import first_line
from rat_resources.lake.evaluating import FEW, MANY, Invalidated
from rat_resources.lake.namings import (
    Named,
    calls,
)
from rat_resources.lake.relations import (
    Input,
    Relation,
    Selection,
    Source,
    Union,
    aliases_of,
    filtered,
    name_sources,
)
from rat_resources.lake.replacing import Part, Scope
from rat_resources.lake.sql import name_list, quote
from rat_resources.lake.wording import (
    WideError,
    canonical,
    functions,
    is_exact,
    refuse_totals,
    spoken,
    table_alias,
)

MUCH = 4  # one group in so many


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
    return Part(atom.sql(of="old"), atom.columns, atom.within)


def narrow(
    connection: DuckDBPyConnection,
    query: str,
    *,
    invalidated: Sequence[Invalidated],
    passing: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    keys: Sequence[str] = (),
    reads: int = MANY,
    holds: int = MANY,
) -> Plan:
    """The part of *query*'s result that may be another one than over the old inputs.

    *passing* are texts in it that are others in every run; *types* what its columns are cast to in
    the end, *keys* those of which one row is kept. It *reads* and *holds* about so many rows.
    """
    try:
        return Narrowing(
            connection, invalidated, passing=passing, reads=reads, holds=holds
        ).plan(query, types=types or {}, keys=keys)
    except WideError as error:
        return Plan("table", str(error))
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        return Plan(
            "table",
            f"a part of the query does not stand by itself: {first_line(error)}",
        )
    except Exception as error:  # noqa: BLE001 - all of the table is right whatever it is
        return Plan("table", f"the query is not understood: {type(error).__name__}")


# The way through a query.


class Narrowing(Carrying):
    """Carries atoms from inputs to the result of a query."""

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
        query = self.sql(self.chosen(final, relation.atoms), version={})
        if not relation.atoms:
            return Plan("rows", "no row of the result depends on it", (), query)
        return Plan(self.level, self.reason(), tuple(relation.atoms), query)

    def chosen(self, final: Relation, atoms: Sequence[Atom]) -> exp.Query:
        """A query for the affected rows of the result.

        Whether a row belongs to one of some groups is asked of every row that is read: where these are
        few, or the groups many, it costs less to put all groups together and ask each of them.
        """
        groups = sum(each.rows for each in atoms)
        is_much = groups * MUCH > self.holds
        if self.level == "groups" and (self.reads <= FEW or is_much):
            self.why.append("all groups are put together, which costs less")
            return filtered(exp.Subquery(this=final.build(None, loose=False)), atoms)
        return final.build(atoms, loose=False)

    def reason(self) -> str:
        """Why the scope is what it is."""
        return (
            "; ".join(dict.fromkeys(self.why)) or "each row depends on rows of its own"
        )

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
        self.uncover(relation)
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

    def reads_changed(self, node: exp.Expr) -> bool:
        """Whether a part reads what has changed."""
        try:
            self.refuse_touched(node)
        except WideError:
            return True
        return False

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

    def union(self, query: exp.SetOperation) -> Relation:
        """What is affected of a UNION, INTERSECT or EXCEPT."""
        for word in ("limit", "offset", "on"):
            if query.args.get(word):
                return self.unread(query)
        left, right = self.relation(query.this), self.relation(query.expression)
        is_union = isinstance(query, exp.Union)
        columns = self.describe(query)
        sides = [left, right]
        for side in sides:
            self.uncover(side)
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
        members = self.located_members(made, naming)
        self.uncover_mixed(made, members)
        located = [*self.located(made, naming), *members]
        made.touched = made.touched or bool(located)
        if given is not None:
            made.columns = self.types_of(made, given)
        self.read_purity(made, impure, naming)
        if made.touched:
            refuse_totals(select)
            located = self.through_windows(made, located, naming)
            made.atoms = self.through_outputs(made, located, is_last=given is not None)
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
        key = node.name.casefold()
        spelled = {each.name.casefold(): each.name for each in columns}
        atoms = []
        for each in self.changed[key]:
            if not each.columns:
                raise WideError("every row of what it reads may be another one")
            names = {name: spelled[name.casefold()] for name in each.columns}
            atom = of_filter(each.condition, each.columns, within=each.within)
            atoms.append(atom.renamed(names))
        return Input(bare, columns, atoms, touched=True, prune=partial(self.prune, key))
