"""Settings: read in one place, and what makes no sense is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from rat_resources.errors import SettingsError
from rat_resources.settings import VARIABLES, Settings, mask_secrets


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that RAT's files mark as a project."""
    for marker in ("workspace.yaml", "dagster.yaml"):
        (tmp_path / marker).touch()
    return tmp_path


def test_everything_lives_in_the_project_by_default(project: Path) -> None:
    settings = Settings.load({"DAGSTER_HOME": str(project)})

    assert settings.home == project / ".rat"
    assert settings.store == project / ".rat" / "store"
    assert settings.warehouse == project / ".rat" / "warehouse"
    assert settings.postgres_url is None
    assert (settings.org, settings.environment) == ("default", "prod")


def test_rat_home_moves_all_state(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"

    settings = Settings.load({"DAGSTER_HOME": str(project), "RAT_HOME": str(home)})

    assert settings.store == home / "store"
    assert settings.project == project


def test_the_project_is_found_from_a_folder_inside_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = project / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)

    assert Settings.load({}).project == project


def test_a_dagster_home_without_dagster_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds no dagster\.yaml"):
        Settings.load({"DAGSTER_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("file:///data/my%20store", "/data/my store"),
        ("file://localhost/data", "/data"),
        ("/data", "/data"),
    ],
)
def test_a_store_is_a_folder_or_a_file_url(
    project: Path, written: str, meant: str
) -> None:
    settings = Settings.load({"DAGSTER_HOME": str(project), "RAT_STORE": written})

    assert settings.store == Path(meant)


@pytest.mark.parametrize("variable", ["RAT_STORE", "RAT_WAREHOUSE"])
def test_a_url_that_is_no_folder_is_refused_by_its_variable(
    project: Path, variable: str
) -> None:
    environ = {"DAGSTER_HOME": str(project), variable: "ftp://me:secret@host/x"}

    with pytest.raises(SettingsError, match=variable) as caught:
        Settings.load(environ)

    assert "secret" not in str(caught.value)


def test_a_child_process_sees_the_same_settings(project: Path) -> None:
    settings = Settings.load(
        {
            "DAGSTER_HOME": str(project),
            "RAT_HOME": str(project / "häuser & co"),
            "RAT_POSTGRES_URL": "postgresql://me@host/rat",
            "RAT_ENV": "staging",
            "RAT_CODE_SERVER": "code-server:4000",
        }
    )

    child = Settings.load(settings.environ)

    assert replace(child, sources=settings.sources) == settings


def test_every_variable_is_listed_with_where_its_value_came_from(project: Path) -> None:
    settings = Settings.load({"DAGSTER_HOME": str(project), "RAT_ENV": "staging"})

    listed = {setting.variable: setting for setting in settings.listed()}

    assert list(listed) == list(VARIABLES)
    assert (listed["RAT_ENV"].value, listed["RAT_ENV"].source) == (
        "staging",
        "environment",
    )
    assert listed["RAT_ORG"].source == "default"


@pytest.mark.parametrize("written", ["code-server", "4000", "code-server:http"])
def test_a_code_server_is_a_host_and_a_port(project: Path, written: str) -> None:
    environ = {"DAGSTER_HOME": str(project), "RAT_CODE_SERVER": written}

    with pytest.raises(SettingsError, match="RAT_CODE_SERVER=host:port"):
        Settings.load(environ)


@pytest.mark.parametrize("environment", ["production", "Prod", "test"])
def test_an_environment_is_prod_staging_or_dev(project: Path, environment: str) -> None:
    environ = {"DAGSTER_HOME": str(project), "RAT_ENV": environment}

    with pytest.raises(SettingsError, match="write one of dev, staging, prod"):
        Settings.load(environ)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s@cret@host/rat", "postgresql://me:***@host/rat"),
        ("postgresql://me@host/rat", "postgresql://me@host/rat"),
        ("postgresql://me:a/b?c@host/rat", "postgresql://me:***@host/rat"),
        (
            "postgresql://h/rat?user=me&password=x",
            "postgresql://h/rat?user=me&password=***",
        ),
        (r"host=h password='a \' b' user=me", "host=h password=*** user=me"),
        ("(embedded, under RAT_HOME)", "(embedded, under RAT_HOME)"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert mask_secrets(url) == shown
