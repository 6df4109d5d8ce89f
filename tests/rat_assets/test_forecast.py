"""What a publish would change, told before it is one."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from rat_assets.cli import rat
from tests.factories import ORDERS, Shop

# A command pins its settings in the environment for good.

BRONZE = "shop/pipelines/bronze/orders"
SILVER = "shop/pipelines/silver/orders"
GOLD = "shop/pipelines/gold/revenue"


def dry_run(folder: Path, *options: str) -> Result:
    """What `rat publish --dry-run` comes to."""
    arguments = ["publish", "--dry-run", str(folder), *options]
    return CliRunner().invoke(rat, arguments)


def planned(shop: Shop) -> dict[str, Any]:
    """What it says to programs."""
    result = dry_run(shop.folder, "--json")
    assert result.exit_code == 0, result.output
    plan: dict[str, Any] = json.loads(result.stdout)
    return plan


def edit(shop: Shop, name: str, old: str, new: str) -> None:
    """Edit a file of the working tree."""
    path = shop.folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_what_is_current_would_not_change(open_shop: Shop) -> None:
    result = dry_run(open_shop.folder)

    assert result.exit_code == 0
    said = "nothing would change: release 1 is current; 3 pipelines unchanged\n"
    assert result.stdout == said


def test_a_first_publish_would_create_everything_in_order(shop: Shop) -> None:
    for name, content in ORDERS.items():
        shop.write(name, content)

    plan = planned(shop)

    assert plan["would_change"]
    assert plan["rewritten"] == [
        "shop.bronze.orders",
        "shop.silver.orders",
        "shop.gold.revenue",
    ]
    assert [bool(each["unknown"]) for each in plan["tables"]] == [True, True, True]
    assert plan["zones"] == ["new zone shop/orders"]


def test_each_change_is_said_in_words(open_shop: Shop) -> None:
    edit(open_shop, f"{BRONZE}/pipeline.sql", "as they arrive", "as they came")
    edit(open_shop, f"{SILVER}/pipeline.sql", "incremental", "delete_insert")
    edit(open_shop, f"{SILVER}/tests/quality/customer_is_known.sql", "warn", "error")
    open_shop.write(f"{GOLD}/tests/quality/new.sql", "FROM {{ this }} WHERE false")

    plan = planned(open_shop)

    assert plan["changed"] == {
        "shop.bronze.orders": [
            "comments of pipeline.sql",
            "description: Orders as they arrive → Orders as they came",
        ],
        "shop.silver.orders": [
            "comments of pipeline.sql",
            "merge_strategy: incremental → delete_insert",
            "test customer_is_known: severity warn → error",
        ],
        "shop.gold.revenue": ["new test new"],
    }
    assert plan["rewritten"] == ["shop.silver.orders"]
    assert plan["following"] == ["shop.gold.revenue"]


CONFIG = """
columns:
  id: {tests: [not_null, unique]}
  customer: {description: Who, tests: [{accepted_values: [ann, bob]}]}
guard: {max_added: 50%, max_removed: 5%}
charts:
  - {title: Amounts, kind: bar, x: customer, y: amount}
  - {title: Ids, kind: bar, x: customer, y: id}
