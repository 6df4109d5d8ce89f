"""What a run costs beside its work: a pipeline of one row and three tests.

In one process: a whole run, PyIceberg's bare append of that row, and Dagster's own step with as
many checks on the same storage. By command: `rat run`, `dbt build` and `sqlmesh run` of the same
model, alone and among a thousand others. And a hundred small pipelines in one `rat run`.

The peers are installed into .benchmarks/ by uv; one that cannot be is left out, and that is said.
"""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.paper import Figures, keep, ms, s
from benchmarks.place import PROJECT, RAT, Place, command, in_turns, own_place, seconds

ROUNDS = 30
COMMANDS = 5
OTHERS = 1000
HUNDRED = 100
CHECKS = ("id_is_one", "id_is_there", "id_is_unique")
ONE = {
    "bench/pipelines/gold/one/pipeline.sql": "SELECT 1 AS id, now() AS made_at\n",
    "bench/pipelines/gold/one/tests/quality/id_is_one.sql": (
        "SELECT * FROM {{ this }} WHERE id <> 1\n"
    ),
    "bench/pipelines/gold/one/tests/quality/id_is_there.sql": (
        "SELECT * FROM {{ this }} WHERE id IS NULL\n"
    ),
    "bench/pipelines/gold/one/tests/quality/id_is_unique.sql": (
        "SELECT id FROM {{ this }} GROUP BY id HAVING count(*) > 1\n"
    ),
}


def main() -> None:
    """Measure, and write the section."""
    with own_place() as place:
        command([str(RAT), "publish", str(place.tree(ONE))])
        process = measure_process(place)
        alone = measure_commands(place, others=0)
        publishing = publish_others(place)
        among = measure_commands(place, others=OTHERS)
        hundred = measure_hundred()
    commands = Figures(
        ("one model by command, with its tests", "alone", f"among {OTHERS:,} others"),
        [
            (name, took(alone, name), took(among, name))
            for name in ("rat run", "dbt build", "sqlmesh run")
        ],
    )
    keep("run_overhead", process, commands, hundred, publishing)


def took(found: dict[str, float], name: str) -> str:
    """What a command took, or that it could not be measured."""
    return s(found[name]) if name in found else "not installed here"


# In one process.


def measure_process(place: Place) -> Figures:
    """A run beside the bare append and Dagster's step."""
    import dagster as dg  # noqa: PLC0415 - after the environment

    from rat_assets import runner  # noqa: PLC0415
    from rat_assets.runner import RunAsk  # noqa: PLC0415
    from rat_resources.platform import platform  # noqa: PLC0415

    whole = platform()
    ask = RunAsk(("bench.gold.one",))
    with dg.DagsterInstance.get() as instance:
        append = bare_append(place, whole.metadata)
        step = empty_step(instance)
        taken = in_turns(
            {
                "append": lambda: seconds(lambda: next(append)),
                "step": lambda: seconds(lambda: next(step)),
                "run": lambda: seconds(
                    lambda: runner.run(whole, ask, instance=instance)
                ),
            },
            rounds=ROUNDS,
        )
    both = taken["append"] + taken["step"]
    rows = [
        ("PyIceberg's append of the row", ms(taken["append"])),
        (
            f"Dagster's run of an empty step with {len(CHECKS)} checks",
            ms(taken["step"]),
        ),
        ("a whole run of RAT", ms(taken["run"])),
        ("more than the two together", ms(taken["run"] - both)),
        *((f"… of it, phase {name}", ms(each)) for name, each in phases(whole)),
    ]
    return Figures((f"in one process, median of {ROUNDS}", "time"), rows)


def bare_append(place: Place, metadata: object) -> Iterator[object]:
    """PyIceberg alone: its own catalog in the same Postgres, one row more at each turn."""
    import pyarrow as pa  # noqa: PLC0415
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415
    from sqlalchemy import text  # noqa: PLC0415

    from rat_resources.metadata import Metadata  # noqa: PLC0415

    assert isinstance(metadata, Metadata)  # noqa: S101 - for the type
    with metadata.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA bare"))
    options = {"options": "-csearch_path=bare"}
    url = metadata.url.update_query_dict(options).render_as_string(hide_password=False)
    catalog = SqlCatalog("bare", uri=url, warehouse=(place.folder / "bare").as_uri())
    catalog.create_namespace("bench")
    row = pa.table({"id": [1]})
    catalog.create_table("bench.one", schema=row.schema)
    while True:
        table = catalog.load_table("bench.one")
        table.append(row)
        yield table


def empty_step(instance: object) -> Iterator[object]:
    """Dagster alone: a step that does nothing, executed as RAT executes its own."""
    import dagster as dg  # noqa: PLC0415

    from rat_assets.runner import execute  # noqa: PLC0415
    from rat_resources.names import TableName  # noqa: PLC0415
    from rat_sensors.jobs import pipelines_job  # noqa: PLC0415

    table = TableName("bench", "gold", "nothing")
    key = dg.AssetKey([*table.key])

    @dg.multi_asset(
        specs=[dg.AssetSpec(key)],
        check_specs=[dg.AssetCheckSpec(name, asset=key) for name in CHECKS],
    )
    def nothing() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield dg.MaterializeResult(asset_key=key)
        for name in CHECKS:
            yield dg.AssetCheckResult(check_name=name, asset_key=key, passed=True)

    assert isinstance(instance, dg.DagsterInstance)  # noqa: S101 - for the type
    while True:
        definitions = dg.Definitions(
            [nothing], jobs=[pipelines_job([key])], executor=dg.in_process_executor
        )
        yield execute(definitions, [table], instance=instance, tags={})


