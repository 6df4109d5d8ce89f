"""Actions: the jobs that people launch, with the forms that Dagster makes of them."""

from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from rat_assets.actions import retire_job, run_job
from rat_resources.wiring import resources
from tests.factories import Shop

ONE = {"shop/pipelines/gold/one/pipeline.sql": "SELECT 1 AS id"}


def launch(shop: Shop, **config: Any) -> dg.ExecuteInProcessResult:  # noqa: ANN401 - any key of the form
    """The job `run` as the launchpad starts it."""
    asked = {"ops": {"run_pipelines": {"config": config}}}
    return run_job.execute_in_process(
        run_config=asked,
        instance=shop.instance,
        resources=resources(),
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    (event,) = [each for each in result.all_node_events if each.is_step_failure]
    said = event.step_failure_data.user_failure_data
    return said.description or "" if said else ""


def test_the_form_of_the_job_run_begins_with_what_to_run() -> None:
    form: Any = run_job.run_config_schema.config_type
    form = form.fields["ops"].config_type

    config = form.fields["run_pipelines"].config_type.fields["config"]
    selection = config.config_type.fields["selection"]
    assert config.default_value["selection"] == []
    assert "namespaces" in selection.description


def test_the_job_run_runs_what_is_named(shop: Shop) -> None:
    shop.publish(ONE)

    result = launch(shop, selection=["shop.gold.one"])

    assert result.success
    assert shop.rows("shop.gold.one") == [(1,)]


@pytest.mark.parametrize("config", [{}, {"selection": ["shop"], "all": True}])
def test_the_job_run_wants_to_know_what_to_run(
    shop: Shop, config: dict[str, Any]
) -> None:
    shop.publish(ONE)

    result = launch(shop, **config)

    assert failure(result).startswith("name what to run in `selection`")


def test_the_job_run_says_which_name_is_unknown(shop: Shop) -> None:
    shop.publish(ONE)

    result = launch(shop, selection=["shop.gold.on"])

    assert "did you mean shop.gold.one?" in failure(result)


def test_the_job_retire_takes_pipelines_out(shop: Shop) -> None:
    shop.publish(ONE)
    asked = {"ops": {"retire_pipelines": {"config": {"pipelines": ["shop.gold.one"]}}}}

    results = [
        retire_job.execute_in_process(
            run_config=asked,
            instance=shop.instance,
            resources=resources(),
            raise_on_error=False,
        )
        for _ in range(2)
    ]

    assert results[0].success
    assert "no pipeline shop.gold.one is published" in failure(results[1])


def test_a_run_from_the_command_line_is_listed_under_its_job(shop: Shop) -> None:
    shop.publish(ONE)

    report = shop.run()

    # What the UI's timeline and the job's own page ask for.
    listed = dg.RunsFilter(
        job_name="pipelines", tags={REPOSITORY_LABEL_TAG: "__repository__@rat"}
    )
    (run,) = shop.instance.get_runs(listed)
    assert run.run_id == report.dagster_run_id
