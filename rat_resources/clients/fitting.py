"""Fitting: whether a form goes with what stands there already. One field by itself is `forms`."""

import uuid
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources.alerts.channel_documents import address, url
from rat_resources.alerts.readers import listed, open_or_secret, secret
from rat_resources.clients.finding import (
    client_names,
    find_client,
    find_pipeline_of,
    is_ours,
)
from rat_resources.clients.forms import (
    LONGEST_NAME,
    MOST_INTEGER,
    ClientForm,
    Issues,
    PipelineForm,
    RuleForm,
    RunForm,
    check_clear,
    check_text,
    unknown,
)
from rat_resources.external_runs.partners import find_issues
from rat_resources.metadata.base import Json
from rat_resources.metadata.chm import (
    OURS_SUFFIX,
    PARTNER_SETTINGS,
    AlertRule,
    Channel,
    Client,
    Origin,
    Pipeline,
    RuleType,
    Run,
)
from rat_resources.values import UnfitError, as_located


def check_client(
    tx: Session,
    issues: Issues,
    form: ClientForm,
    *,
    row: Client | None,
    partner: Json | None,
) -> None:
    """A client has a name of its own, and settings that hold no secret."""
    check_text(issues, "name", form.name, longest=LONGEST_NAME)
    check_text(issues, "rename", form.rename, longest=LONGEST_NAME)
    check_clear(issues, form.clear, known=("partner", *PARTNER_SETTINGS))
    for field, issue in find_issues(partner).items() if partner else ():
        issues.add(f"partner.{field}", issue)
    if row is None and form.rename is not None:
        issues.add("name", unknown("client", form.name, known=client_names(tx)))
    if form.rename in (None, form.name):
        return
    if find_client(tx, form.rename):
        issues.add("rename", f"there is a client {form.rename} already")
    if row is not None and is_ours(tx, row):
        issues.add("rename", f"{form.name} is a namespace, which keeps its name")


def check_place(
    tx: Session,
    issues: Issues,
    form: PipelineForm,
    *,
    client: Client,
    row: Pipeline | None,
) -> None:
    """A pipeline fits among the others of its client."""
    if row is None:
        if form.rename is not None:
            known = select(Pipeline.name).where(Pipeline.client_id == client.id)
            names = tx.scalars(known).all()
            issues.add("name", unknown("pipeline", form.name, known=names))
        for field in ("platform", "pipeline_type"):
            if getattr(form, field) is None:
                issues.add(field, "a new pipeline needs one")
    elif row.origin == Origin.RAT:
        refuse_ours(issues, form)
        return
    for field in ("name", "rename", "external_id"):
        if (getattr(form, field) or "").endswith(OURS_SUFFIX):
            issues.add(field, f"only RAT's own may end with `{OURS_SUFFIX.strip()}`")
    if form.rename not in (None, form.name) and find_pipeline_of(
        tx, client, form.rename or ""
    ):
        issues.add("rename", f"{client.name} has a pipeline {form.rename} already")
    check_external_id(tx, issues, form, client=client, row=row)


def refuse_ours(issues: Issues, form: PipelineForm) -> None:
    """Of a pipeline that RAT runs, a person decides only whether it is active."""
    for field in fields(form):
        value = getattr(form, field.name)
        if field.name not in ("client", "name", "is_active") and value:
            issues.add(
                field.name, f"{form.name} is RAT's own: only is_active can be set"
            )


def check_external_id(
    tx: Session,
    issues: Issues,
    form: PipelineForm,
    *,
    client: Client,
    row: Pipeline | None,
) -> None:
    """No other pipeline of the client and the platform has the id."""
    platform = form.platform or (row.platform if row else None)
    external_id = form.external_id or (row.external_id if row else None)
    if issues or external_id is None or "external_id" in form.clear:
        return
    found = select(Pipeline).where(
        Pipeline.client_id == client.id,
        Pipeline.platform == platform,
        Pipeline.external_id == external_id,
    )
    other = tx.scalars(found).one_or_none()
    if other is not None and other is not row:
        issues.add("external_id", f"pipeline {other.name} on {platform} has it already")


