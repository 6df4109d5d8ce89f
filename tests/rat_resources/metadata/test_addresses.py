"""Addresses: every form that people write names the server that they mean."""

import pytest

from rat_resources.errors import SettingsError
from rat_resources.metadata import addresses

PLAIN = "postgresql://me:s%40cret@db.example:5433/rat"


@pytest.mark.parametrize(
    "written",
    [
        "postgres://me:s%40cret@db.example:5433/rat",
        "postgresql+psycopg://me:s%40cret@db.example:5433/rat",
        "postgresql+psycopg2://me:s%40cret@db.example:5433/rat",
        "postgresql+asyncpg://me:s%40cret@db.example:5433/rat",
        "jdbc:postgresql://db.example:5433/rat?user=me&password=s%40cret",
        "postgresql://me:s@cret@db.example:5433/rat",
        "host=db.example port=5433 dbname=rat user=me password='s@cret'",
        " postgresql://me:s%40cret@db.example:5433/rat?pgbouncer=true\n",
    ],
)
def test_every_spelling_names_the_same_server(written: str) -> None:
    assert addresses.write(addresses.read(written)) == PLAIN


@pytest.mark.parametrize(
    ("written", "libpq"),
    [
        ("postgresql://%2Frun%2Fpg/rat", "postgresql:///rat?host=/run/pg"),
        ("postgresql:///rat?host=/run/pg", "postgresql:///rat?host=/run/pg"),
        ("postgresql://[::1]:5/rat", "postgresql://[::1]:5/rat"),
        ("postgresql://a:1,b:2/rat", "postgresql://a:1,b:2/rat"),
        ("postgresql://a,b/rat", "postgresql://a,b/rat"),
        ("postgresql:///rat?host=a:1&host=b:2", "postgresql://a:1,b:2/rat"),
        ("host=a,b port=5433 dbname=rat", "postgresql://a:5433,b:5433/rat"),
        ("service=rat", "postgresql:///?service=rat"),
        ("postgresql://h/rat?ssl=true", "postgresql://h/rat?sslmode=require"),
        ("postgresql://h/rat?ssl=verify-ca", "postgresql://h/rat?sslmode=verify-ca"),
        (
            "postgresql://h/rat?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            "postgresql://h/rat?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        ),
        (
            "postgresql://h/rat?options=-csearch_path%3Da%20-cjit%3Doff",
            "postgresql://h/rat?options=-csearch_path%3Da%20-cjit%3Doff",
        ),
        (
            "postgresql://me:a/b:c?d#e%@h/rat",
            "postgresql://me:a%2Fb%3Ac%3Fd%23e%25@h/rat",
        ),
        (
            "postgresql://h/rat?application_name=a@b",
            "postgresql://h/rat?application_name=a%40b",
        ),
    ],
)
def test_what_is_written_is_what_libpq_is_told(written: str, libpq: str) -> None:
    url = addresses.read(written)

    assert addresses.write(url) == libpq
    assert addresses.read(libpq) == url


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("localhost:5432", "is no URL"),
        ("mysql://me:secret@h/rat", "names a mysql"),
        ("postgresql://me:secret@h:port/rat", "a port that is no number"),
        ("postgresql://me:secret@h/rat?schema=rat", "the parameter schema"),
        ("host=a,b port=1,2,3", "2 hosts and 3 ports"),
        ("password=secret nonsense", "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_named_without_its_password(
    written: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        addresses.read(written)

    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
