"""Cleaning up, as a job of Dagster's with a form; what is removed is `rat_resources.janitor`."""

import dagster as dg
from pydantic import Field

from rat_assets.actions import failing, user
from rat_resources.janitor import clean


class CleanConfig(dg.Config):
    """What the job `clean_up` is asked to do."""

    dry_run: bool = Field(
        default=True, description="only count what would be removed; false: remove it"
    )


@dg.op(name="remove_what_is_old", required_resource_keys={"platform"})
def clean_op(context: dg.OpExecutionContext, config: CleanConfig) -> None:
    """Remove what is older than it is kept, or count it."""
    with failing():
        cleaned = clean(
            context.resources.platform,
            context.instance,
            dry_run=config.dry_run,
            by=user(),
        )
    for line in cleaned.lines:
        context.log.info(line)
    context.add_output_metadata({"dry_run": cleaned.is_dry, **cleaned.removed})
    if cleaned.problems:
        raise dg.Failure("; ".join(cleaned.problems), allow_retries=False)


@dg.job(name="clean_up", executor_def=dg.in_process_executor)
def clean_job() -> None:
    """Remove what is older than it is kept; at first it only counts."""
    clean_op()
