"""Forms: what people fill in about clients, pipelines, rules and runs, and what is wrong with a field.

Each check looks at one field by itself; what depends on other rows is `rat_resources.clients`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from rat_resources.errors import AuthorError
from rat_resources.metadata.base import Json
from rat_resources.metadata.chm import (
    Environment,
    PipelineType,
    Platform,
)
from rat_resources.names import nearest

LONGEST_NAME = 255
LONGEST_DESTINATION = 512
MOST_INTEGER = 2**31 - 1
MOST_BIGINT = 2**63 - 1


class FormError(AuthorError):
    """Nothing was saved."""

    def __init__(self, issues: Mapping[str, str]) -> None:
        self.issues = dict(issues)
        lines = [f"{field}: {issue}" for field, issue in self.issues.items()]
        super().__init__("\n".join(["nothing was saved", *lines]))


class Issues(dict[str, str]):
    """What is wrong with a form, by field; of each field the first."""

    def add(self, field: str, issue: str) -> None:
        """Say what is wrong with a field."""
        self.setdefault(field, issue)

    def refuse(self) -> None:
        """FormError if anything is wrong."""
        if self:
            raise FormError(self)


@dataclass(frozen=True, kw_only=True)
class ClientForm:
    """What a client shall be; a name that is unknown makes one."""

    name: str
    rename: str | None = None
    is_active: bool | None = None
    partner: Json | None = None  # the settings that it gives; the others stay
    clear: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class PipelineForm:
    """What an external pipeline shall be; a name that its client does not have makes one."""

    client: str
    name: str
    rename: str | None = None
    platform: str | None = None
    pipeline_type: str | None = None
    external_id: str | None = None
    description: str | None = None
    environment: str | None = None
    is_active: bool | None = None
    clear: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class RuleForm:
    """What an alert rule shall be; without an id it is a new one."""

    id: str | None = None
    client: str | None = None
    pipeline: str | None = None  # CLIENT/PIPELINE
    rule_type: str | None = None
    threshold: int | None = None
    window_minutes: int | None = None
    channel: str | None = None
    destination: str | None = None
    is_enabled: bool | None = None
    clear: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class RunForm:
    """One run that no source tells of."""

    pipeline: str  # CLIENT/PIPELINE
    status: str
    external_run_id: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_seconds: int | None = None
    rows_processed: int | None = None
    error_message: str | None = None
    status_reason: str | None = None


def check_text(issues: Issues, field: str, value: str | None, *, longest: int) -> None:
    """A text is not blank and not too long."""
    if value is None:
        return
    if not value.strip():
        issues.add(field, "it is empty")
    elif len(value) > longest:
        issues.add(field, f"it has {len(value)} characters, more than {longest}")


def check_word(
    issues: Issues, field: str, value: str | None, kind: type[StrEnum]
) -> None:
    """A word is one of its kind."""
    words = [each.value for each in kind]
    if value is not None and value not in words:
        guess = nearest(value, words)
        hint = f"; did you mean {guess}?" if guess else ""
        issues.add(field, f"{value} is none of {', '.join(words)}{hint}")


def check_count(issues: Issues, field: str, value: int | None, *, most: int) -> None:
    """A count is not negative, and fits its column."""
    if value is not None and not 0 <= value <= most:
        issues.add(field, f"{value} is not between 0 and {most}")


def check_clear(issues: Issues, clear: Sequence[str], *, known: Sequence[str]) -> None:
    """Only what may be empty is cleared."""
    for each in clear:
        if each not in known:
            guess = nearest(each, known)
            hint = f"; did you mean {guess}?" if guess else ""
            issues.add(
                "clear", f"{each} cannot be empty, only {', '.join(known)}{hint}"
            )


def check_pipeline(issues: Issues, form: PipelineForm) -> None:
    """The fields of a pipeline, each for itself."""
    check_text(issues, "name", form.name, longest=LONGEST_NAME)
    check_text(issues, "rename", form.rename, longest=LONGEST_NAME)
    check_text(issues, "external_id", form.external_id, longest=LONGEST_NAME)
    check_word(issues, "platform", form.platform, Platform)
    check_word(issues, "pipeline_type", form.pipeline_type, PipelineType)
    check_word(issues, "environment", form.environment, Environment)
    check_clear(issues, form.clear, known=("external_id", "description"))


def read_time(issues: Issues, field: str, value: str | None) -> datetime | None:
    """A moment in ISO 8601; one that names no zone is in UTC."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        issues.add(field, f"{value} is no time in ISO 8601, like 2026-05-01T12:00:00Z")
        return None


def unknown(kind: str, name: str, *, known: Iterable[str]) -> str:
    """That there is no such thing, and what is nearest."""
    guess = nearest(name, known)
    hint = f"; did you mean {guess}?" if guess else ""
    return f"there is no {kind} {name}{hint}"
