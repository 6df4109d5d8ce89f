"""Destinations: where a channel of a definition, or a rule of CHM's, leads.

They stay where they are defined and are looked up when a message is sent: a delivery's row never holds
one, and one that was corrected is used at the next attempt.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rat_resources.metadata.base import Json

# What says when and whether, not where to.
OPTIONS = ("where", "max_delivery_age", "group_by", "group_wait", "quiet_hours")
FIELDS = {"slack": "webhook_url", "webhook": "url", "sms": "phone_number"}


@dataclass(frozen=True)
class Destination:
    """Where messages of a channel go, and what else is said about them."""

    channel: str
    config: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """What two destinations have in common that are one."""
        return json.dumps([self.channel, self.config], sort_keys=True, default=str)


def of_channels(channels: Json) -> list[Destination]:
    """The destinations of a definition, by channel."""
    if not isinstance(channels, Mapping):
        return []
    return [
        destination(name, channels[name])
        for name in sorted(channels)
        if isinstance(channels[name], Mapping)
    ]


def destination(channel: str, said: Mapping[str, Any]) -> Destination:
    """The destination of one channel."""
    config = {key: value for key, value in said.items() if key not in OPTIONS}
    options = {key: value for key, value in said.items() if key in OPTIONS}
    return Destination(channel, config, options)


def of_rule(channel: str, written: str) -> Destination:
    """The destination of a rule of CHM's, which is one text."""
    config: dict[str, Any] = (
        {"to": [each.strip() for each in written.split(",") if each.strip()]}
        if channel == "email"
        else {FIELDS.get(channel, "url"): written}
    )
    return Destination(channel, config, {})
