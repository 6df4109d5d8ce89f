"""SMS, by HTTP as Twilio has it: a form, with the account's name and password."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from rat_resources.alerts.http_sender import Answer
from rat_resources.alerts.messages import Message
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import PassingError, Receipt, RefusedError
from rat_resources.alerts.secrets import Secrets

URL = "https://api.twilio.com"
NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
LONGEST = 480  # three parts of a message
FAILED = ("failed", "undelivered", "canceled")


def send(
    message: Message,
    destination: Mapping[str, Any],
    *,
    outbox: Outbox,
    secrets: Secrets,
) -> Receipt:
    """Send a message to a telephone."""
    number = secrets.reveal(destination.get("phone_number"), what="phone_number")
    if not NUMBER.fullmatch(number):
        raise RefusedError(
            "the phone_number is none: write +, the country and the rest"
        )
    account = secrets.reveal(destination.get("account_sid"), what="account_sid")
    token = secrets.reveal(destination.get("auth_token"), what="auth_token")
    base = secrets.reveal(destination.get("url", URL), what="url").rstrip("/")
    form = {"To": number, "Body": text_of(message)} | from_of(
        destination, secrets=secrets
    )
    login = base64.b64encode(f"{account}:{token}".encode()).decode()
    secrets.read.append(login)
    answer = outbox.post(
        f"{base}/2010-04-01/Accounts/{quote(account, safe='')}/Messages.json",
        body=urlencode(form).encode(),
        headers={
            "Authorization": f"Basic {login}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Idempotency-Key": message.id,
        },
    )
    return Receipt(read(answer))


def from_of(destination: Mapping[str, Any], *, secrets: Secrets) -> dict[str, str]:
    """Who sends it: a number, or a service that has several."""
    service = destination.get("messaging_service_sid")
    if service is not None:
        named = secrets.reveal(service, what="messaging_service_sid")
        return {"MessagingServiceSid": named}
    return {"From": secrets.reveal(destination.get("from_number"), what="from_number")}


def text_of(message: Message) -> str:
    """The message in as many signs as a telephone shows."""
    told = message.first
    where = told.table or told.pipeline
    text = message.headline
    if where and where not in text:
        text += f" ({where})"
    if told.remediation and not message.is_short:
        text += f" {told.remediation}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def read(answer: Answer) -> str | None:
    """What the provider calls the message; DeliveryError where a good status says it failed."""
    try:
        document = json.loads(answer.body or b"{}")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise PassingError(f"the provider answers {answer.status} with no JSON")
    code = document.get("error_code") or document.get("code")
    if code or document.get("status") in FAILED:
        number = code if isinstance(code, int) else 0
        why = f"the provider answers {answer.status} with the error {number}"
        raise RefusedError(why)
    return str(document.get("sid") or "") or None