def of_rule(row: AlertRule) -> dict[str, Any]:
    """What a rule is now."""
    names = ("client_id", "pipeline_id", "rule_type", "threshold", "window_minutes")
    return {
        key: getattr(row, key)
        for key in (*names, "channel", "destination", "is_enabled")
    }


def check_rule(
    tx: Session,
    issues: Issues,
    whole: Mapping[str, Any],
    *,
    form: RuleForm,
    row: AlertRule,
) -> None:
    """A rule as it would be is whole, and nobody else's."""
    named = form.client is not None or form.pipeline is not None
    if whole["client_id"] is None and whole["pipeline_id"] is None and not named:
        issues.add("client", "a rule needs a client, a pipeline, or both")
    for field in ("rule_type", "channel", "destination"):
        if whole[field] is None:
            issues.add(field, "a rule needs one")
    check_destination(issues, whole, form=form)
    for field in ("threshold", "window_minutes"):
        value = whole[field]
        if value is not None and not 0 < value <= MOST_INTEGER:
            issues.add(field, f"{value} is not between 1 and {MOST_INTEGER}")
        elif value is None and whole["rule_type"] == RuleType.FAILURES_IN_WINDOW:
            issues.add(field, "failures_in_window needs one")
    if issues:
        return
    if whole["client_id"] and whole["pipeline_id"]:
        pipeline = tx.get_one(Pipeline, whole["pipeline_id"])
        if pipeline.client_id != whole["client_id"]:
            issues.add("pipeline", f"{pipeline.name} is another client's")
    check_twin(tx, issues, whole, row=row)


def check_destination(
    issues: Issues, whole: Mapping[str, Any], *, form: RuleForm
) -> None:
    """A destination is one of its channel; a secret, which is not repeated, is refused."""
    channel, destination = whole["channel"], whole["destination"]
    is_given = form.channel is not None or form.destination is not None
    if not is_given or channel is None or not destination:
        return
    located = as_located(destination)
    try:
        if channel == Channel.EMAIL:
            listed(open_or_secret(address))(as_located(spelled(destination)), "")
        elif channel == Channel.WEBHOOK:
            open_or_secret(url)(located, "")
        elif "://" in destination or destination.lower().startswith("env:"):
            # Who knows the address of a Slack webhook can write there.
            secret(located, "")
    except UnfitError as unfit:
        issues.add("destination", f"{unfit.what}; {unfit.fix}")


def spelled(destination: str) -> list[str]:
    """The addresses of a list that is separated by commas."""
    return [each.strip() for each in destination.split(",")]


def check_twin(
    tx: Session, issues: Issues, whole: Mapping[str, Any], *, row: AlertRule
) -> None:
    """No other enabled rule says the same."""
    if not whole["is_enabled"]:
        return
    keys = ("client_id", "pipeline_id", "rule_type", "channel", "destination")
    same = [getattr(AlertRule, key).is_not_distinct_from(whole[key]) for key in keys]
    with tx.no_autoflush:
        others = tx.scalars(select(AlertRule).where(AlertRule.is_enabled, *same)).all()
    for other in others:
        if other is not row:
            issues.add("destination", f"rule {other.id} tells it there already")


def check_run_place(
    tx: Session, issues: Issues, form: RunForm, *, pipeline_id: uuid.UUID | None
) -> None:
    """A run is of an external pipeline, which has none of its id."""
    if pipeline_id is None:
        return
    if tx.get_one(Pipeline, pipeline_id).origin == Origin.RAT:
        issues.add(
            "pipeline", f"{form.pipeline} is RAT's own: it tells its runs itself"
        )
    if form.external_run_id is not None:
        found = select(Run.status).where(
            Run.pipeline_id == pipeline_id, Run.external_run_id == form.external_run_id
        )
        status = tx.scalar(found)
        if status is not None:
            issues.add(
                "external_run_id", f"there is a run {form.external_run_id}: {status}"
            )
