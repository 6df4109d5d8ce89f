"""What alerts cost: a publication that evaluates them, and the messages that are sent.

`python benchmarks/alerts.py` measures both and writes their section; what is measured stands in
`benchmarks.evaluations` and `benchmarks.sendings`. Senders that are killed are those of
`tests/crash/test_deliveries.py`, in its long form.
"""

import os
import re
import subprocess
import sys

from benchmarks import evaluations, sendings
from benchmarks.paper import keep
from benchmarks.place import PROJECT, RAT, own_place
from rat_resources.metadata import Metadata
from rat_resources.settings import Settings

KILLED = "tests/crash/test_deliveries.py"


def main() -> None:
    """Measure, and write the section."""
    with own_place() as place:
        evaluated = evaluations.measure(place, str(RAT))
        with Metadata.open(Settings.load()) as metadata:
            sent = sendings.measure(metadata)
    keep("alerts", evaluated, sent, kill())


def kill() -> str:
    """What became of alerts whose senders were killed, in a sentence."""
    done = subprocess.run(  # noqa: S603 - a benchmark's own words
        [sys.executable, "-m", "pytest", KILLED, "-q", "-n0", "-s"],
        cwd=PROJECT,
        env=os.environ | {"RAT_CRASH_ROUNDS": "28"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^\.?(\d{4,} events delivered.*)$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise SystemExit(done.stdout)
    return (
        "Four senders of whom one is killed every 200 deliveries; receivers by HTTPS and SMTP"
        f" that fail, hang or close three times in ten: {found[-1]}."
    )


if __name__ == "__main__":
    main()
