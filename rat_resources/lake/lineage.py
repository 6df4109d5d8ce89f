"""Lineage: which columns of its inputs each column of a query takes its values from.

The query is read by sqlglot; what its names mean is decided by DuckDB's rules (`scopes`) and the
real columns of the inputs. What an expression of a SELECT list names is a source of its column,
windows, filters and conditions in it too. WHERE, join and grouping keys are not: they decide which
rows there are (`deciding`). What cannot be told is left out and never guessed. Keeping what was
found is `rat_resources.lineage`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, singledispatchmethod

import sqlglot
from sqlglot import exp

from rat_resources.lake.deciding import (
    CLAUSES,
    Deciding,
    is_everything,
    positions,
    without_last_order,
)
from rat_resources.lake.scopes import (
    ABSENT,
    GAP,
    NOTHING,
    UNKNOWN,
    Column,
    Columns,
    Scope,
    Sources,
    find,
    merge,
    named,
    told_apart,
)
from rat_resources.names import ColumnName

Describe = Callable[[str], Sequence[str] | None]


@dataclass(frozen=True)
class Inputs:
    """What a query can read: the columns of its tables, and its landing zones' folders."""

    tables: Mapping[str, Sequence[str]]
    zones: Mapping[str, str] = field(default_factory=dict)  # dataset by folder
    describe: Describe = lambda _: None  # the columns of a table function's result


@dataclass(frozen=True)
class Reading:
    """What a query does with the columns that it reads."""

    # The sources of each column for which they can be told; no source: ().
    sources: Mapping[str, tuple[ColumnName, ...]]
    # What decides which rows there are, and which stand together; None where it cannot be told.
    deciding: tuple[ColumnName, ...] | None


def trace(
    sql: str, *, inputs: Inputs, output: Sequence[str]
) -> Mapping[str, tuple[ColumnName, ...]]:
    """The sources of each column of *output* for which they can be told."""
    return read(sql, inputs=inputs, output=output).sources


def read(sql: str, *, inputs: Inputs, output: Sequence[str]) -> Reading:
    """What a query does with what it reads.

    *output* are the columns as DuckDB returns them. Of a query that we read otherwise nothing is
    known.
    """
    reader = Reader(inputs)
    try:
        query = without_last_order(sqlglot.parse_one(sql, read="duckdb"))
        columns = reader.relation(query, scope=None, ctes={})
        found = align(columns, output)
    except (sqlglot.errors.SqlglotError, UnreadableError, RecursionError):
        return Reading({}, None)
    return Reading(
        {
            name: tuple(sorted(column.sources))
            for name, column in zip(output, found, strict=True)
            if column.sources is not None
        },
        reader.deciding.columns,
    )


class UnreadableError(Exception):
    """The query is not what we took it for."""


# Queries.


