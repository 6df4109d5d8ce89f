"""Places: where a RAT may keep its branches and its files, for tests that run in every one of them."""

import pytest

EVERYWHERE = pytest.mark.parametrize(
    "settings",
    ["embedded", "s3_warehouse+s3_store", "nessie", "nessie+s3_warehouse+s3_store"],
    ids=["embedded", "S3", "Nessie", "Nessie and S3"],
    indirect=True,
)
"""Embedded or Nessie, and local files or S3: one behaviour."""

BOTH_ENDS = pytest.mark.parametrize(
    "settings", ["embedded", "nessie+s3_warehouse+s3_store"], indirect=True
)
"""All embedded, and all on servers, where the places between tell nothing new."""
