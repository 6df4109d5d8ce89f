"""Reaching a Nessie server: who we are, whom we trust, and what is said when it does not work."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rat_resources.errors import CatalogError, LostAnswerError
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.lake.nessie_server import NessieServer
from rat_resources.lake.refs import MAIN
from rat_resources.nessie_settings import UNCHECKED, NessieSettings
from tests.rat_resources.lake.contents import file_at, make_namespaces, publish_table
from tests.servers import certificates, gate
from tests.servers.gate import Gate, basic
from tests.servers.nessie import Nessie

PATIENCE = 0.2  # seconds


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pynessie makes a folder for its own configuration under HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def settings(nessie: Nessie) -> NessieSettings:
    del nessie  # it set the environment
    settings = NessieSettings.load(os.environ)
    assert settings is not None
    return replace(settings, timeout=2.0)


@pytest.fixture
def guarded(nessie: Nessie) -> Iterator[Gate]:
    """The server behind a gate that lets Ada and one token through."""
    with gate.opened(nessie.url, basic("ada", "lovelace"), "Bearer good") as guarded:
        yield guarded


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Certificates that nobody has heard of."""
    certificates.make(tmp_path)
    return tmp_path


def refused(settings: NessieSettings) -> CatalogError:
    """Why the server cannot be used."""
    with pytest.raises(CatalogError) as caught:
        NessieServer(replace(settings, timeout=PATIENCE)).check()
    return caught.value


# Who we are


def test_nobody_gets_through_without_saying_who_they_are(
    settings: NessieSettings, guarded: Gate
) -> None:
    error = refused(replace(settings, url=guarded.url))

    assert "does not accept who we say we are" in error.message
    assert "RAT_NESSIE_TOKEN" in error.fix


@pytest.mark.parametrize(
    ("login", "variable"),
    [
        ({"user": "ada", "password": "moonlight"}, "RAT_NESSIE_PASSWORD"),
        ({"token": "moonlight"}, "RAT_NESSIE_TOKEN may be wrong or expired"),
    ],
)
def test_wrong_credentials_are_named_by_their_variable_and_not_shown(
    settings: NessieSettings, guarded: Gate, login: dict[str, Any], variable: str
) -> None:
    error = refused(replace(settings, url=guarded.url, **login))

    assert variable in error.fix
    assert "moonlight" not in str(error)


@pytest.mark.parametrize(
    "login", [{"user": "ada", "password": "lovelace"}, {"token": "good"}]
)
def test_a_user_or_a_token_gets_through(
    settings: NessieSettings, guarded: Gate, login: dict[str, Any]
) -> None:
    refs = NessieRefs(replace(settings, url=guarded.url, **login))
    refs.bootstrap()

    publish_table(refs)

    assert file_at(refs) == "1"


def test_an_oauth2_client_gets_one_token_and_uses_it(
    settings: NessieSettings, guarded: Gate
) -> None:
    refs = NessieRefs(as_client(settings, guarded))
    refs.bootstrap()

    publish_table(refs)

    assert guarded.tokens == 1
    assert guarded.forms == [{"grant_type": "client_credentials", "scope": "catalog"}]


def as_client(settings: NessieSettings, guarded: Gate) -> NessieSettings:
    return replace(
        settings,
        url=guarded.url,
        token_url=guarded.token_url,
        user="rat",
        password="secret",  # noqa: S106 - the gate's
        scope="catalog",
    )


def with_token(settings: NessieSettings, guarded: Gate) -> NessieSettings:
    return replace(settings, url=guarded.url, token="good")  # noqa: S106 - the gate's


def test_a_token_is_renewed_before_it_ends(
    settings: NessieSettings, guarded: Gate
) -> None:
    guarded.life = -1
    refs = NessieRefs(as_client(settings, guarded))
    refs.bootstrap()
    before = guarded.tokens

    refs.head(MAIN)

    assert guarded.tokens == before + 1


def test_a_token_that_was_revoked_is_replaced(
    settings: NessieSettings, guarded: Gate
) -> None:
    refs = NessieRefs(as_client(settings, guarded))
    refs.bootstrap()
    guarded.allowed.clear()

    refs.create("run-1")
    refs.commit("run-1", make_namespaces(), message="Make the layers")

    assert guarded.tokens == 2


def test_a_client_that_is_not_known_is_told_by_its_variables(
    settings: NessieSettings, guarded: Gate
) -> None:
    wrong = replace(as_client(settings, guarded), user="somebody")

    error = refused(wrong)

    assert "no token for Nessie" in error.message
    assert "RAT_NESSIE_TOKEN_URL" in error.fix
    assert "secret" not in str(error)