@dataclass(frozen=True)
class Reader:
    """Reads relations: queries, tables and table functions."""

    inputs: Inputs
    deciding: Deciding = field(default_factory=Deciding)

    def relation(
        self,
        query: exp.Expr | None,
        *,
        scope: Scope | None,
        ctes: Mapping[str, Columns],
    ) -> Columns:
        """The columns of a query."""
        if isinstance(query, exp.Query | exp.Values):
            ctes = self.with_ctes(query, scope=scope, ctes=ctes)
        match query:
            case exp.Select():
                return self.select(query, outer=scope, ctes=ctes)
            case exp.SetOperation():
                return self.set_operation(query, scope=scope, ctes=ctes)
            case exp.Values():
                return self.values(query, scope=scope, ctes=ctes)
            case exp.Subquery() if not query.args.get("pivots"):
                inner = self.relation(query.this, scope=scope, ctes=ctes)
                self.decide_end(query)
                return named(told_apart(inner), query.alias_column_names)
        return self.unknown()

    def with_ctes(
        self, query: exp.Expr, *, scope: Scope | None, ctes: Mapping[str, Columns]
    ) -> Mapping[str, Columns]:
        """The relations that a query can name, those of its WITH among them."""
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        known = dict(ctes)
        for each in clause.expressions:
            name, body = each.alias.casefold(), each.this
            if clause.recursive and isinstance(body, exp.SetOperation):
                columns = self.recursive(each, scope=scope, ctes=known)
            else:
                columns = self.relation(body, scope=scope, ctes=known)
            known[name] = named(told_apart(columns), each.alias_column_names)
        return known

    def recursive(
        self, cte: exp.CTE, *, scope: Scope | None, ctes: Mapping[str, Columns]
    ) -> Columns:
        """The columns of a CTE that reads itself: what its first part says, until no more comes."""
        body, names = cte.this, cte.alias_column_names
        known = self.with_ctes(body, scope=scope, ctes=ctes)
        columns = self.relation(body.this, scope=scope, ctes=known)
        while True:
            itself = {cte.alias.casefold(): named(told_apart(columns), names)}
            again = self.relation(
                body.expression, scope=scope, ctes={**known, **itself}
            )
            more = combined(body, columns, again)
            if more == columns:
                return columns
            columns = more

    def set_operation(
        self,
        query: exp.SetOperation,
        *,
        scope: Scope | None,
        ctes: Mapping[str, Columns],
    ) -> Columns:
        """The columns of a UNION, INTERSECT or EXCEPT."""
        left = self.relation(query.this, scope=scope, ctes=ctes)
        right = self.relation(query.expression, scope=scope, ctes=ctes)
        if query.args.get("distinct") or not isinstance(query, exp.Union):
            self.deciding.note(merge(each.sources for each in (*left, *right)))
        self.decide_end(query)
        return combined(query, left, right)

    def values(
        self, values: exp.Values, *, scope: Scope | None, ctes: Mapping[str, Columns]
    ) -> Columns:
        """The columns of VALUES."""
        inside = Scope(ctes, scope)
        rows = [row.expressions for row in values.expressions]
        columns = tuple(
            Column(f"col{n}", merge(self.sources(each, inside) for each in cells))
            for n, cells in enumerate(zip(*rows, strict=True))
        )
        return named(columns, values.alias_column_names)

    def select(
        self, query: exp.Select, *, outer: Scope | None, ctes: Mapping[str, Columns]
    ) -> Columns:
        """The columns of a SELECT."""
        scope = Scope(ctes, outer)
        start = query.args.get("from_")
        if start is not None:
            self.enter(start.this, scope=scope)
        self.join_all(query, scope=scope)
        windows = query.args.get("windows") or ()
        scope.windows = {each.name.casefold(): each for each in windows}
        columns: list[Column] = []
        for each in query.expressions:
            columns += self.projection(each, scope)
            if isinstance(each, exp.Alias) and columns:
                scope.aliases.setdefault(each.alias.casefold(), columns[-1].sources)
        self.decide(query, columns, scope=scope)
        return tuple(columns)

    # What decides which rows there are, and which of them stand together.

    def decide(
        self, query: exp.Select, columns: Sequence[Column], *, scope: Scope
    ) -> None:
        """Note the columns by which a SELECT chooses, groups and orders rows."""
        for clause in CLAUSES:
            node = query.args.get(clause)
            if node is None:
                continue
            self.deciding.note(self.sources(node, scope))
            for position in positions(node):
                known = not any(each.is_gap for each in columns[:position])
                self.deciding.note(columns[position - 1].sources if known else None)
            if is_everything(node):
                self.deciding.note(merge(each.sources for each in columns))
        for each in query.expressions:
            for call in each.find_all(exp.Explode, exp.Unnest):
                self.deciding.note(self.sources(call, scope))

    def decide_join(self, join: exp.Join, *, left: Scope, right: Scope) -> None:
        """Note the columns by which two sides are joined; a name may be one of either."""
        if (condition := join.args.get("on")) is not None:
            self.deciding.note(self.sources(condition, right))
        names = [each.name for each in join.args.get("using") or ()]
        if join.method == "NATURAL":
            names = [each.name or "" for each in right.columns]
        for name in names:
            both = [find(side.columns, name) for side in (left, right)]
            if ABSENT not in both:
                self.deciding.note(merge(each.sources for each in both))

    def decide_end(self, query: exp.Expr) -> None:
        """Note that an order chooses among rows whose columns have no names to go by."""
        if query.args.get("order"):
            self.deciding.note(None)

    def unknown(self) -> Columns:
        """The columns of what we do not read: nobody knows what decides its rows."""
        self.deciding.note(None)
        return UNKNOWN

    # What stands after FROM.

    def enter(self, item: exp.Expr, *, scope: Scope) -> None:
        """Let the expressions of a SELECT name what stands after FROM, by itself."""
        if isinstance(item, exp.Subquery | exp.Table) and item.args.get("pivots"):
            scope.add(item.alias_or_name or None, UNKNOWN)
            scope.columns = self.unknown()
            return
        if isinstance(item, exp.Subquery) and isinstance(item.this, exp.Table):
            self.enter(item.this, scope=scope)  # DuckDB ignores the alias of a join
        else:
            scope.columns = told_apart(self.item(item, scope=scope))
            scope.add(item.alias_or_name or None, scope.columns)
        self.join_all(item, scope=scope)

    def join_all(self, item: exp.Expr, *, scope: Scope) -> None:
        """Bring in everything that is joined to *item*, each able to name what stands before it."""
        for join in [
            *(item.args.get("joins") or ()),
            *(item.args.get("laterals") or ()),
        ]:
            other = Scope(scope.ctes, scope)
            if isinstance(join, exp.Join):
                self.enter(join.this, scope=other)
                self.decide_join(join, left=scope, right=other)
                scope.join(other, join)
            else:
                self.enter(join, scope=other)
                scope.join(other, exp.Join())

    def item(self, item: exp.Expr, *, scope: Scope) -> Columns:
        """The columns of one thing after FROM."""
        match item:
            case exp.Table() if not isinstance(item.this, exp.Identifier):
                columns = self.function(item.this, scope)
                return (
                    UNKNOWN
                    if item.args.get("ordinality")
                    else self.renamed(item, columns)
                )
            case exp.Table():
                return self.renamed(item, self.table(item, scope=scope))
            case exp.Unnest() | exp.Explode():
                return self.renamed(item, self.unnest(item, scope))
            case exp.Lateral():
                return self.renamed(item, self.item(item.this, scope=scope))
            case exp.Subquery() | exp.Values():
                return self.relation(item, scope=scope, ctes=scope.ctes)
        return self.unknown()

    def renamed(self, item: exp.Expr, columns: Columns) -> Columns:
        """The columns under the names that the query gives them."""
        alias = item.args.get("alias")
        names = [each.name for each in alias.columns] if alias else []
        return named(columns, names)

    def table(self, table: exp.Table, *, scope: Scope) -> Columns:
        """The columns of a table, a view, a CTE or a file."""
        if table.args.get("db"):
            return self.unknown()
        name = table.name.casefold()
        if name in scope.ctes:
            return scope.ctes[name]
        for dataset, columns in self.inputs.tables.items():
            if dataset.casefold() == name:
                return tuple(
                    Column(each, frozenset([ColumnName(dataset, each)]))
                    for each in columns
                )
        return self.files(exp.Literal.string(table.name), reading=table)

    def function(self, call: exp.Expr, scope: Scope) -> Columns:
        """The columns of a table function."""
        if isinstance(call, exp.GenerateSeries):
            arguments = [call.args.get(each) for each in ("start", "end", "step")]
            sources = merge(self.sources(each, scope) for each in arguments if each)
            self.deciding.note(sources)
            name = "range" if call.args.get("is_end_exclusive") else "generate_series"
            return (Column(name, sources),)
        if isinstance(call, exp.Unnest | exp.Explode):
            return self.unnest(call, scope)
        first = call.this if isinstance(call.this, exp.Expr) else None
        first = first or next(iter(call.expressions), None)
        return self.files(first, reading=call) if first is not None else UNKNOWN

    def unnest(self, call: exp.Expr, scope: Scope) -> Columns:
        """The one column of an `unnest` after FROM."""
        arguments = [call.this, *call.expressions] if call.this else call.expressions
        if len(arguments) != 1 or call.args.get("offset"):
            return self.unknown()
        sources = self.sources(arguments[0], scope)
        self.deciding.note(sources)
        return (Column("unnest", sources),)

    def files(self, paths: exp.Expr, *, reading: exp.Expr) -> Columns:
        """The columns of files, traced to the landing zone that they lie in."""
        is_known = not any(paths.find_all(exp.Column, exp.Query))
        source = reading.copy()
        source.set("alias", None)
        names = self.inputs.describe(source.sql(dialect="duckdb")) if is_known else None
        if names is None:
            return UNKNOWN
        zones = {
            dataset
            for text in paths.find_all(exp.Literal)
            for folder, dataset in self.inputs.zones.items()
            if f"{text.name}/".startswith(f"{folder}/")
        }
        if len(zones) > 1:
            return tuple(Column(name, None) for name in names)
        return tuple(
            Column(name, frozenset(ColumnName(zone, name) for zone in zones))
            for name in names
        )

    # What stands after SELECT.

    def projection(self, node: exp.Expr, scope: Scope) -> Columns:
        """The columns that an expression of a SELECT list becomes."""
        inner = node.this if isinstance(node, exp.Alias) else node
        if isinstance(inner, exp.Star) or is_table_star(inner):
            return self.star(inner, scope)
        if isinstance(inner, exp.Aliases) or is_unread(inner):
            return UNKNOWN
        repeated = [c for c in inner.find_all(exp.Columns) if not c.args.get("unpack")]
        if repeated:
            return self.repeated(node, repeated[0], scope)
        sources = self.sources(inner, scope)
        # A struct becomes as many columns as it has fields, whatever the alias.
        is_gap = isinstance(inner.unnest(), exp.Explode | exp.Unnest)
        return (Column(name_of(node), sources, is_gap=is_gap),)

    def star(self, node: exp.Expr, scope: Scope) -> Columns:
        """The columns of `*` or `t.*`, with what EXCLUDE, REPLACE and RENAME make of them."""
        star = node.this if isinstance(node, exp.Column) else node
        columns = self.starred(node, scope)
        if star.args.get("ilike"):
            return UNKNOWN
        for each in star.args.get("except_") or ():
            columns = without(columns, each)
        for each in star.args.get("replace") or ():
            new = partial(replace, sources=self.sources(each.this, scope))
            columns = changed(columns, each.alias, change=new)
        for each in star.args.get("rename") or ():
            new = partial(replace, name=each.alias)
            columns = changed(columns, each.this.name, change=new)
        return columns

    def starred(self, node: exp.Expr, scope: Scope) -> Columns:
        """All columns that a star stands for."""
        if not isinstance(node, exp.Column):
            return scope.columns
        parts = [part.name for part in node.parts[:-1]]
        if len(parts) == 1 and (table := scope.table(parts[0])) is not None:
            return table
        # The fields of a struct, whatever they are.
        return (Column(None, self.named(scope, *parts), is_gap=True),)

    def repeated(self, node: exp.Expr, pattern: exp.Columns, scope: Scope) -> Columns:
        """The columns of an expression that stands once for each of COLUMNS(…)."""
        chosen = self.chosen(pattern, scope)
        alias = node.alias if isinstance(node, exp.Alias) else None
        columns = []
        for each in chosen:
            inside = replace(scope, repeated=each)
            name = each.name if alias is None else alias if "\\" not in alias else None
            columns.append(replace(each, name=name, sources=self.sources(node, inside)))
        return tuple(columns)

    def chosen(self, pattern: exp.Columns, scope: Scope) -> Columns:
        """The columns that COLUMNS(…) chooses."""
        by = pattern.this
        if isinstance(by, exp.Star) or is_table_star(by):
            return self.star(by, scope)
        if any(column.name is None for column in scope.columns):
            return UNKNOWN
        if isinstance(by, exp.Literal):
            return tuple(c for c in scope.columns if re.search(by.name, c.name or ""))
        texts = by.expressions if isinstance(by, exp.Array) else []
        if texts and all(isinstance(each, exp.Literal) for each in texts):
            names = [each.name for each in texts]
            return tuple(c for c in scope.columns if any(map(c.is_called, names)))
        return UNKNOWN

    # Expressions.

    @singledispatchmethod
    def sources(self, node: exp.Expr, scope: Scope) -> Sources | None:
        """The sources of an expression, None where one is not known."""
        return self.all_of(children(node), scope)

    @sources.register
    def _(self, node: exp.Column, scope: Scope) -> Sources | None:
        if isinstance(node.this, exp.Star):
            return merge(each.sources for each in self.star(node, scope))
        return self.named(scope, *(part.name for part in node.parts))

    @sources.register
    def _(self, node: exp.Identifier, scope: Scope) -> Sources | None:
        # sqlglot leaves some columns so, as in x.upper(), and the names of lambdas.
        return self.named(scope, node.name)

    @sources.register
    def _(self, node: exp.Columns, scope: Scope) -> Sources | None:
        if node.args.get("unpack"):
            return merge(each.sources for each in self.chosen(node, scope))
        return scope.repeated.sources if scope.repeated else None

    @sources.register
    def _(self, node: exp.Query, scope: Scope) -> Sources | None:
        found = self.relation(node, scope=scope, ctes=scope.ctes)
        return merge(each.sources for each in found)

    @sources.register
    def _(self, node: exp.Count, scope: Scope) -> Sources | None:
        every = isinstance(node.this, exp.Star)
        return NOTHING if every else self.all_of(children(node), scope)

    @sources.register
    def _(self, node: exp.Lambda, scope: Scope) -> Sources | None:
        if takes_lambda(node.parent):
            return self.sources(node.this, with_locals(node.expressions, scope))
        return self.all_of(children(node), scope)

    @sources.register
    def _(self, node: exp.Var, scope: Scope) -> Sources | None:
        # sqlglot takes any first argument of date_trunc() for the name of a unit.
        return NOTHING if node.name.upper() in WORDS else self.named(scope, node.name)

    @sources.register
    def _(self, node: exp.Exists, scope: Scope) -> Sources | None:
        # Whether there are rows is told by what decides them; what they hold is no matter.
        if isinstance(node.this, exp.Query):
            self.relation(node.this, scope=scope, ctes=scope.ctes)
        return NOTHING

    @sources.register
    def _(self, _node: exp.DataType, _scope: Scope) -> Sources | None:
        return NOTHING

    @sources.register(exp.Star)
    @sources.register(exp.Pivot)
    @sources.register(exp.Command)
    @sources.register(exp.Parameter)
    @sources.register(exp.Placeholder)
    @sources.register(exp.PositionalColumn)
    def _(self, _node: exp.Expr, _scope: Scope) -> Sources | None:
        return None

    @sources.register
    def _(self, node: exp.Dot, scope: Scope) -> Sources | None:
        called = node.expression
        arguments = children(called) if isinstance(called, exp.Func) else []
        of = node.this
        if isinstance(of, exp.Identifier) and scope.find([of.name]) is ABSENT:
            # It names the schema of a function.
            return self.all_of(arguments, scope) if arguments else None
        return self.all_of([of, *arguments], scope)

    @sources.register
    def _(self, node: exp.Comprehension, scope: Scope) -> Sources | None:
        names = [node.expression, node.args.get("position")]
        inside = with_locals([each for each in names if each], scope)
        values = [node.this, node.args.get("condition")]
        own = self.all_of([each for each in values if each], inside)
        return merge([own, self.sources(node.args["iterator"], scope)])

    @sources.register
    def _(self, node: exp.Window, scope: Scope) -> Sources | None:
        nodes = [node.this, *node.args.get("partition_by", ()), node.args.get("order")]
        if isinstance(node.this, exp.Identifier):  # the definition of a named window
            nodes.pop(0)
        own = self.all_of([each for each in nodes if each], scope)
        name = node.args.get("alias")
        if name is None:
            return own
        window = scope.windows.get(name.name.casefold())
        return None if window is None else merge([own, self.sources(window, scope)])

    def named(self, scope: Scope, *parts: str) -> Sources | None:
        """The sources of a name."""
        column = scope.find(parts)
        return None if column is ABSENT else column.sources

    def all_of(self, nodes: Iterable[exp.Expr], scope: Scope) -> Sources | None:
        """The sources of several expressions."""
        return merge(self.sources(each, scope) for each in nodes)


