"""Settings: every environment variable that RAT reads, once.

`Settings.load()` is cheap and reads the environment anew; nothing else in the project does.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from rat_resources import alert_settings, nessie_settings
from rat_resources.alert_settings import AlertSettings
from rat_resources.errors import SettingsError
from rat_resources.memory import Budget, read_budget
from rat_resources.names import nearest
from rat_resources.nessie_settings import NessieSettings
from rat_resources.places import Place, read_place

Source = Literal["environment", "default", "DAGSTER_HOME"]

MARKERS = ("workspace.yaml", "dagster.yaml")


@dataclass(frozen=True)
class Setting:
    """One setting as it stands: what it is, where it came from, how to change it."""

    name: str
    variable: str
    value: str
    source: Source
    help: str

    @property
    def shown(self) -> str:
        """The value with its secrets masked."""
        return mask_secrets(self.value)


@dataclass(frozen=True)
class Settings:
    """Where this RAT keeps everything."""

    project: Path  # the folder of workspace.yaml and dagster.yaml
    home: Path
    postgres_url: str | None  # None: the embedded Postgres
    store: Place
    warehouse: Place
    s3_style: str
    org: str
    environment: str
    memory: Budget  # of each DuckDB, with what Arrow takes beside it
    memory_limit: str  # as it is written
    retention: str  # as it is written; what it means is rat_resources.retention
    sources: Mapping[str, Source]
    nessie: NessieSettings | None = None  # None: the refs are kept in Postgres
    code_server: tuple[str, int] | None = None  # None: that of `rat dev`, if it runs
    alerts: AlertSettings = field(default_factory=AlertSettings)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings; SettingsError names the variable that makes no sense."""
        environ = os.environ if environ is None else environ
        refuse_misspelt(environ)
        project = find_project(environ)
        home = Path(environ.get("RAT_HOME") or project / ".rat").expanduser().absolute()
        return cls(
            project=project,
            home=home,
            postgres_url=environ.get("RAT_POSTGRES_URL") or None,
            store=place("RAT_STORE", environ, default=home / "store"),
            warehouse=place("RAT_WAREHOUSE", environ, default=home / "warehouse"),
            s3_style=s3_style(environ),
            org=environ.get("RAT_ORG") or "default",
            environment=known_environment(environ.get("RAT_ENV") or "prod"),
            memory=read_budget(environ),
            memory_limit=environ.get("RAT_MEMORY_LIMIT") or "",
            retention=environ.get("RAT_RETENTION") or "",
            sources={name: "environment" for name in VARIABLES if environ.get(name)},
            nessie=NessieSettings.load(environ),
            code_server=host_and_port("RAT_CODE_SERVER", environ),
            alerts=AlertSettings.load(environ),
        )

    @property
    def dagster_home(self) -> Path:
        """Where Dagster finds its dagster.yaml; its files still go under `home`."""
        return self.project

    @property
    def environ(self) -> dict[str, str]:
        """What a child process needs in its environment to see these very settings."""
        pinned = {
            "RAT_HOME": str(self.home),
            "RAT_STORE": self.store.as_uri(),
            "RAT_WAREHOUSE": self.warehouse.as_uri(),
            "RAT_S3_STYLE": self.s3_style,
            "RAT_ORG": self.org,
            "RAT_ENV": self.environment,
            "DAGSTER_HOME": str(self.dagster_home),
        }
        pinned |= self.nessie.environ if self.nessie else {}
        pinned |= self.alerts.environ
        pinned |= (
            {"RAT_CODE_SERVER": joined(self.code_server)} if self.code_server else {}
        )
        return pinned | (
            ({"RAT_POSTGRES_URL": self.postgres_url} if self.postgres_url else {})
            | ({"RAT_RETENTION": self.retention} if self.retention else {})
            | ({"RAT_MEMORY_LIMIT": self.memory_limit} if self.memory_limit else {})
        )

    def listed(self) -> list[Setting]:
        """Every setting with its value and where it came from."""
        values = {
            "RAT_HOME": str(self.home),
            "RAT_POSTGRES_URL": self.postgres_url or "(embedded, under RAT_HOME)",
            "RAT_STORE": self.store.as_uri(),
            "RAT_WAREHOUSE": self.warehouse.as_uri(),
            "RAT_S3_STYLE": self.s3_style,
            "RAT_ORG": self.org,
            "RAT_ENV": self.environment,
            "RAT_MEMORY_LIMIT": self.memory_limit or f"50% ({self.memory})",
            "RAT_RETENTION": self.retention,
            "DAGSTER_HOME": str(self.dagster_home),
            "RAT_CODE_SERVER": joined(self.code_server),
            "RAT_DEBUG": "1" if shows_tracebacks() else "",
            **dict.fromkeys(nessie_settings.VARIABLES, ""),
            **(self.nessie.shown if self.nessie else {}),
            **dict.fromkeys(alert_settings.VARIABLES, ""),
            **self.alerts.environ,
        }
        return [
            Setting(
                variable.removeprefix("RAT_").lower(),
                variable,
                values[variable],
                self.sources.get(variable, "default"),
                text,
            )
            for variable, text in VARIABLES.items()
        ]


