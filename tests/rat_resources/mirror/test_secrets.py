"""Secrets: what of a configuration is masked, and what is not."""

import pytest

from rat_resources.mirror.secrets import without_secrets


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"password": "x"}, {"password": "***"}),
        ({"api_key": {"value": "x"}}, {"api_key": "***"}),
        ({"api_key": {"env": "PARTNER_KEY"}}, {"api_key": {"env": "PARTNER_KEY"}}),
        ({"partner_token": ["x", "y"]}, {"partner_token": "***"}),
        ({"secret": None}, {"secret": None}),
        ({"path": "/x", "rows": 3}, {"path": "/x", "rows": 3}),
        ({"urls": ["https://u:p@h/"]}, {"urls": ["https://u:***@h/"]}),
        ({"sync": {"client_secret": "x"}}, {"sync": {"client_secret": "***"}}),
    ],
)
def test_what_is_secret_is_masked(config: object, shown: object) -> None:
    assert without_secrets(config) == shown