def combined(query: exp.SetOperation, left: Columns, right: Columns) -> Columns:
    """The columns of two queries put together."""
    if isinstance(query, exp.Except):
        return left
    if query.args.get("by_name"):
        return by_name(left, right)
    if any(each.is_gap for each in (*left, *right)) or len(left) != len(right):
        return UNKNOWN
    return tuple(
        replace(mine, sources=merge([mine.sources, other.sources]))
        for mine, other in zip(left, right, strict=True)
    )


def by_name(left: Columns, right: Columns) -> Columns:
    """The columns of UNION BY NAME."""
    if any(each.name is None for each in (*left, *right)):
        return UNKNOWN
    both = [
        replace(
            each, sources=merge([each.sources, find(right, each.name or "").sources])
        )
        for each in left
    ]
    return (*both, *(c for c in right if find(left, c.name or "") is ABSENT))


def align(columns: Columns, output: Sequence[str]) -> list[Column]:
    """A column for each name of *output*; UnreadableError when they are not the same columns."""
    gaps = [index for index, column in enumerate(columns) if column.is_gap]
    if not gaps:
        return same_columns(columns, output)
    first, last = gaps[0], len(columns) - gaps[-1] - 1
    between = len(output) - first - last
    if between < 0:
        raise UnreadableError
    filling = columns[first] if len(gaps) == 1 else GAP
    filled = [replace(filling, name=None)] * between
    return same_columns((*columns[:first], *filled, *columns[gaps[-1] + 1 :]), output)


