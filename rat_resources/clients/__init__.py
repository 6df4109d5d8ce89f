"""Clients, external pipelines, alert rules and runs by hand: how people keep them.

A form changes the fields that it gives and empties those that it clears; None leaves a field as it
is. All that is wrong with a form is said at once, by field, and then nothing was written. Nothing is
ever deleted: it is disabled. What RAT runs itself comes from `rat_resources.mirror.clients`.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

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
    check_partner,
    check_pipeline,
    check_text,
    check_word,
    read_time,
    unknown,
)
from rat_resources.metadata import audit
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
    check_text(issues, "name", form.name, longest=LONGEST_NAME)
    check_text(issues, "rename", form.rename, longest=LONGEST_NAME)
    check_clear(issues, form.clear, known=("partner", *PARTNER_SETTINGS))
    check_partner(issues, form.partner)
    row = find_client(tx, form.name)
    if row is None and form.rename is not None:
        issues.add("name", unknown("client", form.name, known=client_names(tx)))
    if form.rename not in (None, form.name) and find_client(tx, form.rename or ""):
        issues.add("rename", f"there is a client {form.rename} already")
    if row is not None and form.rename not in (None, form.name) and is_ours(tx, row):
        issues.add("rename", f"{form.name} is a namespace, which keeps its name")
    issues.refuse()
    values = given(name=form.rename, is_active=form.is_active)
    if form.partner is not None or form.clear:
        before = row.partner if row is not None else None
        values["partner"] = merge_partner(before, form)
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
        error_message=form.error_message or None,
        status_reason=form.status_reason or None,
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


# Finding.


def find_client(tx: Session, name: str) -> Client | None:
    """The client of a name."""
    return tx.scalars(select(Client).where(Client.name == name)).one_or_none()


def find_pipeline_of(tx: Session, client: Client, name: str) -> Pipeline | None:
    """The pipeline of a client by its name."""
    found = select(Pipeline).where(
        Pipeline.client_id == client.id, Pipeline.name == name
    )
    return tx.scalars(found).one_or_none()


def find_rule(tx: Session, issues: Issues, rule_id: str | None) -> AlertRule | None:
    """The rule of an id; an issue when there is none."""
    if rule_id is None:
        return None
    try:
        row = tx.get(AlertRule, uuid.UUID(rule_id))
    except ValueError:
        row = None
    if row is None:
        issues.add("id", f"there is no rule {rule_id}; leave it out to make one")
    return row


def client_id_of(tx: Session, issues: Issues, name: str | None) -> uuid.UUID | None:
    """The id of a client; an issue when there is none of that name."""
    if name is None:
        return None
    row = find_client(tx, name)
    if row is None:
        issues.add("client", unknown("client", name, known=client_names(tx)))
    return row.id if row else None


def pipeline_id_of(tx: Session, issues: Issues, word: str | None) -> uuid.UUID | None:
    """The id of a pipeline that is written CLIENT/PIPELINE; an issue when there is none."""
    if word is None:
        return None
    found = tx.scalar(paths().with_only_columns(Pipeline.id).where(PATH.in_([word])))
    if found is None:
        known = tx.scalars(paths()).all()
        issues.add("pipeline", unknown("pipeline", word, known=known))
    return found


PATH = Client.name + "/" + Pipeline.name


def paths() -> Select[Any]:
    """Every pipeline as CLIENT/PIPELINE."""
    return (
        select(PATH)
        .select_from(Pipeline)
        .join(Client, Client.id == Pipeline.client_id)
        .order_by(PATH)
    )


def client_names(tx: Session) -> Sequence[str]:
    """The names of all clients."""
    return tx.scalars(select(Client.name).order_by(Client.name)).all()


def is_ours(tx: Session, client: Client) -> bool:
    """Whether a client has pipelines that RAT runs."""
    found = select(Pipeline.id).where(
        Pipeline.client_id == client.id, Pipeline.origin == Origin.RAT
    )
    return tx.scalar(found.limit(1)) is not None


# Checking.


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
