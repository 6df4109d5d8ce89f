from typing import Any

import pytest

from rat_resources.errors import PartnerError
from rat_resources.external_runs.partners import Partner, find_issues
from rat_resources.external_runs.recording import Policy

URL = {"base_url": "https://api.acme.example/v1/"}


def test_a_partner_has_patience_by_default() -> None:
    partner = Partner.parse("acme", URL | {"token": None, "timeout": None})

    assert partner == Partner(
        "acme",
        "https://api.acme.example/v1",
        token_name=None,
        timeout=10,
        retries=3,
        backoff=1,
        policy=Policy.IGNORE,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", None),
        ("base_url", "api.acme.example"),
        ("base_url", "ftp://api.acme.example"),
        ("base_url", "https://me:secret@api.acme.example"),
        ("base_url", "https://api.acme.example/?key=secret"),
        ("base_url", "https://api.acme.example/a b"),
        ("base_url", "https://[::1"),
        ("base_url", "https://api:port"),
        ("token", "secret"),
        ("token", "env:not a name"),
        ("timeout", 0),
        ("timeout", "10"),
        ("retries", 1.5),
        ("retries", True),
        ("retries", -1),
        ("backoff", 1e9),
        ("policy", "maybe"),
        ("tiemout", 5),
    ],
)
def test_a_wrong_setting_is_named_and_never_repeated(field: str, value: Any) -> None:  # noqa: ANN401
    issues = find_issues(URL | {field: value})

    assert list(issues) == [field]
    assert "secret" not in str(issues)


def test_all_wrong_settings_are_told_at_once() -> None:
    settings = {"base_url": "x", "retries": -1, "tiemout": 5}

    with pytest.raises(PartnerError) as error:
        Partner.parse("acme", settings)

    assert all(name in error.value.message for name in settings)
    assert "did you mean timeout?" in error.value.message


@pytest.mark.parametrize("settings", [None, [], "https://acme.example"])
def test_settings_that_are_no_object_are_told(settings: object) -> None:
    with pytest.raises(PartnerError, match="write an object"):
        Partner.parse("acme", settings)


def test_a_token_stands_in_the_environment_and_is_not_shown() -> None:
    partner = Partner.parse("acme", URL | {"token": "env:ACME_TOKEN"})

    known = partner.with_token({"ACME_TOKEN": " t0k3n\n"})

    assert known.token == "t0k3n"  # noqa: S105 - nobody's
    assert known.secrets == ("t0k3n",)
    assert "t0k3n" not in repr(known)


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({}, "is not set"),
        ({"ACME_TOKEN": " "}, "is not set"),
        ({"ACME_TOKEN": "t0k3n\r\nX: y"}, "what no HTTP header may carry"),
        ({"ACME_TOKEN": "t0k3n é"}, "what no HTTP header may carry"),
    ],
)
def test_a_token_that_cannot_be_sent_is_told_by_its_name(
    environ: dict[str, str], state: str
) -> None:
    partner = Partner.parse("acme", URL | {"token": "env:ACME_TOKEN"})

    with pytest.raises(PartnerError, match=f"ACME_TOKEN.*{state}") as error:
        partner.with_token(environ)

    assert "t0k3n" not in str(error.value)
