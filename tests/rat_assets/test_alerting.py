"""Which alerts publications raise and resolve."""

import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import select, text

from rat_resources import audit
from rat_resources.alerts import episodes, watch
from rat_resources.alerts.definitions import Definition, save
from rat_resources.audit import alerts
from rat_resources.metadata.alerts import AlertState
from rat_resources.metadata.runs import Publication
from rat_resources.metadata.trace.alerts import AlertEvent
from rat_resources.mirror import log
from rat_resources.mirror.rebuilding import rebuild
from rat_resources.names import TableName
from rat_resources.platform import Platform
from tests.factories import Shop
from tests.rat_resources.rows import allow_anything

ORDERS = TableName("shop", "silver", "orders")
DEAR = {"dataset": str(ORDERS), "column": "amount", "op": "gt", "value": 100}


def define(
    whole: Platform,
    name: str,
    kind: str,
    condition: Mapping[str, Any],
    **said: Any,  # noqa: ANN401 - the fields of Definition
) -> uuid.UUID:
    """Let somebody want to hear of something."""
    definition = Definition(
        id=uuid.uuid5(uuid.NAMESPACE_OID, name),
        name=name,
        namespace="shop",
        kind=kind,
        condition={"kind": kind} | dict(condition),
        **said,
    )
    with whole.metadata.transaction() as tx:
        save(tx, definition)
    return definition.id


def told(whole: Platform) -> list[AlertEvent]:
    """The events, the oldest first."""
    with whole.metadata.transaction() as tx:
        rows = select(AlertEvent).order_by(AlertEvent.created_at, AlertEvent.dedupe_key)
        return list(tx.scalars(rows))


def titles(whole: Platform) -> list[str]:
    """What the events say, in one sentence each."""
    return [each.payload["title"] for each in told(whole)]


def raised(whole: Platform) -> list[str]:
    """The subjects that are raised."""
    with whole.metadata.transaction() as tx:
        return list(tx.scalars(select(AlertState.subject).order_by(AlertState.subject)))


def audited(whole: Platform) -> list[str]:
    """What the audit has to say of alerts."""
    return list(audit.audit(whole, only=alerts.COMPARISONS).lines)


def order(shop: Shop, *lines: str) -> None:
    """Let orders arrive, and run what follows."""
    name = f"{uuid.uuid4()}.csv"
    shop.land(name, "\n".join(["id,customer,amount", *lines, ""]))
    assert shop.run("shop.bronze.orders", "shop.silver.orders").succeeded


def test_a_publication_tells_of_what_it_publishes_once_and_when_it_is_over(
    open_shop: Shop,
) -> None:
    whole = open_shop.whole
    definition = define(whole, "dear", "threshold", DEAR, severity="critical")

    order(open_shop, "3,cyd,500")
    order(open_shop, "4,dan,5")
    order(open_shop, "3,cyd,50")

    first, over = told(whole)
    run = next(
        each for each in open_shop.runs() if str(each.id) == first.payload["run_id"]
    )
    assert (
        first.payload["title"] == "dear: 1 row has amount > 100 in shop.silver.orders"
    )
    assert first.payload["rows"][0]["amount"] == 500
    assert first.dedupe_key == f"alert:{definition}:all:{run.snapshot_id}"
    assert first.severity == "critical"
    assert first.source_dataset_uuid is not None
    assert first.producer_task_id is not None
    assert over.payload["title"] == "dear: no longer so in shop.silver.orders"
    assert over.payload["resolves"] == str(first.id)
    assert over.dedupe_key == f"resolved:{first.id}"
    assert raised(whole) == []
    assert audited(whole) == []
    with whole.metadata.transaction() as tx:
        allow_anything(tx)
        tx.execute(
            text("DELETE FROM trace.alert_events WHERE id = :id"), {"id": first.id}
        )
    assert [line.split(":")[0] for line in audited(whole)] == [
        "trace.alert_events alert",
        f"trace.resolved_events {over.id}",
    ]


def test_what_runs_again_and_publishes_the_same_tells_nothing_more(
    open_shop: Shop,
) -> None:
    whole = open_shop.whole
    define(whole, "dear", "threshold", DEAR)
    define(whole, "each", "threshold", DEAR | {"per": "row", "key": ["id"]})
    order(open_shop, "3,cyd,500", "4,dan,700")
    before = [each.dedupe_key for each in told(whole)]

    assert open_shop.run("shop.silver.orders", full_refresh=True).succeeded
    assert open_shop.run("shop.silver.orders").succeeded
    with whole.metadata.transaction() as tx:
        stated = select(Publication.facts).where(
            Publication.facts["alerts"].is_not(None)
        )
        again = [episodes.state(tx, facts["alerts"]) for facts in tx.scalars(stated)]

    log.catch_up(whole.metadata)
    rebuild(whole.metadata)
    watch.tick(whole.metadata, head=lambda: open_shop.main)

    assert again == [[]]
    assert len(before) == 3
    assert [each.dedupe_key for each in told(whole)] == before
    assert len(raised(whole)) == 3


