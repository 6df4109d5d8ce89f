"""Documents: an alert as its file or the job's form says it, read and judged field by field.

    condition:                     what happened: `condition_documents`
      kind: threshold
      dataset: silver.flights
      column: arr_delay
      op: gt
      value: 600
    severity: warning              info, warning, critical
    labels: {team: ops}
    channels:                      where to tell it: `channel_documents`
      slack: {webhook_url: env:OPS_SLACK}
    description, owner, remediation, enabled

How a document becomes a row is `definitions`; the files of a tree are read by `rat_resources.trees`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from rat_resources.alerts.channel_documents import read_channels
from rat_resources.alerts.condition_documents import read_condition
from rat_resources.alerts.definitions import Severity, table_of
from rat_resources.alerts.readers import choice, labels, word, words
from rat_resources.annotations import unknown_key
from rat_resources.errors import Problem
from rat_resources.metadata.base import Json
from rat_resources.names import TableName
from rat_resources.values import Located, Reader, UnfitError, flag, read_yaml

LONGEST_FILE = 64 << 10


@dataclass(frozen=True, kw_only=True)
class AlertDocument:
    """What is said of one alert."""

    namespace: str
    name: str
    condition: Mapping[str, Json]
    path: str = ""  # how problems name its file
    content: str = ""  # of its file
    code: str | None = (
        None  # of the function that it names, where that is a file beside it
    )
    lines: Mapping[str, int] = field(default_factory=dict)  # of its top keys
    owner: str = ""
    severity: str = Severity.WARNING
    labels: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    enabled: bool = True
    description: str = ""
    remediation: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """How alerts are told apart."""
        return (self.namespace, self.name)

    @property
    def kind(self) -> str:
        """The condition's."""
        return str(self.condition["kind"])

    @property
    def table(self) -> TableName | None:
        """The table that it is about."""
        return table_of(self.condition.get("dataset"))

    @property
    def code_key(self) -> str | None:
        """Where the store keeps the function that it names, unless that is installed."""
        return code_key(self.namespace, self.condition)


def code_key(namespace: str, condition: Mapping[str, Json]) -> str | None:
    """Where the store keeps the function that a condition names; None where it names none."""
    if condition.get("kind") != "udf":
        return None
    module, _, _ = str(condition.get("entrypoint")).partition(":")
    return f"{namespace}/alerts/{module.replace('.', '/')}.py"


def with_code(
    document: AlertDocument, code: str, *, problems: list[Problem]
) -> AlertDocument:
    """The alert with the function that it pins; a problem where that is another one."""
    actual = sha256(code.encode()).hexdigest()
    if actual != document.condition["sha256"]:
        line = document.lines.get("condition", 1)
        what = f"condition: sha256: {document.code_key} is another file than it says"
        fix = f"look at what changed, then write sha256: {actual}"
        problems.append(Problem(document.path, line, what, fix))
    return replace(document, code=code)


READERS: Mapping[str, Reader] = {
    "condition": read_condition,
    "severity": choice(tuple(Severity)),
    "labels": labels,
    "channels": read_channels,
    "enabled": flag,
    "owner": word,
    "description": words(),
    "remediation": words(),
}


def read_alert(
    content: str, *, path: str, namespace: str, name: str, problems: list[Problem]
) -> AlertDocument | None:
    """The alert that a file describes; None, and every problem, where it cannot be meant as written."""
    if len(content) > LONGEST_FILE:
        what = f"the file has {len(content):,} characters, more than {LONGEST_FILE:,}"
        problems.append(Problem(path, 1, what, "say it in fewer"))
        return None
    found: list[Problem] = []
    entries = dict(read_yaml(content, path=path, problems=found))
    said = read_entries(entries, namespace=namespace, path=path, problems=found)
    if not found and "condition" not in said:
        what, fix = "condition is missing", "add condition: {kind: …}"
        found.append(Problem(path, 1, what, fix))
    problems += found
    if found:
        return None
    lines = {key: value.line for key, value in entries.items()}
    return AlertDocument(
        namespace=namespace, name=name, path=path, content=content, lines=lines, **said
    )


def read_entries(
    entries: Mapping[str, Located],
    *,
    namespace: str,
    path: str,
    problems: list[Problem],
) -> dict[str, Any]:
    """The fields of an alert by their keys; what is wrong goes to *problems*."""
    said: dict[str, Any] = {}
    for key, value in entries.items():
        if key not in READERS:
            problems.append(
                unknown_key(key[:100], path=path, line=value.line, known=READERS)
            )
            continue
        try:
            said[key] = READERS[key](value, namespace)
        except UnfitError as unfit:
            problems += (
                Problem(path, each.line or value.line, f"{key}: {each.what}", each.fix)
                for each in (unfit, *unfit.more)
            )
    return said
