"""What RAT leans on in the locked version of Dagster: asset checks in the op of their asset.

Each case was found by trying. One that changes with a version of Dagster fails here first, and
`rat_assets.steps` has to be thought about again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

UPSTREAM, DOWNSTREAM = dg.AssetKey("upstream"), dg.AssetKey("downstream")

Body = Callable[[], Iterator[Any]]


def passed(
    *, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    """A check that found nothing."""
    return dg.AssetCheckResult(
        check_name="check", asset_key=UPSTREAM, passed=True, severity=severity
    )


def failed(
    *, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    """A check that found offenders."""
    return dg.AssetCheckResult(
        check_name="check", asset_key=UPSTREAM, passed=False, severity=severity
    )


def materialized() -> dg.MaterializeResult:
    """The asset's materialization."""
    return dg.MaterializeResult(asset_key=UPSTREAM)


@dataclass
class Seen:
    """What Dagster recorded of one run."""

    success: bool
    materialized: list[str]
    failures: list[str]
    target: int | None  # the materialization that the newest check is stamped with
    newest: int | None  # the newest materialization of the upstream asset


def observe(body: Body, *, skippable: bool = True, before: Body | None = None) -> Seen:
    """Run an asset with one blocking check and one asset that depends on it."""
    with dg.DagsterInstance.ephemeral() as instance:
        if before is not None:
            execute(before, instance=instance, skippable=skippable)
        result = execute(body, instance=instance, skippable=skippable)
        checks = result.get_asset_check_evaluations()
        newest = instance.fetch_materializations(UPSTREAM, limit=1).records
        target = checks[-1].target_materialization_data if checks else None
        return Seen(
            success=result.success,
            materialized=[
                event.step_key or ""
                for event in result.get_asset_materialization_events()
            ],
            failures=[
                event.step_failure_data.error.cls_name or ""
                for event in result.get_step_failure_events()
                if event.step_failure_data.error
            ],
            target=target.storage_id if target else None,
            newest=newest[0].storage_id if newest else None,
        )


def execute(
    body: Body, *, instance: dg.DagsterInstance, skippable: bool
) -> dg.ExecuteInProcessResult:
    """One run of both assets."""

    @dg.multi_asset(
        specs=[dg.AssetSpec(UPSTREAM, skippable=skippable)],
        check_specs=[dg.AssetCheckSpec("check", asset=UPSTREAM, blocking=True)],
        name="upstream",
    )
    def upstream() -> Iterator[Any]:
        yield from body()

    @dg.asset(key=DOWNSTREAM, deps=[UPSTREAM])
    def downstream() -> None:
        """Reads the upstream asset."""

    return dg.materialize(
        [upstream, downstream], instance=instance, raise_on_error=False
    )


def test_a_materialization_before_its_checks_is_what_they_are_stamped_with() -> None:
    def body() -> Iterator[Any]:
        yield materialized()
        yield passed()

    seen = observe(body, before=body)

    assert seen.success
    assert seen.materialized == ["upstream", "downstream"]
    assert seen.target == seen.newest


def test_a_check_before_the_materialization_is_stamped_with_the_one_before() -> None:
    def first() -> Iterator[Any]:
        yield materialized()
        yield passed()

    def second() -> Iterator[Any]:
        yield passed()
        yield materialized()

    seen = observe(second, before=first)

    assert seen.success
    assert seen.target is not None
    assert seen.newest is not None
    assert seen.target < seen.newest


def test_a_failed_check_alone_leaves_no_materialization_and_stops_what_follows() -> (
    None
):
    def body() -> Iterator[Any]:
        yield failed()

    seen = observe(body)

    assert not seen.success
    assert seen.materialized == []
    assert seen.failures == ["DagsterAssetCheckFailedError"]


def test_without_skippable_a_failed_check_alone_materializes_all_the_same() -> None:
    def body() -> Iterator[Any]:
        yield failed()

    seen = observe(body, skippable=False)

    assert seen.materialized == ["upstream"]


def test_a_failed_check_after_the_materialization_cannot_take_it_back() -> None:
    def body() -> Iterator[Any]:
        yield materialized()
        yield failed()

    seen = observe(body)

    assert not seen.success
    assert seen.materialized == ["upstream"]


def test_a_warning_never_blocks() -> None:
    def body() -> Iterator[Any]:
        yield materialized()
        yield failed(severity=dg.AssetCheckSeverity.WARN)

    seen = observe(body)

    assert seen.success
    assert seen.materialized == ["upstream", "downstream"]


def test_a_check_that_is_not_yielded_fails_the_step() -> None:
    def body() -> Iterator[Any]:
        yield materialized()

    seen = observe(body)

    assert not seen.success
    assert seen.materialized == ["upstream"]
    assert seen.failures == ["DagsterStepOutputNotFoundError"]


def test_a_failure_of_our_own_leaves_no_materialization() -> None:
    def body() -> Iterator[Any]:
        yield failed()
        raise dg.Failure("ours", allow_retries=False)

    seen = observe(body)

    assert not seen.success
    assert seen.materialized == []
    assert "Failure" in seen.failures


def test_a_step_that_yields_nothing_skips_what_follows_and_calls_it_a_success() -> None:
    @dg.multi_asset(specs=[dg.AssetSpec(UPSTREAM, skippable=True)], name="upstream")
    def upstream() -> Iterator[Any]:
        yield from ()

    @dg.asset(key=DOWNSTREAM, deps=[UPSTREAM])
    def downstream() -> None:
        """Reads the upstream asset."""

    result = dg.materialize([upstream, downstream], raise_on_error=False)

    assert result.success
    assert result.get_asset_materialization_events() == []


@pytest.mark.parametrize(("error", "tries"), [("check", 1), ("exception", 2)])
def test_a_failed_check_is_not_retried_and_an_exception_is(
    error: str, tries: int
) -> None:
    attempts = []

    @dg.multi_asset(
        specs=[dg.AssetSpec(UPSTREAM, skippable=True)],
        check_specs=[dg.AssetCheckSpec("check", asset=UPSTREAM, blocking=True)],
        retry_policy=dg.RetryPolicy(max_retries=1),
        name="upstream",
    )
    def upstream() -> Iterator[Any]:
        attempts.append(error)
        if error == "exception":
            message = "no luck"
            raise RuntimeError(message)
        yield failed()

    dg.materialize([upstream], raise_on_error=False)

    assert len(attempts) == tries


def test_an_interrupt_cancels_only_a_run_that_was_asked_to_cancel() -> None:
    statuses = []
    for ask in (False, True):
        with dg.DagsterInstance.ephemeral() as instance:
            statuses.append(interrupt(instance, ask=ask))

    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def interrupt(instance: dg.DagsterInstance, *, ask: bool) -> dg.DagsterRunStatus:
    """Interrupt the body of an asset; how Dagster calls the run."""

    @dg.asset
    def interrupted(context: dg.AssetExecutionContext) -> None:
        if ask:
            context.instance.report_run_canceling(context.run)
        raise DagsterExecutionInterruptedError

    run_id = dg.materialize(
        [interrupted], instance=instance, raise_on_error=False
    ).run_id
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status
