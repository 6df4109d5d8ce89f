"""Maintenance, as a job of Dagster's with a form; what is done is `rat_resources.maintenance`.

A table that was maintained has the same rows, so that nothing is materialized: what was done is in the
job's log, in its metadata, and in `rat.maintenance`.
"""

from typing import Any

import dagster as dg
from pydantic import Field

from rat_assets.actions import failing, user
from rat_resources.errors import NotFoundError
from rat_resources.maintenance.maintaining import Maintained, maintain
from rat_resources.names import TableName

OP = "keep_tables_fast"


class MaintainConfig(dg.Config):
    """What the job `maintain` is asked to do."""

    # Not by default_factory: the launchpad's form would leave it out.
    tables: list[str] = Field(
        default=[],
        description="ns.layer.name of each; empty: all, and then files that nothing needs go",
    )
    dry_run: bool = Field(
        default=True, description="only say what would be done; false: do it"
    )


@dg.op(name=OP, required_resource_keys={"platform"})
def maintain_op(context: dg.OpExecutionContext, config: MaintainConfig) -> None:
    """Do what keeps tables fast, or say what that would be."""
    with failing():
        done = maintain(
            context.resources.platform,
            only=[parse(each) for each in config.tables],
            dry_run=config.dry_run,
            by=user(),
            say=context.log.info,
        )
    context.add_output_metadata(describe(done))
    for line in (*done.problems, *(done.collected.lines if done.collected else ())):
        context.log.info(line)


@dg.job(name="maintain", executor_def=dg.in_process_executor)
def maintain_job() -> None:
    """Keep tables fast: fewer files, no dead rows, no old snapshots; at first it only plans."""
    maintain_op()


def parse(name: str) -> TableName:
    """The table that was named."""
    try:
        return TableName.parse(name)
    except ValueError as error:
        raise NotFoundError(str(error)) from error


def describe(done: Maintained) -> dict[str, Any]:
    """What Dagster shows of what was done, or would be."""
    shown: dict[str, Any] = {"dry_run": done.is_dry, "tables": len(done.plans)}
    if done.plans:
        records = [dg.TableRecord(row) for row in done.rows]
        shown["what"] = dg.MetadataValue.table(records)
    if done.problems:
        shown["left"] = "\n".join(done.problems)
    if done.collected is not None:
        shown["files"] = "\n".join(done.collected.lines)
    return shown
