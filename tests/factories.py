"""Factories: a RAT in a folder of its own, small projects on it, files, and runs.

Everything is real: the Postgres is a clone of a migrated one, the lake is Iceberg on disk, and
Dagster's instance lives in the same database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from sqlalchemy import func, select

from rat_assets import actions, runner
from rat_assets.runner import RunAsk, RunReport
from rat_resources import landing, runs
from rat_resources.lake import register
from rat_resources.lake.refs import MAIN
from rat_resources.lake.replacing import EVERYTHING
from rat_resources.lake.strategies import WriteConfig, apply
from rat_resources.metadata.landing import ClaimState, LandingClaim
from rat_resources.metadata.runs import Lease, Run
from rat_resources.names import TableName
from rat_resources.places import Place, S3Place
from rat_resources.platform import Platform
from rat_resources.releases import Release

ORDERS = {
    "shop/pipelines/bronze/orders/pipeline.sql": """
-- @description: Orders as they arrive
-- @owner: team:shop
-- @merge_strategy: append_only
SELECT *, '{{ run_started_at }}'::TIMESTAMPTZ AS loaded_at
FROM read_csv('{{ landing_zone('orders', new=true) }}/*.csv', header = true)
""",
    "shop/pipelines/bronze/orders/config.yaml": """
triggers:
  - type: landing_zone_upload
    zone_name: orders
""",
    "shop/pipelines/bronze/orders/tests/quality/amount_is_positive.sql": """
-- @description: Nobody orders for nothing
-- @severity: error
-- @remediation: Ask the shop
SELECT * FROM {{ this }} WHERE amount <= 0
""",
    "shop/pipelines/silver/orders/pipeline.sql": """
-- @merge_strategy: incremental
-- @unique_key: id
-- @watermark_column: loaded_at
SELECT id, customer, amount::DECIMAL(12, 2) AS amount, loaded_at
FROM {{ ref('bronze.orders') }}
{% if watermark_value %}WHERE loaded_at > '{{ watermark_value }}'{% endif %}
""",
    "shop/pipelines/silver/orders/tests/quality/customer_is_known.sql": """
-- @severity: warn
SELECT * FROM {{ this }} WHERE customer IS NULL
""",
    "shop/pipelines/gold/revenue/pipeline.sql": """
SELECT customer, sum(amount) AS revenue, count(*) AS orders
FROM {{ ref('silver.orders') }}
GROUP BY customer
""",
}


def folder_of(place: Place) -> Path:
    """The folder that *place* is."""
    assert isinstance(place, Path)
    return place


@dataclass
class Shop:
    """A RAT with what a test needs to drive it."""

    whole: Platform
    instance: dg.DagsterInstance
    folder: Path

    def publish(self, files: Mapping[str, str] = ORDERS) -> Release:
        """Publish a folder tree of *files*."""
        for name, content in files.items():
            self.write(name, content)
        return actions.publish(self.whole, self.folder)

    def write(self, name: str, content: str) -> Path:
        """Put a file into the working tree; its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def land(self, name: str, content: str, *, zone: str = "shop/orders") -> Path:
        """Put a file into a landing zone, as somebody who copies it there."""
        namespace, _, zone_name = zone.partition("/")
        key = f"{namespace}/landing/{zone_name}/{name}"
        if isinstance(self.whole.settings.store, S3Place):
            self.whole.store.write(key, content.encode())
            return Path(key)
        path = (
            folder_of(self.whole.settings.store)
            / namespace
            / "landing"
            / zone_name
            / name
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def notice(self) -> None:
        """Look at every landing zone, as the landing sensor does."""
        with self.whole.metadata.transaction() as tx:
            for zone in landing.active_zones(tx):
                landing.look(
                    tx,
                    zone,
                    root=self.whole.store.root,
                    now=runs.database_time(tx) + timedelta(minutes=1),
                )

    def run(self, *words: str, **asked: Any) -> RunReport:  # noqa: ANN401 - the fields of RunAsk
        """Run a selection, all pipelines without one."""
        ask = RunAsk(words, everything=not words, **asked)
        return runner.run(self.whole, ask, instance=self.instance)

    def rows(self, table: str, *, at: str = MAIN) -> list[tuple[Any, ...]]:
        """The rows of a published table, sorted."""
        name = TableName.parse(table)
        with self.whole.lake.connect() as connection:
            register(connection, self.whole.lake.tables([name], at=at))
            rows = connection.sql(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall()
        return [tuple(row) for row in rows]

    def correct(self, table: str, query: str) -> None:
        """Let a commit of somebody else make a table's rows those of *query*, which may read it."""
        name, branch = TableName.parse(table), f"elsewhere-{uuid4()}"
        refs, base = self.whole.lake.refs, self.main
        refs.create(branch, at=f"{MAIN}@{base}")
        with self.whole.lake.connect() as connection:
            register(connection, self.whole.lake.tables([name]))
            apply(
                connection,
                query=query,
                catalog=self.whole.lake.catalog(branch),
                table_name=name,
                config=WriteConfig(),
                attempt_time=datetime.now(UTC),
                scope=EVERYTHING,
            )
        refs.merge(branch, from_hash=refs.head(branch), into=MAIN, expected_hash=base)

    @property
    def main(self) -> str:
        """The commit that main points to."""
        return self.whole.lake.refs.head(MAIN)

    @property
    def branches(self) -> list[str]:
        """The branches of runs that are still there."""
        return [each.name for each in self.whole.lake.refs.references(prefix="run-")]

    @property
    def holders(self) -> int:
        """How many leases somebody holds."""
        with self.whole.metadata.transaction() as tx:
            held = select(func.count()).where(Lease.holder.is_not(None))
            return tx.scalar(held) or 0

    @property
    def claims(self) -> list[ClaimState]:
        """What runs claim of the landing files."""
        with self.whole.metadata.transaction() as tx:
            return [ClaimState(each) for each in tx.scalars(select(LandingClaim.state))]

    def runs(self) -> list[Run]:
        """The rows of rat.runs, the oldest first."""
        with self.whole.metadata.transaction() as tx:
            return list(tx.scalars(select(Run).order_by(Run.created_at)))

    def materializations(self, table: str) -> list[dg.EventLogRecord]:
        """What Dagster shows as materialized of a table, the newest first."""
        key = dg.AssetKey(table.split("."))
        return list(self.instance.fetch_materializations(key, limit=100).records)