def same_columns(columns: Columns, output: Sequence[str]) -> list[Column]:
    """The columns, if they are those of *output*."""
    if len(columns) != len(output) or not all(
        column.name is None or column.is_called(name)
        for column, name in zip(columns, output, strict=True)
    ):
        raise UnreadableError
    return list(columns)


# Syntax.

LAMBDAS = re.compile(
    r"(list_|array_)?(transform|apply|filter|reduce)", flags=re.IGNORECASE
)
WORDS = frozenset(
    """
    MICROSECOND MICROSECONDS MILLISECOND MILLISECONDS SECOND SECONDS MINUTE MINUTES HOUR HOURS
    DAY DAYS DAYOFWEEK DAYOFYEAR WEEK WEEKS WEEKDAY WEEKOFYEAR ISODOW ISOYEAR YEARWEEK MONTH
    MONTHS QUARTER QUARTERS YEAR YEARS DECADE DECADES CENTURY CENTURIES MILLENNIUM MILLENNIA
    EPOCH ERA TIMEZONE TIMEZONE_HOUR TIMEZONE_MINUTE JULIAN DOW DOY ALL NOCASE NOACCENT NFC
    """.split()  # noqa: SIM905 - it reads better
)


def is_table_star(node: exp.Expr | None) -> bool:
    """Whether *node* is `t.*`."""
    return isinstance(node, exp.Column) and isinstance(node.this, exp.Star)


