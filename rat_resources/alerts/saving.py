"""Saving: an alert that somebody fills into a form instead of a file.

A form changes the fields that it gives and empties those that it clears; None leaves a field as it is.
All that is wrong with it is said at once, by field, and then nothing was written.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources import releases
from rat_resources.alerts import definitions
from rat_resources.alerts.definitions import Definition, Source
from rat_resources.alerts.documents import LONGEST_FILE, AlertDocument, read_entries
from rat_resources.alerts.fitting import definition_of, fit, look_around
from rat_resources.alerts.withdrawal import end_disabled
from rat_resources.clients import Saved
from rat_resources.clients.forms import FormError, Issues, check_clear, unknown
from rat_resources.errors import NotFoundError, Problem
from rat_resources.metadata import audit
from rat_resources.metadata.base import Json
from rat_resources.metadata.pipelines import Namespace
from rat_resources.names import NAME_RULE, PLATFORM, TableName, is_name, nearest
from rat_resources.values import as_located

FIELDS = (
    "condition",
    "severity",
    "labels",
    "channels",
    "enabled",
    "owner",
    "description",
    "remediation",
)
CLEARED = ("labels", "channels", "owner", "description", "remediation")
PATH = re.compile(r"((?:[\w.-]+: )+)(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class AlertForm:
    """What an alert shall be; a name that is unknown makes one."""

    namespace: str
    name: str
    condition: Mapping[str, Json] | None = None  # whole
    severity: str | None = None
    labels: Mapping[str, str] | None = None
    channels: Mapping[str, Mapping[str, Json]] | None = (
        None  # those it gives, each whole
    )
    enabled: bool | None = None
    owner: str | None = None
    description: str | None = None
    remediation: str | None = None
    clear: Sequence[str] = ()  # fields, and channels: slack
    retire: bool = False  # disable it, and free its name for a file


def save_alert(
    tx: Session,
    form: AlertForm,
    *,
    user: str,
    table_exists: Callable[[TableName], bool] = lambda _: False,
) -> tuple[Saved, Sequence[Problem]]:
    """Make, change or retire an alert, with what should be known of it; FormError lists what is wrong."""
    id_ = definitions.definition_id(tx, form.namespace, form.name)
    before = find(tx, form)
    if form.retire:
        return retire(tx, form, before=before, user=user), ()
    issues = Issues()
    check_name(tx, issues, form)
    known = [*CLEARED, *(before.channels if before else ())]
    check_clear(issues, form.clear, known=known)
    document = read(issues, form, before=before)
    issues.refuse()
    warnings = check_fit(tx, document, table_exists=table_exists)
    after = definition_of(document, id_, source=Source.JOB)
    changed = tuple(
        each
        for each in FIELDS
        if before is None or getattr(before, each) != getattr(after, each)
    )
    is_changed = definitions.save(tx, after)
    if not after.enabled:
        end_disabled(tx)
    saved = Saved(
        id_, "/".join(document.key), before is None, changed if is_changed else ()
    )
    if is_changed:
        record(tx, saved, "create" if before is None else "update", user=user)
    return saved, warnings


def find(tx: Session, form: AlertForm) -> Definition | None:
    """The alert as it stands; None where there is none that somebody keeps."""
    kept = definitions.load(tx, only_enabled=False, only_kept=True)
    key = (form.namespace, form.name)
    return next((each for each in kept if (each.namespace, each.name) == key), None)


def check_name(tx: Session, issues: Issues, form: AlertForm) -> None:
    """The alert has a name, in a namespace that there is."""
    if not is_name(form.name):
        issues.add("name", f"{form.name[:60]!r} is no name; {NAME_RULE}")
    known = [*tx.scalars(select(Namespace.name)).all(), PLATFORM]
    if form.namespace not in known:
        issues.add("namespace", unknown("namespace", form.namespace[:60], known=known))


def read(
    issues: Issues, form: AlertForm, *, before: Definition | None
) -> AlertDocument:
    """The whole alert as it would be."""
    document = whole(form, before=before)
    if "condition" not in document:
        issues.add("condition", "a new alert needs one")
    if len(json.dumps(document)) > LONGEST_FILE:
        issues.add("document", f"it has more than {LONGEST_FILE:,} characters")
        issues.refuse()
    problems: list[Problem] = []
    entries = {key: as_located(value) for key, value in document.items()}
    said = read_entries(entries, namespace=form.namespace, path="", problems=problems)
    for each in problems:
        add_problem(issues, each)
    values = {"condition": {"kind": ""}} | said
    return AlertDocument(namespace=form.namespace, name=form.name, **values)


def whole(form: AlertForm, *, before: Definition | None) -> dict[str, Any]:
    """The document that a form makes of what stands there."""
    document: dict[str, Any] = {}
    for each in FIELDS:
        given = getattr(form, each)
        kept = getattr(before, each) if before else None
        if each == "channels":
            merged = {**(kept or {}), **(given or {})}
            given = {
                key: value for key, value in merged.items() if key not in form.clear
            }
        value = kept if given is None else given
        is_said = value is not None and value not in ("", {})
        if is_said and each not in form.clear:
            document[each] = value
    return document


def add_problem(issues: Issues, problem: Problem) -> None:
    """Tell of a problem by its field: condition.kind."""
    found = PATH.fullmatch(problem.what)
    field, what = (found[1], found[2]) if found else ("document", problem.what)
    issues.add(field.replace(": ", ".").strip("."), f"{what}; {problem.fix}")


def check_fit(
    tx: Session, document: AlertDocument, *, table_exists: Callable[[TableName], bool]
) -> Sequence[Problem]:
    """What should be known; FormError where the alert goes with no table."""
    specs = {each.spec.table: each.spec for each in releases.load(tx)}
    among = look_around(
        tx, [document], specs=specs, changing=(), table_exists=table_exists
    )
    # The names of others are told when the row is written.
    found = fit([document], among.without_names())
    issues = Issues()
    for each in found.problems:
        issues.add("condition", f"{each.what}; {each.fix}")
    issues.refuse()
    return found.warnings


def retire(
    tx: Session, form: AlertForm, *, before: Definition | None, user: str
) -> Saved:
    """Disable the alert for good; FormError for one of a file, NotFoundError where there is none."""
    name = f"{form.namespace}/{form.name}"
    if before is None:
        known = [
            f"{each.namespace}/{each.name}"
            for each in definitions.load(tx, only_enabled=False, only_kept=True)
        ]
        guess = nearest(name, known)
        fix = (
            f"did you mean {guess}?"
            if guess
            else "`rat alerts --definitions` lists them"
        )
        raise NotFoundError(f"there is no alert {name}", fix=fix)
    if before.source == Source.FILE:
        issue = (
            f"it is kept in {definitions.file_key(before)}; remove the file and publish"
        )
        raise FormError({"retire": issue})
    definitions.retire(tx, [before.id])
    end_disabled(tx)
    saved = Saved(before.id, name, is_new=False, changed=("enabled",))
    record(tx, saved, "retire", user=user)
    return saved


def record(tx: Session, saved: Saved, what: str, *, user: str) -> None:
    """Write down who did it."""
    audit.record(
        tx,
        f"alert.{what}",
        resource=saved.name,
        user=user,
        detail=", ".join(saved.changed),
    )
