"""Definitions: what somebody wants to hear of, as it stands in Postgres.

One comes from a file, `{ns}/alerts/{name}.yaml`, or from the job `save_alert`, and never from both.
None is ever deleted, since events refer to it: one whose file is gone is disabled.
"""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from rat_resources.errors import AuthorError
from rat_resources.metadata.base import Json
from rat_resources.metadata.zeros import as_json
from rat_resources.mirror.ids import trace_id
from rat_resources.mirror.people import declare_org
from rat_resources.names import TableName


class Source(StrEnum):
    """Where a definition is kept."""

    FILE = "file"  # published with the pipelines of its namespace
    JOB = "job"  # saved by the job `save_alert`, or written by somebody's SQL


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What somebody wants to hear of, and where."""

    id: uuid.UUID
    name: str
    namespace: str
    kind: str  # the condition's
    condition: Mapping[str, Json]
    owner: str = ""
    severity: str = Severity.WARNING
    labels: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    enabled: bool = True
    table: TableName | None = None  # the condition's dataset
    description: str = ""
    remediation: str = ""
    source: Source = Source.JOB

    @classmethod
    def from_row(cls, row: Row) -> "Definition":
        """The definition of a row of `load`."""
        values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        dataset = values.pop("dataset")
        source = Source(values.pop("source"))
        return cls(**values, table=table_of(dataset), source=source)


class OwnedElsewhereError(AuthorError):
    """An alert of this name is kept elsewhere."""


def load(
    tx: Session,
    *,
    table: TableName | None = None,
    kinds: Collection[str] | None = None,
    also: Collection[str] = (),
    only_enabled: bool = True,
    only_kept: bool = False,
) -> list[Definition]:
    """The definitions of this deployment (about *table*, of these *kinds*), by namespace and name.

    Of the kinds in *also* those, too, that are about no table.
    Those that are switched off too, but for *only_enabled*; *only_kept* leaves out the retired ones.
    """
    rows = tx.execute(
        FOUND,
        {
            "dataset": str(table) if table else None,
            "kinds": None if kinds is None else sorted(kinds),
            "also": sorted(also),
            "only_enabled": only_enabled,
            "only_kept": only_kept,
        },
    )
    return [Definition.from_row(row) for row in rows]


# Rows that somebody's SQL wrote may hold no object where one is due.
FOUND = text("""
    SELECT
        alert.id,
        alert.name,
        alert.namespace,
        coalesce(alert.kind, '') AS kind,
        CASE jsonb_typeof(alert.condition) WHEN 'object' THEN alert.condition ELSE '{}' END
            AS condition,
        coalesce(alert.owner, '') AS owner,
        alert.severity,
        alert.labels,
        CASE jsonb_typeof(alert.channels) WHEN 'object' THEN alert.channels ELSE '{}' END
            AS channels,
        alert.enabled,
        alert.dataset,
        alert.description,
        alert.remediation,
        alert.source
    FROM trace.alert_definitions AS alert
    JOIN trace.orgs AS org ON org.id = alert.org_id
    JOIN rat.deployment ON deployment.org = org.slug
    WHERE (
            alert.dataset = CAST(:dataset AS text)
            OR CAST(:dataset AS text) IS NULL
            OR (alert.dataset IS NULL AND alert.kind = ANY(CAST(:also AS text[])))
        )
        AND (alert.kind = ANY(CAST(:kinds AS text[])) OR CAST(:kinds AS text[]) IS NULL)
        AND (alert.enabled OR NOT :only_enabled)
        AND (alert.retired_at IS NULL OR NOT :only_kept)
    ORDER BY alert.namespace, alert.name, alert.id
