"""The audit: whether Dagster, the schemas in Postgres and the catalog tell the same story.

It only compares. Everything is read in one snapshot and no statement of it may write, so that runs
that go on meanwhile are neither disturbed nor taken for differences. What is compared are the
comparisons of the modules beside this one, one a pair of storytellers (`dagster_log`, `facts`, `alerts`,
`alert_definitions`, `trace`, `tasks`, `invalidations`, `chm`, `lakeflow`, `job_runs`, `lake`), and
`references`; what one is, says `comparison`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from rat_resources.audit import (
    alert_definitions,
    alerts,
    chm,
    dagster_log,
    facts,
    invalidations,
    job_runs,
    lake,
    lakeflow,
    references,
    tasks,
    trace,
)
from rat_resources.audit.comparison import (
    Comparison,
    Difference,
    Found,
    Scene,
    execute,
)
from rat_resources.errors import ConflictError, MetadataError
from rat_resources.lake.refs import MAIN
from rat_resources.metadata import Metadata, find_server, migrations
from rat_resources.platform import Platform
from rat_resources.settings import Settings

COMPARISONS: tuple[Comparison, ...] = (
    *dagster_log.COMPARISONS,
    *facts.COMPARISONS,
    *alerts.COMPARISONS,
    *alert_definitions.COMPARISONS,
    *trace.COMPARISONS,
    *tasks.COMPARISONS,
    *invalidations.COMPARISONS,
    *chm.COMPARISONS,
    *lakeflow.COMPARISONS,
    *job_runs.COMPARISONS,
    *lake.COMPARISONS,
    *references.COMPARISONS,
)
"""Everything that is compared, in the order in which differences are told."""

TRIES = 100
# A query: with it the snapshot is taken. Compiling takes longer than any of ours saves by it.
BEGIN = text(
    "SELECT set_config('timezone', 'UTC', true), set_config('jit', 'off', true)"
)


@dataclass(frozen=True)
class Report:
    """What an audit came to."""

    compared: int
    found: tuple[Found, ...]  # of each comparison that has differences

    @property
    def differences(self) -> int:
        """How many differences there are, told or not."""
        return sum(each.total for each in self.found)

    @property
    def lines(self) -> Iterator[str]:
        """A line for each difference that is told, and one for those that are not."""
        for found in self.found:
            yield from (each.line for each in found.told)
            if found.untold:
                yield f"{found.comparison.name}: … and {found.untold:,} more of this kind"

    def to_json(self) -> Mapping[str, Any]:
        """The report for a program."""
        return {
            "compared": self.compared,
            "differences": self.differences,
            "found": [
                {
                    "comparison": found.comparison.name,
                    "what": found.comparison.what,
                    "total": found.total,
                    "told": [each.to_json() for each in found.told],
                }
                for found in self.found
            ],
        }


@contextmanager
def opened(settings: Settings) -> Iterator[Platform]:
    """The platform of *settings*, as it is: nothing is made, upgraded or declared."""
    with Metadata.connect(find_server(settings)) as metadata:
        refuse_other_schemas(metadata)
        yield read_only(Platform.over(settings, metadata))


def refuse_other_schemas(metadata: Metadata) -> None:
    """MetadataError where the schemas are not those that the comparisons are written for."""
    stands, wanted = migrations.current(metadata.engine), migrations.head()
    if stands != wanted:
        message = f"the schemas are at {stands or 'nothing'}, not at {wanted}"
        raise MetadataError(message, fix="run `rat migrate`")


def read_only(whole: Platform) -> Platform:
    """The same platform over connections that Postgres lets write nothing."""
    engine = whole.metadata.engine.execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
    return Platform.over(whole.settings, Metadata(engine))


def audit(
    whole: Platform,
    *,
    only: Sequence[Comparison] = COMPARISONS,
    at_most: int = 20,
) -> Report:
    """Compare everything; of each comparison *at_most* so many differences are told, all counted."""
    with snapshot(read_only(whole)) as scene:
        found = [compare(scene, each, at_most=at_most) for each in only]
    return Report(len(only), tuple(each for each in found if each.total))


@contextmanager
def snapshot(whole: Platform) -> Iterator[Scene]:
    """One moment of Postgres and of the catalog, whatever goes on meanwhile."""
    refs = whole.lake.refs
    for _ in range(TRIES):
        # Branches are listed first: their runs are then known to the snapshot.
        branches = tuple(each.name for each in refs.references(prefix="run-"))
        head = refs.head(MAIN)
        with whole.metadata.transaction() as tx:
            tx.execute(BEGIN)
            if refs.head(MAIN) == head:
                yield Scene(whole, tx, head=head, branches=branches)
                return
    message = f"{MAIN} moved {TRIES} times while it was looked at"
    raise ConflictError(message, fix="try again when fewer runs publish")


def compare(scene: Scene, comparison: Comparison, *, at_most: int) -> Found:
    """The differences that one comparison finds."""
    values = scene.find(comparison.gather) if comparison.gather else {}
    rows = execute(scene.tx, comparison, values={**values, "at_most": at_most})
    return Found(
        comparison,
        total=rows[0].total if rows else 0,
        told=tuple(
            Difference(comparison, row.id, row.nth, row.one, row.other) for row in rows
        ),
    )
