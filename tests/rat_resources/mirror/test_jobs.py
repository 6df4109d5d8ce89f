"""Jobs beside their runs: seen, gone, and there again."""

from sqlalchemy import select

from rat_resources.metadata import Metadata
from rat_resources.metadata.lakeflow import DimJob
from rat_resources.mirror.jobs import declare_jobs


def jobs_of(metadata: Metadata) -> dict[str, bool]:
    """By name, whether a job is still there."""
    with metadata.transaction() as tx:
        return {
            str(each.job_name): each.delete_time is None
            for each in tx.scalars(select(DimJob))
        }


def test_a_job_that_vanished_was_deleted_and_may_come_back(metadata: Metadata) -> None:
    seen = []
    for names in (["clean", "sync"], ["sync"], ["clean", "sync"]):
        with metadata.transaction() as tx:
            declare_jobs(tx, names, location="theirs/__repository__")
        seen.append(jobs_of(metadata))

    assert seen == [
        {"clean": True, "sync": True},
        {"clean": False, "sync": True},
        {"clean": True, "sync": True},
    ]


def test_a_location_says_nothing_of_the_jobs_of_another(metadata: Metadata) -> None:
    for location in ("ours/__repository__", "theirs/__repository__"):
        with metadata.transaction() as tx:
            declare_jobs(tx, [location[:4]], location=location)

    assert jobs_of(metadata) == {"ours": True, "thei": True}
