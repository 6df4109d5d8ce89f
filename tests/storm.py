"""A storm: processes that run, cancel, kill, publish and mirror one RAT, all at once.

`python -m tests.storm ACTOR COUNT SEED` is one process of it, on the RAT of the environment.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg

from rat_assets import actions, journal, runner
from rat_assets.journal import Progress
from rat_resources import releases
from rat_resources.errors import RatError
from rat_resources.external_runs.intake import Intake
from rat_resources.instance import open_instance
from rat_resources.mirror import log, rebuilding
from rat_resources.platform import Platform, platform
from rat_resources.reconciliation import reconcile
from rat_resources.runs import WORKER_TAG
from rat_resources.workers import this_worker
from tests.factories import ORDERS, Shop

ENDLESS = 10**6
PHASES = ("branch", "compile", "write", "test", "publish")
FLAKY = "shop/pipelines/bronze/flaky"
# Every other attempt fails.
FLAKY_CODE = """
import pathlib, os
marker = pathlib.Path({marker!r})
if not marker.exists():
    marker.touch()
    raise RuntimeError('not yet')
marker.unlink(missing_ok=True)
result = pa.table({{'n': [1]}})
"""
TABLES = {
    "shop/pipelines/gold/broken/pipeline.sql": """
SELECT customer, 1 / (customer || 'x')::INT AS n FROM {{ ref('silver.orders') }}
""",
    "shop/pipelines/gold/fussy/pipeline.sql": """
SELECT customer, count(*) AS n FROM {{ ref('silver.orders') }} GROUP BY customer
""",
    "shop/pipelines/gold/fussy/tests/quality/nobody_comes_back.sql": """
-- @severity: error
SELECT * FROM {{ this }} WHERE n > 0
""",
}


def project(folder: Path) -> Mapping[str, str]:
    """The pipelines that the storm rages over."""
    return (
        ORDERS
        | TABLES
        | {
            f"{FLAKY}/pipeline.py": FLAKY_CODE.format(marker=str(folder / "marker")),
            f"{FLAKY}/config.yaml": "max_retries: 2\nretry_delay_seconds: 0\n",
        }
    )


class Actor:
    """One process of the storm."""

    def __init__(
        self, whole: Platform, instance: dg.DagsterInstance, seed: int
    ) -> None:
        self.shop = Shop(whole, instance, whole.settings.home.parent / "project")
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.seed = seed

    @property
    def mine(self) -> dg.DagsterRun:
        """The Dagster run that this process executes."""
        mine = dg.RunsFilter(tags={WORKER_TAG: this_worker()})
        (run,) = self.shop.instance.get_runs(mine, limit=1)
        return run

    def act(self, count: int, turns: list[Callable[[], object]]) -> None:
        """Take *count* turns; what a turn is refused is a part of the storm."""
        for turn in range(count):
            try:
                turns[turn % len(turns)]()
            except RatError as error:
                print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201

    # Turns of runners.

    def run_some(self) -> None:
        """Run a part of the pipelines, all of them now and then."""
        self.land(amount=self.dice.randint(1, 9))
        some = ["shop.bronze.*", "shop.silver.orders", "shop.gold.revenue", "shop.*"]
        self.shop.run(self.dice.choice(some))

    def run_flaky(self) -> None:
        """Run what fails first and succeeds then."""
        self.shop.run("shop.bronze.flaky")

    def fail_in_sql(self) -> None:
        """Run what never succeeds."""
        self.shop.run("shop.gold.broken")

    def fail_quality(self) -> None:
        """Run what its test stops."""
        self.shop.run("shop.gold.fussy")

    def cancel(self) -> None:
        """Ask a run to stop in the middle of some phase, nicely or by force."""
        phase = self.dice.choice(PHASES)
        is_forced = self.dice.random() < 0.5
        self.land(amount=3)

        def stop() -> None:
            if is_forced:
                self.shop.instance.report_run_canceled(self.mine)
            else:
                self.shop.instance.report_run_canceling(self.mine)

        self.run_until(phase, "begun", stop)

    def be_killed(self) -> None:
        """Run in a process that is killed at some moment."""
        child = [sys.executable, "-m", "tests.storm", "victim", "1"]
        subprocess.run([*child, str(self.dice.randrange(10**6))], check=False)

    def die(self) -> None:
        """Be killed at some moment of a run."""
        self.land(amount=5)
        self.run_until(
            self.dice.choice(PHASES),
            self.dice.choice(("begun", "ended")),
            lambda: os.kill(os.getpid(), signal.SIGKILL),
        )

    def run_until(self, phase: str, state: str, do: Callable[[], object]) -> None:
        """Run orders, and do something at a moment of it."""

        def listen(progress: Progress) -> None:
            if (progress.phase, progress.state) == (phase, state):
                journal.listeners.remove(listen)
                do()

        journal.listeners.append(listen)
        try:
            self.shop.run("shop.bronze.orders", "shop.silver.orders")
        finally:
            if listen in journal.listeners:
                journal.listeners.remove(listen)

    def run_plainly(self) -> None:
        """Execute jobs that are nobody's pipelines."""
        job = self.dice.choice((fine_job, failing_job))
        runner.execute_job(
            job, instance=self.shop.instance, tags={WORKER_TAG: this_worker()}
        )

    # Turns of others.

    def publish(self) -> None:
        """Publish another version of a pipeline."""
        time.sleep(self.dice.random() * 5)
        self.shop.publish(
            {
                "shop/pipelines/gold/revenue/pipeline.sql": f"""
SELECT customer, sum(amount) AS revenue, count(*) AS orders, {self.dice.randrange(10)} AS version
FROM {{{{ ref('silver.orders') }}}} GROUP BY customer
"""
            }
        )

    def roll_back(self) -> None:
        """Go back to the release before the current one."""
        whole = self.shop.whole
        with whole.metadata.transaction() as tx:
            number = releases.current(tx) or 1
        actions.roll_back(whole, max(1, number - 1))

    def bring_external(self) -> None:
        """Let runs of others come in, some of them badly told."""
        number = self.dice.randrange(10**6)
        lines = [
            {
                "client": f"partner{number % 3}",
                "pipeline": "load",
                "external_run_id": f"{number}-{each}",
                "status": self.dice.choice(("success", "failed", "running", "odd")),
                "started_at": "2026-01-01T00:00:00Z",
                "finished_at": "2026-01-01T00:01:00Z",
                "rows_processed": each,
            }
            for each in range(20)
        ]
        text = "".join(f"{json.dumps(line)}\n" for line in lines) + "{no json\n"
        self.put(f"chm/landing/external_runs/{number}.jsonl", text)
        whole = self.shop.whole
        Intake(whole.metadata, whole.store.root, whole.staging / "external").run()

    def mirror(self) -> None:
        """Mirror what happened so far."""
        time.sleep(self.dice.random())
        log.catch_up(self.shop.whole.metadata)

    def rebuild(self) -> None:
        """Mirror everything anew."""
        rebuilding.rebuild(self.shop.whole.metadata)

    def reconcile(self) -> None:
        """Clean up behind the dead."""
        reconcile(self.shop.whole, self.shop.instance)

    # Files.

    def land(self, *, amount: int) -> str:
        """Land an order; the name of its file."""
        number = self.dice.randrange(10**9)
        name = f"{number}.csv"
        content = f"id,customer,amount\n{number},c{number % 7},{amount}\n"
        self.put(f"shop/landing/orders/{name}", content)
        return name

    def put(self, name: str, content: str) -> None:
        """Put a file into a landing zone, whole or not at all."""
        path = self.shop.whole.settings.store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        partial.write_text(content)
        partial.rename(path)