def test_a_login_that_pynessie_knows_is_used_where_ours_says_nothing(
    settings: NessieSettings, guarded: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NESSIE_AUTH_TYPE", "bearer")
    monkeypatch.setenv("NESSIE_AUTH_TOKEN", "good")

    found = NessieServer(replace(settings, url=guarded.url)).check()

    assert found["maxSupportedApiVersion"] == 2


def test_a_home_that_cannot_be_written_is_no_hindrance(
    settings: NessieSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc/nowhere")

    assert NessieServer(settings).check()["defaultBranch"] == "main"


# Whom we trust


def test_a_certificate_that_nobody_vouches_for_is_refused(
    settings: NessieSettings, nessie: Nessie, keys: Path
) -> None:
    with gate.opened(nessie.url, "", certificates=keys) as guarded:
        error = refused(replace(settings, url=guarded.url))

    assert "is not trusted" in error.message
    assert "RAT_NESSIE_CA" in error.fix


@pytest.mark.parametrize("trust", ["ca.pem", UNCHECKED])
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_an_authority_of_ones_own_can_be_named(
    settings: NessieSettings, nessie: Nessie, keys: Path, trust: str
) -> None:
    ca = trust if trust == UNCHECKED else str(keys / trust)
    with gate.opened(nessie.url, "", certificates=keys) as guarded:
        found = NessieServer(replace(settings, url=guarded.url, ca=ca)).check()

    assert found["defaultBranch"] == "main"


def test_a_client_certificate_is_shown(
    settings: NessieSettings, nessie: Nessie, keys: Path
) -> None:
    both = keys / "client.pem"
    both.write_bytes(
        (keys / "server.pem").read_bytes() + (keys / "server.key").read_bytes()
    )
    with gate.opened(nessie.url, "", certificates=keys, client=True) as guarded:
        trusting = replace(settings, url=guarded.url, ca=str(keys / "ca.pem"))
        found = NessieServer(replace(trusting, certificate=str(both))).check()
        refused(trusting)

    assert found["defaultBranch"] == "main"


# What it may be instead


def test_no_server_is_said_with_its_address(settings: NessieSettings) -> None:
    error = refused(replace(settings, url="http://127.0.0.1:1"))

    assert "http://127.0.0.1:1 does not answer: " in error.message
    assert "refused" in error.message
    assert "RAT_NESSIE_URL" in error.fix


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "is no Nessie server"),
        (200, b"[]", "is no Nessie server"),
        (404, b"not found", "it answers 404"),
        (200, b'{"maxSupportedApiVersion": 1}', "does not speak Nessie's REST API v2"),
    ],
)
def test_what_is_no_nessie_is_told_so(
    settings: NessieSettings, guarded: Gate, status: int, body: bytes, said: str
) -> None:
    guarded.answer = (status, body)

    error = refused(replace(settings, url=guarded.url))

    assert said in error.message
    assert error.fix


def test_who_may_not_do_it_is_told_what(
    settings: NessieSettings, guarded: Gate
) -> None:
    refs = NessieRefs(with_token(settings, guarded))
    refs.bootstrap()
    guarded.answer = (403, b"{}")

    with pytest.raises(CatalogError, match="forbids POST") as caught:
        refs.create("run-1", at=f"@{refs.root}")

    assert "grant" in caught.value.fix


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failure_of_the_server_leaves_unknown_what_it_did(
    settings: NessieSettings, guarded: Gate, status: int
) -> None:
    refs = NessieRefs(replace(with_token(settings, guarded), timeout=PATIENCE))
    main = refs.bootstrap()
    guarded.answer = (status, b"{}")

    with pytest.raises(CatalogError):
        refs.head(MAIN)
    with pytest.raises(LostAnswerError):
        refs.commit(
            MAIN, make_namespaces(), expected_hash=main.hash, message="Make the layers"
        )


def test_a_server_that_is_too_busy_did_nothing(
    settings: NessieSettings, guarded: Gate
) -> None:
    refs = NessieRefs(replace(with_token(settings, guarded), timeout=PATIENCE))
    main = refs.bootstrap()
    guarded.answer = (429, b"{}")

    with pytest.raises(CatalogError, match="too busy"):
        refs.commit(
            MAIN, make_namespaces(), expected_hash=main.hash, message="Make the layers"
        )


# What outlives it


def test_what_was_committed_outlives_the_server(own_nessie: Nessie) -> None:
    settings = NessieSettings.load(os.environ)
    assert settings is not None
    refs = NessieRefs(settings)
    refs.bootstrap()
    publish_table(refs)
    head = refs.head(MAIN)

    own_nessie.restart()

    assert refs.head(MAIN) == head
    assert file_at(refs) == "1"
    publish_table(refs, file="again", key=("shop", "gold", "more"))
