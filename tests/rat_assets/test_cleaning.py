"""The job that cleans up: it counts until it is told to remove."""

from collections.abc import Mapping
from typing import Any

from rat_assets.cleaning import clean_job
from tests.factories import Shop
from tests.rat_resources.janitor.ages import make_old_tick


def clean_up(shop: Shop, **asked: object) -> Mapping[str, Any]:
    """Run the job; what it says it did."""
    done = clean_job.execute_in_process(
        run_config={"ops": {"remove_what_is_old": {"config": asked}}},
        instance=shop.instance,
        resources={"platform": shop.whole},
    )
    (event,) = done.events_for_node("remove_what_is_old")[1:2]
    metadata = event.step_output_data.metadata
    return {key: value.value for key, value in metadata.items()}


def test_the_job_counts_until_it_is_told_to_remove(shop: Shop) -> None:
    make_old_tick(shop.whole.metadata)

    said = [clean_up(shop), clean_up(shop, dry_run=False), clean_up(shop)]

    assert said == [
        {"dry_run": True, "ticks": 1},
        {"dry_run": False, "ticks": 1},
        {"dry_run": True},
    ]
