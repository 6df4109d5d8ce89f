"""Dagster's log, mirrored: runs and steps as they went, however often and by whomever they are told."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from rat_resources.metadata import Metadata
from rat_resources.mirror import log, positions
from rat_resources.mirror.log import catch_up
from tests.factories import Shop
from tests.rat_resources.mirror.dagster_jobs import (
    change,
    contents,
    create,
    execute,
    fails,
    is_interrupted,
    maps,
    retries,
    run_of,
    skips,
    steps_of,
    succeeds,
    takes_config,
)


@pytest.mark.parametrize(
    ("job", "result", "steps"),
    [
        (succeeds, "SUCCEEDED", {"one:1": "SUCCEEDED", "keep:1": "SUCCEEDED"}),
        (fails, "FAILED", {"fail:1": "FAILED", "keep:1": "BLOCKED"}),
        (
            retries,
            "SUCCEEDED",
            {
                "third_time:1": "FAILED",
                "third_time:2": "FAILED",
                "third_time:3": "SUCCEEDED",
            },
        ),
        (
            skips,
            "SUCCEEDED",
            {
                "only_left:1": "SUCCEEDED",
                "on_left:1": "SUCCEEDED",
                "on_right:1": "SKIPPED",
            },
        ),
        (
            maps,
            "SUCCEEDED",
            {"two:1": "SUCCEEDED", "keep[1]:1": "SUCCEEDED", "keep[2]:1": "SUCCEEDED"},
        ),
    ],
)
def test_a_run_and_its_steps_are_told(
    metadata: Metadata,
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    result: str,
    steps: dict[str, str],
) -> None:
    run_id = execute(instance, job)

    progress = catch_up(metadata)

    assert (progress.runs, progress.steps) == (1, len(steps))
    assert run_of(metadata, run_id).result_state == result
    assert steps_of(metadata, run_id) == steps


def test_a_run_of_another_location_names_its_job(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run_id = execute(instance, succeeds, location="theirs")

    catch_up(metadata)

    told = run_of(metadata, run_id)
    assert told.job_id == "theirs/__repository__/succeeds"
    assert told.period_end_time is not None
    assert (told.trigger_type, told.run_type) == ("ONETIME", "JOB_RUN")


def test_a_job_that_no_location_claims_is_told_too(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run_id = succeeds.execute_in_process(instance=instance).run_id

    catch_up(metadata)

    assert run_of(metadata, run_id).job_id == "unknown/unknown/succeeds"


def test_a_task_says_what_it_waits_for(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    execute(instance, maps)

    catch_up(metadata)

    tasks = contents(metadata)["dim_job_task"]
    assert [(row[2], row[3], row[6]) for row in tasks] == [
        ("keep", "op", ["two"]),
        ("two", "op", []),
    ]


def test_a_queued_run_is_unfinished(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run_id = create(instance, succeeds).run_id

    catch_up(metadata)

    told = run_of(metadata, run_id)
    assert (told.result_state, told.period_end_time) == (None, None)
    assert steps_of(metadata, run_id) == {}


def test_a_cancelled_run_cancels_what_never_began(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run = create(instance, succeeds)
    catch_up(metadata)
    instance.report_run_canceled(run)

    catch_up(metadata)

    told = run_of(metadata, run.run_id)
    assert (told.result_state, told.termination_code) == ("CANCELLED", "CANCELLED")
    assert steps_of(metadata, run.run_id) == {
        "one:1": "CANCELLED",
        "keep:1": "CANCELLED",
    }


def test_a_step_that_is_interrupted_fails_with_its_run(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run_id = execute(instance, is_interrupted)

    catch_up(metadata)

    assert run_of(metadata, run_id).result_state == "FAILED"
    assert steps_of(metadata, run_id) == {"stop:1": "FAILED", "keep:1": "BLOCKED"}


def test_a_step_of_which_nothing_more_is_heard_ends_with_its_run(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run = create(instance, succeeds)
    instance.report_dagster_event(started(run), run.run_id)
    began = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.STEP_START.value,
        job_name=run.job_name,
        step_key="one",
    )
    instance.report_dagster_event(began, run.run_id)
    catch_up(metadata)
    before = steps_of(metadata, run.run_id)
    instance.report_run_canceled(run)

    catch_up(metadata)

    assert before == {"one:1": None}
    assert steps_of(metadata, run.run_id) == {
        "one:1": "CANCELLED",
        "keep:1": "CANCELLED",
    }


def test_a_run_that_was_given_up_and_went_on_is_told_as_it_ended(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run = create(instance, maps)
    instance.report_run_canceled(run)
    catch_up(metadata)
    change(
        metadata,
        "UPDATE dagster.runs SET status = 'SUCCESS' WHERE run_id = :run",
        run=run.run_id,
    )

    with metadata.transaction() as tx:
        log.tell(tx, [run.run_id], progress=log.Progress())

    assert run_of(metadata, run.run_id).result_state == "SUCCEEDED"
    assert steps_of(metadata, run.run_id) == {}


@pytest.mark.parametrize(
    ("message", "result", "code"),
    [
        ("Exceeded maximum runtime of 5 seconds.", "TIMED_OUT", "EXECUTION_TIMEOUT"),
        ("the process that ran it died", "ERROR", "CLUSTER_ERROR"),
        ("Detected run worker status FAILED. Marking run", "ERROR", "CLUSTER_ERROR"),
        ("a step failed", "FAILED", "RUN_EXECUTION_ERROR"),
    ],
)
def test_why_a_run_failed_is_told(
    metadata: Metadata,
    instance: dg.DagsterInstance,
    message: str,
    result: str,
    code: str,
) -> None:
    run = create(instance, succeeds)
    instance.report_dagster_event(started(run), run.run_id)
    instance.report_run_failed(run, message=message)

    catch_up(metadata)

    told = run_of(metadata, run.run_id)
    assert (told.result_state, told.termination_code) == (result, code)


def started(run: dg.DagsterRun) -> dg.DagsterEvent:
    """What Dagster writes when a run starts."""
    return dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_START.value, job_name=run.job_name
    )


@pytest.mark.parametrize(
    ("tags", "trigger"),
    [
        ({"dagster/schedule_name": "nightly"}, "CRON"),
        ({"dagster/sensor_name": "wishes"}, "FILE_ARRIVAL"),
        (
            {"dagster/sensor_name": "wishes", "rat/trigger": "schedule:0 * * * *"},
            "CRON",
        ),
        ({"dagster/sensor_name": "wishes", "rat/trigger": "auto"}, "CONTINUOUS"),
        ({"rat/trigger": "trigger:lz_upload:shop/orders"}, "FILE_ARRIVAL"),
        ({"rat/trigger": "manual", "dagster/parent_run_id": "x"}, "ONETIME_RETRY"),
        ({}, "ONETIME"),
    ],
)
def test_why_a_run_ran_is_told(
    metadata: Metadata,
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    trigger: str,
) -> None:
    run_id = create(instance, succeeds, tags=tags).run_id

    catch_up(metadata)

    assert run_of(metadata, run_id).trigger_type == trigger


def test_a_run_of_a_backfill_was_submitted(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run_id = create(instance, succeeds, tags={"dagster/backfill": "abc"}).run_id

    catch_up(metadata)

    assert run_of(metadata, run_id).run_type == "SUBMIT_RUN"


def test_what_a_run_was_configured_with_is_told_without_secrets(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    config = {"ops": {"configured": {"config": {"path": "/x", "password": "hush"}}}}
    run_id = execute(instance, takes_config, run_config=config)

    catch_up(metadata)

    assert run_of(metadata, run_id).job_parameters == {
        "ops": {"configured": {"config": {"path": "/x", "password": "***"}}}
    }


def test_telling_everything_again_changes_nothing(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    for job in (succeeds, fails, retries, skips, maps):
        execute(instance, job)
    catch_up(metadata)
    before = contents(metadata)
    with metadata.transaction() as tx:
        positions.restart(tx)

    again = catch_up(metadata)

    assert (again.read, again.runs, again.steps) == (5, 0, 0)
    assert contents(metadata) == before


def test_two_at_once_tell_the_same_once(
    metadata: Metadata, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "TOGETHER", 1)
    for _ in range(3):
        execute(instance, fails)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(catch_up, [metadata, metadata]))

    assert sum(each.runs for each in done) == 3
    assert len(contents(metadata)["fact_job_task_run_timeline"]) == 6


def test_an_event_that_becomes_visible_late_is_not_lost(
    metadata: Metadata, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, early = create(instance, succeeds), create(instance, succeeds)
    catch_up(metadata)
    settle(metadata)
    with metadata.engine.connect() as slow:
        slow.execute(text(EVENT), {"run": late.run_id})
        change(metadata, EVENT, run=early.run_id)
        catch_up(metadata)
        slow.commit()
    monkeypatch.setattr(positions, "SETTLED", timedelta(0))

    # Read once, once more because it had been seen only then, and never again.
    assert [catch_up(metadata).read for _ in range(3)] == [2, 2, 0]


EVENT = """
    INSERT INTO dagster.event_logs (run_id, event, dagster_event_type, timestamp)
    VALUES (:run, '{}', 'ENGINE_EVENT', now() AT TIME ZONE 'UTC')