"""


def test_a_comment_in_the_configuration_changes_nothing_else(open_shop: Shop) -> None:
    open_shop.write(f"{SILVER}/config.yaml", CONFIG)
    open_shop.publish({})
    open_shop.write(f"{SILVER}/config.yaml", f"# What shops sell\n{CONFIG}")

    plan = planned(open_shop)

    said = ["config.yaml, and not what it means"]
    assert plan["changed"] == {"shop.silver.orders": said}
    assert plan["rewritten"] == []


def test_only_what_changes_in_the_configuration_is_said(open_shop: Shop) -> None:
    open_shop.write(f"{SILVER}/config.yaml", CONFIG)
    open_shop.publish({})
    for old, new in (
        ("x: customer, y: id", "x: customer, y: amount"),
        ("max_added: 50%, max_removed: 5%", "max_removed: 10%, max_changed: 7"),
        ("[ann, bob]", "[ann]"),
        ("unique]", "{unique: {severity: warn}}]"),
        ("description: Who", "description: Whose"),
    ):
        edit(open_shop, f"{SILVER}/config.yaml", old, new)

    plan = planned(open_shop)

    assert plan["changed"]["shop.silver.orders"] == [
        "charts: 1 changed",
        "columns: 1 changed",
        "guard: max_added 50 % goes",
        "guard: max_removed 5 % → 10 %",
        "guard: new: max_changed 7",
        "test accepted_values_customer: its query; its description",
        "test unique_id: severity error → warn",
    ]


def test_what_changes_in_landing_zones_is_said(open_shop: Shop) -> None:
    described = (
        "description: Orders\nexpected_schema: {columns: {id: BIGINT, amount: BIGINT}}"
    )
    open_shop.write("shop/landing/orders.yaml", described)
    open_shop.publish({})
    edit(open_shop, "shop/landing/orders.yaml", "amount: BIGINT", "customer: VARCHAR")
    edit(
        open_shop, f"{BRONZE}/pipeline.sql", "landing_zone('orders'", "landing_zone('o'"
    )
    edit(open_shop, f"{BRONZE}/config.yaml", "zone_name: orders", "zone_name: o")

    zones = planned(open_shop)["zones"]

    assert zones == [
        "new zone shop/o",
        "zone shop/orders goes: no pipeline reads it any more; its files stay",
        "zone shop/orders: expected columns: 1 new, 1 gone",
    ]


def test_a_pipeline_whose_columns_nobody_knows_is_named_once(shop: Shop) -> None:
    for name, content in ORDERS.items():
        shop.write(name, content)

    said = dry_run(shop.folder).stdout

    assert "? shop.bronze.orders: there is no file in shop/orders" in said


def test_columns_that_change_are_followed_downstream(open_shop: Shop) -> None:
    edit(open_shop, f"{SILVER}/pipeline.sql", "DECIMAL(12, 2)", "DECIMAL(14, 2)")
    edit(open_shop, f"{SILVER}/pipeline.sql", "SELECT id", "SELECT 'x' AS shop, id")

    plan = planned(open_shop)

    silver, gold = plan["tables"]
    assert [(each["kind"], each["column"]) for each in silver["changes"]] == [
        ("widened", "amount"),
        ("added", "shop"),
    ]
    assert gold["readers"] == [
        {"column": "shop.gold.revenue.revenue", "reads": "shop.silver.orders.amount"}
    ]
    assert not gold["failure"]


def test_a_published_reader_of_a_column_that_goes_is_named(open_shop: Shop) -> None:
    tree = open_shop.folder.parent / "only_silver"
    query = "SELECT id, amount, loaded_at FROM {{ ref('bronze.orders') }}"
    path = tree / SILVER / "pipeline.sql"
    path.parent.mkdir(parents=True)
    path.write_text(query)

    result = dry_run(tree)

    assert result.exit_code == 0, result.output
    assert "shop.silver.orders: dropped customer (varchar)" in result.stdout
    assert (
        "✘ shop.gold.revenue would fail: shop/pipelines/gold/revenue" in result.stdout
    )
    assert "customer" in result.stdout.partition("would fail")[2]
    assert "rat run shop.silver.orders --downstream" in result.stdout


def test_a_plan_is_refused_like_a_publish(open_shop: Shop) -> None:
    open_shop.write(f"{GOLD}/pipeline.sql", "-- @owne: x\nSELEC 1")

    plan = dry_run(open_shop.folder)
    publish = CliRunner().invoke(rat, ["publish", str(open_shop.folder)])

    assert plan.exit_code == publish.exit_code == 1
    assert plan.stderr == publish.stderr
