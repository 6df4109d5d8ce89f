"""Faults: what goes wrong on purpose at the numbered steps of a run, so that tests see what is left.

`RAT_FAULT=STEP:ACTION[:N]` makes the process come to harm the N-th time (the first, unless said) that it
comes to a step: `kill` ends it on the spot, `pause` stops it there until somebody lets it go on, `drop`
loses the connection that the step uses, `error` is the server's answer that it failed. Nobody sets it
but tests; where it is unset a step costs nothing.
"""

import os
import signal
from collections import Counter

from rat_resources.errors import (
    CatalogError,
    LostAnswerError,
    MetadataError,
    OutageError,
    RatError,
    SettingsError,
)

VARIABLE = "RAT_FAULT"
SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}
ACTIONS = (*SIGNALS, "drop", "error")

# In the order in which a run comes to them; and what it hears where the connection is lost there, or
# the server says that it failed. A merge comes to the last four even where it is part of a transaction.
STEPS: dict[str, type[RatError]] = {
    "lease": MetadataError,  # 1: it has the lease, and nothing else
    "branch": CatalogError,  # 2: before the branch is made
    "claim": MetadataError,  # 3: the branch is made; before the claim of files, wishes, task
    "write": OutageError,  # 4: before each data file
    "commit": LostAnswerError,  # 5: the files are written; before the branch's commit
    "tests": OutageError,  # 6: before each test
    "intent": MetadataError,  # 7: before the intent is written
    "dry_run": CatalogError,  # 8: before the server is asked whether it would merge
    "merge_sent": LostAnswerError,  # 9: before the merge; its answer is lost if the connection is
    "merge_answered": LostAnswerError,  # 10: the merge was done, and nobody was told
    "transaction": MetadataError,  # 11: the facts are stated, and not committed
    "materialization": MetadataError,  # 12: all is published, and Dagster was not told
    "checks": MetadataError,  # 13: Dagster has the materialization, and no check
    "close": MetadataError,  # 14: Dagster was told all; the publication is still open
}

come_to: Counter[str] = Counter()


def point(step: str) -> None:
    """Come to a step: nothing, unless this process is to come to harm here."""
    wanted = os.environ.get(VARIABLE)
    if wanted:
        meet(step, wanted)


def meet(step: str, wanted: str) -> None:
    """Do what the variable asks for, if it asks for it here and now."""
    where, action, number = parse(wanted)
    if step != where:
        return
    come_to[step] += 1
    if come_to[step] != number:
        return
    if action in SIGNALS:
        os.kill(os.getpid(), SIGNALS[action])
        return
    how = "the connection was lost" if action == "drop" else "the server failed"
    message = f"{VARIABLE}={wanted}: {how}"
    raise STEPS[step](message)


def parse(wanted: str) -> tuple[str, str, int]:
    """The step, the action and the number that the variable names; SettingsError for any other."""
    step, _, rest = wanted.partition(":")
    action, _, number = rest.partition(":")
    if step in STEPS and action in ACTIONS and (number or "1").isdecimal():
        return step, action, int(number or 1)
    message = f"{VARIABLE}={wanted} names no fault"
    fix = f"write STEP:ACTION[:N] with a step of {', '.join(STEPS)} and an action of {', '.join(ACTIONS)}"
    raise SettingsError(message, fix=fix)
