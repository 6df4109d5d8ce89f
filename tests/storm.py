"""A storm: processes that run, cancel, kill, publish and mirror one RAT, all at once.

Each process is forked, of a server that has imported everything, so that a killed one costs no more than
a run. Two of them take turns of running; while they do, threads beside them do what others do.
"""

import json
import multiprocessing as mp
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import dagster as dg
from sqlalchemy import text

from rat_assets import actions, journal
from rat_assets.clients import record_run_job
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
from tests.factories import ORDERS, Shop, folder_of

SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PHASES = ("branch", "compile", "write", "test", "publish")
WIDE = 6
RUNNERS = 2
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
RETRIED = "max_retries: 2\nretry_delay_seconds: 0\n"
COUNTED = """
SELECT customer, count(*) AS n FROM {{ ref('silver.orders') }} GROUP BY customer
"""
TABLES = {
    "shop/pipelines/gold/broken/pipeline.sql": """
SELECT customer, 1 / (customer || 'x')::INT AS n FROM {{ ref('silver.orders') }}
""",
    "shop/pipelines/gold/fussy/pipeline.sql": COUNTED,
    "shop/pipelines/gold/fussy/tests/quality/nobody_comes_back.sql": """
-- @severity: error
SELECT * FROM {{ this }} WHERE n > 0
""",
    "shop/pipelines/silver/sturdy/pipeline.sql": COUNTED,
    "shop/pipelines/silver/sturdy/config.yaml": RETRIED,
    "shop/pipelines/silver/sturdy/tests/quality/somebody_comes.sql": """
-- @severity: warn
SELECT * FROM {{ this }} WHERE n > 3
""",
    **{f"shop/pipelines/gold/wide{each}/pipeline.sql": COUNTED for each in range(WIDE)},
}
CHAIN = ("shop.bronze.orders", "shop.silver.orders", "shop.gold.revenue")
MANY = (*CHAIN, "shop.silver.sturdy", *(f"shop.gold.wide{n}" for n in range(WIDE)))


def project(folder: Path) -> Mapping[str, str]:
    """The pipelines that the storm rages over."""
    flaky = "shop/pipelines/bronze/flaky"
    code = FLAKY_CODE.format(marker=str(folder / "marker"))
    return (
        ORDERS
        | TABLES
        | {f"{flaky}/pipeline.py": code, f"{flaky}/config.yaml": RETRIED}
    )


