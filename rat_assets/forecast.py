"""The forecast of a publish: which columns would change, who reads them, and who would fail.

Each pipeline that changes, and each that follows it, is bound against main by DuckDB, in order;
what is changed before it has the columns that it would have, and no rows. Nothing is run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rat_assets.computation import Computation
from rat_assets.drafts import Draft
from rat_assets.rehearsal import Ask, Limits, Rehearsal, rehearsing
from rat_resources import releases
from rat_resources.errors import LandingError, NotFoundError, RatError
from rat_resources.lake.evolution import SchemaChange
from rat_resources.lake.from_spec import write_config
from rat_resources.lake.lineage import Inputs as Readable
from rat_resources.lake.lineage import trace
from rat_resources.lake.sql import quote
from rat_resources.lake.strategies import follow_columns
from rat_resources.lake.types import Column, sql_type
from rat_resources.names import TableName
from rat_resources.plans import Plan
from rat_resources.platform import Platform
from rat_resources.releases import PublishedPipeline

SECONDS = 60.0
Known = Mapping[TableName, tuple[Column, ...]]


@dataclass(frozen=True)
class Reader:
    """A column that takes its values from a column that changes."""

    column: str  # ns.layer.name.column
    reads: str  # likewise


@dataclass(frozen=True)
class Outlook:
    """What would become of the columns of one table."""

    table: TableName
    columns: tuple[Column, ...] | None = None  # None: nobody knows before it runs
    changes: tuple[SchemaChange, ...] = ()  # against the table on main
    readers: tuple[Reader, ...] = ()  # its own columns that read one that changes
    failure: str = ""  # why its query would fail
    unknown: str = ""  # why nobody knows
    contract: bool = False  # whether it lets no run change a column

    @property
    def stops(self) -> bool:
        """Whether the contract would stop the next run."""
        return self.contract and bool(self.changes)


def forecast(whole: Platform, plan: Plan) -> list[Outlook]:
    """What would become of the columns of all that changes, and of all that follows."""
    known: dict[TableName, tuple[Column, ...]] = {}
    changing: dict[TableName, set[str]] = {}
    outlooks = []
    for table in [*plan.rewritten, *plan.following]:
        outlook = look_at(whole, plan, table, known=known, changing=changing)
        outlooks.append(outlook)
        if outlook.columns is not None:
            known[table] = outlook.columns
        changing[table] = {
            change.column for change in outlook.changes if change.kind != "dropped"
        }
    return outlooks


def look_at(
    whole: Platform,
    plan: Plan,
    table: TableName,
    *,
    known: Known,
    changing: Mapping[TableName, set[str]],
) -> Outlook:
    """What would become of the columns of one table."""
    draft = draft_of(whole, plan, table)
    if draft.spec.type != "sql":
        return Outlook(table, unknown="a script's columns are known when it runs")
    limits = Limits(seconds=SECONDS)
    try:
        with rehearsing(whole, draft, ask=Ask(), limits=limits) as rehearsal:
            return bind(rehearsal, known=known, changing=changing)
    except (NotFoundError, LandingError) as error:
        # The table says already whose code it is.
        return Outlook(
            table, unknown=error.message.removeprefix(f"{draft.code_path}: ")
        )
    except RatError as error:
        return Outlook(table, failure=str(error))


def draft_of(whole: Platform, plan: Plan, table: TableName) -> Draft:
    """A pipeline as it would be: of the tree, or as it is published."""
    before = plan.current.get(table)
    if table not in plan.parsed:
        assert before is not None  # noqa: S101 - it is in one of the two
        source = releases.read_source(whole.store, before)
        return Draft(source, before, plan.release.number)
    parsed = plan.parsed[table]
    pipeline = PublishedPipeline.draft(parsed.spec, before=before)
    return Draft(parsed.source, pipeline, plan.release.number, plan.tree, parsed)


def bind(
    rehearsal: Rehearsal, *, known: Known, changing: Mapping[TableName, set[str]]
) -> Outlook:
    """Bind a query where its inputs have the columns that they would have."""
    returned = rehearsal.bind({name: empty(each) for name, each in known.items()})
    work = rehearsal.work
    readers = tuple(find_readers(work, returned, changing=changing))
    if work.spec.is_view:
        return Outlook(work.name, returned, readers=readers)
    evolved = follow_columns(
        work.own,
        returned,
        config=write_config(work.spec),
        full_refresh=False,
        is_all_null=lambda _column: False,
    )
    fields = evolved.schema.fields
    own = tuple(Column(each.name, each.field_type) for each in fields)
    changes = evolved.changes if work.own is not None else ()
    contract = work.config.contract == "enforced"
    return Outlook(work.name, own, changes, readers, contract=contract)


def empty(columns: tuple[Column, ...]) -> str:
    """A query of these columns and no rows."""
    typed = (f"NULL::{sql_type(each.type)} AS {quote(each.name)}" for each in columns)
    return f"SELECT {', '.join(typed)} WHERE false"


def find_readers(
    work: Computation,
    columns: tuple[Column, ...],
    *,
    changing: Mapping[TableName, set[str]],
) -> Iterator[Reader]:
    """The columns that take values from a column that changes."""
    refs = [ref for ref in work.spec.refs if changing.get(ref)]
    if not refs:
        return
    named = {
        str(ref): work.connection.sql(f"FROM {quote(str(ref))}").columns
        for ref in work.spec.refs
    }
    changed = {f"{ref}.{column}" for ref in refs for column in changing[ref]}
    output = [column.name for column in columns]
    found = trace(work.sql, inputs=Readable(named), output=output)
    for column, sources in found.items():
        for source in sources:
            read = f"{source.dataset}.{source.column}"
            if read in changed:
                yield Reader(f"{work.name}.{column}", read)