@dg.op
def nothing() -> None:
    """Nothing."""


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def never() -> None:
    """Nothing, ever."""
    message = "no"
    raise ValueError(message)


@dg.op(ins={"before": dg.In(dg.Nothing)})
def after() -> None:
    """Nothing, afterwards."""


@dg.job(executor_def=dg.in_process_executor)
def fine_job() -> None:
    """A job that succeeds."""
    after(nothing())


@dg.job(executor_def=dg.in_process_executor)
def failing_job() -> None:
    """A job that fails, and a step that is never come to."""
    after(never())


def main(role: str, count: int, seed: int) -> None:
    """Be one process of the storm."""
    whole = platform()
    with open_instance() as instance:
        actor = Actor(whole, instance, seed)
        turns: Mapping[str, list[Callable[[], object]]] = {
            "runner": [
                actor.run_some,
                actor.fail_quality,
                actor.run_some,
                actor.cancel,
                actor.run_flaky,
                actor.run_plainly,
                actor.run_some,
                actor.fail_in_sql,
                actor.run_some,
                actor.be_killed,
            ],
            "victim": [actor.die],
            "publisher": [actor.publish, actor.bring_external, actor.roll_back],
            "mirror": [actor.mirror, actor.mirror, actor.rebuild],
        }
        actor.act(count, turns[role])


class Storm:
    """The processes of a storm."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def rage(self, *, runs: int, seed: int = 1) -> None:
        """Take *runs* turns of running in two processes, while others publish and mirror."""
        turns = runs // 2
        runners = [
            self.start("runner", turns, seed),
            self.start("runner", turns, seed + 1),
        ]
        others = [
            self.start(role, ENDLESS, seed + number)
            for number, role in enumerate(("publisher", "mirror", "mirror"), start=2)
        ]
        codes = [each.wait() for each in runners]
        for each in others:
            each.terminate()
        ended = {each.wait() for each in others}
        assert codes == [0, 0]
        assert ended == {-signal.SIGTERM}

    def start(self, role: str, count: int, seed: int) -> "subprocess.Popen[bytes]":
        """Start one process."""
        command = [sys.executable, "-m", "tests.storm", role, str(count), str(seed)]
        return subprocess.Popen(
            command, env=os.environ | self.shop.whole.settings.environ
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
