"""The outbox: what it takes to send anything, opened once a process.

`send` is the one way out: it knows the channels, sends a shorter message where one was too large, and
lets no secret into an error.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from rat_resources.alerts.addresses import Rules
from rat_resources.alerts.http_sender import Answer, HttpSender, judge
from rat_resources.alerts.messages import Message
from rat_resources.alerts.receipts import (
    DeliveryError,
    PassingError,
    Receipt,
    RefusedError,
    TooLargeError,
)
from rat_resources.alerts.secrets import Secrets
from rat_resources.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class Outbox:
    """What every channel sends with; threads may share it."""

    http: HttpSender
    smtp: str | None = None  # RAT_SMTP_URL
    sender: str = ""  # RAT_SMTP_FROM
    ui: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The outbox of a RAT."""
        said = settings.alerts
        rules = Rules.of(loopback=said.allow_loopback, hosts=said.allow_hosts)
        return cls(
            HttpSender(rules, ca=said.ca),
            smtp=said.smtp_url,
            sender=said.smtp_from,
            ui=said.ui_url,
        )

    def send(
        self,
        channel: str,
        message: Message,
        destination: Any,  # noqa: ANN401 - JSON, right or wrong
    ) -> Receipt:
        """Send a message through a channel; DeliveryError says whether it may be tried again."""
        secrets = Secrets(self.environ)
        try:
            return self.sent(channel, message, destination, secrets=secrets)
        except DeliveryError as error:
            error.why = secrets.scrub(error.why)
            error.args = (error.why,)
            raise
        except Exception as error:  # noqa: BLE001 - one bad message must not stop the others
            # Nothing of it is told: it may hold anything.
            logger.warning("sending by %s: %s", channel, type(error).__name__)
            why = f"{channel} cannot be sent: {type(error).__name__}"
            raise PassingError(why) from None

    def sent(
        self,
        channel: str,
        message: Message,
        destination: Any,  # noqa: ANN401 - JSON, right or wrong
        *,
        secrets: Secrets,
    ) -> Receipt:
        """Send it, and a shorter one where it was too large."""
        sender = find_sender(channel)
        if not isinstance(destination, Mapping):
            raise RefusedError(f"the alert has no destination for {channel}")
        try:
            return sender(message, destination, outbox=self, secrets=secrets)
        except TooLargeError:
            if message.is_short:
                raise
            short = message.shortened()
            return sender(short, destination, outbox=self, secrets=secrets)

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """A good answer to a POST."""
        return judge(self.http.post(url, body=body, headers=headers), target=url)

    def close(self) -> None:
        """Close what is open."""
        self.http.close()


class Sender(Protocol):
    """What a channel is: one message out, one receipt."""

    def __call__(
        self,
        message: Message,
        destination: Mapping[str, Any],
        *,
        outbox: Outbox,
        secrets: Secrets,
    ) -> Receipt:
        """Send a message."""


def find_sender(channel: str) -> Sender:
    """The sender of a channel."""
    # Each knows the outbox; and nobody waits for one that is not used.
    from rat_resources.alerts import mail, pagerduty, slack, sms, webhook  # noqa: PLC0415

    known: dict[str, Sender] = {
        "email": mail.send,
        "pagerduty": pagerduty.send,
        "slack": slack.send,
        "sms": sms.send,
        "webhook": webhook.send,
    }
    if channel not in known:
        raise RefusedError(f"{channel} is no channel")
    return known[channel]