""")


def table_of(dataset: str | None) -> TableName | None:
    """The table that a condition is about; None where it names none."""
    try:
        return TableName.parse(dataset) if dataset else None
    except ValueError:
        return None


def definition_id(tx: Session, namespace: str, name: str) -> uuid.UUID:
    """The id of the definition of a name: always the same."""
    return id_of(declare_org(tx), namespace, name)


def id_of(org_id: uuid.UUID, namespace: str, name: str) -> uuid.UUID:
    """The id of the definition of a name in an organisation."""
    return trace_id("alert_definition", org_id, namespace, name)


def save(tx: Session, definition: Definition) -> bool:
    """Write a definition; whether that changes anything. OwnedElsewhereError: the name is taken."""
    values: dict[str, Any] = {
        "id": definition.id,
        "org_id": (org_id := declare_org(tx)),
        "org": org_id,
        "namespace": definition.namespace,
        "name": definition.name,
        "owner": definition.owner or None,
        "condition": as_json(definition.condition),
        "channels": as_json(definition.channels),
        "labels": as_json(definition.labels),
        "severity": definition.severity,
        "description": definition.description,
        "remediation": definition.remediation,
        "source": definition.source,
        "enabled": definition.enabled,
    }
    if tx.execute(SAVE, values).first() is not None:
        return True
    kept_in = tx.execute(SOURCE, {"id": definition.id}).scalar_one()
    if kept_in != definition.source:
        raise owned_elsewhere(definition, kept_in=kept_in)
    return False


# A name whose file is gone is free for the job, and the other way round.
SAVE = text("""
    INSERT INTO trace.alert_definitions AS old (
        id, org_id, user_id, namespace, name, owner, condition, channels, labels, severity,
        description, remediation, source, enabled, visibility
    )
    SELECT
        :id, :org_id, administrator.id, :namespace, :name, :owner, CAST(:condition AS jsonb),
        CAST(:channels AS jsonb), CAST(:labels AS jsonb), :severity, :description, :remediation,
        :source, :enabled, 'org'
    FROM trace.users AS administrator
    JOIN trace.orgs AS org ON org.id = administrator.org_id AND org.id = :org
    WHERE administrator.external_id = org.slug || '/admin'
    ON CONFLICT (id) DO UPDATE SET
        owner = EXCLUDED.owner,
        condition = EXCLUDED.condition,
        channels = EXCLUDED.channels,
        labels = EXCLUDED.labels,
        severity = EXCLUDED.severity,
        description = EXCLUDED.description,
        remediation = EXCLUDED.remediation,
        source = EXCLUDED.source,
        enabled = EXCLUDED.enabled,
        retired_at = NULL,
        updated_at = clock_timestamp()
    WHERE (old.source = EXCLUDED.source OR old.retired_at IS NOT NULL)
        AND (
            old.owner, old.condition, old.channels, old.labels, old.severity, old.description,
            old.remediation, old.source, old.enabled, old.retired_at
        ) IS DISTINCT FROM (
            EXCLUDED.owner, EXCLUDED.condition, EXCLUDED.channels, EXCLUDED.labels,
            EXCLUDED.severity, EXCLUDED.description, EXCLUDED.remediation, EXCLUDED.source,
            EXCLUDED.enabled, CAST(NULL AS timestamptz)
        )
    RETURNING old.id
""")
SOURCE = text("SELECT source FROM trace.alert_definitions WHERE id = :id")


def owned_elsewhere(definition: Definition, *, kept_in: str) -> OwnedElsewhereError:
    """The error of a name that a file has and the job wants, or the other way round."""
    name = f"{definition.namespace}/{definition.name}"
    if kept_in == Source.FILE:
        message = f"the alert {name} is kept in {file_key(definition)}"
        fix = "change that file and publish it, or save this one under another name"
    else:
        message = f"the alert {name} was saved by the job save_alert"
        fix = "rename the file, or let the job save_alert retire the other"
    return OwnedElsewhereError(message, fix=fix)


def file_key(definition: Definition) -> str:
    """Where the store keeps the file of a definition."""
    return f"{definition.namespace}/alerts/{definition.name}.yaml"


def retire(tx: Session, definition_ids: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Disable definitions that nobody keeps any more, which frees their names; those it changed."""
    ids = sorted(definition_ids)
    return [*tx.execute(RETIRE, {"ids": ids}).scalars()] if ids else []


RETIRE = text("""
    UPDATE trace.alert_definitions
    SET enabled = false, retired_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE id = ANY(:ids) AND retired_at IS NULL
    RETURNING id
""")
