"""Purity: which values and rows are decided by the rows that a query reads, and by nothing else.

What is computed again may be another one where ties, the order of sums or the time of the run decide.
Such values tell no rows, and conditions on them are left out where more rows do no harm.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from rat_resources.lake.evaluating import Evaluation
from rat_resources.lake.namings import (
    Naming,
    calls,
    conjuncts,
    is_star,
)
from rat_resources.lake.relations import Selection, Source, where_of
from rat_resources.lake.wording import WideError


class Purity(Evaluation):
    """Tells what is pure in a SELECT."""

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
