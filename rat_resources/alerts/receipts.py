"""Receipts: what became of sending a message, and whether it is worth sending again."""

from dataclasses import dataclass

LONGEST_WHY = 500


@dataclass(frozen=True)
class Receipt:
    """That a receiver took a message, and what it calls it."""

    message_id: str | None = None


class DeliveryError(Exception):
    """A message was not taken; why, without anything secret."""

    def __init__(self, why: str) -> None:
        self.why = why[:LONGEST_WHY]
        super().__init__(self.why)


class PassingError(DeliveryError):
    """The same message may be taken later, and not before the receiver wants it."""

    def __init__(self, why: str, *, retry_after: float = 0) -> None:
        super().__init__(why)
        self.retry_after = retry_after  # seconds


class RefusedError(DeliveryError):
    """The same message will never be taken as things are."""


class TooLargeError(RefusedError):
    """A shorter message may be taken."""
