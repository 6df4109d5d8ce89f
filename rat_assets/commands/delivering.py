"""Delivering: sends alerts beside the sensor, and tries failed deliveries again."""

import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from rat_assets.commands.display import print_json
from rat_assets.commands.opening import open_platform
from rat_resources.alerts import deliveries
from rat_resources.alerts.delivering import Deliverer, Tally
from rat_resources.alerts.outbox import Outbox
from rat_resources.errors import MetadataError, NotFoundError

PAUSE = 1.0  # seconds, where nothing is due
FAILED = 1


def deliver(*, watch: bool, threads: int, as_json: bool) -> int:
    """Send what is due, or whatever comes until somebody stops it; 1 when some of it failed for good."""
    whole = open_platform()
    outbox = Outbox.open(whole.settings)
    deliverer = Deliverer(
        whole.metadata,
        outbox,
        whole.settings.org,
        threads=threads,
        stopped=threading.Event(),
    )
    total = Tally()

    def tell(tally: Tally) -> None:
        for name, number in vars(tally).items():
            setattr(total, name, getattr(total, name) + number)
        if watch and not as_json:
            click.echo(str(tally))

    troubles: list[str] = []

    def complain(error: MetadataError) -> None:
        if str(error) not in troubles:
            click.echo(f"rat: {error}; waiting for it", err=True)
            troubles[:] = [str(error)]

    try:
        with stopping(deliverer.stopped):
            if watch:
                deliverer.watch(pause=PAUSE, told=tell, troubled=complain)
            else:
                tell(deliverer.run())
    finally:
        outbox.close()
    if as_json:
        print_json(vars(total))
    elif not watch:
        click.echo(str(total))
    return FAILED if total.failed else 0


@contextmanager
def stopping(stopped: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work well: what is being sent is settled, the rest given back."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, stop) for each in wanted}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def retry(ids: Sequence[str], *, failed: bool, as_json: bool) -> None:
    """Queue failed deliveries anew, these or all."""
    wanted = None if failed else [parse(each) for each in ids]
    with open_platform().metadata.transaction() as tx:
        retried = deliveries.retry(tx, wanted)
    if not retried and wanted:
        message = "no failed delivery has that id"
        raise NotFoundError(message, fix="`rat alerts` lists what failed")
    if as_json:
        print_json([str(each) for each in retried])
        return
    number = len(retried)
    click.echo(
        f"{number:,} failed {'delivery' if number == 1 else 'deliveries'} queued anew"
    )


def parse(text: str) -> uuid.UUID:
    """An id as it is typed."""
    try:
        return uuid.UUID(text)
    except ValueError:
        message = f"{text} is no id of a delivery"
        raise NotFoundError(message, fix="`rat alerts` lists what failed") from None
