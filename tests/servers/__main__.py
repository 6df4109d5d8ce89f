"""Servers to try RAT with: Nessie and S3-compatible storage, until Ctrl-C.

`python -m tests.servers [FOLDER]` starts them and prints what to export. Each start is a RAT of its
own, under a new name: what the storage holds is gone when it stops.
"""

import signal
import sys
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.servers import nessie, s3
from tests.servers.nessie import Nessie, S3Warehouse
from tests.servers.processes import ServerError
from tests.servers.s3 import KEY, SECRET, S3Server

PROJECT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Start both, say how to use them, and stop them at the end."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else PROJECT / ".servers").absolute()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        storage = s3.start(folder)
        bucket = storage.make_bucket()
        # The storage has another address each time.
        place = folder / f"run-{uuid.uuid4().hex[:8]}"
        warehouse = S3Warehouse(
            f"s3://{bucket}/warehouse", storage.endpoint, KEY, SECRET
        )
        server = nessie.start(place, lambda: warehouse, store=folder / "nessie-store")
        show(exports(place, server, storage, bucket))
        with suppress(KeyboardInterrupt):
            signal.pause()
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if "place" in locals():
            nessie.stop(place)
        s3.stop(folder)
    return 0


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """End as by Ctrl-C."""
    del signum, frame
    raise KeyboardInterrupt


def exports(
    place: Path, server: Nessie, storage: S3Server, bucket: str
) -> dict[str, str]:
    """What a RAT on these servers is told."""
    return {
        "RAT_HOME": str(place / "rat"),
        "RAT_NESSIE_URL": server.url,
        "RAT_NESSIE_BRANCH": f"dev-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        "RAT_STORE": f"s3://{bucket}/store",
        "RAT_WAREHOUSE": f"s3://{bucket}/warehouse",
        **storage.environ,
    }


def show(variables: dict[str, str]) -> None:
    """Print what to paste into a shell."""
    lines = [f"export {name}={value}" for name, value in variables.items()]
    sys.stdout.write("\n".join(lines) + "\n\nrunning until Ctrl-C\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