VARIABLES = {
    "RAT_HOME": "the folder of all state: Postgres, store, warehouse, Dagster's own files",
    "RAT_POSTGRES_URL": "a Postgres of your own; without it one starts itself",
    "RAT_STORE": "pipeline code, landing files and logs: a folder or s3://bucket/prefix",
    "RAT_WAREHOUSE": "the data and metadata files of the tables: a folder or s3://bucket/prefix",
    "RAT_S3_STYLE": "how a URL names a bucket: auto (the default), path or virtual",
    **nessie_settings.VARIABLES,
    "RAT_ORG": "the organisation that this RAT belongs to",
    "RAT_ENV": "the environment that this RAT is: prod (the default), staging or dev",
    "RAT_MEMORY_LIMIT": "what each run, preview and query may take, such as 4GB or 50% (the default)",
    "RAT_RETENTION": "how long what is told is kept, such as runs=90d,logs=30d",
    **alert_settings.VARIABLES,
    "DAGSTER_HOME": "the folder of dagster.yaml",
    "RAT_CODE_SERVER": "host:port of the code server that hears of a publish, where `rat dev` is not used",
    "RAT_DEBUG": "1 shows the traceback of an error that nobody expected",
}


def host_and_port(variable: str, environ: Mapping[str, str]) -> tuple[str, int] | None:
    """The place that *variable* names, None where it is not set; SettingsError if it is none."""
    value = environ.get(variable)
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if host and port.isdecimal():
        return host, int(port)
    message = f"{variable}={value} is no place in a network"
    raise SettingsError(message, fix=f"write {variable}=host:port")


def joined(place: tuple[str, int] | None) -> str:
    """A host and a port as people write them."""
    return f"{place[0]}:{place[1]}" if place else ""


ENVIRONMENTS = ("dev", "staging", "prod")


def known_environment(name: str) -> str:
    """*name*, where it is one that CHM's documents know; else a SettingsError."""
    if name in ENVIRONMENTS:
        return name
    message = f"RAT_ENV={name} is no environment"
    raise SettingsError(message, fix=f"write one of {', '.join(ENVIRONMENTS)}")


def refuse_misspelt(environ: Mapping[str, str]) -> None:
    """SettingsError for a variable that is nearly one of ours: what it says would go unheard."""
    for name in environ:
        if not name.startswith("RAT_") or name in VARIABLES:
            continue
        guess = nearest(name, VARIABLES, cutoff=0.8)
        if guess is not None:
            message = f"{name} is no setting"
            raise SettingsError(
                message, fix=f"did you mean {guess}? `rat settings` lists them all"
            )


def shows_tracebacks(environ: Mapping[str, str] | None = None) -> bool:
    """Whether somebody wants to see tracebacks; no setting can be too wrong to ask."""
    environ = os.environ if environ is None else environ
    return environ.get("RAT_DEBUG", "") not in ("", "0")


def find_project(environ: Mapping[str, str]) -> Path:
    """The folder of workspace.yaml and dagster.yaml: DAGSTER_HOME, here, a parent, or RAT's own checkout."""
    if environ.get("DAGSTER_HOME"):
        home = Path(environ["DAGSTER_HOME"]).expanduser().absolute()
        if not (home / "dagster.yaml").is_file():
            message = f"DAGSTER_HOME={home} holds no dagster.yaml"
            raise SettingsError(
                message, fix="set it to the folder of RAT's dagster.yaml, or unset it"
            )
        return home
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if is_project(folder):
            return folder
    message = "no workspace.yaml and dagster.yaml here or in a parent folder"
    raise SettingsError(
        message,
        fix="run rat inside a project (`rat init DIR` makes one), or set DAGSTER_HOME to it",
    )


def is_project(folder: Path) -> bool:
    """Whether *folder* holds what makes one a project."""
    return all((folder / marker).is_file() for marker in MARKERS)


def place(variable: str, environ: Mapping[str, str], *, default: Path) -> Place:
    """Where *variable* says that something is kept."""
    value = environ.get(variable)
    return read_place(variable, value, default=default, shown=mask_secrets(value or ""))


S3_STYLES = ("auto", "path", "virtual")


def s3_style(environ: Mapping[str, str] | None = None) -> str:
    """How the URL of an object names its bucket: in its path, as a part of the host, or as S3 is."""
    environ = os.environ if environ is None else environ
    style = environ.get("RAT_S3_STYLE") or "auto"
    if style in S3_STYLES:
        return style
    message = f"RAT_S3_STYLE={style} is no style"
    raise SettingsError(message, fix=f"write one of {', '.join(S3_STYLES)}")


def aws_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the environment says to everything that speaks to S3; the AWS SDK reads it by itself."""
    environ = os.environ if environ is None else environ
    found = {name: environ[name] for name in environ if name.startswith("AWS_")}
    return {**found, "RAT_S3_STYLE": s3_style(environ)}


# `password=…` in a URL's query or among libpq's words, which may be quoted.
SECRET_WORD = re.compile(
    r"\b(\w*(?:password|passwd|secret|token))=('(?:[^'\\]|\\.)*'|[^\s&]*)",
    re.IGNORECASE,
)
# Passwords of Postgres are often pasted as they are, with / and ? and @ in them.
POSTGRES_USER = re.compile(r"((?:jdbc:)?postgres\S*?://[^:/@?#]*):.*@", re.DOTALL)


def mask_secrets(url: str) -> str:
    """*url* without its password."""
    url = SECRET_WORD.sub(r"\1=***", url)
    if POSTGRES_USER.match(url):
        return POSTGRES_USER.sub(r"\1:***@", url, count=1)
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
