"""The doctor: looks at every part that is configured, changes nothing, and says what to mend.

Each part is a module beside this one. They are looked at all at once, each for itself: one that is
down, or does not answer, keeps no other from being looked at.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from rat_resources.doctor import dagster, lake, machine, server, storage
from rat_resources.doctor.findings import (
    Finding,
    Findings,
    Level,
    fine,
    problem,
    warning,
)
from rat_resources.errors import RatError
from rat_resources.settings import Settings

Check = Callable[[Settings], Findings]

PATIENCE = 30.0  # seconds for everything that is looked at together

PARTS: dict[str, Check] = {
    "Python": machine.python,
    "disks": machine.disks,
    "ports": machine.ports,
    "Postgres": server.postgres,
    "lake": lake.keeper,
    "store": storage.store,
    "warehouse": storage.warehouse,
    "DuckDB": storage.duckdb,
}
# They stand in Postgres, and would only say again that it is down.
PARTS_IN_POSTGRES: dict[str, Check] = {
    "Dagster": dagster.instance,
    "landing zones": storage.zones,
}


def examine(settings: Settings) -> list[Finding]:
    """What the doctor finds, part by part."""
    named = f"of {settings.project}, with its state in {settings.home}"
    found = [fine("settings", named), *look(PARTS, settings)]
    if server.is_usable(found):
        return [*found, *look(PARTS_IN_POSTGRES, settings)]
    names, what = " and ".join(PARTS_IN_POSTGRES), "not looked at: they need Postgres"
    fix = "do first what is said of that"
    return [*found, warning(names, what, fix=fix)]


def look(
    parts: Mapping[str, Check], settings: Settings, *, patience: float = PATIENCE
) -> list[Finding]:
    """What all *parts* say, in their order."""
    said: dict[str, Sequence[Finding]] = {}

    def note(part: str) -> None:
        said[part] = [*examined(part, parts[part], settings)]

    threads = [
        # What hangs ends with the process.
        threading.Thread(target=note, args=(part,), daemon=True)
        for part in parts
    ]
    until = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [
        each for part in parts for each in said.get(part) or [silent(part, patience)]
    ]


def silent(part: str, patience: float) -> Finding:
    """What is said of a part that says nothing."""
    what = f"no answer within {patience:.0f} s"
    return problem(part, what, fix="see that it runs and can be reached from here")


def examined(part: str, check: Check, settings: Settings) -> Findings:
    """What one part says, whatever goes wrong with it."""
    try:
        yield from check(settings)
    except RatError as error:
        yield problem(part, error.message, fix=error.fix)
    except Exception as error:  # noqa: BLE001 - one that fails must not hide the others
        what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        yield problem(part, what, fix="set RAT_DEBUG=1 and ask it alone")


def is_well(found: Sequence[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(each.level != Level.PROBLEM for each in found)
