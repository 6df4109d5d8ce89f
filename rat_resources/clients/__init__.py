"""Clients, external pipelines, alert rules and runs by hand: how people keep them.

A form changes the fields that it gives and empties those that it clears; None leaves a field as it
is. All that is wrong with a form is said at once, by field, and then nothing was written. Nothing is
ever deleted: it is disabled. What RAT runs itself comes from `rat_resources.mirror.clients`.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from rat_resources.clients.finding import (
    client_id_of,
    client_names,
    find_client,
    find_pipeline_of,
    find_rule,
    pipeline_id_of,
)
from rat_resources.clients.fitting import (
    check_client,
    check_place,
    check_rule,
    check_run_place,
    of_rule,
)
from rat_resources.clients.forms import (
    LONGEST_DESTINATION,
    LONGEST_NAME,
    MOST_BIGINT,
    MOST_INTEGER,
    ClientForm,
    FormError,
    Issues,
    PipelineForm,
    RuleForm,
    RunForm,
    check_clear,
    check_count,
    check_pipeline,
    check_text,
    check_word,
    read_time,
    unknown,
)
from rat_resources.external_runs.masking import mask_text
from rat_resources.metadata import audit
from rat_resources.metadata.base import Json
from rat_resources.metadata.chm import (
    AlertRule,
    Channel,
    Client,
    Pipeline,
    RuleType,
    Run,
    RunStatus,
)


@dataclass(frozen=True)
class Saved:
    """What a form came to."""

    id: uuid.UUID
    name: str
    is_new: bool
    changed: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """It in a word."""
        if self.is_new:
            return "created"
        return "changed" if self.changed else "unchanged"


def save_client(tx: Session, form: ClientForm, *, user: str) -> Saved:
    """Make or change a client; FormError lists everything that is wrong."""
    lock(tx, Client)
    issues = Issues()
    row = find_client(tx, form.name)
    values = given(name=form.rename, is_active=form.is_active)
    if form.partner is not None or form.clear:
        before = row.partner if row is not None else None
        values["partner"] = merge_partner(before, form)
    check_client(tx, issues, form, row=row, partner=values.get("partner"))
    issues.refuse()
    is_new = row is None
    row = row or Client(name=form.name)
    return write(tx, row, values, action="client", is_new=is_new, user=user)


def save_pipeline(tx: Session, form: PipelineForm, *, user: str) -> Saved:
    """Make or change an external pipeline; of our own, only whether it is active."""
    lock(tx, Pipeline)
    issues = Issues()
    check_pipeline(issues, form)
    client = find_client(tx, form.client)
    row = None
    if client is None:
        issues.add("client", unknown("client", form.client, known=client_names(tx)))
    else:
        row = find_pipeline_of(tx, client, form.name)
        check_place(tx, issues, form, client=client, row=row)
    issues.refuse()
    values = given(
        name=form.rename,
        platform=form.platform,
        pipeline_type=form.pipeline_type,
        external_id=form.external_id,
        description=form.description,
        environment=form.environment,
        is_active=form.is_active,
    ) | dict.fromkeys(form.clear)
    is_new = row is None
    row = row or Pipeline(client_id=client.id if client else None, name=form.name)
    return write(tx, row, values, action="pipeline", is_new=is_new, user=user)


def save_alert_rule(tx: Session, form: RuleForm, *, user: str) -> Saved:
    """Make or change an alert rule; two enabled ones are never the same."""
    lock(tx, AlertRule)
    issues = Issues()
    check_word(issues, "rule_type", form.rule_type, RuleType)
    check_word(issues, "channel", form.channel, Channel)
    check_text(issues, "destination", form.destination, longest=LONGEST_DESTINATION)
    check_clear(
        issues, form.clear, known=("client", "pipeline", "threshold", "window_minutes")
    )
    row = find_rule(tx, issues, form.id)
    values = given(
        client_id=client_id_of(tx, issues, form.client),
        pipeline_id=pipeline_id_of(tx, issues, form.pipeline),
        rule_type=form.rule_type,
        threshold=form.threshold,
        window_minutes=form.window_minutes,
        channel=form.channel,
        destination=form.destination,
        is_enabled=form.is_enabled,
    )
    cleared = {"client": "client_id", "pipeline": "pipeline_id"}
    values |= {cleared.get(each, each): None for each in form.clear}
    is_new = row is None
    row = row or AlertRule(is_enabled=True)
    check_rule(tx, issues, {**of_rule(row), **values}, form=form, row=row)
    issues.refuse()
    return write(tx, row, values, action="alert_rule", is_new=is_new, user=user)


def record_run(
    tx: Session, form: RunForm, *, user: str, new_id: uuid.UUID | None = None
) -> Saved:
    """Write one run of an external pipeline; an id that the pipeline has already is refused."""
    issues = Issues()
    check_word(issues, "status", form.status, RunStatus)
    check_text(issues, "external_run_id", form.external_run_id, longest=LONGEST_NAME)
    check_count(issues, "duration_seconds", form.duration_seconds, most=MOST_INTEGER)
    check_count(issues, "rows_processed", form.rows_processed, most=MOST_BIGINT)
    started = read_time(issues, "started_at", form.started_at)
    finished = read_time(issues, "finished_at", form.finished_at)
    pipeline_id = pipeline_id_of(tx, issues, form.pipeline)
    check_run_place(tx, issues, form, pipeline_id=pipeline_id)
    seconds = form.duration_seconds
    if started and finished:
        if finished < started:
            issues.add("finished_at", "it is before started_at")
        seconds = (
            seconds
            if seconds is not None
            else int((finished - started).total_seconds())
        )
    issues.refuse()
    values = given(
        external_run_id=form.external_run_id or f"manual-{new_id or uuid.uuid4()}",
        status=form.status,
        started_at=started,
        finished_at=finished,
        duration_seconds=seconds,
        rows_processed=form.rows_processed,
        error_message=mask_text(form.error_message or "") or None,
        status_reason=mask_text(form.status_reason or "") or None,
        payload={"recorded_by": user},
    )
    row = Run(pipeline_id=pipeline_id)
    try:
        return write(tx, row, values, action="run", is_new=True, user=user)
    except IntegrityError as error:
        # Somebody else wrote it since we looked.
        issue = f"there is a run {form.external_run_id}"
        raise FormError({"external_run_id": issue}) from error


# Writing.


def write(
    tx: Session,
    row: Client | Pipeline | AlertRule | Run,
    values: Mapping[str, Any],
    *,
    action: str,
    is_new: bool,
    user: str,
) -> Saved:
    """Make a row what the values say, and write down who did it, if that changes anything."""
    changed = tuple(key for key, value in values.items() if getattr(row, key) != value)
    for key in changed:
        setattr(row, key, values[key])
    tx.add(row)
    tx.flush()
    saved = Saved(row.id, name_of(row), is_new, changed)
    if is_new or changed:
        audit.record(
            tx,
            f"chm.{action}.{'create' if is_new else 'update'}",
            resource=saved.name,
            user=user,
            detail=", ".join(changed),
        )
    return saved


def name_of(row: Client | Pipeline | AlertRule | Run) -> str:
    """What people call a row."""
    if isinstance(row, Run):
        return row.external_run_id
    return str(row.id) if isinstance(row, AlertRule) else row.name


def given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - the columns of a table
    """The values that there are."""
    return {key: value for key, value in values.items() if value is not None}


def merge_partner(before: Json | None, form: ClientForm) -> Json | None:
    """The settings of a partner after a form; none when none is left."""
    if "partner" in form.clear:
        return form.partner
    merged = {**(before or {}), **(form.partner or {})}
    return {key: merged[key] for key in merged if key not in form.clear} or None


def lock(tx: Session, model: type[Client | Pipeline | AlertRule]) -> None:
    """Let nobody else add rows until the commit: what is looked up stays true."""
    tx.execute(text(f"LOCK TABLE {model.__table__} IN SHARE ROW EXCLUSIVE MODE"))
