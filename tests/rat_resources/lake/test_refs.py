"""What every keeper of branches promises: one suite, run over each of them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rat_resources.errors import (
    KeyConflict,
    MergeConflictError,
    NotFoundError,
    ReferenceConflictError,
)
from rat_resources.lake.refs import (
    MAIN,
    Delete,
    IcebergTable,
    Key,
    Namespace,
    Operation,
    Put,
    ReferenceType,
    Refs,
    Resolution,
    Unchanged,
)
from tests.rat_resources.lake.contents import (
    LAYERS,
    ORDERS,
    SALES,
    change_table,
    file_at,
    make_namespaces,
    make_table,
    publish_table,
    table_at,
)


def conflict_types(conflicts: tuple[KeyConflict, ...]) -> dict[Key, str]:
    return {conflict.key: str(conflict.conflict_type) for conflict in conflicts}


# References


def test_bootstrap_makes_main_once(refs: Refs) -> None:
    first = refs.reference(MAIN)

    again = refs.bootstrap()

    assert again == first
    assert len(list(refs.history(MAIN))) == 1


def test_a_branch_starts_where_it_was_made_and_main_stays(refs: Refs) -> None:
    publish_table(refs)

    branch = refs.create("run-1")
    make_table(refs, SALES, on="run-1")

    assert branch.hash == refs.head(MAIN)
    assert file_at(refs, SALES, at="run-1") == "1"
    assert file_at(refs, ORDERS, at="run-1") == "1"
    assert file_at(refs, SALES) is None


def test_a_branch_can_start_at_an_old_commit(refs: Refs) -> None:
    publish_table(refs)
    old = refs.head(MAIN)
    publish_table(refs, SALES)

    refs.create("run-1", at=f"{MAIN}@{old}")

    assert refs.head("run-1") == old
    assert file_at(refs, SALES, at="run-1") is None


def test_two_references_cannot_share_a_name(refs: Refs) -> None:
    refs.create("run-1")

    with pytest.raises(ReferenceConflictError, match="run-1 exists already"):
        refs.create("run-1", kind=ReferenceType.TAG)


@pytest.mark.parametrize("name", ["", "a b", "a..b", "ä", "a@b"])
def test_a_name_that_makes_no_sense_is_refused(refs: Refs, name: str) -> None:
    with pytest.raises(ValueError, match="names no reference"):
        refs.create(name)


@pytest.mark.parametrize("place", ["nobody", f"{MAIN}@{'0' * 64}", f"@{'0' * 64}"])
def test_a_place_that_is_not_there_is_not_found(refs: Refs, place: str) -> None:
    with pytest.raises(NotFoundError):
        refs.content(ORDERS, at=place)


def test_references_are_listed_by_prefix(refs: Refs) -> None:
    for name in ("run-2", "run-1", "other", "run_3"):
        refs.create(name)

    names = [reference.name for reference in refs.references(prefix="run-")]

    assert names == ["run-1", "run-2"]
    assert len(list(refs.references())) == 5


def test_a_tag_does_not_move(refs: Refs) -> None:
    tag = refs.create("kept", kind=ReferenceType.TAG)

    with pytest.raises(ReferenceConflictError, match="tag"):
        refs.commit("kept", make_namespaces(), message="Move it")

    assert refs.reference("kept") == tag


def test_a_deleted_branch_is_gone_and_its_commits_stay(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    head = refs.head("run-1")

    refs.delete("run-1", expected_hash=head)

    with pytest.raises(NotFoundError):
        refs.head("run-1")
    assert file_at(refs, at=f"@{head}") == "1"


def test_a_reference_that_moved_is_not_deleted(refs: Refs) -> None:
    old = refs.create("run-1").hash
    make_table(refs, on="run-1")

    with pytest.raises(ReferenceConflictError):
        refs.delete("run-1", expected_hash=old)

    assert refs.head("run-1") != old


def test_main_cannot_be_deleted(refs: Refs) -> None:
    with pytest.raises(ValueError, match="cannot be deleted"):
        refs.delete(MAIN, expected_hash=refs.head(MAIN))


def test_an_assigned_branch_goes_on_from_its_new_commit(refs: Refs) -> None:
    old = refs.create("run-1").hash
    make_table(refs, on="run-1")
    tip = refs.head("run-1")

    refs.assign("run-1", to=f"@{old}", expected_hash=tip)
    make_table(refs, on="run-1", file="another")

    assert file_at(refs, at="run-1") == "another"
    assert file_at(refs, at=f"@{tip}") == "1"
    assert [commit.hash for commit in refs.history("run-1")][1] == old


def test_a_reference_that_moved_is_not_assigned(refs: Refs) -> None:
    old = refs.create("run-1").hash
    make_table(refs, on="run-1")

    with pytest.raises(ReferenceConflictError):
        refs.assign("run-1", to=MAIN, expected_hash=old)


# Contents


def test_a_new_table_gets_an_id_and_keeps_it(refs: Refs) -> None:
    refs.create("run-1")
    made = make_table(refs, on="run-1")

    change_table(refs, on="run-1", file="2")

    assert made.id is not None
    assert table_at(refs, at="run-1") == IcebergTable("2", id=made.id)


def test_many_keys_are_looked_up_at_once(refs: Refs) -> None:
    publish_table(refs)
    publish_table(refs, SALES)

    found = refs.contents([SALES, ("shop",), ("no", "such", "thing")], at=MAIN)

    assert set(found) == {SALES, ("shop",)}
    assert isinstance(found[("shop",)], Namespace)
    assert refs.contents([], at=MAIN) == {}


def test_entries_are_what_is_there_under_a_prefix(refs: Refs) -> None:
    publish_table(refs)
    publish_table(refs, SALES)
    publish_table(refs, ("shopping", "gold", "carts"))
    refs.create("run-1")
    refs.commit("run-1", [Delete(SALES)], message="Drop it")

    keys = [entry.key for entry in refs.entries(at="run-1", prefix=("shop",))]

    assert keys == [("shop",), ("shop", "gold"), ("shop", "silver"), ORDERS]
    assert SALES in {entry.key for entry in refs.entries(at=MAIN)}


@pytest.mark.parametrize(
    "name", ["a.b", "{x,y}", '"', "\\", "NULL", "%", "ä ö", "''", "a/b"]
)
def test_a_key_may_hold_any_character_that_can_be_seen(refs: Refs, name: str) -> None:
    key = ("shop", "silver", name)
    refs.create("run-1")

    make_table(refs, key, on="run-1")

    assert file_at(refs, key, at="run-1") == "1"
    assert key in {entry.key for entry in refs.entries(at="run-1")}
    assert [d.key for d in refs.diff(MAIN, after="run-1") if len(d.key) == 3] == [key]


# Commits


def test_a_commit_is_told_by_the_log(refs: Refs) -> None:
    before = refs.create("run-1").hash

    made = refs.commit(
        "run-1",
        [*make_namespaces(), Put(ORDERS, IcebergTable("1", snapshot_id=2**62))],
        message="Make orders",
        properties={"rat.run_id": "7"},
        authors=["Ada"],
    )

    commit = next(refs.history("run-1"))
    assert commit.hash == made.hash == refs.head("run-1")
    assert commit.parents == (before,)
    assert (commit.message, commit.authors) == ("Make orders", ("Ada",))
    assert commit.properties["rat.run_id"] == "7"
    assert commit.time.tzinfo is not None
    assert {op.key for op in commit.operations} == {*LAYERS, ORDERS}


def test_a_commit_on_an_old_hash_succeeds_when_its_keys_are_the_same(
    refs: Refs,
) -> None:
    refs.create("run-1")
    orders = make_table(refs, on="run-1")
    read = refs.head("run-1")
    make_table(refs, SALES, on="run-1")

    refs.commit(
        "run-1",
        [Put(ORDERS, replace(orders, metadata_location="2"))],
        expected_hash=read,
        message="Change orders",
    )

    assert file_at(refs, ORDERS, at="run-1") == "2"
    assert file_at(refs, SALES, at="run-1") == "1"


def test_a_commit_conflicts_when_its_key_changed_since_it_was_read(refs: Refs) -> None:
    refs.create("run-1")
    orders = make_table(refs, on="run-1")
    read = refs.head("run-1")
    change_table(refs, on="run-1", file="theirs")
    ours = Put(ORDERS, replace(orders, metadata_location="ours"))

    with pytest.raises(MergeConflictError) as caught:
        refs.commit("run-1", [ours], expected_hash=read, message="Too late")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "VALUE_DIFFERS"}
    assert file_at(refs, at="run-1") == "theirs"


def test_a_commit_conflicts_when_its_expected_content_is_not_there(refs: Refs) -> None:
    refs.create("run-1")
    old = make_table(refs, on="run-1")
    change_table(refs, on="run-1", file="2")
    put = Put(ORDERS, replace(old, metadata_location="3"), expected=old)

    with pytest.raises(MergeConflictError) as caught:
        refs.commit("run-1", [put], message="Too late")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "VALUE_DIFFERS"}


def test_unchanged_guards_a_key_that_was_only_read(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    refs.commit("run-1", make_namespaces(), message="Make the layers")
    read = refs.head("run-1")
    change_table(refs, on="run-1", file="2")
    operations: list[Operation] = [Unchanged(ORDERS), Put(SALES, IcebergTable("1"))]

    with pytest.raises(MergeConflictError) as caught:
        refs.commit("run-1", operations, expected_hash=read, message="Derive sales")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "VALUE_DIFFERS"}


def test_a_put_must_know_whether_its_key_exists(refs: Refs) -> None:
    refs.create("run-1")
    orders = make_table(refs, on="run-1")
    refs.commit("run-1", make_namespaces(), message="Make the layers")
    puts = {
        "KEY_EXISTS": Put(ORDERS, IcebergTable("2")),
        "CONTENT_ID_DIFFERS": Put(ORDERS, IcebergTable("2", id="another")),
        "KEY_DOES_NOT_EXIST": Put(SALES, orders),
    }

    for expected, put in puts.items():
        with pytest.raises(MergeConflictError) as caught:
            refs.commit("run-1", [put], message="Guess")
        assert conflict_types(caught.value.conflicts) == {put.key: expected}


def test_a_table_needs_its_namespaces(refs: Refs) -> None:
    refs.create("run-1")

    with pytest.raises(MergeConflictError) as caught:
        refs.commit("run-1", [Put(ORDERS, IcebergTable("1"))], message="Make orders")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "NAMESPACE_ABSENT"}


def test_a_table_cannot_lie_in_a_table(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")

    with pytest.raises(MergeConflictError) as caught:
        refs.commit(
            "run-1", [Put((*ORDERS, "x"), IcebergTable("1"))], message="Nest it"
        )

    assert conflict_types(caught.value.conflicts) == {(*ORDERS, "x"): "NOT_A_NAMESPACE"}


def test_a_namespace_that_holds_something_cannot_be_deleted(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")

    with pytest.raises(MergeConflictError) as caught:
        refs.commit("run-1", [Delete(("shop", "silver"))], message="Drop it")
    refs.commit("run-1", [Delete(ORDERS), Delete(ORDERS[:2])], message="Drop all")

    assert conflict_types(caught.value.conflicts) == {
        ("shop", "silver"): "NAMESPACE_NOT_EMPTY"
    }
    assert [entry.key for entry in refs.entries(at="run-1")] == [("shop",)]


def test_what_is_not_there_cannot_be_deleted(refs: Refs) -> None:
    refs.create("run-1")

    with pytest.raises(MergeConflictError) as caught:
        refs.commit("run-1", [Delete(ORDERS)], message="Drop it")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "KEY_DOES_NOT_EXIST"}


def test_a_commit_is_all_or_nothing(refs: Refs) -> None:
    refs.create("run-1")
    head = refs.head("run-1")

    with pytest.raises(MergeConflictError):
        refs.commit("run-1", [*make_namespaces(), Delete(ORDERS)], message="Half of it")

    assert refs.head("run-1") == head
    assert list(refs.entries(at="run-1")) == []


def test_a_key_may_be_named_once_in_a_commit(refs: Refs) -> None:
    refs.create("run-1")

    with pytest.raises(ValueError, match="twice"):
        refs.commit("run-1", [*make_namespaces(("a",)), Delete(("a",))], message="Both")


def test_a_commit_must_have_been_read_on_its_branch(refs: Refs) -> None:
    refs.create("run-1")
    refs.create("run-2")
    make_table(refs, on="run-2")

    with pytest.raises(NotFoundError):
        refs.commit(
            "run-1",
            make_namespaces(),
            expected_hash=refs.head("run-2"),
            message="From elsewhere",
        )


# Merges


def test_a_merge_is_one_commit_that_names_what_it_merged(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    change_table(refs, on="run-1", file="2")
    base, tip = refs.head(MAIN), refs.head("run-1")

    result = refs.merge("run-1", message="Publish", properties={"rat.run_id": "7"})

    commit, before = refs.history(MAIN)
    assert result.was_applied
    assert result.hash == refs.head(MAIN) == commit.hash
    assert result.common_ancestor == before.hash == base
    assert commit.parents == (base, tip)
    assert (commit.message, commit.properties["rat.run_id"]) == ("Publish", "7")
    assert file_at(refs) == "2"


def test_a_merge_succeeds_when_other_keys_moved(refs: Refs) -> None:
    publish_table(refs)
    read = refs.head(MAIN)
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")
    publish_table(refs, SALES)

    result = refs.merge("run-1", expected_hash=read)

    assert result.was_applied
    assert (file_at(refs, ORDERS), file_at(refs, SALES)) == ("2", "1")


def test_a_merge_up_to_a_commit_leaves_the_rest(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    tested = refs.head("run-1")
    change_table(refs, on="run-1", file="untested")

    refs.merge("run-1", from_hash=tested)

    assert file_at(refs) == "1"


def test_the_rest_can_be_merged_later(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    refs.merge("run-1")
    change_table(refs, on="run-1", file="2")

    result = refs.merge("run-1")

    assert result.was_applied
    assert file_at(refs) == "2"


def test_merging_again_is_no_commit(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    refs.merge("run-1")
    head = refs.head(MAIN)

    again = refs.merge("run-1")

    assert not again.was_applied
    assert again.was_successful
    assert again.hash == refs.head(MAIN) == head


def test_merging_again_undoes_nothing_that_came_later(refs: Refs) -> None:
    publish_table(refs, file="1")
    old = table_at(refs)
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")
    refs.merge("run-1")
    refs.create("undo")
    # Back to the very content that the merged branch had started from.
    refs.commit("undo", [Put(ORDERS, old)], message="Restore")
    refs.merge("undo")

    refs.merge("run-1")

    assert file_at(refs) == "1"


def test_what_came_through_another_branch_is_merged_already(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")
    refs.create("between")
    refs.merge("run-1", into="between")
    refs.create("run-2", at="between")
    change_table(refs, on="run-2", file="3")
    refs.merge("run-2")

    result = refs.merge("run-1")

    assert not result.was_applied
    assert file_at(refs) == "3"


def test_a_branch_that_took_in_main_merges_against_that(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    make_table(refs, SALES, on="run-1")
    refs.create("run-2")
    change_table(refs, on="run-2", file="2")
    refs.merge("run-2")
    refs.merge(MAIN, into="run-1")
    taken = refs.head(MAIN)
    change_table(refs, on="run-1", file="3")

    result = refs.merge("run-1")

    assert result.common_ancestor == taken
    assert (file_at(refs, ORDERS), file_at(refs, SALES)) == ("3", "1")


def test_an_unchanged_branch_makes_no_commit(refs: Refs) -> None:
    refs.create("run-1")

    result = refs.merge("run-1")

    assert not result.was_applied
    assert result.was_successful
    assert len(list(refs.history(MAIN))) == 1


def test_two_branches_that_changed_one_table_conflict(refs: Refs) -> None:
    publish_table(refs)
    for name in ("run-1", "run-2"):
        refs.create(name)
    for name in ("run-1", "run-2"):
        change_table(refs, on=name, file=name)
    refs.merge("run-1")
    head = refs.head(MAIN)

    with pytest.raises(MergeConflictError, match="orders") as caught:
        refs.merge("run-2")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "VALUE_DIFFERS"}
    assert refs.head(MAIN) == head
    assert file_at(refs) == "run-1"


def test_two_branches_that_made_one_table_conflict(refs: Refs) -> None:
    for name in ("run-1", "run-2"):
        refs.create(name)
        make_table(refs, on=name, file=name)
    refs.merge("run-1")

    with pytest.raises(MergeConflictError) as caught:
        refs.merge("run-2")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "KEY_EXISTS"}


def test_two_branches_that_made_one_namespace_merge(refs: Refs) -> None:
    for name, key in (("run-1", ORDERS), ("run-2", SALES)):
        refs.create(name)
        make_table(refs, key, on=name)

    results = [refs.merge("run-1"), refs.merge("run-2")]

    assert all(result.was_applied for result in results)
    assert (file_at(refs, ORDERS), file_at(refs, SALES)) == ("1", "1")


def test_a_change_conflicts_with_a_deletion(refs: Refs) -> None:
    publish_table(refs)
    for name in ("run-1", "run-2"):
        refs.create(name)
    refs.commit("run-1", [Delete(ORDERS)], message="Drop it")
    change_table(refs, on="run-2", file="2")
    refs.merge("run-1")

    with pytest.raises(MergeConflictError) as caught:
        refs.merge("run-2")

    assert conflict_types(caught.value.conflicts) == {ORDERS: "KEY_DOES_NOT_EXIST"}


def test_a_table_does_not_merge_into_a_namespace_that_is_gone(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    make_table(refs, ("shop", "silver", "new"), on="run-1")
    refs.create("run-2")
    refs.commit("run-2", [Delete(ORDERS), Delete(ORDERS[:2])], message="Drop all")
    refs.merge("run-2")

    result = refs.merge("run-1", dry_run=True)

    assert set(conflict_types(result.conflicts).values()) == {"NAMESPACE_ABSENT"}


def test_a_namespace_does_not_go_while_main_put_something_in(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    refs.commit("run-1", [Delete(ORDERS), Delete(ORDERS[:2])], message="Drop all")
    publish_table(refs, ("shop", "silver", "new"))

    result = refs.merge("run-1", dry_run=True)

    assert conflict_types(result.conflicts) == {ORDERS[:2]: "NAMESPACE_NOT_EMPTY"}


def test_a_dry_run_says_what_a_merge_would_and_changes_nothing(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")
    head = refs.head(MAIN)

    fine = refs.merge("run-1", dry_run=True)
    publish = refs.create("run-2")
    change_table(refs, on=publish.name, file="3")
    refs.merge("run-2")
    late = refs.merge("run-1", dry_run=True)

    assert (fine.was_successful, fine.was_applied, fine.hash) == (True, False, head)
    assert [detail.key for detail in fine.details] == [ORDERS]
    assert (late.was_successful, late.was_applied) == (False, False)
    assert conflict_types(late.conflicts) == {ORDERS: "VALUE_DIFFERS"}
    assert file_at(refs) == "3"


def test_a_conflict_is_resolved_on_what_main_was_seen_to_hold(refs: Refs) -> None:
    publish_table(refs)
    for name in ("run-1", "run-2"):
        refs.create(name)
        change_table(refs, on=name, file=name)
    refs.merge("run-1")
    seen = table_at(refs)
    both = Resolution(ORDERS, seen, replace(seen, metadata_location="both"))

    result = refs.merge("run-2", resolutions=[both])

    assert result.was_applied
    assert file_at(refs) == "both"
    assert not refs.merge("run-2").was_applied


def test_a_resolution_that_saw_an_older_main_conflicts(refs: Refs) -> None:
    publish_table(refs)
    for name in ("run-1", "run-2"):
        refs.create(name)
        change_table(refs, on=name, file=name)
    seen = table_at(refs)
    refs.merge("run-1")
    both = Resolution(ORDERS, seen, replace(seen, metadata_location="both"))

    with pytest.raises(MergeConflictError) as caught:
        refs.merge("run-2", resolutions=[both])

    assert conflict_types(caught.value.conflicts) == {ORDERS: "VALUE_DIFFERS"}
    assert file_at(refs) == "run-1"


def test_a_branch_that_was_deleted_is_not_merged(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    head = refs.head("run-1")
    refs.delete("run-1", expected_hash=head)

    with pytest.raises(NotFoundError):
        refs.merge("run-1", from_hash=head)

    assert file_at(refs) is None


# History and differences


def test_history_follows_the_first_parents_across_branches(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")

    messages = [commit.message.split()[0] for commit in refs.history("run-1")]

    assert messages[:2] == ["Change", "Merge"]
    assert len(messages) == 3


def test_history_ends_before_a_hash_or_after_a_number(refs: Refs) -> None:
    start = refs.create("run-1").hash
    make_table(refs, on="run-1")
    hashes = [change_table(refs, on="run-1", file=str(i)).hash for i in range(4)]

    since = [commit.hash for commit in refs.history("run-1", until=hashes[0])]
    two = [commit.hash for commit in refs.history("run-1", limit=2)]

    assert since == hashes[:0:-1]
    assert two == hashes[:1:-1]
    assert len(list(refs.history("run-1", until=start))) == 5


def test_history_is_whole_over_many_pages(refs: Refs) -> None:
    refs.create("run-1")
    orders = make_table(refs, on="run-1")
    hashes = [refs.head("run-1")]
    for i in range(220):
        put = Put(ORDERS, replace(orders, metadata_location=str(i)))
        made = refs.commit("run-1", [put], expected_hash=hashes[-1], message="Change")
        hashes.append(made.hash)

    found = [commit.hash for commit in refs.history("run-1")]

    assert found[:221] == hashes[::-1]
    assert len(set(found)) == len(found) == 222


def test_a_difference_shows_both_sides(refs: Refs) -> None:
    publish_table(refs)
    publish_table(refs, SALES)
    new = ("shop", "gold", "new")
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")
    refs.commit("run-1", [Delete(SALES)], message="Drop it")
    make_table(refs, new, on="run-1")

    found = {d.key: (d.before, d.after) for d in refs.diff(MAIN, after="run-1")}

    assert set(found) == {ORDERS, SALES, new}
    assert found[ORDERS] == (table_at(refs), table_at(refs, at="run-1"))
    assert found[SALES] == (table_at(refs, SALES), None)
    assert found[new] == (None, table_at(refs, new, at="run-1"))
    assert refs.diff(MAIN, after=MAIN) == []


def test_a_difference_goes_both_ways(refs: Refs) -> None:
    publish_table(refs)
    refs.create("run-1")
    change_table(refs, on="run-1", file="2")
    publish_table(refs, SALES)

    keys = [d.key for d in refs.diff("run-1", after=MAIN)]

    assert keys == [SALES[:2], SALES, ORDERS]


# All at once


def together(number: int, act: Callable[[int], bool]) -> list[bool]:
    """What *act* says in so many threads that start at one moment."""
    barrier = threading.Barrier(number)

    def wait_and_act(index: int) -> bool:
        barrier.wait()
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(wait_and_act, range(number)))


def test_only_one_of_eight_gets_a_name(refs: Refs) -> None:
    def create(index: int) -> bool:
        del index
        try:
            refs.create("run-1")
        except ReferenceConflictError:
            return False
        return True

    made = together(8, create)

    assert sum(made) == 1


def test_eight_commits_of_one_branch_lose_nothing(refs: Refs) -> None:
    refs.create("run-1")
    refs.commit("run-1", make_namespaces(), message="Make the layers")
    keys = [("shop", "gold", f"t{index}") for index in range(8)]

    def make(index: int) -> bool:
        put = Put(keys[index], IcebergTable("0"))
        refs.commit("run-1", [put], message="Make it")
        content = table_at(refs, put.key, at="run-1")
        for file in range(1, 6):
            changed = replace(content, metadata_location=str(file))
            refs.commit("run-1", [Put(put.key, changed)], message="Change it")
        return True

    together(8, make)

    assert [file_at(refs, key, at="run-1") for key in keys] == ["5"] * 8
    assert len(list(refs.history("run-1", until=refs.head(MAIN)))) == 1 + 8 * 6


def test_of_eight_changes_to_one_table_one_wins(refs: Refs) -> None:
    refs.create("run-1")
    content = make_table(refs, on="run-1")
    read = refs.head("run-1")

    def change(index: int) -> bool:
        put = Put(ORDERS, replace(content, metadata_location=f"file-{index}"))
        try:
            refs.commit("run-1", [put], expected_hash=read, message="Change it")
        except MergeConflictError:
            return False
        return True

    won = together(8, change)

    assert sum(won) == 1
    assert file_at(refs, at="run-1") == f"file-{won.index(True)}"


def test_eight_merges_of_different_tables_all_succeed(refs: Refs) -> None:
    keys = [("shop", "gold", f"t{index}") for index in range(8)]
    for index, key in enumerate(keys):
        refs.create(f"run-{index}")
        make_table(refs, key, on=f"run-{index}")

    merged = together(8, lambda index: refs.merge(f"run-{index}").was_applied)

    assert all(merged)
    assert [file_at(refs, key) for key in keys] == ["1"] * 8
    assert len(list(refs.history(MAIN))) == 9


def test_of_eight_merges_of_one_table_one_wins(refs: Refs) -> None:
    publish_table(refs)
    for index in range(8):
        refs.create(f"run-{index}")
        change_table(refs, on=f"run-{index}", file=str(index))

    def merge(index: int) -> bool:
        try:
            return refs.merge(f"run-{index}").was_applied
        except MergeConflictError:
            return False

    won = together(8, merge)

    assert sum(won) == 1
    assert file_at(refs) == str(won.index(True))


def test_eight_merges_of_one_branch_make_one_commit(refs: Refs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")

    merged = together(8, lambda _: refs.merge("run-1").was_applied)

    assert sum(merged) == 1
    assert len(list(refs.history(MAIN))) == 2


def test_merges_in_both_directions_do_not_block_each_other(refs: Refs) -> None:
    refs.create("a-run")
    make_table(refs, ORDERS, on="a-run")
    publish_table(refs, SALES)

    def merge(index: int) -> bool:
        source, into = (MAIN, "a-run") if index % 2 else ("a-run", MAIN)
        return refs.merge(source, into=into).was_successful

    merged = together(8, merge)

    assert all(merged)
    for at in (MAIN, "a-run"):
        assert (file_at(refs, ORDERS, at=at), file_at(refs, SALES, at=at)) == ("1", "1")
