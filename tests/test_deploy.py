"""What stands in deploy/ can be deployed: as far as this machine can try it, it is tried."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Command
from click.testing import CliRunner
from dagster import DagsterInstance
from dagster._config import process_config
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient
from dagster_k8s import K8sRunLauncher

from rat_assets.cli import rat
from rat_resources import code_server
from rat_resources.instance import PooledRunStorage, RatComputeLogManager
from rat_resources.metadata import Metadata, embedded
from rat_resources.platform import platform
from rat_resources.settings import VARIABLES, Settings
from tests.factories import Shop
from tests.servers.postgres import ADMIN, PASSWORD, PostgresServer, free_port

Json = Any

QUOTED = 'it\'s-"quoted"'

PROJECT = Path(__file__).resolve().parents[1]
DEPLOY = PROJECT / "deploy"
PAGE = (PROJECT / "docs" / "deploy.md").read_text()
CONSOLE = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMPOSE: Json = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: Mapping[str, Json] = COMPOSE["services"]
VALUES: Json = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
MANIFESTS: Mapping[str, Json] = {
    each["metadata"]["name"]: each
    for each in yaml.safe_load_all((DEPLOY / "helm" / "rat.yaml").read_text())
    if each
}
POD_DAGSTER: Json = yaml.safe_load(MANIFESTS["rat-dagster"]["data"]["dagster.yaml"])
EXAMPLE = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
INTERPOLATION = re.compile(r"(?<!\$)\$\{(\w+)(?::[-?]([^}]*))?\}")


# Compose.


@cache
def compose_client() -> tuple[str, ...] | None:
    """The client that understands compose files, where this machine has one."""
    docker = shutil.which("docker")
    if docker is not None:
        asked = [docker, "compose", "version"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return (docker, "compose")
    alone = shutil.which("docker-compose")
    return None if alone is None else (alone,)


def test_the_compose_client_finds_nothing_wrong() -> None:
    client = compose_client()
    if client is None:
        pytest.skip("this machine's docker has no `compose`")

    done = subprocess.run(
        [
            *client,
            *("--file", str(DEPLOY / "compose.yaml")),
            *("--env-file", str(DEPLOY / ".env.example")),
            *("--profile", "tools", "config", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    # A new volume is given away by root, who reaches nothing else.
    assert service.get("user") != "root" or service["network_mode"] == "none"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_that_stays_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]

    assert (service["restart"] == "no") != ("healthcheck" in service)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_waits_for_what_can_be_waited_for(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        stays = SERVICES[other]["restart"] != "no"
        healthy = "service_healthy"
        ended = "service_completed_successfully"
        assert wait["condition"] == (healthy if stays else ended)


def test_volumes_and_networks_are_declared() -> None:
    for service in SERVICES.values():
        named = [each.partition(":")[0] for each in service.get("volumes", ())]
        assert {each for each in named if "/" not in each} <= set(COMPOSE["volumes"])
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
    assert COMPOSE["networks"]["inside"]["internal"]


def test_only_the_ui_is_reached_and_only_from_this_machine() -> None:
    published = {
        name: each["ports"] for name, each in SERVICES.items() if "ports" in each
    }

    assert published == {"webserver": ["${UI_ADDRESS:-127.0.0.1:3000}:3000"]}


def test_the_example_names_every_variable_and_no_secret_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    asked = {match[1]: match[0] for match in INTERPOLATION.finditer(text)}

    assert set(asked) == set(EXAMPLE)
    for name, how in asked.items():
        if "PASSWORD" in name or "_KEY" in name:
            assert ":?" in how
        else:
            assert how.endswith(f":-{EXAMPLE[name]}}}")


@pytest.mark.parametrize(
    "environment",
    [
        SERVICES["code-server"]["environment"],
        MANIFESTS["rat-settings"]["data"],
        {each["name"]: each["value"] for each in VALUES["dagsterDaemon"]["env"]},
    ],
    ids=["compose", "settings of pods", "chart"],
)
def test_what_is_set_are_settings_that_make_sense(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        name: INTERPOLATION.sub(lambda found: EXAMPLE[found[1]], str(value))
        for name, value in environment.items()
    }

    settings = Settings.load(given | {"DAGSTER_HOME": str(DEPLOY)})

    assert {name for name in given if name.startswith("RAT_")} <= set(VARIABLES)
    assert settings.sources.keys() >= {each for each in given if each in VARIABLES}


def test_the_databases_are_made_for_roles_that_are_not_superusers(
    postgres_server: PostgresServer,
) -> None:
    script = (DEPLOY / "postgres" / "databases.sh").read_text()
    names = {"rat": "rat_in_compose", "nessie": "nessie_in_compose"}
    for short, long in names.items():
        script = re.sub(rf"(ROLE|DATABASE|OWNER) {short}\b", rf"\1 {long}", script)
    binaries = (
        embedded.install_binaries()
        if embedded.is_root()
        else embedded.wheel_folder() / "bin"
    )

    subprocess.run(
        ["sh", "-c", script],
        check=True,
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PGHOST": "localhost",
            "PGPORT": str(postgres_server.port),
            "PGPASSWORD": PASSWORD,
            "POSTGRES_USER": ADMIN,
            "RAT_POSTGRES_PASSWORD": QUOTED,
            "NESSIE_POSTGRES_PASSWORD": "x",
        },
    )

    url = postgres_server.url("rat_in_compose", role="rat_in_compose")
    with (
        Metadata.connect(url.set(password=QUOTED)) as metadata,
        metadata.engine.connect() as connection,
    ):
        is_superuser = connection.exec_driver_sql("SHOW is_superuser").scalar()
    assert is_superuser == "off"


# Dagster.


def test_the_hardened_instance_opens_over_postgres(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    del settings  # it set the environment that the instance reads
    monkeypatch.setenv("DAGSTER_CONCURRENT_RUNS", "7")

    with DagsterInstance.from_config(str(DEPLOY)) as instance:
        assert isinstance(instance.run_storage, PooledRunStorage)
        assert isinstance(instance.compute_log_manager, RatComputeLogManager)
        assert instance.get_runs_count() == 0
        assert instance.get_concurrency_config().run_queue_config is not None
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert "QueuedRunCoordinator" in type(instance.run_coordinator).__name__


def test_the_instance_of_pods_differs_only_in_how_runs_are_launched(
    settings: Settings, tmp_path: Path
) -> None:
    del settings
    hardened = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(POD_DAGSTER))

    differing = {key for key in hardened if hardened[key] != POD_DAGSTER.get(key)}
    launcher = POD_DAGSTER["run_launcher"]["config"]
    shape: Json = K8sRunLauncher.config_type()  # type: ignore[no-untyped-call]
    valid = process_config(shape, launcher)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        runs = instance.get_runs_count()

    assert differing <= {
        "run_launcher",
        "run_coordinator",
        "run_monitoring",
        "code_servers",
        "python_logs",
    }
    assert valid.success, valid.errors
    assert runs == 0


@contextmanager
def serving_code(settings: Settings, port: int) -> Iterator[None]:
    """The code server of the compose file, on this machine."""
    command = [*SERVICES["code-server"]["command"]]
    command[command.index("--host") + 1] = "127.0.0.1"
    command[command.index("--port") + 1] = str(port)
    with subprocess.Popen(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        env=os.environ | settings.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            assert embedded.await_true(
                lambda: server.poll() is not None or is_serving(port), seconds=90
            )
            yield
        finally:
            # The proxy of the code server hears no SIGTERM.
            os.killpg(server.pid, signal.SIGKILL)


def is_serving(port: int) -> bool:
    """Whether a code server listens on a port."""
    try:
        DagsterGrpcClient(host="127.0.0.1", port=port).ping("rat")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def test_a_publish_reaches_the_code_server_of_the_compose_file(shop: Shop) -> None:
    port = free_port()
    settings = replace(shop.whole.settings, code_server=("127.0.0.1", port))
    before = code_server.reload(settings)

    with serving_code(settings, port):
        shop.publish()
        reloaded = code_server.reload(settings)

    assert not before
    assert reloaded


def test_a_publish_that_reaches_no_code_server_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAT_CODE_SERVER", nobody)
    shop.write("shop/pipelines/bronze/numbers/pipeline.sql", "FROM range(3)")

    done = CliRunner().invoke(rat, ["publish", str(shop.folder)])
    platform().metadata.dispose()  # of these very settings

    assert done.exit_code == 0, done.output
    assert f"the code server {nobody} does not answer" in done.output


# Kubernetes.


def test_every_part_of_the_chart_gets_the_same_image_settings_and_secrets() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    parts = [VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], code]

    for key in ("image", "env", "envConfigMaps", "envSecrets", "securityContext"):
        assert all(part[key] == parts[0][key] for part in parts)
    tag = f"{code['image']['repository']}:{code['image']['tag']}"
    job = MANIFESTS["rat-migrate"]["spec"]["template"]["spec"]["containers"][0]
    assert job["image"] == tag


def test_names_that_must_be_one_are_one() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    launcher = POD_DAGSTER["run_launcher"]["config"]
    settings = MANIFESTS["rat-settings"]["data"]
    home = {each["name"]: each["value"] for each in code["env"]}["DAGSTER_HOME"]

    assert settings["RAT_CODE_SERVER"] == f"{code['name']}:{code['port']}"
    assert launcher["service_account_name"] == VALUES["serviceAccount"]["name"]
    assert launcher["instance_config_map"] == "rat-dagster"
    assert launcher["dagster_home"] == home
    assert {each["name"] for each in code["envConfigMaps"]} <= set(MANIFESTS)
    assert VALUES["global"]["dagsterHome"] != home


def test_the_pod_of_a_run_mounts_nothing_twice() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    launcher = POD_DAGSTER["run_launcher"]["config"]
    paths = [each["mountPath"] for each in code["volumeMounts"]]
    paths.append(f"{launcher['dagster_home']}/dagster.yaml")

    assert len(set(paths)) == len(paths)
    mounted = {each["name"] for each in code["volumeMounts"]}
    assert mounted == {each["name"] for each in code["volumes"]}


# The page.


def typed() -> list[str]:
    """Every line of the page that is typed where there is an engine or a cluster."""
    return [line for block in CONSOLE for line in block.splitlines() if line]


def test_what_is_typed_names_files_that_are_there() -> None:
    named = {
        word for line in typed() for word in shlex.split(line) if "deploy/" in word
    }

    assert named
    for each in named - {"deploy/.env"}:
        assert (PROJECT / each).is_file(), each


def test_the_image_is_made_of_what_is_there() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}

    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE)
        for word in line.split()[:-1]
    ]

    assert copied
    for each in copied:
        assert (PROJECT / each).exists()
        assert each in kept
    assert re.search(r"^USER 10001", dockerfile, re.MULTILINE)


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"`(rat [a-z]+[^`]*)`", PAGE)))
)
def test_the_page_names_commands_and_options_that_exist(command: str) -> None:
    _, name, *words = shlex.split(command.replace("…", "x"))
    found = rat.commands[name]

    assert isinstance(found, Command)
    options = {option for each in found.params for option in each.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_page_names_variables_that_exist() -> None:
    named = set(re.findall(r"`(RAT_[A-Z0-9_]+)", PAGE))

    assert named <= set(VARIABLES)


def test_the_page_names_services_that_exist() -> None:
    run = re.findall(r"compose\.yaml run --rm (?:--volume \S+ )?(\w+)", PAGE)

    assert run
    assert set(run) <= set(SERVICES)