def is_unread(node: exp.Expr) -> bool:
    """Whether *node* may be several columns in a way that we do not read."""
    functions = (each.name.casefold() for each in node.find_all(exp.Anonymous))
    filtered = isinstance(node, exp.Binary) and isinstance(node.this, exp.Star)
    return filtered or not {"columns", "unpack", "unnest"}.isdisjoint(functions)


def name_of(node: exp.Expr) -> str | None:
    """The name that DuckDB gives to a column of a SELECT list, where we know it."""
    if isinstance(node, exp.Alias):
        return node.alias
    inner = node.unnest()
    return inner.name if isinstance(inner, exp.Column) else None


def without(columns: Columns, excluded: exp.Expr) -> Columns:
    """The columns without those of a name that EXCLUDE says."""
    kept = tuple(each for each in columns if not each.is_called(excluded.name))
    gone = len(columns) - len(kept)
    is_unclear = gone > 1 and excluded.args.get("table")
    return UNKNOWN if gone == 0 or is_unclear else kept


def changed(
    columns: Columns, which: str, *, change: Callable[[Column], Column]
) -> Columns:
    """The columns, the one called *which* changed."""
    if not any(column.is_called(which) for column in columns):
        return UNKNOWN
    return tuple(change(each) if each.is_called(which) else each for each in columns)


def takes_lambda(call: exp.Expr | None) -> bool:
    """Whether a function takes a lambda; of any other, x -> y is a field of JSON."""
    if isinstance(call, exp.Transform | exp.ArrayFilter | exp.Reduce):
        return True
    return isinstance(call, exp.Anonymous) and bool(LAMBDAS.fullmatch(call.name))


def with_locals(names: Sequence[exp.Expr], scope: Scope) -> Scope:
    """The scope of an expression that has names of its own: they come from no column."""
    local = {each.name.casefold(): (Column(each.name, NOTHING),) for each in names}
    columns = tuple(column for each in local.values() for column in each)
    return Scope(
        scope.ctes,
        scope,
        columns=columns,
        windows=scope.windows,
        repeated=scope.repeated,
    )


def children(node: exp.Expr) -> list[exp.Expr]:
    """The expressions that *node* is made of, without the names that it gives."""
    if isinstance(node, exp.Cast):
        return [node.this]
    if isinstance(node, exp.PropertyEQ) and isinstance(node.this, exp.Identifier):
        return [node.expression]
    skipped = {"alias", "unit"} if isinstance(node, exp.Interval) else {"alias"}
    return [
        each
        for key, value in node.args.items()
        if key not in skipped
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, exp.Expr)
    ]
