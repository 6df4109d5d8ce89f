"""What only a server does: what its documentation gets wrong, answers that are lost, one server for many."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine

from rat_resources.errors import (
    CatalogError,
    LostAnswerError,
    MergeConflictError,
    NotFoundError,
    ReferenceConflictError,
)
from rat_resources.lake import asides
from rat_resources.lake.nessie_json import encode_content, encode_key, place_path
from rat_resources.lake.nessie_refs import NessieRefs
from rat_resources.lake.refs import (
    MAIN,
    IcebergTable,
    Put,
    ReferenceType,
    Refs,
    Resolution,
)
from rat_resources.nessie_settings import NessieSettings
from tests.rat_resources.lake.contents import (
    ORDERS,
    SALES,
    change_table,
    file_at,
    make_namespaces,
    make_table,
    publish_table,
    table_at,
)
from tests.servers.nessie import Nessie
from tests.servers.proxy import Proxy

Json = Any


@pytest.fixture
def settings(nessie: Nessie) -> NessieSettings:
    del nessie  # it set the environment
    settings = NessieSettings.load(os.environ)
    assert settings is not None
    return settings


@pytest.fixture
def refs(settings: NessieSettings) -> NessieRefs:
    refs = NessieRefs(settings)
    refs.bootstrap()
    return refs


@pytest.fixture
def proxy(nessie: Nessie) -> Iterator[Proxy]:
    """What stands between us and the server."""
    with Proxy.to("127.0.0.1", nessie.port) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, settings: NessieSettings, refs: NessieRefs) -> NessieRefs:
    """The same branches, through the proxy."""
    url = f"http://{proxy.address}"
    far = NessieRefs(replace(settings, url=url, timeout=2.0))
    assert far.head(MAIN) == refs.head(MAIN)
    return far


def ask(refs: NessieRefs, method: str, path: str, **what: Json) -> requests.Response:
    """What the server itself says; only as it speaks to us."""
    return refs.server.session.request(
        method, refs.server.base + path, timeout=10, **what
    )


def path_of(refs: NessieRefs, name: str, commit: str | None = None) -> str:
    own = refs.settings.branch
    return place_path(own if name == MAIN else f"{own}/{name}", commit)


def changed_branch(refs: NessieRefs, name: str = "run-1") -> str:
    """A branch that made orders; its head."""
    refs.create(name)
    make_table(refs, on=name)
    return refs.head(name)


def test_it_is_a_keeper_of_refs(refs: NessieRefs) -> None:
    keeper: Refs = refs

    assert not keeper.transactional
    assert keeper.latest_merge.total_seconds() > refs.settings.timeout


def test_it_cannot_merge_in_a_transaction_of_postgres(refs: NessieRefs) -> None:
    changed_branch(refs)

    with (
        create_engine("sqlite://").connect() as connection,
        pytest.raises(ValueError, match="transaction"),
    ):
        refs.merge("run-1", connection=connection)

    assert file_at(refs) is None


# What the server does, whatever is written about it


def test_a_dry_run_is_asked_for_by_the_names_that_the_server_hears(
    refs: NessieRefs,
) -> None:
    head = changed_branch(refs)
    before = refs.head(MAIN)
    body = {"fromRefName": f"{refs.settings.branch}/run-1", "fromHash": head}
    path = f"trees/{path_of(refs, MAIN, before)}/history/merge"

    heard = ask(refs, "POST", path, json={**body, "isDryRun": True}).json()
    after_ours = refs.head(MAIN)
    documented = ask(refs, "POST", path, json={**body, "dryRun": True}).json()

    assert (heard["wasApplied"], after_ours) == (False, before)
    assert documented["wasApplied"]
    assert refs.head(MAIN) != before


def test_only_to_a_client_of_its_own_version_the_server_tells_what_is_in_conflict(
    refs: NessieRefs,
) -> None:
    publish_table(refs)
    read = refs.head(MAIN)
    refs.create("run-1", at=f"@{read}")
    orders = table_at(refs, at="run-1")
    change_table(refs, on="run-1", file="theirs")
    put = {
        "type": "PUT",
        "key": encode_key(ORDERS),
        "content": encode_content(ORDERS, orders),
    }
    body: Json = {"commitMeta": {"message": "Change"}, "operations": [put]}
    path = f"trees/{path_of(refs, 'run-1', read)}/history/commit"

    ours = ask(refs, "POST", path, json=body)
    plain = requests.post(refs.server.base + path, json=body, timeout=10)

    assert (ours.status_code, plain.status_code) == (409, 409)
    (conflict,) = ours.json()["errorDetails"]["conflicts"]
    assert conflict["conflictType"] == "VALUE_DIFFERS"
    assert "errorDetails" not in plain.json()


def test_a_dot_in_a_name_is_written_as_another_sign_in_a_path(
    refs: NessieRefs,
) -> None:
    refs.create("run-1")
    key = ("shop", "silver", "a.b")
    made = make_table(refs, key, on="run-1")
    path = f"trees/{path_of(refs, 'run-1')}/contents"

    dotted = ask(refs, "GET", f"{path}/shop.silver.a.b")
    escaped = ask(refs, "GET", f"{path}/shop.silver.a%1Db")

    assert dotted.status_code == 404
    assert escaped.json()["content"]["id"] == made.id
    assert [entry.key for entry in refs.entries(at="run-1", prefix=key)] == [key]


def test_a_filter_for_a_property_needs_a_guard(refs: NessieRefs) -> None:
    changed_branch(refs)
    refs.merge("run-1", properties={"rat.run_id": "7"})
    wanted = "commit.properties['rat.run_id'] == '7'"
    path = f"trees/{path_of(refs, MAIN)}/history"

    bare = ask(refs, "GET", path, params={"filter": wanted})
    guarded = ask(
        refs,
        "GET",
        path,
        params={"filter": f"'rat.run_id' in commit.properties && {wanted}"},
    )

    assert bare.status_code == 500
    assert len(guarded.json()["logEntries"]) == 1


def test_a_put_without_the_id_of_what_is_there_is_a_bad_request(
    refs: NessieRefs,
) -> None:
    head = changed_branch(refs)
    put = {
        "type": "PUT",
        "key": encode_key(ORDERS),
        "content": encode_content(ORDERS, IcebergTable("2")),
    }
    body: Json = {"commitMeta": {"message": "Change"}, "operations": [put]}
    path = f"trees/{path_of(refs, 'run-1', head)}/history/commit"

    answer = ask(refs, "POST", path, json=body)

    assert answer.status_code == 400
    assert "has no content ID" in answer.json()["message"]


def test_properties_come_back_as_lists_and_are_told_as_they_were_given(
    refs: NessieRefs,
) -> None:
    refs.create("run-1")
    refs.commit("run-1", make_namespaces(), message="M", properties={"rat.run_id": "7"})

    said = ask(refs, "GET", f"trees/{path_of(refs, 'run-1')}/history").json()

    meta = said["logEntries"][0]["commitMeta"]
    assert meta["allProperties"]["rat.run_id"] == ["7"]
    assert next(refs.history("run-1")).properties["rat.run_id"] == "7"


def test_the_limit_of_a_log_is_part_of_it(refs: NessieRefs) -> None:
    base = refs.head(MAIN)
    head = changed_branch(refs)

    said = ask(
        refs,
        "GET",
        f"trees/{path_of(refs, 'run-1')}/history",
        params={"limit-hash": base},
    ).json()

    hashes = [each["commitMeta"]["hash"] for each in said["logEntries"]]
    assert hashes == [head, base]
    assert [each.hash for each in refs.history("run-1", until=base)] == [head]


def test_a_merge_into_a_branch_without_a_commit_is_refused(refs: NessieRefs) -> None:
    changed_branch(refs)
    refs._create_at("empty", refs.root)

    with pytest.raises(NotFoundError, match="common ancestor"):
        refs.merge("run-1", into="empty")


def test_a_repeated_merge_answers_with_the_head_as_it_is_by_then(
    refs: NessieRefs,
) -> None:
    changed_branch(refs)
    first = refs.merge("run-1")
    publish_table(refs, SALES)

    again = refs.merge("run-1")

    assert (first.was_applied, again.was_applied) == (True, False)
    assert again.hash == refs.head(MAIN) != first.hash


def test_an_expected_hash_may_be_as_old_as_the_root(refs: NessieRefs) -> None:
    changed_branch(refs)
    publish_table(refs, SALES)

    assert refs.merge("run-1", expected_hash=refs.root).was_applied


def test_a_resolution_that_no_key_needs_would_be_refused_and_is_left_out(
    refs: NessieRefs,
) -> None:
    publish_table(refs)
    seen = table_at(refs)
    refs.create("run-1")
    make_table(refs, SALES, on="run-1")
    needless = Resolution(ORDERS, seen, replace(seen, metadata_location="never"))

    foreseen = refs.merge("run-1", resolutions=[needless], dry_run=True)
    result = refs.merge("run-1", resolutions=[needless])

    assert foreseen.was_successful
    assert result.was_applied
    assert (file_at(refs, ORDERS), file_at(refs, SALES)) == ("1", "1")


def test_a_recreated_branch_answers_for_the_old_one(refs: NessieRefs) -> None:
    # So no name is ever used twice.
    old = changed_branch(refs)
    refs.delete("run-1", expected_hash=old)
    refs.create("run-1")

    result = refs.merge("run-1", from_hash=old)

    assert result.was_applied
    assert file_at(refs) == "1"


def test_what_a_deleted_branch_had_is_kept_by_a_tag(refs: NessieRefs) -> None:
    head = changed_branch(refs)
    refs.create("kept/run-1", at=f"@{head}", kind=ReferenceType.TAG)

    refs.delete("run-1", expected_hash=head)

    assert file_at(refs, at="kept/run-1") == "1"


def test_a_new_table_lies_under_its_namespace_layer_and_name(refs: NessieRefs) -> None:
    changed_branch(refs)

    said = ask(refs, "GET", f"trees/{path_of(refs, 'run-1')}/entries").json()

    kinds = {tuple(each["name"]["elements"]): each["type"] for each in said["entries"]}
    assert kinds == {
        ("shop",): "NAMESPACE",
        ("shop", "silver"): "NAMESPACE",
        ORDERS: "ICEBERG_TABLE",
    }


def test_a_key_with_a_sign_that_cannot_be_seen_is_refused(refs: NessieRefs) -> None:
    refs.create("run-1")

    with pytest.raises(ValueError, match="less than 0x20"):
        make_table(refs, ("shop", "silver", "a\nb"), on="run-1")


# One server for several


def test_two_rats_on_one_server_do_not_meet(
    refs: NessieRefs, settings: NessieSettings
) -> None:
    other = NessieRefs(replace(settings, branch=f"{settings.branch}-2"))
    other.bootstrap()
    changed_branch(refs)
    refs.merge("run-1")

    changed_branch(other)

    assert file_at(other) is None
    assert [each.name for each in other.references()] == [MAIN, "run-1"]
    assert [each.name for each in refs.references(prefix="run-")] == ["run-1"]


def test_the_branch_of_the_server_is_ours_by_its_own_name(
    refs: NessieRefs, settings: NessieSettings
) -> None:
    changed_branch(refs)

    said = ask(refs, "GET", f"trees/{place_path(settings.branch, None)}").json()
    names = {
        each.name for each in NessieRefs(replace(settings, branch=MAIN)).references()
    }

    assert said["reference"]["hash"] == refs.head(MAIN)
    assert f"{settings.branch}/run-1" in names


def test_what_a_killed_maker_of_main_left_is_known_by_its_name(
    settings: NessieSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = NessieRefs(settings)
    with monkeypatch.context() as patch:
        patch.setattr(refs, "_create_at", interrupt_after(refs._create_at))
        with pytest.raises(KeyboardInterrupt):
            refs.bootstrap()

    refs.bootstrap()
    fresh = [*asides.left(refs, now=datetime.now(UTC))]
    (aside,) = asides.left(refs, now=datetime.now(UTC) + 2 * asides.LONGEST_LIFE)

    assert fresh == []
    assert aside.name.startswith("first-")


def interrupt_after(do: Callable[..., object]) -> Callable[..., None]:
    """What does the same, and is then interrupted."""

    def interrupted(*asked: object, **named: object) -> None:
        do(*asked, **named)
        raise KeyboardInterrupt

    return interrupted


def test_eight_may_make_main_at_once(settings: NessieSettings) -> None:
    def make(_: int) -> str:
        return NessieRefs(settings).bootstrap().hash

    with ThreadPoolExecutor(8) as pool:
        hashes = set(pool.map(make, range(8)))

    refs = NessieRefs(settings)
    assert hashes == {refs.head(MAIN)}
    assert [each.name for each in refs.references()] == [MAIN]


def test_references_are_told_over_many_pages(
    refs: NessieRefs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rat_resources.lake.nessie_server.PAGE", 2)
    for number in range(5):
        refs.create(f"run-{number}")

    names = [each.name for each in refs.references(prefix="run-")]

    assert names == [f"run-{number}" for number in range(5)]


# Answers that are lost


def test_a_commit_whose_answer_was_lost_is_found_in_the_log(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy
) -> None:
    refs.create("run-1")
    proxy.lose_answer(after=b"/history/commit")
    put = Put(ORDERS, IcebergTable("1"))

    made = far.commit("run-1", [*make_namespaces(), put], message="Make orders")

    assert proxy.lost.is_set()
    assert made.hash == refs.head("run-1")
    assert made.contents[ORDERS] == table_at(refs, at="run-1")


def test_a_merge_whose_answer_was_lost_is_found_in_the_log(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy
) -> None:
    changed_branch(refs)
    before = refs.head(MAIN)
    proxy.lose_answer(after=b"/history/merge")

    result = far.merge("run-1", expected_hash=before)

    assert proxy.lost.is_set()
    assert result.was_applied
    assert result.hash == refs.head(MAIN)
    assert len(list(refs.history(MAIN, until=before))) == 1


def test_a_merge_is_found_behind_what_others_merged_since(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_branch(refs)
    before = refs.head(MAIN)
    look_up = NessieRefs._look_up

    def publish_first(self: NessieRefs, *args: Any, **named: Any) -> Json:  # noqa: ANN401
        publish_table(refs, SALES)
        return look_up(self, *args, **named)

    monkeypatch.setattr(NessieRefs, "_look_up", publish_first)
    proxy.lose_answer(after=b"/history/merge")

    result = far.merge("run-1", expected_hash=before)

    assert [each.hash for each in refs.history(MAIN, until=before)][1] == result.hash


def test_where_the_log_cannot_be_asked_nobody_knows(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_branch(refs)
    send = far.server.send

    def send_and_cut(*args: Any, **named: Any) -> Json:  # noqa: ANN401
        try:
            return send(*args, **named)
        finally:
            proxy.cut()

    monkeypatch.setattr(far.server, "send", send_and_cut)
    proxy.lose_answer(after=b"/history/merge")

    with pytest.raises(LostAnswerError, match="nobody knows whether main was changed"):
        far.merge("run-1")

    assert file_at(refs) == "1"


def test_a_merge_that_never_arrived_is_no_secret(
    far: NessieRefs, refs: NessieRefs, settings: NessieSettings
) -> None:
    changed_branch(refs)
    nobody = NessieRefs(replace(settings, url="http://127.0.0.1:1", timeout=0.2))
    nobody.root = refs.root

    with pytest.raises(CatalogError, match="does not answer"):
        nobody.merge("run-1", from_hash=refs.head("run-1"))

    assert file_at(refs) is None


@pytest.mark.parametrize("kind", ReferenceType)
def test_a_reference_whose_answer_was_lost_is_made_once(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy, kind: ReferenceType
) -> None:
    proxy.lose_answer(after=b"POST /api/v2/trees?name")

    made = far.create("run-1", kind=kind, at=f"@{refs.head(MAIN)}")

    assert proxy.lost.is_set()
    assert refs.reference("run-1") == made


def test_a_deletion_whose_answer_was_lost_was_done(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy
) -> None:
    head = changed_branch(refs)
    proxy.lose_answer(after=b"DELETE ")

    far.delete("run-1", expected_hash=head)

    assert proxy.lost.is_set()
    with pytest.raises(NotFoundError):
        refs.reference("run-1")


def test_an_assignment_whose_answer_was_lost_was_done(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy
) -> None:
    base = refs.head(MAIN)
    head = changed_branch(refs)
    proxy.lose_answer(after=b"PUT ")

    far.assign("run-1", to=f"@{base}", expected_hash=head)

    assert proxy.lost.is_set()
    assert refs.head("run-1") == base


def test_a_read_is_tried_again_while_the_server_is_gone(
    refs: NessieRefs, far: NessieRefs, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_table(refs)
    proxy.cut()
    # What would be a pause is the moment in which the server comes back.
    monkeypatch.setattr(
        "rat_resources.lake.nessie_server.time.sleep", lambda _: proxy.open()
    )

    assert file_at(far) == "1"


def test_a_server_that_stays_away_is_said_to_be_gone(
    far: NessieRefs, proxy: Proxy
) -> None:
    proxy.cut()

    with pytest.raises(CatalogError, match="does not answer") as caught:
        far.head(MAIN)

    assert "RAT_NESSIE_" in caught.value.fix


def test_a_commit_on_any_head_follows_a_branch_that_moves(
    refs: NessieRefs, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs.create("run-1")
    orders = make_table(refs, on="run-1")
    heads = iter([refs.head("run-1")])
    change_table(refs, on="run-1", file="theirs")
    head = NessieRefs.head
    monkeypatch.setattr(
        NessieRefs, "head", lambda self, name: next(heads, None) or head(self, name)
    )

    refs.commit(
        "run-1",
        [Put(ORDERS, replace(orders, metadata_location="ours"))],
        message="Ours",
    )

    assert file_at(refs, at="run-1") == "ours"


def test_the_same_commit_on_what_was_read_is_a_conflict(refs: NessieRefs) -> None:
    refs.create("run-1")
    orders = make_table(refs, on="run-1")
    read = refs.head("run-1")
    change_table(refs, on="run-1", file="theirs")
    put = Put(ORDERS, replace(orders, metadata_location="ours"))

    with pytest.raises(MergeConflictError, match=r"shop\.silver\.orders was changed"):
        refs.commit("run-1", [put], expected_hash=read, message="Ours")


def test_a_tag_takes_no_merge(refs: NessieRefs) -> None:
    changed_branch(refs)
    refs.create("kept", kind=ReferenceType.TAG)

    with pytest.raises(ReferenceConflictError, match="tags don't move"):
        refs.merge("run-1", into="kept")


def test_what_holds_at_a_commit_is_asked_once(
    refs: NessieRefs, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = changed_branch(refs)
    asked: list[str] = []
    find = refs.server.find

    def count(path: str, body: Json) -> Json:
        asked.append(path)
        return find(path, body)

    monkeypatch.setattr(refs.server, "find", count)
    known = refs.contents([ORDERS], at=f"run-1@{head}")
    refs.contents([ORDERS, SALES], at=f"@{head}")
    refs.contents([ORDERS, SALES], at=f"@{head}")

    assert set(known) == {ORDERS}
    assert len(asked) == 1
