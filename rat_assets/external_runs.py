"""External runs as Dagster's jobs: fetching them from partners, and reading the files that landed.

What they do is `rat_resources.external_runs`; when, `rat_sensors.external_runs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from rat_assets.actions import failing, user
from rat_assets.entries import as_code
from rat_resources.errors import NotFoundError
from rat_resources.external_runs.intake import Intake, IntakeReport
from rat_resources.external_runs.recording import Outcome, Policy
from rat_resources.external_runs.sync import MOST_PAGES, SyncReport, shown, sync
from rat_resources.metadata import Metadata, audit
from rat_resources.names import nearest

MOST_LINES = 100
ZONE = "chm/external_runs"


class SyncConfig(dg.Config):
    """What the job `sync_external_runs` is asked to do."""

    clients: list[str] = Field(
        default=[], description="the clients to ask; empty: all that have an API"
    )
    policy: str = Field(
        default="",
        description="ignore or reject what would change how a run ended; empty: as each client has it",
    )
    most_pages: int = Field(
        default=MOST_PAGES, ge=1, description="a pipeline with more pages fails"
    )


class IngestConfig(dg.Config):
    """What the job `ingest_external_runs` is asked to do."""

    by_hand: bool = Field(
        default=True, description="also read files on which three runs died"
    )


@dg.op(name="sync_partners", required_resource_keys={"metadata"})
def sync_op(context: dg.OpExecutionContext, config: SyncConfig) -> None:
    """Record what partners tell of the runs of their pipelines; what fails stops no other."""
    with failing():
        report = sync(
            context.resources.metadata,
            clients=config.clients,
            policy=read_policy(config.policy),
            most_pages=config.most_pages,
            say=context.log.info,
        )
    asked = f"clients {', '.join(config.clients)}" if config.clients else "all partners"
    note(context.resources.metadata, "external_runs.sync", asked, shown(report))
    metadata = describe_sync(report)
    for line in report.rejected[:MOST_LINES]:
        context.log.warning(line)
    if report.failures:
        first, more = report.failures[0], len(report.failures) - 1
        others = f", and {more} more" if more else ""
        raise dg.Failure(f"not synced: {first}{others}", metadata, allow_retries=False)
    context.add_output_metadata(metadata)


@dg.op(name="read_external_files", required_resource_keys={"platform"})
def ingest_op(context: dg.OpExecutionContext, config: IngestConfig) -> None:
    """Record what the files in `chm/external_runs` tell, each version of each file once."""
    whole = context.resources.platform
    intake = Intake(
        whole.metadata,
        whole.settings.store,
        whole.staging,
        dagster_run_id=context.run_id,
        say=context.log.info,
    )
    with failing():
        report = intake.run(by_hand=config.by_hand)
    note(whole.metadata, "external_runs.ingest", ZONE, count_intake(report))
    metadata = describe_intake(report)
    made = [f"made, inactive: {each}" for each in report.created]
    for line in [*report.rejected, *made, *report.left]:
        context.log.warning(line)
    if report.useless:
        what = f"not one good line: {', '.join(report.useless[:MOST_LINES])}"
        raise dg.Failure(what, metadata, allow_retries=False)
    context.add_output_metadata(metadata)


def read_policy(word: str) -> Policy | None:
    """The policy that somebody asks for, if any."""
    if not word:
        return None
    if word in list(Policy):
        return Policy(word)
    meant = nearest(word, Policy)
    message = f"no policy is called {word!r}"
    fix = f"did you mean {meant}?" if meant else f"write one of {', '.join(Policy)}"
    raise NotFoundError(message, fix=fix)


def describe_sync(report: SyncReport) -> dict[str, Any]:
    """The numbers of a sync, and what went wrong."""
    lists = {"failures": report.failures, "rejected_events": report.rejected}
    return {**shown(report), **as_lists(lists)}


def describe_intake(report: IntakeReport) -> dict[str, Any]:
    """The numbers of an intake, and what somebody has to look at."""
    return {
        **count_intake(report),
        **as_lists(
            {
                "rejected_lines": report.rejected,
                "created_inactive": report.created,
                "left": report.left,
            }
        ),
    }


def count_intake(report: IntakeReport) -> dict[str, int]:
    """The numbers of an intake."""
    return {
        "files_processed": report.files,
        "lines_good": report.good,
        "lines_bad": report.bad,
        **{f"runs_{outcome}": report.outcomes[outcome] for outcome in Outcome},
    }


def note(
    metadata: Metadata, action: str, resource: str, counts: Mapping[str, object]
) -> None:
    """Write down who recorded runs of others, and how many."""
    detail = ", ".join(f"{name} {count}" for name, count in counts.items())
    with metadata.transaction() as tx:
        audit.record(tx, action, resource=resource, user=user(), detail=detail)


def as_lists(lists: Mapping[str, Sequence[str]]) -> dict[str, dg.MetadataValue]:
    """Lists that are not empty, a line each."""
    return {
        name: as_code("\n".join(lines[:MOST_LINES]), language="text")
        for name, lines in lists.items()
        if lines
    }


@dg.job(name="sync_external_runs", executor_def=dg.in_process_executor)
def sync_job() -> None:
    """Fetch the runs of partners' pipelines from their APIs."""
    sync_op()


@dg.job(name="ingest_external_runs", executor_def=dg.in_process_executor)
def ingest_job() -> None:
    """Read the runs in the files of the landing zone chm/external_runs."""
    ingest_op()


def jobs() -> Sequence[dg.JobDefinition]:
    """The named jobs."""
    return [sync_job, ingest_job]