class Actor:
    """One process of the storm."""

    def __init__(
        self, whole: Platform, instance: dg.DagsterInstance, *, seed: int
    ) -> None:
        self.shop = Shop(whole, instance, whole.settings.home.parent / "project")
        self.dice = random.Random(seed)  # noqa: S311 - no secret

    @property
    def mine(self) -> dg.DagsterRun:
        """The Dagster run that this process executes."""
        mine = dg.RunsFilter(tags={WORKER_TAG: this_worker()})
        (run,) = self.shop.instance.get_runs(mine, limit=1)
        return run

    def rage(self, runs: int, share: int) -> None:
        """Take *share* of the turns, each at least once, in any order, until there are so many *runs*."""
        turns = [
            self.run_many,
            self.cancel,
            self.run_flaky,
            self.fail_quality,
            self.run_many,
            self.cancel,
            self.run_plainly,
            self.fail_in_sql,
        ]
        others = [
            self.rebuild,
            self.publish,
            self.bring_external,
            self.roll_back,
            self.reconcile,
            self.publish,
            self.bring_external,
            self.roll_back,
        ]
        mine = list(zip(turns[share::RUNNERS], others[share::RUNNERS], strict=True))
        while True:
            self.dice.shuffle(mine)
            for turn, other in mine:
                self.at_once(turn, other)
            if self.run_count >= runs:
                return

    @property
    def run_count(self) -> int:
        """How many runs there are, of all processes."""
        with self.shop.whole.metadata.transaction() as tx:
            return tx.scalar(text("SELECT count(*) FROM rat.runs")) or 0

    def at_once(self, turn: Callable[[], object], other: Callable[[], object]) -> None:
        """Take a turn here, while others do *other* and mirror, twice at once."""
        with ThreadPoolExecutor() as pool:
            beside = [
                pool.submit(dare, each) for each in (other, self.mirror, self.mirror)
            ]
            dare(turn)
            for each in beside:
                each.result()

    # Turns of runners.

    def run_many(self) -> None:
        """Run orders and much of what reads them."""
        self.land(amount=self.dice.randint(1, 9))
        self.shop.run(*CHAIN, *self.dice.sample(MANY[3:], 4))

    def run_flaky(self) -> None:
        """Run what fails first and succeeds then."""
        self.shop.run("shop.bronze.flaky", "shop.gold.wide0")

    def fail_in_sql(self) -> None:
        """Run what never succeeds."""
        self.shop.run("shop.gold.broken", "shop.gold.wide1")

    def fail_quality(self) -> None:
        """Run what its test stops."""
        self.shop.run("shop.gold.fussy", "shop.silver.sturdy")

    def run_chain(self) -> None:
        """Run orders down to gold, as others do at the same time."""
        self.land(amount=7)
        self.shop.run(*CHAIN)

    def cancel(self) -> None:
        """Ask a run to stop in the middle of some phase, nicely or by force."""
        is_forced = self.dice.random() < 0.5

        def stop() -> None:
            if is_forced:
                self.shop.instance.report_run_canceled(self.mine)
            else:
                self.shop.instance.report_run_canceling(self.mine)

        self.run_until(self.dice.choice(PHASES), "begun", stop)

    def run_victim(self) -> None:
        """Run what is worth killing, of which a part is tried again."""
        self.land(amount=5)
        self.shop.run(*CHAIN, "shop.silver.sturdy")

    def die(self) -> None:
        """Be killed at some moment of a run."""
        self.run_until(
            self.dice.choice(PHASES),
            self.dice.choice(("begun", "ended")),
            lambda: os.kill(os.getpid(), signal.SIGKILL),
        )

    def run_until(self, phase: str, state: str, do: Callable[[], object]) -> None:
        """Run orders, and do something at a moment of it."""
        table = self.dice.choice(("bronze.orders", "silver.orders", "silver.sturdy"))

        def listen(progress: Progress) -> None:
            is_it = (progress.phase, progress.state) == (phase, state)
            if is_it and str(progress.table) == f"shop.{table}":
                journal.listeners.remove(listen)
                do()

        journal.listeners.append(listen)
        try:
            self.run_victim()
        finally:
            if listen in journal.listeners:
                journal.listeners.remove(listen)

    def run_plainly(self) -> None:
        """Execute jobs that are nobody's pipelines."""
        self.execute(fine_job)
        self.execute(failing_job)
        self.record_run()

    def record_run(self) -> None:
        """Let somebody write a run by hand."""
        number = self.dice.randrange(10**6)
        form = {
            "pipeline": f"partner{number % 3}/load",
            "external_run_id": f"by-hand-{number}",
            "status": "success",
            "started_at": "2026-01-01T00:00:00Z",
        }
        self.execute(record_run_job, {"ops": {"keep_run": {"config": form}}})

    # Turns of others.

    def publish(self) -> None:
        """Publish another version of a pipeline."""
        number = self.dice.randrange(10)
        query = ORDERS["shop/pipelines/gold/revenue/pipeline.sql"]
        path = self.shop.folder / "shop/pipelines/gold/revenue/pipeline.sql"
        put(path, query.replace("FROM", f", {number} AS version FROM", 1))
        actions.publish(self.shop.whole, self.shop.folder)

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
        told = "".join(f"{json.dumps(line)}\n" for line in lines) + "{no json\n"
        whole = self.shop.whole
        store = folder_of(whole.settings.store)
        put(store / f"chm/landing/external_runs/{number}.jsonl", told)
        Intake(whole.metadata, whole.store.root, whole.staging / "external").run()

    def mirror(self) -> None:
        """Mirror what happened so far."""
        log.catch_up(self.shop.whole.metadata)

    def rebuild(self) -> None:
        """Mirror everything anew."""
        rebuilding.rebuild(self.shop.whole.metadata)

    def reconcile(self) -> None:
        """Clean up behind the dead."""
        reconcile(self.shop.whole, self.shop.instance)

    # How.

    def execute(
        self, job: dg.JobDefinition, run_config: Mapping[str, object] | None = None
    ) -> None:
        """Execute a job in this process."""
        job.execute_in_process(
            run_config={**(run_config or {}), **SILENT},
            instance=self.shop.instance,
            tags={WORKER_TAG: this_worker()},
            resources={"platform": self.shop.whole},
            raise_on_error=False,
        )

    def land(self, *, amount: int) -> None:
        """Land an order."""
        number = self.dice.randrange(10**9)
        put(
            folder_of(self.shop.whole.settings.store)
            / f"shop/landing/orders/{number}.csv",
            f"id,customer,amount\n{number},c{number % 7},{amount}\n",
        )


def dare(turn: Callable[[], object]) -> None:
    """Take a turn; what it is refused is a part of the storm."""
    try:
        turn()
    except RatError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201


def put(path: Path, content: str) -> None:
    """Put a file where others look, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}")
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


# Processes.


def rage(shop: Shop, *, runs: int, seed: int) -> None:
    """Let a storm of at least so many *runs* rage over a shop that has the `project`."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    os.environ.update(shop.whole.settings.environ)
    runners = [
        start("rage", runs, share, seed=seed + share) for share in range(RUNNERS)
    ]
    while busy := [each.sentinel for each in runners if each.is_alive()]:
        turn = dice.choice(("die", "run_chain", "run_victim"))
        victim = start(turn, seed=dice.randrange(10**6))
        wait([victim.sentinel, *busy], timeout=1 + 5 * dice.random())
        victim.kill()  # wherever it is by now
        victim.join()
    assert [each.exitcode for each in runners] == [0, 0]


def start(turn: str, *arguments: object, seed: int) -> ForkServerProcess:
    """Start a process that takes one turn, on the RAT of this one's environment."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(
        target=act, args=(dict(os.environ), turn, arguments, seed)
    )
    process.start()
    return process


def act(
    environ: Mapping[str, str], turn: str, arguments: Sequence[object], seed: int
) -> None:
    """Be one process of the storm."""
    os.environ.clear()  # the server of forks may be that of another test
    os.environ.update(environ)
    whole = platform()
    with open_instance() as instance:
        take = getattr(Actor(whole, instance, seed=seed), turn)
        dare(lambda: take(*arguments))
