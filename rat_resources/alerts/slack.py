"""Slack: the message as its markup, in which nothing of an event is a mention or a link."""

import json
import re
from collections.abc import Mapping
from typing import Any

from rat_resources.alerts.http_sender import Answer
from rat_resources.alerts.messages import Message, Section
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import PassingError, Receipt, RefusedError
from rat_resources.alerts.secrets import Secrets

LONGEST = 6_000
SIGNS = {
    "info": "🔵",
    "warning": "🟠",
    "critical": "🔴",
    "resolved": "🟢",
    "test": "⚪",
}
# Nothing joins these to the word, and nobody sees it.
JOINER = "\u2060"
MENTION = re.compile(r"@(?=here|channel|everyone)", re.IGNORECASE)
PASSING = re.compile(r"rate_?limited|internal_error|fatal_error|unavailable|timeout")


def send(
    message: Message,
    destination: Mapping[str, Any],
    *,
    outbox: Outbox,
    secrets: Secrets,
) -> Receipt:
    """Send a message to a channel of Slack's."""
    url = secrets.reveal(destination.get("webhook_url"), what="webhook_url of Slack")
    document: dict[str, Any] = {
        "text": text_of(message),
        "unfurl_links": False,
        "unfurl_media": False,
    }
    if isinstance(destination.get("channel"), str):
        document["channel"] = destination["channel"]
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Idempotency-Key": message.id,
    }
    answer = outbox.post(url, body=json.dumps(document).encode(), headers=headers)
    return Receipt(read(answer))


def read(answer: Answer) -> str | None:
    """What Slack calls the message; DeliveryError where its 200 says that it took none."""
    said = answer.body.decode(errors="replace").strip()
    if said in ("ok", ""):
        return None
    try:
        document = json.loads(said)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise PassingError("Slack answers 200 with something else than ok")
    if document.get("ok") is True:
        return str(document.get("ts") or "") or None
    error = str(document.get("error"))[:100]
    why = f"Slack answers 200 with the error {error}"
    raise (PassingError if PASSING.search(error) else RefusedError)(why)


def text_of(message: Message) -> str:
    """The message in Slack's markup."""
    word = message.severity if message.state == "firing" else message.state
    parts = [f"{SIGNS[word]} *{escape(message.headline)}*"]
    sections = message.sections
    parts += [marked(each, titled=len(sections) > 1) for each in sections]
    if message.left_out:
        parts.append(f"… and {message.left_out:,} more")
    text = "\n".join(parts)
    return text if len(text) <= LONGEST else cut(text)


def cut(text: str) -> str:
    """As much of a text as fits, with nothing left open at its end."""
    kept = text[:LONGEST].rpartition("\n")[0]
    return f"{kept}\n```\n…" if kept.count("```") % 2 else f"{kept}\n…"


def marked(section: Section, *, titled: bool) -> str:
    """One event."""
    lines = [f"*{escape(section.title)}*"] if titled else []
    lines += [escape(section.description)] if section.description else []
    lines += [f"{escape(key)}: {escape(each)}" for key, each in section.facts.items()]
    if section.rows:
        rows = "\n".join(section.grid).replace("```", "'''")
        lines.append(f"```\n{escape(rows)}\n```")
    if section.remediation:
        lines.append(f"*What to do:* {escape(section.remediation)}")
    links = [f"<{url}|{name}>" for name, url in section.links.items()]
    return "\n".join([*lines, *([" · ".join(links)] if links else [])])


def escape(text: str) -> str:
    """*text* as Slack shows it: it begins no link, no mention and no command."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MENTION.sub(f"@{JOINER}", text)
