"""Whatever happens to a table on its branches: every reader finds the rows of a model, always.

Writes of every strategy, other engines' appends and deletes, compactions, branches, merges, and ways
back to an earlier commit. `RAT_SEQUENCES=1000 pytest …` tries more of them than every run does.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pyiceberg.table import Table
from pyiceberg.types import DoubleType, FloatType

from rat_resources.errors import MergeConflictError, QueryError, SchemaChangeError
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.reading import row_count
from rat_resources.lake.refs import MAIN, IcebergTable, Put
from rat_resources.lake.sorting import SortField
from rat_resources.maintenance import compacting
from rat_resources.maintenance.plans import Bin, Layout, by_partition
from rat_resources.metadata import Metadata
from rat_resources.names import TableName
from tests.rat_resources.lake.model import Model, count_rows
from tests.rat_resources.lake.predicates import Predicate, predicates
from tests.rat_resources.lake.stories import (
    NESTED,
    POOLS,
    START,
    Step,
    configs,
    kinds_of_columns,
    steps,
)
from tests.rat_resources.lake.test_any_table import expected_of, write
from tests.rat_resources.lake.witnesses import (
    connect,
    fetch,
    read_rows,
    readers_of,
)

SEQUENCES = int(os.environ.get("RAT_SEQUENCES", "8"))
LONGEST = 14
NAME = TableName("shop", "silver", "orders")
# What PyIceberg stumbles over: a partition of NULL, a day before the first, a column divided twice,
# a partition by UUID.
THEIR_OWN = (TypeError, OverflowError, ValueError, NotImplementedError)
ASIDE = ("ours", "theirs")


@dataclass(frozen=True)
class Place:
    """A table at a commit: where it is, and what it holds."""

    commit: str
    model: Model


class Sequence(RuleBasedStateMachine):
    """A table on main and two branches, and what of it each of them must show."""

    make_place: Callable[[], tuple[EmbeddedRefs, Path]]
    ran = 0

    def __init__(self) -> None:
        super().__init__()
        self.refs, self.warehouse = self.make_place()
        self.connection = connect()
        self.now = START
        self.models: dict[str, Model] = {}
        self.forks: dict[str, IcebergTable] = {}
        self.past: list[Place] = []
        type(self).ran += 1

    def teardown(self) -> None:
        """Look at everything once more."""
        for branch in self.models:
            self.check(branch)
        self.connection.close()

    # What is written.

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Main, and on it the table."""
        self.kinds = data.draw(kinds_of_columns())
        self.keys = data.draw(st.sampled_from([("k",), ("k", "the key")]))
        self.models[MAIN] = Model()
        self.config = data.draw(configs(self.kinds, keys=self.keys, policy="evolve"))
        self.bring(MAIN, data)

    @rule(data=st.data(), changes=st.integers(0, 2))
    def write(self, data: st.DataObject, changes: int) -> None:
        """A batch, by the strategy of the one before mostly."""
        if not changes:
            self.config = data.draw(
                configs(self.kinds, keys=self.keys, policy="evolve")
            )
        self.bring(self.branch(data), data)

    def bring(self, branch: str, data: st.DataObject) -> None:
        """Write a batch to a branch."""
        self.now += timedelta(hours=1)
        step: Step = data.draw(
            steps(self.kinds, config=self.config, keys=self.keys, at=self.now)
        )
        after = expected_of(self.models[branch], step)
        if after is None:
            with pytest.raises((SchemaChangeError, QueryError)):
                write(self.connection, self.catalog(branch), NAME, step)
            return
        write(self.connection, self.catalog(branch), NAME, step)
        self.note(branch, after)

    @rule(data=st.data())
    def append_outside(self, data: st.DataObject) -> None:
        """Another engine appends rows that are there already."""
        branch = self.branch(data)
        table = self.table(branch)
        rows = table.scan().to_arrow()
        if rows.num_rows and not is_by_float(table):
            count = data.draw(st.integers(1, rows.num_rows))
            try:
                table.append(rows.slice(0, count))
            except THEIR_OWN:
                return
            model = self.models[branch]
            found = self.as_rows(rows.slice(0, count))
            self.note(branch, replace(model, rows=[*model.rows, *found]))

    @rule(data=st.data())
    def delete_outside(self, data: st.DataObject) -> None:
        """Another engine deletes the rows for which something holds."""
        branch = self.branch(data)
        predicate = self.predicate(branch, data)
        model = self.models[branch]
        left = [row for row in model.rows if not predicate.holds(row)]
        table = self.table(branch)
        if is_by_float(table):
            return
        with warnings.catch_warnings(action="ignore"):  # that none was found
            try:
                table.delete(predicate.expression)
            except THEIR_OWN:
                return
        self.note(branch, replace(model, rows=left))

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """Some neighbouring files of each partition become one."""
        branch = self.branch(data)
        table = self.table(branch)
        layout = Layout(order=self.order(branch, data))
        rewritten = []
        for partition, files in by_partition(table).items():
            first = data.draw(st.integers(0, len(files) - 1))
            last = data.draw(st.integers(first, len(files) - 1))
            packed = Bin(tuple(files[first : last + 1]), partition)
            rewritten.append(
                compacting.rewrite(self.connection, table, packed, layout=layout)
            )
        if rewritten:
            compacting.commit(table, rewritten)
        self.note(branch, self.models[branch])

    # What becomes of branches.

    @rule(name=st.sampled_from(ASIDE))
    def fork(self, name: str) -> None:
        """A branch begins where main stands, anew."""
        if name in self.models:
            self.refs.delete(name, expected_hash=self.refs.head(name))
        self.refs.create(name, at=MAIN)
        self.models[name] = self.models[MAIN]
        self.forks[name] = self.content(MAIN)

    @precondition(lambda self: len(self.models) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """A branch comes to main, unless the table went on there as well."""
        name = data.draw(st.sampled_from(sorted(self.models.keys() - {MAIN})))
        fork, ours, theirs = self.forks[name], self.content(name), self.content(MAIN)
        if fork in {ours, theirs}:
            self.refs.merge(name)
            if ours != fork:
                self.note(MAIN, self.models[name])
        else:
            with pytest.raises(MergeConflictError):
                self.refs.merge(name)
        self.refs.delete(name, expected_hash=self.refs.head(name))
        del self.models[name], self.forks[name]

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        """Main's table becomes again what it was at an earlier commit."""
        place = data.draw(st.sampled_from(self.past))
        earlier, current = self.content(f"@{place.commit}"), self.content(MAIN)
        back = Put(NAME.key, replace(earlier, id=current.id), current)
        self.refs.commit(MAIN, [back], message="Go back")
        self.note(MAIN, place.model)

    # What is read.

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        """An earlier commit still shows what it showed."""
        place = data.draw(st.sampled_from(self.past))
        table = self.catalog(f"@{place.commit}").load_table(NAME.key)
        self.compare(table, place.model, by="ours")

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """Every reader finds the rows for which something holds."""
        branch = self.branch(data)
        predicate = self.predicate(branch, data)
        table, model = self.table(branch), self.models[branch]
        wanted = count_rows(
            model.columns, [row for row in model.rows if predicate.holds(row)]
        )
        for reader in readers_of(table):
            try:
                found = read_rows(
                    self.connection,
                    table,
                    by=reader,
                    where=predicate.sql,
                    within=predicate.expression,
                )
            except THEIR_OWN:
                if reader != "PyIceberg":
                    raise
                continue
            assert count_rows(model.columns, found) == wanted, (reader, predicate.sql)

    def check(self, branch: str) -> None:
        """Every reader finds every row, and the summary counts them."""
        table, model = self.table(branch), self.models[branch]
        assert row_count(table) == len(model.rows)
        for reader in readers_of(table):
            self.compare(table, model, by=reader)

    def compare(self, table: Table, model: Model, *, by: str) -> None:
        """A reader finds the rows of a model."""
        found = read_rows(self.connection, table, by=by)
        assert count_rows(model.columns, found) == model.counted(), by

    # What all of that needs.

    def branch(self, data: st.DataObject) -> str:
        """One of the branches."""
        return data.draw(st.sampled_from(sorted(self.models)))

    def predicate(self, branch: str, data: st.DataObject) -> Predicate:
        """Something that may hold for a row."""
        return data.draw(predicates(self.models[branch].columns))

    def order(self, branch: str, data: st.DataObject) -> tuple[SortField, ...]:
        """What files are sorted by, if at all."""
        kinds = POOLS.keys() - NESTED.keys()
        columns = self.models[branch].columns
        names = sorted(name for name, kind in columns.items() if kind in kinds)
        chosen = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        return tuple(SortField(name) for name in chosen)

    def catalog(self, ref: str) -> RefCatalog:
        """The tables of a branch, or of a commit."""
        return RefCatalog(self.refs, ref=ref, warehouse=self.warehouse)

    def table(self, branch: str) -> Table:
        """The table of a branch."""
        return self.catalog(branch).load_table(NAME.key)

    def content(self, at: str) -> IcebergTable:
        """The table as the refs know it."""
        content = self.refs.content(NAME.key, at=at)
        assert isinstance(content, IcebergTable)
        return content

    def as_rows(self, rows: pa.Table) -> list[Any]:
        """Rows of Arrow as the model has them."""
        self.connection.register("outside", rows)
        return list(fetch(self.connection, "FROM outside"))

    def note(self, branch: str, model: Model) -> None:
        """What a branch must show from now on."""
        self.models[branch] = model
        if branch == MAIN:
            self.past.append(Place(self.refs.head(MAIN), model))


def is_by_float(table: Table) -> bool:
    """Whether a spec divides the table by floating point numbers; PyIceberg then loses NaN."""
    schema = table.schema()
    columns = {
        field.source_id for spec in table.specs().values() for field in spec.fields
    }
    return any(
        isinstance(field.field_type, FloatType | DoubleType)
        for field in schema.fields
        if field.field_id in columns
    )


def test_every_reader_finds_the_rows_of_a_model_whatever_happened(
    metadata: Metadata, tmp_path: Path
) -> None:
    refs = EmbeddedRefs(metadata.engine)
    refs.bootstrap()
    first = refs.head(MAIN)

    class Here(Sequence):
        @staticmethod
        def make_place() -> tuple[EmbeddedRefs, Path]:
            for reference in list(refs.references()):
                if reference.name != MAIN:
                    refs.delete(reference.name, expected_hash=reference.hash)
            refs.assign(MAIN, to=f"@{first}", expected_hash=refs.head(MAIN))
            return refs, tmp_path

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=LONGEST,
            deadline=None,
            derandomize=SEQUENCES <= 100,
            # Making a failure smaller takes minutes.
            phases=[Phase.generate, *([Phase.shrink] if SEQUENCES > 100 else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert Here.ran >= SEQUENCES
