"""Alert definitions: what the published files say is what stands, and nothing else says it came from a file.

Alerts that the job saved stand in no file, and are not compared.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from rat_resources import releases
from rat_resources.alerts import releases as alert_releases
from rat_resources.alerts.definitions import Definition
from rat_resources.audit.comparison import Comparison, Scene, Side
from rat_resources.mirror.ids import trace_id

# jsonb, so that what a column holds and what a file says are compared as documents.
FILES = """
SELECT said.*
FROM jsonb_to_recordset(CAST(:published_alerts AS jsonb)) AS said (
    id text,
    definition uuid,
    condition jsonb,
    channels jsonb,
    labels jsonb,
    severity text,
    enabled boolean,
    owner text,
    description text,
    remediation text
)
"""
DEFINED = """
SELECT
    alert.namespace || '/' || alert.name AS id,
    alert.id AS definition,
    alert.condition,
    alert.channels,
    alert.labels,
    alert.severity,
    alert.enabled,
    coalesce(alert.owner, '') AS owner,
    alert.description,
    alert.remediation
FROM trace.alert_definitions AS alert
WHERE alert.source = 'file' AND alert.retired_at IS NULL
"""


def tell_published(scene: Scene) -> Mapping[str, Any]:
    """What the files of the current release say."""
    current = releases.current(scene.tx) or 0
    found = alert_releases.published(scene.tx, release=current)
    slug = scene.tx.execute(text("SELECT org FROM rat.deployment")).scalar()
    org_id = trace_id("org", slug)
    rows = [as_row(each.definition, org_id) for each in found.values()]
    return {"published_alerts": json.dumps(rows)}


def as_row(definition: Definition, org_id: uuid.UUID) -> dict[str, Any]:
    """A definition as it would stand."""
    namespace, name = definition.namespace, definition.name
    return {
        "id": f"{namespace}/{name}",
        "definition": str(trace_id("alert_definition", org_id, namespace, name)),
        "condition": dict(definition.condition),
        "channels": dict(definition.channels),
        "labels": dict(definition.labels),
        "severity": definition.severity,
        "enabled": definition.enabled,
        "owner": definition.owner,
        "description": definition.description,
        "remediation": definition.remediation,
    }


COMPARISONS = (
    Comparison(
        "trace.alert_definitions",
        "every alert in a published file is defined as it says, and no other is of a file",
        Side("rat.alert_versions", FILES),
        Side("trace.alert_definitions", DEFINED),
        "publish it again: `rat publish`",
        tell_published,
    ),
)
