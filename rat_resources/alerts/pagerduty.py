"""PagerDuty, by its Events API v2: an incident is triggered, and resolved by the same key."""

import json
from collections.abc import Mapping
from typing import Any

from rat_resources.alerts.http_sender import Answer
from rat_resources.alerts.messages import Message, line
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import PassingError, Receipt, RefusedError
from rat_resources.alerts.secrets import Secrets

URL = "https://events.pagerduty.com/v2/enqueue"
LONGEST_SUMMARY = 1_024
LONGEST_KEY = 255


def send(
    message: Message,
    destination: Mapping[str, Any],
    *,
    outbox: Outbox,
    secrets: Secrets,
) -> Receipt:
    """Trigger an incident, or resolve it."""
    routing_key = secrets.reveal(destination.get("routing_key"), what="routing_key")
    # Another region has another address.
    url = secrets.reveal(destination.get("url", URL), what="url of PagerDuty")
    chosen = destination.get("dedup_key")
    key = (str(chosen) if chosen else message.thread or message.id)[:LONGEST_KEY]
    document = event_of(message, key=key) | {"routing_key": routing_key}
    headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
    answer = outbox.post(url, body=json.dumps(document).encode(), headers=headers)
    return Receipt(read(answer) or key)


def event_of(message: Message, *, key: str) -> dict[str, Any]:
    """The event as PagerDuty wants it."""
    told = message.first
    action = "resolve" if message.state == "resolved" else "trigger"
    links = message.links(told)
    return {
        "event_action": action,
        "dedup_key": key,
        "client": "RAT",
        "payload": {
            "summary": message.headline[:LONGEST_SUMMARY],
            "source": told.table or told.pipeline or message.org,
            "severity": message.severity,
            "class": told.kind,
            "group": line(told.table.rpartition(".")[0]),
            **({"timestamp": told.at.isoformat()} if told.at else {}),
            "custom_details": {
                **({"description": told.description} if told.description else {}),
                **told.facts,
                **({"rows": told.rows} if told.rows else {}),
                **({"what to do": told.remediation} if told.remediation else {}),
            },
        },
        "links": [{"href": url, "text": name} for name, url in links.items()],
    }


def read(answer: Answer) -> str | None:
    """The key of the incident; DeliveryError where a good status says that there is none."""
    try:
        document = json.loads(answer.body or b"{}")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise PassingError(f"PagerDuty answers {answer.status} with no JSON")
    status = document.get("status", "success")
    if status == "success":
        return str(document.get("dedup_key") or "") or None
    why = f"PagerDuty answers {answer.status} with the status {line(status, most=50)}"
    invalid = str(status).startswith("invalid")
    raise (RefusedError if invalid else PassingError)(why)