"""


def settle(metadata: Metadata) -> None:
    """Let so much time pass that what was read has settled."""
    change(
        metadata, "UPDATE rat.mirror_positions SET seen_at = now() - interval '1 day'"
    )
    catch_up(metadata)


def test_an_idle_system_is_left_alone(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    execute(instance, succeeds)
    catch_up(metadata)
    settle(metadata)

    assert catch_up(metadata).read == 0


def test_what_ended_without_a_word_is_noticed(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    run = create(instance, succeeds)
    catch_up(metadata)
    settle(metadata)
    change(
        metadata,
        "UPDATE dagster.runs SET status = 'CANCELED' WHERE run_id = :run",
        run=run.run_id,
    )

    catch_up(metadata)

    assert run_of(metadata, run.run_id).result_state == "CANCELLED"


def test_a_run_that_dagster_deleted_stays_and_an_unfinished_one_ends(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    ended = execute(instance, succeeds)
    unfinished = create(instance, succeeds).run_id
    catch_up(metadata)
    before = steps_of(metadata, ended)
    for run_id in (ended, unfinished):
        instance.delete_run(run_id)

    catch_up(metadata)

    assert run_of(metadata, ended).result_state == "SUCCEEDED"
    assert steps_of(metadata, ended) == before
    told = run_of(metadata, unfinished)
    assert (told.result_state, told.termination_code) == ("CANCELLED", "RUN_DELETED")


def test_events_of_a_run_that_nobody_knows_are_passed_over(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    known = execute(instance, succeeds)
    catch_up(metadata)
    stranger = str(uuid.uuid4())
    change(metadata, EVENT, run=stranger)

    progress = catch_up(metadata)

    assert progress.gone == {stranger}
    assert run_of(metadata, known).result_state == "SUCCEEDED"


def test_a_body_that_cannot_be_read_is_reported_and_the_rest_is_told(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    broken, whole = execute(instance, succeeds), execute(instance, succeeds)
    change(
        metadata,
        "UPDATE dagster.runs SET run_body = '{' WHERE run_id = :run",
        run=broken,
    )

    progress = catch_up(metadata)

    assert progress.unreadable == [f"run {broken}: its body is no JSON"]
    assert run_of(metadata, broken).result_state == "SUCCEEDED"
    assert run_of(metadata, whole).result_state == "SUCCEEDED"


def test_a_run_that_cannot_be_told_is_reported_and_the_rest_is_told(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    broken, whole = execute(instance, succeeds), execute(instance, succeeds)
    change(
        metadata,
        "UPDATE dagster.runs SET start_time = 'infinity', end_time = 1e300 WHERE run_id = :run",
        run=broken,
    )

    progress = catch_up(metadata)

    assert [line.partition(":")[0] for line in progress.unreadable] == [f"run {broken}"]
    assert run_of(metadata, whole).result_state == "SUCCEEDED"


def test_a_tick_tells_no_more_than_it_may(
    metadata: Metadata, instance: dg.DagsterInstance
) -> None:
    execute(instance, succeeds)

    progress = catch_up(metadata, budget=timedelta(seconds=-1))

    assert (progress.read, progress.caught_up) == (0, False)


def test_small_batches_tell_the_same(
    metadata: Metadata, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [execute(instance, succeeds) for _ in range(5)]
    monkeypatch.setattr(log, "TOGETHER", 2)

    catch_up(metadata)

    assert {row[1] for row in contents(metadata)["fact_job_run_timeline"]} == {*runs}


def test_what_waits_for_its_turn_to_publish_holds_up_no_run(open_shop: Shop) -> None:
    metadata = open_shop.whole.metadata
    with ThreadPoolExecutor() as pool:
        with metadata.transaction() as reader:
            positions.take_turn(reader)
            publishing = pool.submit(
                open_shop.publish,
                {"shop/pipelines/gold/new/pipeline.sql": "SELECT 1 AS n"},
            )
            while not is_waited_for(metadata):
                pass
            ran = open_shop.run("shop.gold.revenue")
        release = publishing.result()

    assert ran.succeeded
    assert release.number == 2


def is_waited_for(metadata: Metadata) -> bool:
    """Whether somebody waits for a lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with metadata.transaction() as tx:
        return tx.execute(text(waiting)).first() is not None
