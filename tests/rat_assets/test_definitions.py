"""The code location: all of it loads, as a code server does it."""

from rat_assets.definitions import build_definitions
from tests.factories import Shop


def test_a_code_server_can_load_every_job_and_asset(shop: Shop) -> None:
    shop.publish()
    repository = build_definitions(shop.whole, release=1).get_repository_def()

    # What a server does when it starts: names that two jobs share are refused only here.
    repository.load_all_definitions()

    assert {"pipelines", "reports", "record_run"} <= {*repository.job_names}
