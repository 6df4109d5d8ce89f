"""The past: what earlier releases served, told again where Trace has lost it.

A version of a DAG follows from the pipelines of a release, and its id with it. What is served now is
`dags`; a version that held a pipeline whose own version was pruned is known to nobody any more.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby

from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.mirror import dags, people
from rat_resources.mirror.dags import Version
from rat_resources.mirror.definitions import Definition, version_hash
from rat_resources.mirror.ids import trace_id

Place = tuple[int, str]  # a release, a table


def tell(tx: Session) -> None:
    """Write down every version that a release served, and the empty ones that are served still."""
    org_id = people.declare_org(tx)
    known: set[uuid.UUID] = set()
    last: dict[str, Version] = {}
    for release, namespaces in tx.execute(TOUCHED).all():
        found = {each.dag: each for each in serving(tx, org_id, release, namespaces)}
        last |= found
        new = [each for each in found.values() if each.id not in known]
        dags.write_down(tx, new)
        tx.execute(RETIRE, {"versions": [each.id for each in new]})
        known |= {each.id for each in new}
    dags.serve(tx, [each for each in last.values() if not each.definitions])


TOUCHED = text("""
    SELECT changed.release_number, array_agg(DISTINCT pipeline.namespace)
    FROM (
        SELECT pipeline_id, release_number FROM rat.pipeline_versions
        UNION
        SELECT pipeline_id, release_number FROM rat.retired_pipelines
    ) AS changed
    JOIN rat.pipelines AS pipeline ON pipeline.id = changed.pipeline_id
    GROUP BY changed.release_number
    ORDER BY changed.release_number
""")
RETIRE = text("""
    UPDATE trace.dag_versions SET state = 'retired'
    WHERE id = ANY(:versions) AND state = 'staged'
""")


def serving(
    tx: Session, org_id: uuid.UUID, release: int, namespaces: Collection[str]
) -> Iterator[Version]:
    """What a release served of some namespaces; those that are not wholly known are left out."""
    names = sorted(namespaces)
    at = {"release": release, "namespaces": names}
    rows = tx.execute(PIPELINES, at).all()
    members = {
        name: list(found)
        for name, found in groupby(rows, key=lambda row: row.namespace)
    }
    published_at = tx.scalar(PUBLISHED_AT, at)
    for name in names:
        found = members.get(name, [])
        if not any(row.is_lost for row in found):
            definitions = tuple(Definition.from_spec(row.spec) for row in found)
            told = version_hash(definitions)
            yield Version(org_id, name, definitions, told, published_at)


PUBLISHED_AT = text("SELECT created_at FROM rat.releases WHERE number = :release")
# The newest version up to the release, if it is of that very release or none after it was pruned.
PIPELINES = text("""
    SELECT
        pipeline.namespace,
        held.spec,
        held.version_number IS NULL
            OR held.release_number < target.number
            AND later.version_number > held.version_number + 1
            AS is_lost
    FROM rat.releases AS target
    JOIN rat.pipelines AS pipeline ON pipeline.namespace = ANY(:namespaces)
    LEFT JOIN LATERAL (
        SELECT version.spec - 'excerpt' AS spec, version.version_number, version.release_number
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id AND version.release_number <= target.number
        ORDER BY version.version_number DESC
        LIMIT 1
    ) AS held ON true
    LEFT JOIN LATERAL (
        SELECT min(version.version_number) AS version_number
        FROM rat.pipeline_versions AS version
        WHERE version.pipeline_id = pipeline.id AND version.release_number > target.number
    ) AS later ON true
    WHERE target.number = :release
        AND (held.version_number IS NOT NULL OR pipeline.created_at <= target.created_at)
        AND NOT EXISTS (
            SELECT FROM rat.retired_pipelines AS retired
            WHERE retired.pipeline_id = pipeline.id AND retired.release_number <= target.number
        )
    ORDER BY pipeline.namespace, pipeline.layer, pipeline.name
""")


def find_jobs(tx: Session, places: Collection[Place]) -> Mapping[Place, uuid.UUID]:
    """The jobs that tables had in releases that are not current, as far as Trace has them."""
    current = tx.scalar(text("SELECT release_number FROM rat.current_release"))
    wanted: defaultdict[int, set[str]] = defaultdict(set)
    for release, table in places:
        if release != current:
            wanted[release].add(table.partition(".")[0])
    if not wanted:
        return {}
    org_id = people.declare_org(tx)
    found = {
        (release, each.dataset): trace_id("job", version.id, each.name)
        for release, namespaces in wanted.items()
        for version in serving(tx, org_id, release, namespaces)
        for each in version.definitions
    }
    told = text("SELECT id FROM trace.jobs WHERE id = ANY(:ids)")
    known = set(tx.scalars(told, {"ids": [*found.values()]}))
    return {place: job for place, job in found.items() if job in known}


def forgotten(tx: Session) -> int:
    """How many versions of pipelines were pruned."""
    return int(tx.execute(FORGOTTEN).scalar_one())


FORGOTTEN = text("""
    SELECT coalesce(sum(lost), 0)
    FROM (
        SELECT max(version_number) - count(*) AS lost
        FROM rat.pipeline_versions
        GROUP BY pipeline_id
    ) AS of_each
""")
