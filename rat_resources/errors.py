"""Every error that RAT raises on purpose, by who can fix it.

    RatError
    ├── AuthorError             the author of a pipeline, a test or a query
    │   ├── PublishError        … before anything becomes current (all problems at once)
    │   │   ├── DraftError      … before a draft is tried, likewise
    │   │   └── AssetError      … before an asset written by hand runs, likewise
    │   ├── TemplateError       … the template does not compile
    │   ├── QueryError          … the SQL or Python fails when it runs
    │   ├── SchemaChangeError   … the result does not fit the table
    │   ├── QualityError        … a test of error severity found offenders, or could not run
    │   ├── NotFoundError       … no such pipeline, table, zone, run or reference
    │   ├── LandingError        … a landing file that cannot be taken
    │   ├── FilterError         … a row filter asks for what is not there, or does not compare
    │   └── EventError          … what a source says of a run cannot be made sense of
    ├── OperatorError           whoever runs this RAT
    │   ├── SettingsError       … a setting is missing or makes no sense
    │   ├── MetadataError       … Postgres cannot be started, reached or used
    │   ├── StoreError          … the store or the warehouse cannot be read or written
    │   │   └── OutageError     … the storage is gone or overloaded, whatever was asked of it
    │   ├── CatalogError        … the server of the refs cannot be reached or used
    │   ├── BackupError         … a backup cannot be made, read, or restored here
    │   ├── CollectionError     … nobody can tell which files of the lake are needed, or whose they are
    │   ├── PartnerError        … a partner's API cannot be asked, or answers with nonsense
    │   └── ExhaustedError      … memory or disk ran out
    └── RetryError              nobody: the same thing again may succeed
        ├── ConflictError       … somebody else published first
        │   ├── ReferenceConflictError   … a branch is not where it was expected
        │   └── MergeConflictError       … both sides changed the same key
        ├── LostAnswerError     … nobody knows yet whether a commit or merge was done
        ├── LeaseLostError      … another run took over
        └── CancelledError      … somebody asked the run to stop (never retried)

A class's docstring is its default message; what an instance adds are the facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class RatError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, message: str = "", *, fix: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.fix = fix
        super().__init__(f"{self.message}; {fix}" if fix else self.message)


class AuthorError(RatError):
    """The pipeline, test or query has a mistake."""


class OperatorError(RatError):
    """This RAT is not set up right."""


class RetryError(RatError):
    """The same thing again may succeed."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a file, and how to mend it."""

    path: str
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.fix}"


class PublishError(AuthorError):
    """Nothing was published."""

    outcome = "nothing was published"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DraftError(PublishError):
    """The draft cannot run."""

    outcome = "the draft cannot run"


class AssetError(PublishError):
    """The asset cannot run."""

    outcome = "nothing was run"


class TemplateError(AuthorError):
    """The template does not compile."""


class QueryError(AuthorError):
    """The query fails."""


class SchemaChangeError(AuthorError):
    """The result does not fit the table."""


class QualityError(AuthorError):
    """A quality test stopped the publication."""


class NotFoundError(AuthorError):
    """There is no such thing."""


class LandingError(AuthorError):
    """The landing file cannot be taken."""


class FilterError(AuthorError):
    """The row filter cannot be understood."""


class EventError(AuthorError):
    """The event cannot be recorded."""


class SettingsError(OperatorError):
    """A setting is missing or makes no sense."""


class MetadataError(OperatorError):
    """Postgres cannot be used."""


class StoreError(OperatorError):
    """The store cannot be used."""


class OutageError(StoreError):
    """The storage does not answer."""


class CatalogError(OperatorError):
    """The server of the refs cannot be used; nothing was done."""


class BackupError(OperatorError):
    """The backup cannot be used."""


class CollectionError(OperatorError):
    """No file of the lake may be removed now."""


class PartnerError(OperatorError):
    """The partner's API cannot be used."""


class ExhaustedError(OperatorError):
    """Memory or disk ran out."""


class ConflictError(RetryError):
    """Somebody else published first."""


class ReferenceConflictError(ConflictError):
    """The branch is not where it was expected."""


@dataclass(frozen=True)
class KeyConflict:
    """One content key that a commit or merge could not change, in the catalog's own words."""

    key: tuple[str, ...]
    conflict_type: (
        str  # VALUE_DIFFERS, KEY_EXISTS, KEY_DOES_NOT_EXIST, NAMESPACE_ABSENT, …
    )
    message: str


class MergeConflictError(ConflictError):
    """Both sides changed the same table."""

    def __init__(
        self, conflicts: Sequence[KeyConflict], *, message: str = "", fix: str = ""
    ) -> None:
        self.conflicts = tuple(conflicts)
        told = "; ".join(conflict.message for conflict in self.conflicts)
        super().__init__(message or told, fix=fix)


class LostAnswerError(RetryError):
    """Nobody knows yet whether the commit or merge was done."""


class LeaseLostError(RetryError):
    """Another run took over this pipeline."""


class CancelledError(RetryError):
    """The run was cancelled."""
