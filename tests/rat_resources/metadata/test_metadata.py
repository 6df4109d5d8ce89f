"""Metadata: which database, its transactions, and what its errors say."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from rat_resources.errors import MetadataError, SettingsError
from rat_resources.metadata import Metadata
from rat_resources.metadata.pipelines import Namespace
from rat_resources.settings import Settings


def test_a_transaction_is_kept_when_it_ends_well(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        tx.add(Namespace(name="nyc"))

    with metadata.transaction() as tx:
        assert "nyc" in tx.scalars(select(Namespace.name)).all()


def test_a_transaction_is_undone_when_it_ends_badly(metadata: Metadata) -> None:
    def fail() -> None:
        with metadata.transaction() as tx:
            tx.add(Namespace(name="nyc"))
            tx.flush()
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    with metadata.transaction() as tx:
        assert "nyc" not in tx.scalars(select(Namespace.name)).all()


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"],
)
def test_any_spelling_of_a_postgres_url_will_do(
    settings: Settings, scheme: str
) -> None:
    assert settings.postgres_url is not None
    rest = settings.postgres_url.partition("://")[2]

    with Metadata.open(replace(settings, postgres_url=f"{scheme}://{rest}")) as opened:
        driver = opened.url.drivername

    assert driver == "postgresql+psycopg"


@pytest.mark.parametrize("url", ["mysql://root@localhost/rat", "localhost:5432"])
def test_another_database_is_refused(settings: Settings, url: str) -> None:
    with pytest.raises(SettingsError, match="write postgresql://"):
        Metadata.open(replace(settings, postgres_url=url))


def test_a_password_is_kept_for_programs_and_out_of_errors(tmp_path: Path) -> None:
    url = f"postgresql://me:s%40cret@/rat?host={tmp_path}"

    with (
        Metadata.connect(url) as metadata,
        pytest.raises(MetadataError) as caught,
        metadata.transaction() as tx,
    ):
        tx.execute(text("SELECT 1"))

    assert "s%40cret" in metadata.dsn
    assert "s%40cret" in metadata.dagster_url
    assert "cret" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    with (
        Metadata.connect(f"postgresql://me@/rat?host={tmp_path}") as metadata,
        pytest.raises(MetadataError, match="see that it runs") as caught,
        metadata.transaction() as tx,
    ):
        tx.execute(text("SELECT 1"))

    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


def test_a_missing_database_is_named_with_a_remedy(metadata: Metadata) -> None:
    with (
        Metadata.connect(metadata.url.set(database="nowhere")) as other,
        pytest.raises(MetadataError, match='"nowhere" does not exist'),
        other.transaction() as tx,
    ):
        tx.execute(text("SELECT 1"))


def test_a_mistake_of_a_statement_stays_what_it_is(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        tx.add(Namespace(name="nyc"))

    with pytest.raises(IntegrityError), metadata.transaction() as tx:
        tx.add(Namespace(name="nyc"))


def test_a_lock_that_is_taken_stays_what_it_is(metadata: Metadata) -> None:
    with metadata.transaction() as first:
        first.execute(text("LOCK TABLE rat.namespaces"))

        with pytest.raises(OperationalError), metadata.transaction() as second:
            second.execute(text("LOCK TABLE rat.namespaces NOWAIT"))


def test_connections_that_the_server_closed_are_replaced(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        tx.execute(text("SELECT 1"))
    with Metadata.connect(metadata.url) as other, other.transaction() as tx:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        tx.execute(
            text(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            )
        )

    with metadata.transaction() as tx:
        assert tx.scalar(text("SELECT 1")) == 1


def test_dagsters_tables_are_in_a_schema_of_their_own(metadata: Metadata) -> None:
    with psycopg.connect(metadata.dsn) as connection:
        schemas = connection.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename = 'event_logs'"
        ).fetchall()

    assert schemas == [("dagster",)]


def test_statements_are_not_prepared_for_a_pooler_to_lose(metadata: Metadata) -> None:
    with metadata.engine.connect() as connection:
        for _ in range(10):
            connection.execute(text("SELECT 1"))
        prepared = connection.scalar(
            text("SELECT count(*) FROM pg_prepared_statements")
        )

    assert prepared == 0
