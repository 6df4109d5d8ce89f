"""PyIceberg tables on branches: what one writes, another neither sees nor loses."""

from copy import copy
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from pyiceberg.table.update.snapshot import ExpireSnapshots
from pyiceberg.types import LongType
from sqlalchemy.exc import OperationalError

from rat_resources.errors import CatalogError, LostAnswerError
from rat_resources.lake.catalog import RefCatalog
from rat_resources.lake.refs import (
    MAIN,
    CommitResult,
    IcebergTable,
    ReferenceType,
    Refs,
)
from rat_resources.places import Place, S3Place
from rat_resources.s3_store import S3Store
from tests.factories import folder_of
from tests.rat_resources.lake.contents import ORDERS, SALES, table_at

SCHEMA = pa.schema([("id", pa.int64()), ("item", pa.string())])


IN_BOTH = pytest.mark.parametrize("warehouse", ["a folder", "S3"], indirect=True)


@pytest.fixture
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where the files are: a folder, or S3 for a test that asks for it."""
    if getattr(request, "param", "a folder") == "S3":
        return S3Place(request.getfixturevalue("bucket"), "wäre-house")
    return tmp_path / "wäre house %41"


@pytest.fixture
def catalog(refs: Refs, warehouse: Place) -> RefCatalog:
    """The catalog of a new branch."""
    refs.create("run-1")
    return RefCatalog(refs, ref="run-1", warehouse=warehouse.as_uri())


def at(catalog: RefCatalog, ref: str) -> RefCatalog:
    """The same catalog at another ref."""
    return RefCatalog(catalog.refs, ref=ref, warehouse=catalog.warehouse)


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "item": ["nut"] * len(ids)}, schema=SCHEMA)


def ids(catalog: RefCatalog, key: tuple[str, ...] = ORDERS) -> list[int]:
    return sorted(catalog.load_table(key).scan().to_arrow()["id"].to_pylist())


def files(warehouse: Place) -> set[str]:
    if isinstance(warehouse, S3Place):
        return set(S3Store(warehouse).list())
    return {str(path) for path in warehouse.rglob("*") if path.is_file()}


def metadata_files(warehouse: Place) -> set[str]:
    return {path for path in files(warehouse) if path.endswith(".metadata.json")}


def make_orders(catalog: RefCatalog, *numbers: int) -> Table:
    table = catalog.create_table(ORDERS, SCHEMA)
    table.append(rows(*numbers))
    return table


def publish(catalog: RefCatalog) -> None:
    catalog.refs.merge(str(catalog.branch))


@IN_BOTH
def test_a_table_is_read_where_it_was_written(catalog: RefCatalog) -> None:
    make_orders(catalog, 1, 2)

    table = catalog.load_table("shop.silver.orders")

    assert table.name() == ORDERS
    assert ids(catalog) == [1, 2]
    assert not at(catalog, MAIN).table_exists(ORDERS)


def test_a_table_lies_in_a_folder_of_its_name(
    catalog: RefCatalog, warehouse: Place
) -> None:
    table = make_orders(catalog, 1)

    folder = folder_of(warehouse) / "shop" / "silver" / "orders"
    assert table.location() == f"file://{folder}"
    assert {Path(path).relative_to(folder).parts[0] for path in files(warehouse)} == {
        "data",
        "metadata",
    }


def test_a_new_table_brings_its_namespaces_in_one_commit(catalog: RefCatalog) -> None:
    catalog.create_table(ORDERS, SCHEMA)

    newest = next(catalog.refs.history("run-1"))
    assert [operation.key for operation in newest.operations] == [
        ("shop",),
        ("shop", "silver"),
        ORDERS,
    ]


def test_a_new_table_may_come_with_its_first_rows_in_one_commit(
    catalog: RefCatalog,
) -> None:
    transaction = catalog.create_table_transaction(ORDERS, SCHEMA)
    transaction.append(rows(1, 2))
    transaction.commit_transaction()

    assert ids(catalog) == [1, 2]
    assert len(list(catalog.refs.history("run-1"))) == 2


def test_new_tables_are_kept_small_and_never_collected(catalog: RefCatalog) -> None:
    table = catalog.create_table(ORDERS, SCHEMA, properties={"owner": "ada"})

    assert table.format_version == 2
    assert table.properties == {
        "commit.manifest-merge.enabled": "true",
        "commit.retry.num-retries": "0",
        "gc.enabled": "false",
        "owner": "ada",
    }


def test_a_commit_bears_the_message_and_properties_of_its_catalog(
    refs: Refs, warehouse: Place
) -> None:
    refs.create("run-1")
    catalog = RefCatalog(
        refs,
        ref="run-1",
        warehouse=folder_of(warehouse),
        message="Write shop.silver.orders",
        properties={"rat.run_id": "7"},
    )

    make_orders(catalog, 1)

    for commit in refs.history("run-1", limit=2):
        assert commit.message == "Write shop.silver.orders"
        assert commit.properties["rat.run_id"] == "7"


def test_a_content_says_where_its_table_stands(catalog: RefCatalog) -> None:
    made = catalog.create_table(ORDERS, SCHEMA)
    empty = table_at(catalog.refs, at="run-1")
    made.append(rows(1))

    content = table_at(catalog.refs, at="run-1")

    table = catalog.load_table(ORDERS)
    assert (empty.snapshot_id, empty.metadata_location != "") == (-1, True)
    assert content == IcebergTable(
        table.metadata_location, table.metadata.current_snapshot_id or 0, id=empty.id
    )


def test_columns_rows_and_snapshots_can_change_in_one_commit(
    catalog: RefCatalog,
) -> None:
    table = make_orders(catalog, 1)
    before = len(list(catalog.refs.history("run-1")))
    old = table.metadata.current_snapshot_id or 0
    table.append(rows(2))

    with table.transaction() as transaction:
        with transaction.update_schema() as update:
            update.add_column("price", LongType())
        transaction.append(
            pa.table({"id": [3], "item": ["bolt"], "price": pa.array([5], pa.int64())})
        )
        ExpireSnapshots(transaction).by_id(old).commit()

    loaded = catalog.load_table(ORDERS)
    assert ids(catalog) == [1, 2, 3]
    assert old not in {snapshot.snapshot_id for snapshot in loaded.snapshots()}
    assert len(list(catalog.refs.history("run-1"))) == before + 2


def test_nothing_to_change_is_no_commit(catalog: RefCatalog, warehouse: Place) -> None:
    table = make_orders(catalog, 1)
    head, before = catalog.refs.head("run-1"), files(warehouse)

    catalog.commit_table(table, (), ())

    assert catalog.refs.head("run-1") == head
    assert files(warehouse) == before


def test_a_branch_goes_on_from_what_main_holds(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)
    publish(catalog)
    catalog.refs.create("run-2")

    at(catalog, "run-2").load_table(ORDERS).append(rows(2))

    assert ids(at(catalog, MAIN)) == [1]
    assert ids(at(catalog, "run-2")) == [1, 2]


def test_an_old_commit_is_read_as_it_was(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)
    old = catalog.refs.head("run-1")
    catalog.load_table(ORDERS).append(rows(2))

    assert ids(at(catalog, f"@{old}")) == [1]
    assert ids(at(catalog, f"run-1@{old}")) == [1]


@pytest.mark.parametrize("ref", ["{head}", "kept"])
def test_a_commit_or_tag_can_only_be_read(catalog: RefCatalog, ref: str) -> None:
    make_orders(catalog, 1)
    head = catalog.refs.head("run-1")
    catalog.refs.create("kept", at="run-1", kind=ReferenceType.TAG)
    pinned = at(catalog, ref.format(head=f"@{head}"))

    with pytest.raises(ValueError, match="can only be read"):
        pinned.load_table(ORDERS).append(rows(2))
    with pytest.raises(ValueError, match="can only be read"):
        pinned.create_table(SALES, SCHEMA)

    assert ids(pinned) == [1]


def test_many_tables_are_found_by_one_look_up(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)
    catalog.create_table(SALES, SCHEMA)

    tables = catalog.load_many([ORDERS, SALES, ("shop",), ("shop", "gold", "nothing")])

    assert set(tables) == {ORDERS, SALES}
    assert tables[ORDERS].scan().to_arrow().num_rows == 1


def test_a_pinned_content_is_loaded_whatever_the_branch_holds(
    catalog: RefCatalog,
) -> None:
    make_orders(catalog, 1)
    pinned = table_at(catalog.refs, at="run-1")
    catalog.load_table(ORDERS).append(rows(2))

    table = catalog.load_table_at(ORDERS, pinned)

    assert table.scan().to_arrow().num_rows == 1


# Conflicts


@IN_BOTH
def test_a_table_that_moved_is_not_written_over(
    catalog: RefCatalog, warehouse: Place
) -> None:
    make_orders(catalog, 1)
    mine, theirs = (catalog.load_table(ORDERS) for _ in range(2))
    theirs.append(rows(2))

    with pytest.raises(CommitFailedException):
        mine.append(rows(3))

    assert ids(catalog) == [1, 2]
    assert len(metadata_files(warehouse)) == 3


def make_or_append(catalog: RefCatalog, number: int) -> None:
    if catalog.table_exists(ORDERS):
        catalog.load_table(ORDERS).append(rows(number))
    else:
        make_orders(catalog, number)


@pytest.fixture
def racing(catalog: RefCatalog, monkeypatch: pytest.MonkeyPatch) -> RefCatalog:
    """The catalog of the same branch, whose next commit comes second."""
    refs = copy(catalog.refs)
    commit = refs.commit

    def come_second(*args: Any, **kwargs: Any) -> CommitResult:  # noqa: ANN401
        monkeypatch.setattr(refs, "commit", commit)
        make_or_append(catalog, 9)
        return commit(*args, **kwargs)

    monkeypatch.setattr(refs, "commit", come_second)
    return RefCatalog(refs, ref="run-1", warehouse=catalog.warehouse)


@IN_BOTH
def test_a_commit_that_comes_second_leaves_no_metadata(
    catalog: RefCatalog, racing: RefCatalog, warehouse: Place
) -> None:
    make_orders(catalog, 1)

    with pytest.raises(CommitFailedException, match="changed by somebody else"):
        racing.load_table(ORDERS).append(rows(2))

    assert ids(catalog) == [1, 9]
    assert len(metadata_files(warehouse)) == 3


def test_a_table_that_comes_second_exists_already(
    catalog: RefCatalog, racing: RefCatalog, warehouse: Place
) -> None:
    with pytest.raises(TableAlreadyExistsError):
        racing.create_table(ORDERS, SCHEMA)

    assert ids(catalog) == [9]
    assert len(metadata_files(warehouse)) == 2


def test_a_table_that_exists_is_not_created_again(
    catalog: RefCatalog, warehouse: Place
) -> None:
    make_orders(catalog, 1)
    before = files(warehouse)

    with pytest.raises(TableAlreadyExistsError):
        catalog.create_table(ORDERS, SCHEMA)

    assert files(warehouse) == before
    assert ids(catalog) == [1]


def test_a_branch_that_is_gone_takes_no_commit(
    catalog: RefCatalog, racing: RefCatalog
) -> None:
    table = make_orders(catalog, 1)
    catalog.refs.delete("run-1", expected_hash=catalog.refs.head("run-1"))

    with pytest.raises(Exception, match="no branch or tag named run-1"):
        table.append(rows(2))


def test_a_lost_answer_leaves_the_state_unknown_and_the_files_in_place(
    catalog: RefCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_orders(catalog, 1)
    refs = copy(catalog.refs)
    commit = refs.commit

    def lose_the_answer(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401
        commit(*args, **kwargs)
        raise OperationalError("COMMIT", {}, ConnectionError("lost"))

    monkeypatch.setattr(refs, "commit", lose_the_answer)
    silent = RefCatalog(refs, ref="run-1", warehouse=catalog.warehouse)

    with pytest.raises(CommitStateUnknownException, match="nobody knows") as caught:
        silent.load_table(ORDERS).append(rows(2))

    assert isinstance(caught.value, LostAnswerError)
    assert ids(catalog) == [1, 2]


def test_a_server_that_is_not_there_took_nothing_and_leaves_no_metadata(
    catalog: RefCatalog, warehouse: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_orders(catalog, 1)
    table = catalog.load_table(ORDERS)
    before = metadata_files(warehouse)

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401
        raise CatalogError

    monkeypatch.setattr(catalog.refs, "commit", refuse)
    with pytest.raises(CatalogError):
        table.append(rows(2))

    assert metadata_files(warehouse) == before


# Files belong to every branch


def test_two_branches_may_make_one_table_and_keep_their_files(
    catalog: RefCatalog,
) -> None:
    catalog.refs.create("run-2")
    other = at(catalog, "run-2")

    make_orders(catalog, 1)
    make_orders(other, 2)
    catalog.drop_table(ORDERS)

    assert ids(other) == [2]
    assert not catalog.table_exists(ORDERS)


@IN_BOTH
def test_dropping_a_table_keeps_its_files(
    catalog: RefCatalog, warehouse: Place
) -> None:
    make_orders(catalog, 1)
    old, before = catalog.refs.head("run-1"), files(warehouse)

    catalog.drop_table(ORDERS)

    assert files(warehouse) == before
    assert ids(at(catalog, f"@{old}")) == [1]
    with pytest.raises(NoSuchTableError):
        catalog.drop_table(ORDERS)


def test_old_metadata_is_never_deleted(catalog: RefCatalog, warehouse: Place) -> None:
    properties = {"write.metadata.previous-versions-max": "1"}
    table = catalog.create_table(ORDERS, SCHEMA, properties=properties)

    for number in range(4):
        table.append(rows(number))

    assert len(metadata_files(warehouse)) == 5


def test_deleting_old_metadata_cannot_be_asked_for(
    catalog: RefCatalog, warehouse: Place
) -> None:
    properties = {"write.metadata.delete-after-commit.enabled": "true"}
    table = make_orders(catalog, 1)

    with pytest.raises(ValueError, match="other branches point to"):
        catalog.create_table(SALES, SCHEMA, properties=properties)
    with (
        pytest.raises(ValueError, match="other branches point to"),
        table.transaction() as transaction,
    ):
        transaction.set_properties(properties)

    assert not catalog.table_exists(SALES)
    assert "write.metadata.delete-after-commit.enabled" not in table.properties


def test_purging_and_renaming_are_refused(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)

    with pytest.raises(NotImplementedError, match="purged"):
        catalog.purge_table(ORDERS)
    with pytest.raises(NotImplementedError, match="named like its pipeline"):
        catalog.rename_table(ORDERS, SALES)

    assert ids(catalog) == [1]


def test_an_earlier_state_can_be_registered_again(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)
    old = table_at(catalog.refs, at="run-1")
    catalog.load_table(ORDERS).append(rows(2))

    with pytest.raises(TableAlreadyExistsError):
        catalog.register_table(ORDERS, old.metadata_location)
    catalog.register_table(ORDERS, old.metadata_location, overwrite=True)

    assert ids(catalog) == [1]
    assert table_at(catalog.refs, at="run-1") == old


# Names and namespaces


@pytest.mark.parametrize("name", ["orders", "silver.orders", "a.shop.silver.orders"])
def test_a_table_has_a_name_of_three_parts(catalog: RefCatalog, name: str) -> None:
    with pytest.raises(NoSuchTableError, match=r"namespace\.layer\.name"):
        catalog.load_table(name)
    with pytest.raises(ValueError, match=r"namespace\.layer\.name"):
        catalog.create_table(name, SCHEMA)


def test_tables_and_namespaces_are_listed(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)
    catalog.create_table(SALES, SCHEMA)

    assert catalog.list_namespaces() == [("shop",)]
    assert catalog.list_namespaces("shop") == [("shop", "gold"), ("shop", "silver")]
    assert catalog.list_tables("shop.silver") == [ORDERS]
    assert catalog.list_tables("shop") == []
    assert catalog.list_views("shop") == []
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("nowhere")


def test_a_namespace_is_made_once(catalog: RefCatalog) -> None:
    catalog.create_namespace("shop")
    catalog.create_namespace_if_not_exists("shop")

    with pytest.raises(NamespaceAlreadyExistsError):
        catalog.create_namespace("shop")
    with pytest.raises(NoSuchNamespaceError):
        catalog.create_namespace(("nowhere", "silver"))

    assert catalog.namespace_exists("shop")
    assert catalog.load_namespace_properties("shop") == {}


def test_a_namespace_goes_when_it_is_empty(catalog: RefCatalog) -> None:
    make_orders(catalog, 1)

    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace(ORDERS[:2])
    catalog.drop_table(ORDERS)
    catalog.drop_namespace(ORDERS[:2])

    assert catalog.list_namespaces("shop") == []
    with pytest.raises(NoSuchNamespaceError):
        catalog.drop_namespace(ORDERS[:2])


@pytest.mark.parametrize("sign", ["?", "#"])
def test_a_warehouse_whose_path_would_be_cut_is_refused(
    refs: Refs, tmp_path: Path, sign: str
) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        RefCatalog(refs, ref=MAIN, warehouse=tmp_path / f"what{sign}")


def test_a_warehouse_may_be_a_bucket(refs: Refs) -> None:
    catalog = RefCatalog(refs, ref=MAIN, warehouse="s3://lake/a%20b/")

    staged = catalog._create_staged_table(ORDERS, SCHEMA)

    assert staged.location() == "s3://lake/a%20b/shop/silver/orders"
