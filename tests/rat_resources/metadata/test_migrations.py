"""Migrations: they make what the models say, and can be run by anybody at any time."""

import importlib
import pkgutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, Engine, text

import rat_resources.lake.commits
import rat_resources.metadata
from rat_resources.errors import MetadataError
from rat_resources.metadata import Metadata, migrations
from rat_resources.metadata.base import SCHEMAS
from rat_resources.metadata.base import metadata as models
from tests.conftest import administrate

for module in pkgutil.walk_packages(
    rat_resources.metadata.__path__, "rat_resources.metadata."
):
    importlib.import_module(module.name)

assert rat_resources.lake.commits  # its tables are models too

COLUMNS = """
    SELECT table_schema, table_name, column_name, udt_name, character_maximum_length,
           is_nullable, column_default, is_identity, collation_name
    FROM information_schema.columns
    WHERE table_schema = ANY(:schemas) AND table_name <> 'schema_migrations'
      AND (table_schema, table_name) IN (SELECT schemaname, tablename FROM pg_tables)
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace::regnamespace::text = ANY(:schemas)
      AND conrelid <> coalesce(to_regclass('rat.schema_migrations'), 0)
"""
INDEXES = """
    SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = ANY(:schemas) AND tablename <> 'schema_migrations'
"""


@pytest.fixture
def empty(server: URL) -> Iterator[Metadata]:
    """A database with nothing in it."""
    name = f"rat_{uuid.uuid4().hex}"
    administrate(server, f"CREATE DATABASE {name}")
    with Metadata.connect(server.set(database=name)) as metadata:
        yield metadata
    administrate(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("question", [COLUMNS, CONSTRAINTS, INDEXES])
def test_migrations_make_what_the_models_say(
    metadata: Metadata, empty: Metadata, question: str
) -> None:
    with empty.engine.begin() as connection:
        for schema in SCHEMAS:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        models.create_all(connection)

    migrated = answers(metadata.engine, question)

    assert migrated == answers(empty.engine, question)
    assert migrated


def test_a_downgrade_to_nothing_can_be_upgraded_again(metadata: Metadata) -> None:
    before = answers(metadata.engine, CONSTRAINTS)

    migrations.downgrade(metadata.engine)
    nothing = answers(metadata.engine, CONSTRAINTS)
    revision = migrations.current(metadata.engine)
    migrations.upgrade(metadata.engine)

    assert nothing == []
    assert revision is None
    assert answers(metadata.engine, CONSTRAINTS) == before


def test_each_revision_can_be_taken_back_alone(metadata: Metadata) -> None:
    for revision in reversed(migrations.revisions()):
        migrations.downgrade(metadata.engine, revision)

        assert migrations.current(metadata.engine) == revision


def test_upgrades_at_once_are_one_after_the_other(empty: Metadata) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: migrations.upgrade(empty.engine), range(4)))

    assert migrations.current(empty.engine) == migrations.head()


def test_an_upgrade_of_what_is_upgraded_changes_nothing(metadata: Metadata) -> None:
    before = answers(metadata.engine, COLUMNS)

    migrations.upgrade(metadata.engine)

    assert answers(metadata.engine, COLUMNS) == before


def test_an_empty_database_is_filled_whoever_owns_it(empty: Metadata) -> None:
    migrations.ensure_head(empty.engine, upgrade_old=False)

    assert migrations.current(empty.engine) == migrations.head()


def test_an_old_database_of_the_users_own_waits_for_rat_migrate(
    metadata: Metadata,
) -> None:
    migrations.downgrade(metadata.engine, migrations.revisions()[-2])

    with pytest.raises(MetadataError, match="run `rat migrate`"):
        migrations.ensure_head(metadata.engine, upgrade_old=False)


def test_an_old_embedded_database_is_upgraded(metadata: Metadata) -> None:
    migrations.downgrade(metadata.engine, migrations.revisions()[-2])

    migrations.ensure_head(metadata.engine, upgrade_old=True)

    assert migrations.current(metadata.engine) == migrations.head()


@pytest.mark.parametrize("upgrade_old", [True, False])
def test_a_newer_database_is_left_alone(
    metadata: Metadata, *, upgrade_old: bool
) -> None:
    with metadata.transaction() as tx:
        tx.execute(text("UPDATE rat.schema_migrations SET version_num = '9999_later'"))

    with pytest.raises(MetadataError, match="9999_later, newer than this checkout"):
        migrations.ensure_head(metadata.engine, upgrade_old=upgrade_old)


def test_a_migration_that_waits_too_long_says_so(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "10ms")

    with (
        migrations.locked(metadata.engine),
        pytest.raises(MetadataError, match="somebody else"),
    ):
        migrations.upgrade(metadata.engine)


def answers(engine: Engine, question: str) -> list[tuple[object, ...]]:
    """The rows of a question about the schemas, sorted."""
    with engine.connect() as connection:
        rows = connection.execute(text(question), {"schemas": list(SCHEMAS)})
        return sorted((tuple(row) for row in rows), key=repr)