def test_conditions_on_runs_columns_and_tests_are_evaluated_too(
    open_shop: Shop,
) -> None:
    whole, table = open_shop.whole, {"dataset": str(ORDERS)}
    define(
        whole,
        "ended",
        "run_status",
        {"statuses": ["success"], "pipelines": ["shop.bronze"]},
    )
    define(whole, "columns", "schema_change", table)
    define(whole, "unknown", "quality", table | {"status": "warned"})
    define(whole, "volume", "volume", table | {"last_runs": 1, "high": 1.5})
    path = "shop/pipelines/silver/orders/pipeline.sql"
    sql = (open_shop.folder / path).read_text()
    open_shop.publish({path: sql.replace("amount::", "7 AS seven, amount::")})

    order(open_shop, "3,,1", "4,,1", "5,,1", "6,,1")

    assert sorted(titles(whole)) == [
        "columns: the columns of shop.silver.orders changed: added seven",
        "ended: shop.bronze.orders succeeded",
        "unknown: the test customer_is_known of shop.silver.orders warned: 4 offending rows",
        "volume: a run of shop.silver.orders wrote 4 rows, which is outside of 0 to 3,"
        " as usual in the last 1 runs",
    ]
    assert raised(whole) == ["all", "customer_is_known"]


def test_queries_and_pinned_functions_read_the_table_as_the_run_made_it(
    open_shop: Shop,
) -> None:
    whole, table = open_shop.whole, {"dataset": str(ORDERS)}
    query = "SELECT customer, amount FROM {{ ref('silver.orders') }} WHERE amount > 100"
    define(whole, "asked", "sql", table | {"query": query})
    code = (
        b"def dear(lake):\n"
        b"    rows = lake.table.filter('amount > 100').fetchall()\n"
        b"    return [{'id': row[0]} for row in rows]\n"
    )
    whole.store.write("shop/alerts/checks.py", code)
    pin = {"entrypoint": "checks:dear", "sha256": sha256(code).hexdigest()}
    define(whole, "called", "udf", table | pin)

    order(open_shop, "3,cyd,500")

    asked, called = sorted(told(whole), key=lambda each: each.payload["title"])
    assert asked.payload["title"] == (
        "asked: its query returned 1 row about shop.silver.orders"
    )
    assert asked.payload["rows"] == [{"customer": "cyd", "amount": 500}]
    assert called.payload["rows"] == [{"id": 3}]


BROKEN: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "column": ("threshold", DEAR | {"column": "amout"}, "did you mean 'amount'?"),
    "table": ("sql", {"query": "FROM shop.silver.nothing"}, "no published table"),
    "writing": ("sql", {"query": "DROP TABLE x"}, "does not only read"),
    "module": ("udf", {"entrypoint": "nowhere:x", "sha256": "0"}, "no module"),
    "hash": ("udf", {"entrypoint": "json:dumps", "sha256": "0"}, "not the file"),
}


def test_what_cannot_be_evaluated_is_one_trouble_and_stops_no_run(
    open_shop: Shop,
) -> None:
    whole = open_shop.whole
    for name, (kind, condition, _) in BROKEN.items():
        define(whole, name, kind, {"dataset": str(ORDERS)} | dict(condition))

    order(open_shop, "3,cyd,500")
    order(open_shop, "4,dan,500")
    troubles = {each.dedupe_key: each.payload for each in told(whole)}
    for name in BROKEN:
        define(whole, name, "threshold", DEAR | {"value": 1000})
    order(open_shop, "5,eve,500")

    said = sorted(each["title"] + each["remediation"] for each in troubles.values())
    assert all(key.startswith("system:condition:") for key in troubles)
    assert len(said) == len(BROKEN)
    for line, name in zip(said, sorted(BROKEN), strict=True):
        assert line.startswith(f"the alert shop/{name} cannot be evaluated: ")
        assert BROKEN[name][2] in line
    over = titles(whole)[len(BROKEN) :]
    assert sorted(over) == [
        f"the alert shop/{name} can be evaluated again" for name in sorted(BROKEN)
    ]
