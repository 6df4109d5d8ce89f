"""Joining: where the rows that a SELECT joins, or takes for being members, are affected."""

from collections.abc import Sequence

from sqlglot import exp

from rat_resources.lake.atoms import (
    KEY,
    Located,
    any_of,
    column,
)
from rat_resources.lake.namings import (
    Naming,
    conjuncts,
)
from rat_resources.lake.purity import Purity
from rat_resources.lake.relations import Selection, where_of
from rat_resources.lake.wording import WideError, is_exact, table_alias, tables_of


class Joining(Purity):
    """Finds the atoms behind FROM, JOIN and IN."""

    def located(self, made: Selection, naming: Naming) -> list[Located]:
        """Where the rows that it joins are affected."""
        found: list[Located] = []
        for number, source in enumerate(made.sources):
            own = [
                Located(atom, {n: column(source.alias, n) for n in atom.columns})
                for atom in source.relation.affected
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
        if not source.relation.affected:
            return []
        mine, theirs = self.join_keys(made, number, naming)
        inner = exp.Subquery(
            this=source.relation.build(source.relation.affected, loose=True),
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
            if not inner.affected:
                continue
            if not (inner.columns[0].pure and is_exact(inner.columns[0].type)):
                raise WideError("what IN asks for is not decided by the rows")
            query = inner.build(inner.affected, loose=not inner.exact)
            atoms = self.values(
                query, [f"{KEY}0"], moved_only=inner.exact, bounded=False
            )
            found += [Located(atom, {f"{KEY}0": place}) for atom in atoms]
            if atoms:
                self.reach(
                    "keys", "rows are taken by what IN (SELECT …) finds: by its values"
                )
        return found
