"""A company's Postgres: a pooler, TLS, roles with few rights, and other people's tables."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from dagster import DagsterInstance
from sqlalchemy import URL, text

from rat_assets.cli import rat
from rat_resources import audit, reconciliation
from rat_resources.errors import MetadataError
from rat_resources.instance import RatStorage
from rat_resources.metadata import Metadata, addresses, migrations
from rat_resources.metadata.grants import REPORTING
from rat_resources.metadata.health import QUESTIONS
from rat_resources.platform import opened, platform
from rat_resources.settings import Settings
from tests.factories import Shop
from tests.servers import postgres
from tests.servers.postgres import PGBOUNCER, POOL, PostgresServer

needs_pooler = pytest.mark.skipif(
    PGBOUNCER is None, reason="this machine has no pgbouncer (Debian's package)"
)


def call(*words: str) -> str:
    """What a command prints that goes well."""
    done = CliRunner().invoke(rat, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def ask(url: URL, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement."""
    with Metadata.connect(url) as metadata, metadata.transaction() as tx:
        return [tuple(row) for row in tx.execute(text(statement))]


def may(url: URL, statement: str) -> bool:
    """Whether a role may run a statement; what it does is undone."""
    with psycopg.connect(addresses.write(url)) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
        finally:
            connection.rollback()
    return True


@pytest.fixture
def owner(postgres_server: PostgresServer) -> URL:
    """An empty database of a role that has no other right."""
    role = postgres_server.make_role()
    return postgres_server.url(postgres_server.make_database(role), role=role)


