"""Carrying: atoms behind the joins of a SELECT on to its result, through windows and groups."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

from sqlglot import exp

from rat_resources.lake.atoms import (
    KEY,
    Atom,
    Located,
    column,
)
from rat_resources.lake.joining import Joining
from rat_resources.lake.namings import (
    Naming,
    own_nodes,
)
from rat_resources.lake.relations import Relation, Selection
from rat_resources.lake.wording import WideError, is_exact, table_alias, words


class Carrying(Joining):
    """Turns atoms on what is read into atoms on what comes out."""

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

    def uncover_mixed(self, made: Selection, members: Sequence[Located]) -> None:
        """Have columns for the atoms of what is read, where it is not one part alone that has any."""
        touched = [each for each in made.sources if each.relation.affected]
        turned = any(each.side in ("RIGHT", "FULL") for each in made.sources)
        for each in touched:
            beside = each.side == "LEFT" or each.kind in ("SEMI", "ANTI")
            if turned or (not beside and (members or len(touched) > 1)):
                self.uncover(each.relation)

    def uncover(self, relation: Relation) -> None:
        """Put values of its own columns in place of what a relation does not hand on."""
        if isinstance(relation, Selection) and relation.hidden:
            located = relation.locate(relation.hidden)
            assert located is not None  # noqa: S101 - or nothing would have been hidden
            relation.hidden = []
            relation.atoms += self.rekeyed(relation, located)

    def hide(self, made: Selection, located: Sequence[Located]) -> None:
        """Keep atoms whose columns are not handed on, for whoever reads the relation."""
        for each in located:
            names = {name: f"rat_beneath_{uuid4().hex[:8]}" for name in each.places}
            made.hidden.append(each.atom.renamed(names))
            made.beneath |= {names[name]: p for name, p in each.places.items()}

    def is_row_wise(self, made: Selection) -> bool:
        """Whether each row of the result is one of those that a SELECT joins."""
        words = ("limit", "offset", "distinct")
        return (
            made.partitions is None
            and not made.is_grouped
            and not any(made.select.args.get(word) for word in words)
        )

    def through_outputs(
        self, made: Selection, located: list[Located], *, is_last: bool
    ) -> list[Atom]:
        """The atoms on the result: those whose columns are handed on, and values in place of the rest.

        Where each row is one of those below the rest is hidden, unless nobody reads it (*is_last*).
        """
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
        if others and not is_last and self.is_row_wise(made):
            self.hide(made, others)
        elif others:
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
