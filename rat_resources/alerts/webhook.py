"""Webhook: the message as JSON, signed where a secret is named.

POST url
Idempotency-Key: {id of the delivery}
RAT-Timestamp: {seconds since 1970}
RAT-Signature: v1={hex of HMAC-SHA256(secret, timestamp + "." + body)}
"""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from rat_resources.alerts.messages import Message
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import Receipt, RefusedError
from rat_resources.alerts.secrets import Secrets, is_named

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# What we promise of a message.
OURS = frozenset({"idempotency-key", "rat-timestamp", "rat-signature", "content-type"})


def send(
    message: Message,
    destination: Mapping[str, Any],
    *,
    outbox: Outbox,
    secrets: Secrets,
) -> Receipt:
    """Send a message to a program."""
    if destination.get("method") not in (None, "POST", "post"):
        raise RefusedError("a webhook is sent by POST only; leave out its method")
    url = secrets.reveal(destination.get("url"), what="url")
    body = json.dumps(message.to_json(), ensure_ascii=False).encode(errors="replace")
    headers = {
        **headers_of(destination.get("headers"), secrets=secrets),
        "Content-Type": "application/json",
        "Idempotency-Key": message.id,
    }
    if destination.get("secret") is not None:
        secret = secrets.reveal(destination["secret"], what="secret of the webhook")
        headers |= signature(body, secret=secret, timestamp=int(time.time()))
    outbox.post(url, body=body, headers=headers)
    return Receipt()


def signature(body: bytes, *, secret: str, timestamp: int) -> dict[str, str]:
    """The headers by which a receiver knows that a message is ours, and of now."""
    signed = f"{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return {"RAT-Timestamp": str(timestamp), "RAT-Signature": f"v1={digest}"}


def headers_of(
    said: Any,  # noqa: ANN401 - JSON, right or wrong
    *,
    secrets: Secrets,
) -> dict[str, str]:
    """The headers that a destination wants besides ours."""
    if not isinstance(said, Mapping):
        return {}
    headers = {}
    for name, value in said.items():
        if not TOKEN.fullmatch(name) or name.lower() in OURS:
            raise RefusedError(f"the header {name[:100]!r} is not for a webhook to set")
        if name.lower() == "authorization" and not is_named(value):
            raise RefusedError("write Authorization: env:NAME, not the secret itself")
        text = secrets.reveal(value, what=f"header {name}")
        if not (text.isascii() and text.isprintable()):
            raise RefusedError(f"the header {name} holds what no header may carry")
        headers[name] = text
    return headers
