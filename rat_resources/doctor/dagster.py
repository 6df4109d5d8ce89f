"""Dagster: whether its instance opens, and whether a daemon is there to start what is due."""

import time

from dagster import DagsterInstance

from rat_resources.doctor.findings import Finding, Findings, fine, problem, warning
from rat_resources.instance import FRESH_SECONDS, QUEUE_DAEMON
from rat_resources.settings import Settings

HOW_TO_START = "run `rat dev`, or `dagster-daemon run` beside your web server"


def instance(settings: Settings) -> Findings:
    """What is to be said of the instance that dagster.yaml describes."""
    with DagsterInstance.from_config(str(settings.dagster_home)) as opened:
        launcher = type(opened.run_launcher).__name__
        coordinator = type(opened.run_coordinator).__name__
        yield fine("Dagster", f"{settings.dagster_home}: {coordinator}, {launcher}")
        yield tables(opened)
        yield daemon(opened, now=time.time())


def tables(opened: DagsterInstance) -> Finding:
    """Whether Dagster's tables are those of the installed Dagster."""
    found, head = opened.run_storage.alembic_version()  # type: ignore[misc]
    if found == head:
        return fine("Dagster tables", f"at {head}")
    what = f"at {found}, the installed Dagster needs {head}"
    return problem("Dagster tables", what, fix="run `rat migrate`")


def daemon(opened: DagsterInstance, *, now: float) -> Finding:
    """Whether somebody empties the queue, ticks the sensors and starts what is scheduled."""
    beats = opened.get_daemon_heartbeats()
    queue = beats.get(QUEUE_DAEMON)
    if queue is None:
        return warning("daemon", "none has been heard of", fix=HOW_TO_START)
    age = now - queue.timestamp
    if age > FRESH_SECONDS:
        what = f"not running: last heard of {age / 60:.0f} minutes ago"
        return warning("daemon", what, fix=HOW_TO_START)
    failing = sorted(name for name, beat in beats.items() if beat.errors)
    if failing:
        what = f"running, with errors in {', '.join(failing)}"
        return warning(
            "daemon", what, fix="see the page Deployment → Daemons of the UI"
        )
    return fine("daemon", f"running: heard of {age:.0f} s ago")