def phases(whole: object) -> Iterator[tuple[str, float]]:
    """The median of each phase of the runs that were measured."""
    from sqlalchemy import select  # noqa: PLC0415

    from rat_resources.metadata.runs import Run  # noqa: PLC0415
    from rat_resources.platform import Platform  # noqa: PLC0415

    assert isinstance(whole, Platform)  # noqa: S101 - for the type
    newest = select(Run.phase_profiles).order_by(Run.created_at.desc()).limit(ROUNDS)
    with whole.metadata.transaction() as tx:
        found = [each for each in tx.scalars(newest) if each]
    for position, first in enumerate(found[0]):
        yield first["phase"], median(each[position]["ms"] for each in found) / 1000


# By command.


def measure_commands(place: Place, *, others: int) -> dict[str, float]:
    """RAT's command beside its peers', with as many other models."""
    tasks = {"rat run": lambda: command([str(RAT), "run", "bench.gold.one"])}
    dbt, sqlmesh = (
        install("dbt", ["dbt-core<1.12", "dbt-duckdb"]),
        install("sqlmesh", ["sqlmesh"]),
    )
    if dbt:
        project = make_dbt(place, others=others)
        build = [str(dbt), "build", "--select", "one", "--profiles-dir", "."]
        tasks["dbt build"] = lambda: command(build, folder=project)
    if sqlmesh:
        project_of_sqlmesh = make_sqlmesh(place, sqlmesh, others=others)
        run = [str(sqlmesh), "run", "--ignore-cron", "--select-model", "bench.one"]
        tasks["sqlmesh run"] = lambda: command(run, folder=project_of_sqlmesh)
    return in_turns(tasks, rounds=COMMANDS)


def install(name: str, packages: list[str]) -> Path | None:
    """A peer in an environment of its own; None where it cannot be had."""
    folder = PROJECT / ".benchmarks" / name
    program = folder / "bin" / name
    if not program.exists():
        uv = os.environ.get("UV", "uv")
        python = str(folder / "bin" / "python")
        for words in (
            [uv, "venv", "--quiet", "--clear", str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, *packages],
        ):
            if subprocess.run(words, check=False).returncode:  # noqa: S603
                return None
    return program if program.exists() else None


def make_dbt(place: Place, *, others: int) -> Path:
    """A dbt project of the same model and tests."""
    models = {f"models/m{n}.sql": f"SELECT {n} AS id\n" for n in range(others)}
    return place.tree(
        {
            **models,
            "models/one.sql": "SELECT 1 AS id, now() AS made_at\n",
            "models/one.yml": (
                "models: [{name: one, columns: [{name: id, data_tests: [not_null, unique, "
                "{accepted_values: {arguments: {values: [1]}}}]}]}]\n"
            ),
            "dbt_project.yml": (
                "{name: bench, version: '1.0', profile: bench, "
                "flags: {send_anonymous_usage_stats: false}}\n"
            ),
            "profiles.yml": (
                "bench: {target: dev, outputs: {dev: {type: duckdb, path: bench.duckdb}}}\n"
            ),
        },
        name=f"dbt{others}",
    )


def make_sqlmesh(place: Place, program: Path, *, others: int) -> Path:
    """A SQLMesh project of the same model and audits, planned once."""

    def model(name: str, query: str, audits: str = "") -> str:
        return f"MODEL (name bench.{name}, kind FULL{audits});\n{query}\n"

    audits = (
        ", audits (not_null(columns := (id)), unique_values(columns := (id)), "
        "accepted_values(column := id, is_in := (1)))"
    )
    models = {
        f"models/m{n}.sql": model(f"m{n}", f"SELECT {n} AS id") for n in range(others)
    }
    folder = place.tree(
        {
            **models,
            "models/one.sql": model("one", "SELECT 1 AS id, now() AS made_at", audits),
            "config.yaml": (
                "gateways: {local: {connection: {type: duckdb, database: db.duckdb}}}\n"
                "default_gateway: local\n"
                "model_defaults: {dialect: duckdb, start: '2026-01-01'}\n"
                "disable_anonymized_analytics: true\n"
            ),
        },
        name=f"sqlmesh{others}",
    )
    command([str(program), "plan", "--auto-apply", "--no-prompts"], folder=folder)
    return folder


def publish_others(place: Place) -> str:
    """A thousand pipelines more; how long publishing them took."""
    others = {
        f"bench/pipelines/gold/m{n}/pipeline.sql": f"SELECT {n} AS id\n"
        for n in range(OTHERS)
    }
    tree = str(place.tree(others))
    first = command([str(RAT), "publish", tree])
    again = command([str(RAT), "publish", tree])
    return f"`rat publish` of {OTHERS:,} new pipelines took {s(first)}, the same again {s(again)}."


# A hundred at once.


def measure_hundred() -> Figures:
    """A hundred small pipelines, in one process and in two."""
    names = [f"bench.gold.m{n}" for n in range(HUNDRED)]
    first, second = names[: HUNDRED // 2], names[HUNDRED // 2 :]
    command([str(RAT), "run", *names])  # the tables exist
    one = command([str(RAT), "run", *names])
    with ThreadPoolExecutor(2) as pool:
        two = seconds(
            lambda: list(
                pool.map(
                    lambda half: command([str(RAT), "run", *half]), (first, second)
                )
            )
        )
    return Figures(
        (f"{HUNDRED} small pipelines by `rat run`", "whole", "each"),
        [
            ("in one process", s(one), ms(one / HUNDRED)),
            ("in two processes", s(two), ms(two / HUNDRED)),
        ],
    )


if __name__ == "__main__":
    main()
