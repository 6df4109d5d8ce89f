"""Nessie's settings: an address as people write it, and what makes no sense is named."""

from pathlib import Path

import pytest

from rat_resources.errors import SettingsError
from rat_resources.nessie_settings import NessieSettings

URL = "http://nessie:19120"


def load(**variables: str) -> NessieSettings:
    found = NessieSettings.load({"RAT_NESSIE_URL": URL, **variables})
    assert found is not None
    return found


def test_without_an_address_there_is_no_nessie() -> None:
    assert NessieSettings.load({"RAT_NESSIE_BRANCH": "main"}) is None


@pytest.mark.parametrize(
    "written",
    [URL, f"{URL}/", f"{URL}/api/v1", f"{URL}/api/v2/", f" {URL}/api ", f"{URL}//"],
)
def test_an_address_may_be_written_with_what_follows_it(written: str) -> None:
    assert load(RAT_NESSIE_URL=written).url == URL


def test_a_path_before_the_interface_is_kept() -> None:
    assert load(RAT_NESSIE_URL="https://h/cat/api/v2").url == "https://h/cat"


def test_an_address_may_say_who_logs_in() -> None:
    settings = load(RAT_NESSIE_URL="https://ada:love%21lace@h:443/api/v2")

    assert settings.url == "https://h:443"
    assert (settings.user, settings.password) == ("ada", "love!lace")


@pytest.mark.parametrize("url", ["nessie:19120", "ftp://h", "http://", "http://h/?a=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="RAT_NESSIE_URL"):
        load(RAT_NESSIE_URL=url)


@pytest.mark.parametrize("branch", ["7", "a..b", "a b", "a/", "a.", "-"])
def test_what_can_be_no_branch_is_refused(branch: str) -> None:
    with pytest.raises(SettingsError, match="RAT_NESSIE_BRANCH"):
        load(RAT_NESSIE_BRANCH=branch)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_time_out_is_a_number_of_seconds(value: str) -> None:
    with pytest.raises(SettingsError, match="RAT_NESSIE_TIMEOUT"):
        load(RAT_NESSIE_TIMEOUT=value)


@pytest.mark.parametrize(
    "variables",
    [
        {"RAT_NESSIE_TOKEN": "t", "RAT_NESSIE_USER": "u", "RAT_NESSIE_PASSWORD": "p"},
        {"RAT_NESSIE_TOKEN_URL": "http://h/token"},
        {"RAT_NESSIE_USER": "u"},
        {"RAT_NESSIE_CA": "/no/such/file"},
        {"RAT_NESSIE_CERT": "none"},
    ],
)
def test_a_login_that_makes_no_sense_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**variables)

    assert caught.value.fix


def test_secrets_are_neither_shown_nor_lost(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    variables = {
        "RAT_NESSIE_USER": "ada",
        "RAT_NESSIE_PASSWORD": "lovelace",
        "RAT_NESSIE_CA": str(ca),
        "RAT_NESSIE_BRANCH": "rat/prod",
        "RAT_NESSIE_TIMEOUT": "3",
    }

    settings = load(**variables)

    assert settings.environ == {"RAT_NESSIE_URL": URL, **variables}
    assert settings.shown == {**settings.environ, "RAT_NESSIE_PASSWORD": "***"}
    assert "lovelace" not in repr(settings)
    assert NessieSettings.load(settings.environ) == settings
