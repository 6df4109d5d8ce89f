"""The long version of the crashes has tests that the short one does not even name."""

import pytest

from tests.crash.scene import IS_LONG


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is a part of `make test-crash` alone."""
    left_out = [
        each for each in items if not IS_LONG and each.get_closest_marker("long")
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [each for each in items if each not in left_out]
