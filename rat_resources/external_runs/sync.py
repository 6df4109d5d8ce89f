"""Sync: the runs of all partners' pipelines, fetched and recorded.

Each page is a transaction of its own, so that what has come stays, and one pipeline or client that
fails stops no other; what failed, and why, is in the report.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from rat_resources.errors import EventError, MetadataError, NotFoundError, RatError
from rat_resources.external_runs import rejects
from rat_resources.external_runs.events import RunEvent, read_event
from rat_resources.external_runs.masking import mask_text, shorten
from rat_resources.external_runs.pages import Api, Page, UnreachableError, Wait
from rat_resources.external_runs.partners import Partner
from rat_resources.external_runs.recording import Outcome, Policy, Told, record
from rat_resources.external_runs.rejects import Reject
from rat_resources.metadata import Metadata
from rat_resources.metadata.base import Json
from rat_resources.metadata.chm import Client, Origin, Pipeline
from rat_resources.names import nearest

MOST_PAGES = 1000
# A host that is down must not be waited for once a pipeline.
MOST_UNREACHABLE = 3


@dataclass(frozen=True)
class Target:
    """A pipeline whose runs a partner tells."""

    pipeline_id: UUID
    name: str
    external_id: str


@dataclass
class SyncReport:
    """What came of a sync."""

    pipelines: int = 0
    pages: int = 0
    runs: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)  # the first of each pipeline


def sync(
    metadata: Metadata,
    *,
    clients: Collection[str] = (),
    policy: Policy | None = None,
    most_pages: int = MOST_PAGES,
    wait: Wait = time.sleep,
    say: Callable[[str], None] = print,
) -> SyncReport:
    """Record the runs of every active pipeline with an external id, of these clients or of all."""
    with metadata.transaction() as tx:
        settings = find_partners(tx, clients)
    report = SyncReport()
    for client, given in settings.items():
        try:
            partner = Partner.parse(client, given).with_token()
        except RatError as error:
            report.failures.append(f"{client}: {error}")
            continue
        partner = partner if policy is None else replace(partner, policy=policy)
        sync_client(
            metadata, partner, report=report, most_pages=most_pages, wait=wait, say=say
        )
    return report


def find_partners(tx: Session, clients: Collection[str]) -> dict[str, Json]:
    """The settings of active clients with a partner's API; NotFoundError for one that has none."""
    rows = select(Client.name, Client.partner).where(
        Client.is_active, Client.partner.is_not(None)
    )
    found = {name: partner for name, partner in tx.execute(rows.order_by(Client.name))}
    for name in clients:
        if name not in found:
            meant = nearest(name, found)
            message = f"there is no active client {name!r} with partner settings"
            raise NotFoundError(
                message, fix=f"did you mean {meant!r}?" if meant else ""
            )
    return {name: found[name] for name in found if not clients or name in clients}


def find_targets(tx: Session, client: str) -> list[Target]:
    """The pipelines of a client that are to be synced."""
    rows = (
        select(Pipeline.id, Pipeline.name, Pipeline.external_id)
        .join(Client, Client.id == Pipeline.client_id)
        .where(
            Client.name == client,
            Pipeline.is_active,
            Pipeline.origin == Origin.EXTERNAL,
            Pipeline.external_id.is_not(None),
        )
        .order_by(Pipeline.name)
    )
    return [Target(id_, name, str(known)) for id_, name, known in tx.execute(rows)]


def sync_client(
    metadata: Metadata,
    partner: Partner,
    *,
    report: SyncReport,
    most_pages: int,
    wait: Wait,
    say: Callable[[str], None],
) -> None:
    """Sync the pipelines of one client; what fails is noted, and the next one follows."""
    from requests import Session as HttpSession  # noqa: PLC0415 - only a sync needs it

    with metadata.transaction() as tx:
        targets = find_targets(tx, partner.client)
    unreachable = 0
    with HttpSession() as session:
        api = Api(partner, session, wait=wait)
        for place, target in enumerate(targets):
            failure = sync_pipeline(
                metadata, api, target=target, report=report, most_pages=most_pages
            )
            name = f"{partner.client}/{target.name}"
            say(f"{name}: {failure or 'synced'}")
            if failure is None:
                report.pipelines += 1
                unreachable = 0
                continue
            report.failures.append(f"{name}: {failure}")
            unreachable += isinstance(failure, UnreachableError)
            left = len(targets) - place - 1
            if unreachable == MOST_UNREACHABLE and left:
                why = f"its API was out of reach {unreachable} times"
                report.failures.append(
                    f"{partner.client}: {left} more pipelines were not asked: {why}"
                )
                return


def sync_pipeline(
    metadata: Metadata,
    api: Api,
    *,
    target: Target,
    report: SyncReport,
    most_pages: int,
) -> Exception | None:
    """Sync one pipeline; what made it fail."""
    source = f"{api.partner.client}/{target.name}"
    kept: list[Reject] = []
    try:
        for page in api.pages(target.external_id, most_pages=most_pages):
            with metadata.transaction() as tx:
                outcomes, refused = record_page(
                    tx, page, target=target, partner=api.partner
                )
                room = rejects.MOST_KEPT - len(kept)
                rejects.keep(tx, refused[:room], source=source)
            kept += refused[:room]
            report.pages += 1
            report.runs += len(page.runs)
            report.outcomes += outcomes
    except MetadataError:
        raise
    except RatError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever one pipeline meets, the others go on
        first = shorten(str(error).partition("\n")[0], most=300)
        first = mask_text(first, secrets=api.partner.secrets)
        return RatError(f"{type(error).__name__}: {first}")
    finally:
        report.rejected += [f"{source}: {each.reason}" for each in kept[:3]]
    return None


def record_page(
    tx: Session, page: Page, *, target: Target, partner: Partner
) -> tuple[Counter[Outcome], list[Reject]]:
    """Record the runs of one page; how it went with each, and those that could not be."""
    told, refused, raws = [], [], []
    for raw, event in read_events(page.runs, secrets=partner.secrets):
        if isinstance(event, EventError):
            refused.append(Reject.of(raw, event.message, secrets=partner.secrets))
        else:
            told.append(Told(target.pipeline_id, event))
            raws.append(raw)
    recorded = record(tx, told, policy=partner.policy)
    refused += [
        Reject.of(raws[each.place], each.reason, secrets=partner.secrets)
        for each in recorded.rejected
    ]
    outcomes = Counter(recorded.outcomes)
    outcomes[Outcome.REJECTED] = len(refused)
    return outcomes, refused


def read_events(
    raws: Sequence[Json], *, secrets: Sequence[str]
) -> Iterator[tuple[Json, RunEvent | EventError]]:
    """Each event as it came, and what it tells or why it tells nothing."""
    for raw in raws:
        try:
            yield raw, read_event(raw, secrets=secrets)
        except EventError as error:
            yield raw, error


def shown(report: SyncReport) -> Mapping[str, int]:
    """The numbers of a report under the names that the jobs show."""
    return {
        "pipelines_processed": report.pipelines,
        "pages_processed": report.pages,
        "runs_processed": report.runs,
        **{f"runs_{outcome}": report.outcomes[outcome] for outcome in Outcome},
        "failed": len(report.failures),
    }
