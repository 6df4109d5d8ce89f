"""Relations: the parts of a query, each able to say itself for some of its rows alone.

The condition goes as far inside as it may. Which rows are affected is told by `narrowing`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from sqlglot import exp

from rat_resources.lake.atoms import (
    Atom,
    Located,
    any_of,
    column,
)
from rat_resources.lake.namings import (
    Named,
    Naming,
    conjuncts,
)
from rat_resources.lake.pruning import Box
from rat_resources.lake.wording import WideError, table_alias


@dataclass
class Relation:
    """A table, or whatever a query does not tell us about."""

    node: exp.Expr  # as it stands after FROM, or a query
    columns: list[Named]
    atoms: list[Atom] = field(default_factory=list)
    touched: bool = False  # whether it reads what has changed
    exact: bool = True  # whether the same rows always come out
    # Atoms on columns that it does not hand on: `build` understands them, nothing else does.
    hidden: list[Atom] = field(default_factory=list)
    beneath: dict[str, exp.Expr] = field(default_factory=dict)  # these columns, in full

    @property
    def affected(self) -> list[Atom]:
        """All that tells which of its rows may be others."""
        return [*self.atoms, *self.hidden]

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
class Input(Relation):
    """A table of which some rows are not what they were."""

    prune: Callable[[Sequence[Box]], str | None] = lambda _boxes: None

    def build(self, atoms: Sequence[Atom] | None, *, loose: bool) -> exp.Query:
        """The rows for which one of the *atoms* holds, out of the files that may have any."""
        boxes = [each.within for each in atoms or ()]
        name = self.prune(boxes) if boxes and all(boxes) else None
        if name is None:
            return super().build(atoms, loose=loose)
        return filtered(exp.Table(this=exp.to_identifier(name, quoted=True)), atoms)


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
        } | self.beneath
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
        is_asked = False
        for source, holder in zip(self.sources, places_of(select), strict=True):
            inner = self.inside(source, located) if restricted else None
            is_asked = is_asked or inner is not None
            new = source.rendered(inner, loose=loose)
            if new != holder.this:
                holder.set("this", new)
        if loose:
            self.loosen(select)
        if restricted and not is_asked:
            if any(map(self.is_beneath, located)):
                raise WideError("what it reads is told by columns that are gone")
            select = select.where(any_of(each.test for each in located), copy=False)
        return select

    def is_beneath(self, located: Located) -> bool:
        """Whether an atom looks at columns that what it reads does not hand on."""
        hidden = {
            (each.alias, name)
            for each in self.sources
            for name in each.relation.beneath
        }
        return any(
            isinstance(place, exp.Column) and (place.table, place.name) in hidden
            for place in located.places.values()
        )

    def inside(self, source: Source, located: Sequence[Located]) -> list[Atom] | None:
        """The atoms as atoms on one source alone, if that is where all of them look."""
        if source.is_optional or not source.tells or not located:
            return None
        if not isinstance(source.relation, Selection | Union | Input):
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


def places_of(select: exp.Select) -> list[exp.Expr]:
    """What holds each relation that a SELECT reads: its FROM, and its joins."""
    start = select.args.get("from_")
    return [*([] if start is None else [start]), *(select.args.get("joins") or [])]


def where_of(select: exp.Select) -> exp.Expr | None:
    """The condition of a SELECT."""
    where = select.args.get("where")
    return None if where is None else where.this


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