@pytest.fixture
def migrated(
    owner: URL, rat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[URL]:
    """The same with RAT's schemas, which its environment names."""
    monkeypatch.setenv("RAT_HOME", str(rat_home))
    monkeypatch.setenv("RAT_POSTGRES_URL", addresses.write(owner))
    call("migrate")
    yield owner
    opened.cache_clear()


@needs_pooler
def test_a_worker_without_other_rights_does_everything_through_a_pooler_with_tls(
    postgres_server: PostgresServer,
    migrated: URL,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    worker = postgres_server.make_role()
    call("grant", worker, "--work")
    pooled = postgres_server.url(str(migrated.database), role=worker, pooled=True)
    monkeypatch.setenv("RAT_POSTGRES_URL", addresses.write(pooled))
    settings = Settings.load()

    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        instance.optimize_for_webserver(
            statement_timeout=4321, pool_recycle=60, max_overflow=5
        )
        shop = Shop(platform(), instance, tmp_path / "project")
        shop.publish()
        shop.land("a.csv", "id,customer,amount\n1,ann,10\n")
        assert shop.run().succeeded
        left_open = list(reconciliation.reconcile(shop.whole, instance))
        differences = audit.audit(shop.whole).differences
        shop.whole.metadata.dispose()

    assert (left_open, differences) == ([], 0)
    # Nothing of one client is left in the sessions that all clients share.
    with Metadata.connect(pooled) as metadata:
        for _ in range(2 * POOL):
            with metadata.transaction() as tx:
                assert tx.scalar(text("SHOW statement_timeout")) == "0"
                assert tx.scalar(text("SHOW search_path")) == '"$user", public'
    strays = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert ask(migrated, strays) == []
    assert not may(pooled, "ALTER TABLE rat.runs ADD COLUMN mine int")
    assert not may(pooled, "UPDATE rat.schema_migrations SET version_num = ''")


def test_a_reader_may_read_and_nothing_else(
    postgres_server: PostgresServer, migrated: URL
) -> None:
    reader = postgres_server.make_role()
    mine = postgres_server.url(str(migrated.database), role=reader)

    call("grant", reader)

    tables = ask(
        migrated,
        "SELECT schemaname || '.' || tablename FROM pg_tables"
        f" WHERE schemaname IN {REPORTING}",
    )
    readable = {str(name) for (name,) in tables if may(mine, f"TABLE {name}")}
    hiding = {"chm.alert_rules", "trace.alert_definitions"}
    assert readable == {str(name) for (name,) in tables} - hiding
    assert may(mine, "SELECT name, condition FROM trace.alert_definitions")
    assert may(mine, "SELECT rule_type, channel FROM chm.alert_rules")
    assert all(may(mine, f"SELECT * FROM {each.name}()") for each in QUESTIONS)
    for refused in (
        "SELECT destination FROM chm.alert_rules",
        "SELECT channels FROM trace.alert_definitions",
        "TABLE dagster.runs",
        "TABLE lake.refs",
        "INSERT INTO rat.namespaces (name) VALUES ('mine')",
        "UPDATE rat.runs SET status = 'success'",
        "DELETE FROM chm.runs",
        "TRUNCATE trace.tasks",
        "CREATE TABLE rat.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
    ):
        assert not may(mine, refused), refused


def test_a_reader_of_one_schema_reads_its_later_tables_until_that_is_revoked(
    postgres_server: PostgresServer, migrated: URL
) -> None:
    reader = postgres_server.make_role()
    mine = postgres_server.url(str(migrated.database), role=reader)
    call("grant", reader)

    said = call("grant", reader, "--schema", "chm")
    with psycopg.connect(addresses.write(migrated)) as connection:
        connection.execute("CREATE TABLE chm.later (id int)")

    assert "may read chm" in said
    assert may(mine, "TABLE chm.later")
    assert all(
        may(mine, f"SELECT * FROM {each.name}()")
        for each in QUESTIONS
        if each.name.startswith("chm.")
    )
    assert not may(mine, "TABLE rat.runs")
    call("grant", reader, "--revoke")
    assert not may(mine, "TABLE chm.later")
    assert not may(mine, "TABLE chm.runs")


def test_the_statements_of_a_grant_can_be_read_before_they_run(
    postgres_server: PostgresServer, migrated: URL
) -> None:
    reader = postgres_server.make_role()
    mine = postgres_server.url(str(migrated.database), role=reader)

    script = call("grant", reader, "--sql")

    assert not may(mine, "TABLE rat.runs")
    with psycopg.connect(addresses.write(migrated)) as connection:
        connection.execute(script.encode())
    assert may(mine, "TABLE rat.runs")


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody_here",), 'CREATE ROLE "nobody_here" LOGIN'),
        (("postgres", "--schema", "cmh"), "did you mean chm?"),
        (("postgres", "--schema", "chm", "--work"), "--work takes no --schema"),
    ],
)
def test_a_grant_that_cannot_be_says_why(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(rat, ["grant", *words])

    assert done.exit_code != 0
    assert said in done.output


def test_schemas_that_an_administrator_made_are_enough(
    postgres_server: PostgresServer,
) -> None:
    role = postgres_server.make_role()
    shared = postgres_server.make_database(postgres_server.make_role())
    postgres_server.administrate("CREATE TABLE runs (theirs int)", database=shared)
    for schema in migrations.SCHEMAS:
        postgres_server.administrate(
            "CREATE SCHEMA {} AUTHORIZATION {}", schema, role, database=shared
        )

    with Metadata.connect(postgres_server.url(shared, role=role)) as metadata:
        migrations.upgrade(metadata.engine)
        RatStorage(metadata.dagster_url).dispose()
        found = migrations.current(metadata.engine)

    assert found == migrations.head()


@pytest.mark.parametrize("schema", ["rat", "chm", "dagster"])
def test_a_schema_that_somebody_else_uses_is_left_alone(
    owner: URL, schema: str
) -> None:
    with psycopg.connect(addresses.write(owner)) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(f"CREATE TABLE {schema}.patients (id int)".encode())

    with (
        Metadata.connect(owner) as metadata,
        pytest.raises(MetadataError, match=f"schema {schema} .* such as patients"),
    ):
        migrations.upgrade(metadata.engine)

    found = "SELECT nspname FROM pg_namespace WHERE nspname = ANY('{rat,lake,chm}')"
    assert len(ask(owner, found)) == (schema != "dagster")


def test_a_role_that_may_make_nothing_is_told_what_it_needs(
    postgres_server: PostgresServer,
) -> None:
    database = postgres_server.make_database(postgres_server.make_role())
    url = postgres_server.url(database, role=postgres_server.make_role())

    with (
        Metadata.connect(url) as metadata,
        pytest.raises(MetadataError, match="grant its user CREATE on the database"),
    ):
        migrations.upgrade(metadata.engine)


@needs_pooler
@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"sslrootcert": "/etc/hostname"}, "root certificate"),
        ({"sslmode": "disable"}, "SSL required"),
        ({"options": "-cjit=off"}, "take options out of RAT_POSTGRES_URL"),
    ],
)
def test_what_a_pooler_refuses_is_told(
    postgres_server: PostgresServer, owner: URL, said: dict[str, str], problem: str
) -> None:
    url = postgres_server.url(
        str(owner.database), role=str(owner.username), pooled=True
    ).update_query_dict(said)

    with (
        Metadata.connect(url) as metadata,
        pytest.raises(MetadataError) as caught,
        metadata.transaction() as tx,
    ):
        tx.execute(text("SELECT 1"))

    assert problem in str(caught.value)
    assert postgres.PASSWORD not in str(caught.value)


@pytest.mark.parametrize("pooled", [False, pytest.param(True, marks=needs_pooler)])
def test_work_goes_on_after_the_server_was_restarted(
    tmp_path: Path, *, pooled: bool
) -> None:
    server = postgres.start(tmp_path)
    try:
        url = server.url("postgres", pooled=pooled)
        with Metadata.connect(url) as metadata:
            storage = RatStorage(prepared(metadata))

            with pytest.raises(MetadataError, match="see that it runs"):
                interrupt(metadata, server)

            with metadata.transaction() as tx:
                assert tx.scalar(text("SELECT count(*) FROM dagster.runs")) == 0
            assert storage.run_storage.get_runs_count() == 0
            storage.dispose()
    finally:
        postgres.stop(tmp_path)


def prepared(metadata: Metadata) -> str:
    """Where Dagster's tables shall be."""
    with metadata.transaction() as tx:
        tx.execute(text("CREATE SCHEMA dagster"))
    return metadata.dagster_url


def interrupt(metadata: Metadata, server: PostgresServer) -> None:
    """Restart the server while a transaction is open."""
    with metadata.transaction() as tx:
        tx.execute(text("SELECT 1"))
        server.restart()
        tx.execute(text("SELECT 1"))
