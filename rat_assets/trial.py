"""The trial of a table: its tests and guards, while nobody but its run sees it.

What one test says is `rat_assets.quality`; what a guard says is `rat_assets.guards`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from rat_assets.changes import Changes
from rat_assets.computation import Computation
from rat_assets.guards import advise, ask_guard, was_accepted
from rat_assets.inputs import Inputs
from rat_assets.journal import Profile
from rat_assets.quality import Bench, TestResult, describe_failure
from rat_assets.schema_check import ask_schema, changed_columns
from rat_resources import faults
from rat_resources.columns import line_of_test, refuse_unknown
from rat_resources.errors import NotFoundError, QualityError, TemplateError
from rat_resources.lake.sql import quote
from rat_resources.metadata.quality import Verdict
from rat_resources.names import TableName
from rat_resources.specs import CONFIG, SCHEMA_CHANGE, QualityTest


@dataclass
class Trial:
    """What the tests of a pipeline say of what was computed."""

    work: Computation
    accepted_by: str = ""  # who lets its changes pass the guard
    results: list[TestResult] = field(default_factory=list)
    # What RAT watches unasked and found in order: Dagster is told, and nothing is kept.
    quiet: list[TestResult] = field(default_factory=list)

    def run(self, profile: Profile) -> None:
        """Run every test on the table, or on the view, as it is now."""
        spec = self.work.spec
        if spec.watch:
            self.watch(spec.watch)
        if not spec.tests and not spec.config.charts:
            return
        self.register_own()
        bench = Bench(
            self.work.connection, results=self.results, masked=self.work.masked
        )
        for test in spec.tests:
            result = self.run_test(bench, test)
            self.work.journal.say(result.summary, level=result.level)
        profile.rows = sum(result.offenders or 0 for result in self.results)

    def watch(self, test: QualityTest) -> None:
        """Look unasked at the columns; what is as it was is no result of the run."""
        result = self.ask_guard(test)
        if result.verdict == Verdict.PASSED:
            self.quiet.append(result)
            return
        self.results.append(result)
        self.work.journal.say(result.summary, level=result.level)

    @property
    def verdicts(self) -> list[TestResult]:
        """All that was asked, with what found everything in order unasked."""
        return [*self.results, *self.quiet]

    @property
    def columns(self) -> list[Mapping[str, Any]]:
        """The columns that change: kind, column, before, after; who reads them besides."""
        for each in self.verdicts:
            if each.test.guard == SCHEMA_CHANGE:
                return list(each.sample)
        # The release is older than the check, and a test of its author's has that name.
        return [asdict(each) for each in changed_columns(self.work)]

    def forget(self) -> None:
        """Begin once more: the rows are on top of others'."""
        self.results.clear()
        self.quiet.clear()

    def register_own(self) -> None:
        """Let tests read what was made, under the table's own name."""
        work = self.work
        if work.spec.is_view:
            self.inputs.views[work.name] = work.pipeline
            self.inputs.sources[work.name] = work.source
            self.inputs.define(work.connection, work.name, defined=set())
        else:
            work.register_own()

    @cached_property
    def inputs(self) -> Inputs:
        """What tests can read; what only they read is no input of the run."""
        inputs = self.work.inputs
        return replace(
            inputs,
            tables=dict(inputs.tables),
            views=dict(inputs.views),
            sources=dict(inputs.sources),
        )

    def run_test(self, bench: Bench, test: QualityTest) -> TestResult:
        """Run one test; one that does not compile, or reads what is not there, could not run."""
        work = self.work
        work.heart.refuse_stop()
        faults.point("tests")
        if test.guard:
            return bench.keep(self.ask_guard(test))
        try:
            self.let_read(test)
            for table, column in test.columns:
                self.refuse_unknown(TableName.parse(table), column)
            sql = work.render(work.source.template(test), path=test.path)
        except (NotFoundError, TemplateError) as error:
            where = f"{self.place_of(test)}: " if test.template else ""
            return bench.refuse(test, message=f"{where}{error}")
        if test.template:  # no line of the author's file is a line of this query
            return bench.run(test, sql=sql, locate=lambda _: self.place_of(test))
        return bench.run(
            test, sql=sql, locate=partial(work.blame.place, test.path, sql)
        )

    def place_of(self, test: QualityTest) -> str:
        """Where config.yaml asks for a test."""
        line = line_of_test(self.work.config.columns, test.name)
        return f"{self.work.source.path(CONFIG)}:{line}"

    def ask_guard(self, test: QualityTest) -> TestResult:
        """Compare what the run changed with what it may change."""
        if test.guard == SCHEMA_CHANGE:
            return ask_schema(test, self.work, accepted_by=self.accepted_by)
        guard = self.work.config.guard
        return ask_guard(test, guard, self.changes, accepted_by=self.accepted_by)

    @property
    def changes(self) -> Changes | None:
        """What the run changes on main; None: nothing."""
        written = self.work.written
        changes = Changes.of(written) if written else None
        if changes and any(was_accepted(result) for result in self.results):
            return replace(changes, accepted_by=self.accepted_by)
        return changes

    def let_read(self, test: QualityTest) -> None:
        """Let a test read what it refers to."""
        others = [ref for ref in test.refs if ref != self.work.name]
        if self.inputs.resolve(others):
            self.inputs.register(self.work.connection)
            self.register_own()

    def refuse_unknown(self, table: TableName, column: str) -> None:
        """NotFoundError when a table that tests can read lacks a column."""
        names = self.work.connection.sql(f"FROM {quote(str(table))}").columns
        refuse_unknown(column, table=table, names=names)

    @property
    def blocks(self) -> bool:
        """Whether a test says that nothing may be published."""
        return any(result.blocks for result in self.results)

    def refuse_offenders(self) -> None:
        """QualityError when a test says that nothing may be published."""
        if self.blocks:
            name = self.work.name
            raise QualityError(
                describe_failure(self.results, table=name),
                fix=advise(self.results, table=name),
            )
